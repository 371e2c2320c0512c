"""What others do with the same load: load client -> Postfix, Cyrus SASL, OpenDKIM -> smtp-sink.

    sudo .venv/bin/python -m tests.bench.bench_peer [--message FILE.eml] [-c 40] [-n 4000]

A Postfix in a directory of its own takes mail under a login from a sasldb, has OpenDKIM sign it as a milter
(RSA-2048, relaxed/simple, milter_default_action = tempfail) and hands all of it to smtp-sink.  Everything
else is as Postfix sets it; it too has a message on disk before 250.  Prints what ``bench_relay`` prints.

Needs root, and the Debian packages postfix, opendkim, libsasl2-modules and sasl2-bin.
"""

from __future__ import annotations

import base64
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.app.recorder import Recorder
from tests.bench.load import compile_client
from tests.bench.measuring import (
    PROBE_DOMAIN,
    add_loads,
    arguments,
    check_signature,
    loads,
    measure,
    print_measured,
)
from tests.bench.processes import cpu_seconds, memory_bytes
from tests.bench.sink import Sink
from tests.support.gateway import Login
from tests.support.postfix import Instance

LOGIN = Login("app@peer.example", "a-password-of-the-benchmark")
_DOMAIN, _SELECTOR = "owner.example", "peer"
_PROGRAMS = {"postfix": "postfix", "opendkim": "opendkim", "saslpasswd2": "sasl2-bin"}
_MECHANISM = "/usr/lib/*/sasl2/libplain.so"
_PLACES = "/usr/sbin:/usr/bin:/sbin:/bin"
# The queues of mail that is on its way; deferred is that too.
_QUEUES = ("maildrop", "incoming", "active", "deferred")
_MAIN = """
mydomain = peer.example
relayhost = [{sink_host}]:{sink_port}
transport_maps = inline:{{ {{ {probe_domain} = smtp:[{probe_host}]:{probe_port} }} }}
smtpd_sasl_auth_enable = yes
cyrus_sasl_config_path = {at}/etc/sasl
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_client_connection_count_limit = 0
smtpd_milters = unix:{at}/dkim/socket
milter_default_action = tempfail
"""
_SASL = """
pwcheck_method: auxprop
auxprop_plugin: sasldb
sasldb_path: {at}/dkim/sasldb2
mech_list: PLAIN LOGIN
"""
# RequireSafeKeys looks at every directory above the key, and the temporary one is everybody's.
_OPENDKIM = """
Mode s
Socket local:{at}/dkim/socket
UserID postfix
Domain {domain}
Selector {selector}
KeyFile {at}/dkim/key.pem
RequireSafeKeys no
Canonicalization relaxed/simple
SignatureAlgorithm rsa-sha256
OversignHeaders From
Background no
Syslog yes
"""


def missing() -> list[str]:
    """What this machine lacks, in words."""
    absent = [
        f"{program} (apt-get install {package})"
        for program, package in _PROGRAMS.items()
        if shutil.which(program, path=_PLACES) is None
    ]
    if not list(Path("/").glob(_MECHANISM.removeprefix("/"))):
        absent.append("Cyrus SASL's PLAIN (apt-get install libsasl2-modules)")
    if os.geteuid() != 0:
        absent.append("root, who alone starts Postfix")
    return absent


@dataclass(frozen=True)
class Peer:
    """Postfix and OpenDKIM under load."""

    postfix: Instance
    roots: tuple[int, ...]  # the processes that all others are below
    records: Mapping[str, str]
    login: Login = LOGIN
    tls: bool = False

    @property
    def port(self) -> int:
        return self.postfix.port

    def is_waiting(self) -> bool:
        return any(files for queue in _QUEUES for _, _, files in os.walk(self.postfix.at / "queue" / queue))

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(root) for root in self.roots)

    def memory_bytes(self) -> int:
        return max(memory_bytes(root) for root in self.roots)


@contextmanager
def running(sink: Sink, probe: str) -> Iterator[Peer]:
    """Postfix and OpenDKIM; mail to the probe's domain goes to ``probe``."""
    if lacking := missing():
        raise SystemExit(f"Postfix cannot be measured here, there is no {', no '.join(lacking)}")
    postfix = Instance("peer.example", "127.0.0.1")
    with closing(postfix):
        records = make_key(postfix.make_own("dkim"))
        make_login(postfix.at)
        with signing(postfix.at) as opendkim:
            (sink_host, sink_port), (probe_host, probe_port) = (
                address.split(":") for address in (sink.address, probe)
            )
            values = {"sink_host": sink_host, "sink_port": sink_port, "probe_host": probe_host}
            values |= {"probe_port": probe_port, "probe_domain": PROBE_DOMAIN, "at": str(postfix.at)}
            postfix.start(_MAIN.format(**values))
            master = int((postfix.at / "queue" / "pid" / "master.pid").read_text())
            yield Peer(postfix, (master, opendkim), records)


def make_key(directory: Path) -> Mapping[str, str]:
    """A new key for OpenDKIM, and its TXT record."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    plain = (forms.PrivateFormat.TraditionalOpenSSL, forms.NoEncryption())
    give(directory / "key.pem", key.private_bytes(forms.Encoding.PEM, *plain))
    public = key.public_key().public_bytes(forms.Encoding.DER, forms.PublicFormat.SubjectPublicKeyInfo)
    text = f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"
    return {f"{_SELECTOR}._domainkey.{_DOMAIN}": text}


def give(path: Path, octets: bytes) -> None:
    """A file that Postfix's own user alone can read."""
    path.touch(0o600)
    path.write_bytes(octets)
    user = pwd.getpwnam("postfix")
    os.chown(path, user.pw_uid, user.pw_gid)


def make_login(at: Path) -> None:
    (at / "etc" / "sasl").mkdir(mode=0o755)
    (at / "etc" / "sasl" / "smtpd.conf").write_text(_SASL.format(at=at))
    user, _, realm = LOGIN.username.partition("@")
    base = at / "dkim" / "sasldb2"
    command = ["saslpasswd2", "-p", "-c", "-f", str(base), "-u", realm, user]
    done = subprocess.run(command, input=LOGIN.password, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"saslpasswd2 failed: {done.stderr}")
    give(base, base.read_bytes())


@contextmanager
def signing(at: Path) -> Iterator[int]:
    """OpenDKIM, ready; its process."""
    (at / "dkim" / "conf").write_text(_OPENDKIM.format(at=at, domain=_DOMAIN, selector=_SELECTOR))
    program = shutil.which("opendkim", path=_PLACES)
    assert program is not None
    with (at / "dkim" / "log").open("wb") as log:
        process = subprocess.Popen([program, "-f", "-x", str(at / "dkim" / "conf")], stdout=log, stderr=log)
    try:
        give_up_at = time.monotonic() + 20
        while not (at / "dkim" / "socket").exists():
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise SystemExit(f"opendkim does not start: {(at / 'dkim' / 'log').read_text()}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def version() -> str:
    """Postfix's, as it tells it."""
    command = [shutil.which("postconf", path=_PLACES) or "postconf", "-d", "-h", "mail_version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    parser = arguments(__doc__)
    add_loads(parser)
    options = parser.parse_args()
    sink, probe = Sink(), Recorder(frozenset())
    try:
        with tempfile.TemporaryDirectory(prefix="relay-bench-") as name, running(sink, probe.address) as peer:
            client = compile_client(options.client, Path(name))
            check_signature(peer, probe)
            for load in loads(options, Path(name)):
                print_measured(load, measure(peer, client, load))
    finally:
        probe.close()
        sink.close()


if __name__ == "__main__":
    main()
