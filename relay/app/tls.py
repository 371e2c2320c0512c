"""The listeners' certificate: loaded with its key, judged by the clock, taken anew when its files change.

Programs that renew certificates replace files and may tell nobody.  So each worker looks at them every few
seconds; what is there now is served to connections that come from then on if it is a pair and valid, else
what was served before goes on being served and the log says what is wrong.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from relay.maillog import Log
from relay.settings import Settings

_LOOK_SECONDS = 5.0
_NEAR_EXPIRY = timedelta(days=14)
_REMIND = timedelta(days=1)
RENEW = "renew it: a running gateway takes the new files by itself"

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key, ready to serve; ``stamp`` tells its files from others."""

    context: ssl.SSLContext
    certificate: x509.Certificate
    stamp: Stamp
    _chain: bytes = field(repr=False)
    _key: bytes = field(repr=False)

    def load_into(self, context: ssl.SSLContext) -> None:
        """Have ``context`` serve this pair to connections that come from now on."""
        _load(context, self._chain, self._key)


@dataclass(frozen=True, slots=True)
class Trouble:
    """What clients have against a certificate, now or soon."""

    text: str
    is_soon: bool = False


def files(settings: Settings) -> tuple[Path, Path]:
    """Where certificate and private key are."""
    return settings.path(settings.smtp.certificate), settings.path(settings.smtp.private_key)


def load_pair(certificate: Path, key: Path) -> Pair:
    """For the listeners: TLS 1.2 or later.  OSError (SSLError is one) or ValueError if they are no pair."""
    stamp = _stamp(certificate, key)
    chain_octets, key_octets = certificate.read_bytes(), key.read_bytes()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, chain_octets, key_octets)
    return Pair(context, x509.load_pem_x509_certificate(chain_octets), stamp, chain_octets, key_octets)


def _load(context: ssl.SSLContext, chain: bytes, key: bytes) -> None:
    """From octets and not from files, which may change meanwhile; the library knows only files."""
    with _in_memory(chain) as chain_file, _in_memory(key) as key_file:
        # A key under a passphrase is an error and not a question at the terminal.
        context.load_cert_chain(chain_file, key_file, password="")


@contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    fd = os.memfd_create("tls")
    try:
        os.write(fd, content)
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _stamp(*paths: Path) -> Stamp:
    found = [os.stat(path) for path in paths]
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns) for one in found)


def trouble_with(certificate: x509.Certificate, now: datetime) -> Trouble | None:
    """Whether it is valid now, and will be for some time."""
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now < since:
        return Trouble(f"valid only from {since:%Y-%m-%d %H:%M} UTC")
    if now >= until:
        return Trouble(f"expired at {until:%Y-%m-%d %H:%M} UTC")
    if until - now < _NEAR_EXPIRY:
        return Trouble(f"expires at {until:%Y-%m-%d %H:%M} UTC", is_soon=True)
    return None


class Renewal:
    """Watches the files of the pair that is served, and puts the one that replaces it into its context."""

    def __init__(self, paths: tuple[Path, Path], pair: Pair, log: Log) -> None:
        self._paths = paths
        self._pair = pair
        self._context = pair.context
        self._log = log
        self._problem: str | None = None
        self._complaint: str | None = None
        self._reminded: tuple[Trouble, datetime] | None = None

    async def run(self) -> None:
        """Look every few seconds until cancelled."""
        while True:
            await self.look(datetime.now(UTC))
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self, now: datetime) -> None:
        """Take what is new and usable, and say what is not, or soon will not be."""
        found = await asyncio.to_thread(self._find, now)
        if isinstance(found, Pair):
            # Here and not in the thread: handshakes, which read the context, are this thread's too.
            found.load_into(self._context)
            self._pair = found
            until = found.certificate.not_valid_after_utc
            self._log("certificate renewed", file=str(self._paths[0]), until=f"{until:%Y-%m-%d %H:%M} UTC")
        self._complain(found if isinstance(found, str) else None)
        self._remind(now)

    def _find(self, now: datetime) -> Pair | str | None:
        """The pair that is there now, what is wrong with it, or None if it is the one that is served."""
        try:
            if _stamp(*self._paths) == self._pair.stamp:
                return None
            pair = load_pair(*self._paths)
        except (OSError, ValueError) as error:
            return str(error)
        trouble = trouble_with(pair.certificate, now)
        return pair if trouble is None or trouble.is_soon else trouble.text

    def _complain(self, problem: str | None) -> None:
        """Once, of what is found twice running: files that are just being replaced are no fault."""
        if problem is not None and problem == self._problem != self._complaint:
            self._complaint = problem
            self._log(
                "certificate not usable",
                level="error",
                certificate=str(self._paths[0]),
                private_key=str(self._paths[1]),
                problem=problem,
                cure="put a certificate and its own key there, in PEM; until then the former is served",
            )
        if problem is None:
            self._complaint = None
        self._problem = problem

    def _remind(self, now: datetime) -> None:
        """Once a day, and when it gets worse."""
        trouble = trouble_with(self._pair.certificate, now)
        if trouble is None:
            self._reminded = None
        elif self._reminded is None or self._reminded[0] != trouble or now - self._reminded[1] >= _REMIND:
            self._reminded = trouble, now
            self._log(
                "certificate expires" if trouble.is_soon else "certificate not valid",
                level="warning" if trouble.is_soon else "error",
                file=str(self._paths[0]),
                problem=trouble.text,
                cure=RENEW,
            )
