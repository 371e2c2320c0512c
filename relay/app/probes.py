"""The looks that ``relay check`` takes, one function for each thing."""

from __future__ import annotations

import asyncio
import errno
import os
import smtplib
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from cryptography import x509

from relay.app import tls
from relay.app.findings import Finding, Ok, Skipped, Wrong
from relay.app.listen import Endpoint, ListenError, bind
from relay.app.node import node_name, shared
from relay.app.outside import ALIVE
from relay.control import verification
from relay.control.proof import Purpose, Result
from relay.queue.nodes import differences
from relay.queue.workers import now as store_now
from relay.resolver import Absent, Found, Resolver, Unavailable
from relay.settings import Settings, parse_endpoint
from relay.signer import multibuffer
from relay.store import changes, installation, schema
from relay.store import identities as rows
from relay.store.engine import Store, StoreError, StoreUnavailable
from relay.store.identities import IdentityRow, KeyRow
from relay.store.secrets import KeyFileError, Secrets, load_key_file
from relay.submission.principal import is_within, parse_network

Opened = Store | None
_CLOCK_SECONDS = 30
_DIAL_SECONDS = 10.0
_MOST_IDENTITIES = 200


# ---------------------------------------------------------------- on this machine


def key_file(settings: Settings) -> tuple[Secrets | None, Finding]:
    path = settings.path(settings.store.key_file)
    try:
        secrets = load_key_file(path)
    except KeyFileError as error:
        return None, Wrong("key file", str(error), "[store] key_file names it")
    return secrets, Ok("key file", str(path))


def store(settings: Settings, secrets: Secrets | None) -> tuple[Opened, Finding]:
    """The store, open if it can be used; its schema, and whether region and key are its own."""
    opened = Store(settings.store_url)
    shown = opened.url.render_as_string(hide_password=True)
    try:
        if opened.is_sqlite and not os.path.exists(str(opened.url.database)):
            raise StoreError(f"{opened.url.database}: no such file")
        schema.require_current(opened)
        if secrets is not None:
            installation.verify(opened, settings.relay.region, secrets)
    except (StoreError, KeyFileError) as error:
        opened.dispose()
        return None, Wrong("store", str(error), "restore it from your copy, or make one: relay init")
    except StoreUnavailable as error:
        opened.dispose()
        return None, Wrong("store", f"{shown}: {error}", "start the database server; [store] url names it")
    return opened, Ok("store", f"{shown}, revision {schema.REVISION}")


def nodes(settings: Settings, opened: Opened) -> list[Finding]:
    """Whether the other nodes on the store go by the same settings."""
    if opened is None or opened.is_sqlite:
        return []
    try:
        with opened.read() as connection:
            found = differences(connection, node_name(settings), shared(settings))
    except StoreUnavailable as error:
        return [Skipped("other nodes", str(error))]
    return [
        Wrong(
            one.setting,
            f"{one.ours!r} here and {one.theirs!r} at node {one.node}",
            "say the same at every node, and restart one after the other",
        )
        for one in found
    ] or [Ok("other nodes", "those that are present have the same settings")]


def durability(opened: Opened) -> list[Finding]:
    """What a database server must do for a commit to outlast the power; our own sessions see to the rest."""
    if opened is None or opened.is_sqlite:
        return []
    try:
        with opened.read() as connection:
            off = installation.not_durable(connection)
    except StoreUnavailable as error:
        return [Skipped("database server", str(error))]
    if off:
        return [
            Wrong(
                "database server",
                f"{' and '.join(off)} off: a power cut there loses what got 250",
                "set it on in postgresql.conf and reload the server",
            )
        ]
    return [Ok("database server", "keeps what is committed")]


def on_disk(settings: Settings) -> list[Finding]:
    return [_certificate(settings), _disk(settings)]


def _certificate(settings: Settings) -> Finding:
    certificate, key = tls.files(settings)
    try:
        pair = tls.load_pair(certificate, key)
    except (OSError, ValueError) as error:
        return Wrong("certificate", f"{certificate}, {key}: {error}", "[smtp] names them: one pair, in PEM")
    return judge_certificate(pair.certificate, settings.relay.hostname, datetime.now(UTC))


def judge_certificate(certificate: x509.Certificate, hostname: str, now: datetime) -> Finding:
    """Whether clients will take it."""
    trouble = tls.trouble_with(certificate, now)
    if trouble is not None:
        return Wrong("certificate", trouble.text, tls.RENEW)
    if not _covers(certificate, hostname):
        return Wrong("certificate", f"not for {hostname}", "[relay] hostname is what clients connect to")
    return Ok("certificate", f"for {hostname}, until {certificate.not_valid_after_utc:%Y-%m-%d}")


def _covers(certificate: x509.Certificate, hostname: str) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    wildcard = "*." + hostname.partition(".")[2]
    return any(name.lower() in (hostname, wildcard) for name in names.get_values_for_type(x509.DNSName))


def _disk(settings: Settings) -> Finding:
    found = os.statvfs(settings.directory)
    free, least = found.f_bavail * found.f_frsize, settings.store.low_disk_bytes
    where = str(settings.directory)
    if not os.access(settings.directory, os.W_OK):
        return Wrong("disk", f"{where} cannot be written by this user", "give it to the user of the service")
    if free < least:
        return Wrong(
            "disk",
            f"{where} has {free >> 20} MB free, {least >> 20} are needed",
            "free some, or [store] low_disk_bytes",
        )
    if found.f_files and found.f_favail < 1000:
        return Wrong("disk", f"{where} has {found.f_favail} inodes left", "remove files")
    return Ok("disk", f"{where}, {free >> 20} MB free")


def signing() -> Finding:
    how = "eight at a time (libcrypto_mb)" if multibuffer.load() else "one at a time (OpenSSL)"
    return Ok("RSA signatures", how)


def clock(settings: Settings, opened: Opened) -> Finding:
    """Against the newest change in the store, and against the database server's clock."""
    if opened is None:
        return Skipped("clock", "the store cannot be used")
    with opened.read() as connection:
        ours = time.time_ns() // 1000
        newest = changes.newest_at(connection)
        servers = store_now(connection)
    behind = max(newest, servers) - ours
    if behind > _CLOCK_SECONDS * 1_000_000 or ours - servers > _CLOCK_SECONDS * 1_000_000:
        away = max(behind, ours - servers) // 1_000_000
        return Wrong("clock", f"{away} s away from the store's", "have NTP set it: timedatectl set-ntp true")
    return Ok("clock", datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"))


# ---------------------------------------------------------------- ports


async def port(settings: Settings, endpoint: Endpoint) -> list[Finding]:
    """It can be listened on, or we do already."""
    subject = f"port {endpoint}"
    if await asyncio.to_thread(_is_open, endpoint):
        said = await asyncio.to_thread(_said, settings, endpoint)
        if _is_ours(settings, endpoint, said):
            return [Ok(subject, "the gateway answers")]
        mend = f"stop it, or change [{endpoint.protocol}] listen"
        return [Wrong(subject, f"another program answers: {said[:60]!r}", mend)]
    try:
        for sock in bind([endpoint]).values():
            sock.close()
    except ListenError as error:
        return [
            Wrong(
                subject,
                str(error),
                "below 1024 it needs root or CAP_NET_BIND_SERVICE; the address must be ours",
            )
        ]
    return [Ok(subject, "free")]


def _own_address(endpoint: Endpoint) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(endpoint.host, endpoint.host)  # noqa: S104


def _is_open(endpoint: Endpoint) -> bool:
    try:
        socket.create_connection((_own_address(endpoint), endpoint.port), 2).close()
    except OSError:
        return False
    return True


def _is_ours(settings: Settings, endpoint: Endpoint, said: str) -> bool:
    if endpoint.protocol == "http":
        return said.startswith("HTTP/1.1 200 ") and said.endswith(ALIVE)
    return said.startswith(f"220 {settings.relay.hostname} ESMTP SimpleEmailService")


def _said(settings: Settings, endpoint: Endpoint) -> str:
    """What a server says first; one of HTTP is asked whether it lives."""
    host = _own_address(endpoint)
    # Who connects to an address of its own machine comes from that address: maybe a named load balancer's.
    section = settings.http if endpoint.protocol == "http" else settings.smtp
    is_proxy = is_within(host, map(parse_network, section.proxy_from))
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is only asked who it is
    try:
        with socket.create_connection((host, endpoint.port), 2) as sock:
            sock.settimeout(2)
            sock.sendall(b"PROXY UNKNOWN\r\n" if is_proxy else b"")
            if not endpoint.implicit_tls:
                return _first_words(sock, endpoint)
            with context.wrap_socket(sock) as wrapped:
                return _first_words(wrapped, endpoint)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)


def _first_words(sock: socket.socket, endpoint: Endpoint) -> str:
    said = b""
    if endpoint.protocol == "http":
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n")
    while (piece := sock.recv(2000)) and len(said) < 2000:
        said += piece
        if endpoint.protocol != "http":
            break
    return said.decode("ascii", "replace").strip()


# ---------------------------------------------------------------- DNS


async def dns(settings: Settings, resolver: Resolver) -> Finding:
    answer = await resolver.addresses(settings.relay.hostname)
    if isinstance(answer, Unavailable):
        return Wrong("DNS", answer.reason, "look at /etc/resolv.conf, or [dns] servers")
    return Ok("DNS", "answers")


async def host_name(settings: Settings, resolver: Resolver) -> list[Finding]:
    """Our name leads to an address, and the address back to the name: many servers refuse mail else."""
    name = settings.relay.hostname
    answer = await resolver.addresses(name)
    if not isinstance(answer, Found):
        return [
            Wrong("host name", f"{name} has no address in DNS", "publish A or AAAA, or set [relay] hostname")
        ]
    named = [await resolver.names(address) for address in answer.records]
    for address, back in zip(answer.records, named, strict=True):
        if isinstance(back, Absent) or (isinstance(back, Found) and name not in back.records):
            given = ", ".join(back.records) if isinstance(back, Found) else "no name"
            return [
                Wrong("PTR", f"{address} leads to {given}, not to {name}", "have your provider set the PTR")
            ]
    return [Ok("host name", f"{name}, {', '.join(answer.records)}")]


async def bounce_domain(settings: Settings, resolver: Resolver) -> list[Finding]:
    """Reports to our own return paths come to us, and receivers may know that we send for their domain."""
    name, hostname = settings.bounce.domain, settings.relay.hostname
    answer = await resolver.mx(name)
    found: list[Finding] = []
    if not isinstance(answer, Unavailable):
        hosts = [one.host for one in answer.records] if isinstance(answer, Found) else []
        if hostname not in hosts:
            has = ", ".join(hosts) or "none"
            mend = f"publish MX {name}: 10 {hostname}"
            found.append(Wrong("bounce domain", f"the MX of {name} is {has}, not {hostname}", mend))
    found += await _spf(settings, name, resolver)
    return found or [Ok("bounce domain", f"{name}, MX and SPF are in DNS")]


def identities(opened: Opened) -> Iterator[tuple[IdentityRow, list[KeyRow]]]:
    """What is verified and has records in DNS, with its keys."""
    if opened is None:
        return
    with opened.read() as connection:
        for row in rows.in_dns(connection, _MOST_IDENTITIES):
            yield row, rows.keys(connection, row.id)


async def identity(
    settings: Settings, row: IdentityRow, keys: list[KeyRow], resolver: Resolver
) -> list[Finding]:
    """The DKIM record of each key that signs, those of a MAIL FROM domain, and that there is SPF."""
    found: list[Finding] = []
    signing = [key for key in keys if row.dkim_enabled and key.status == verification.SIGNING_KEY]
    for look in await verification.look(row, signing, resolver, settings.relay.hostname):
        if look.result in (Result.MISSING, Result.DIFFERENT) and (
            look.key_id is not None or look.purpose is not Purpose.IDENTITY
        ):
            subject = f"DKIM of {row.name}" if look.key_id is not None else _OF_MAIL_FROM[look.purpose]
            mend = f"publish {look.type} {look.name}: {look.expected}"
            found.append(Wrong(subject.format(row), f"{look.name}: {look.result}", mend))
    if row.mail_from_domain and not settings.bounce.listen:
        subject = _OF_MAIL_FROM[Purpose.MAIL_FROM].format(row)
        found.append(Wrong(subject, "nothing listens for reports on its mail", "set [bounce] listen"))
    if row.type == "DOMAIN":
        found += await _spf(settings, row.name, resolver)
    return found or [Ok(f"identity {row.name}", "its records are in DNS")]


_OF_MAIL_FROM = {
    Purpose.MAIL_FROM: "MAIL FROM of {0.name}",
    Purpose.ADVICE: "SPF of {0.mail_from_domain}",
}


async def _spf(settings: Settings, name: str, resolver: Resolver) -> list[Finding]:
    spf = await resolver.txt(name)
    if isinstance(spf, Unavailable) or _has_spf(spf):
        return []
    mend = f'publish TXT {name}: "v=spf1 a:{settings.relay.hostname} ~all"'
    return [Wrong(f"SPF of {name}", "no record", mend)]


def _has_spf(answer: Found[str] | Absent) -> bool:
    return isinstance(answer, Found) and any(text.lower().startswith("v=spf1") for text in answer.records)


# ---------------------------------------------------------------- the next hop


def next_hops(settings: Settings) -> Iterator[tuple[str, int, str]]:
    """The smart hosts that the settings name, with how much TLS each must offer."""
    delivery = settings.delivery
    if delivery.smarthost:
        yield *parse_endpoint(delivery.smarthost), delivery.smarthost_tls
    for route in delivery.routes:
        if route.smarthost:
            yield *parse_endpoint(route.smarthost), route.tls


async def next_hop(settings: Settings, host: str, port: int, tls: str) -> list[Finding]:
    subject = f"next hop {host}:{port}"
    try:
        said = await asyncio.to_thread(_greet, settings, host, port, tls)
    except ssl.SSLError as error:
        return [
            Wrong(
                subject,
                f"TLS fails: {error}",
                'its certificate must be trusted ([delivery] ca_file), or tls = "require"',
            )
        ]
    except smtplib.SMTPNotSupportedError:
        return [
            Wrong(subject, f'it offers no STARTTLS, the settings say tls = "{tls}"', "switch TLS on there")
        ]
    except (OSError, smtplib.SMTPException) as error:
        return [Wrong(subject, f"no SMTP server answers: {error}", "start it, or open the way to it")]
    return [Ok(subject, said)]


def _greet(settings: Settings, host: str, port: int, tls: str) -> str:
    with smtplib.SMTP(host, port, settings.relay.hostname, timeout=_DIAL_SECONDS) as client:
        client.ehlo()
        if tls == "none" or (tls == "opportunistic" and not client.has_extn("starttls")):
            return "answers, without TLS"
        context = ssl.create_default_context()
        if settings.delivery.ca_file:
            context.load_verify_locations(settings.path(settings.delivery.ca_file))
        if tls != "verify":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        client.starttls(context=context)
        return f"answers, {client.sock.version()}"  # type: ignore[union-attr]
