"""A Postfix of our own: configuration, queue and mail in a directory, one port on the loopback interface."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import trustme

from tests.support.gateway import free_ports
from tests.support.peers import require

_MAIN = """
compatibility_level = 3.6
queue_directory = {at}/queue
data_directory = {at}/data
maillog_file = {at}/log
maillog_file_prefixes = {at}
myhostname = {name}
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks =
mydestination =
alias_maps =
"""
_MAILBOX = """
virtual_mailbox_domains = {domains}
virtual_mailbox_base = {at}/mail
virtual_mailbox_maps = static:inbox
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_chain_files = {at}/chain.pem
smtpd_tls_security_level = may
smtpd_tls_received_header = yes
"""
_MASTER = """
{address}:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
virtual unix - n n - - virtual
smtp unix - - n - - smtp
scache unix - - n - 1 scache
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
error unix - - n - - error
retry unix - - n - - error
"""


class Instance:
    """Listens at ``address`` as ``name`` from ``start`` until ``close``; ``at`` is its directory."""

    def __init__(self, name: str, address: str) -> None:
        self._program = require("postfix")
        if os.geteuid() != 0:
            pytest.skip("postfix is started by root alone")
        # Not below the tests' directory: its parents are closed to Postfix's own user.
        self.at = Path(tempfile.mkdtemp(prefix="relay-postfix-"))
        self.at.chmod(0o755)
        (self.port,) = free_ports(1)
        self._name, self._address = name, address
        for directory in ("etc", "queue"):
            self._make(directory)
        self.make_own("data")
        self._command = [self._program, "-c", str(self.at / "etc")]

    def _make(self, name: str) -> Path:
        directory = self.at / name
        directory.mkdir()
        directory.chmod(0o755)  # commands of the relay in this process narrow the umask
        return directory

    def make_own(self, name: str) -> Path:
        """A directory that belongs to Postfix's own user."""
        directory, user = self._make(name), pwd.getpwnam("postfix")
        os.chown(directory, user.pw_uid, user.pw_gid)
        return directory

    def start(self, more: str) -> None:
        """Start with ``more`` settings."""
        values = {"at": self.at, "name": self._name, "address": self._address, "port": self.port}
        texts = {"main.cf": _MAIN.format(**values) + more, "master.cf": _MASTER.format(**values)}
        for name, text in texts.items():
            (self.at / "etc" / name).write_text(text)
            (self.at / "etc" / name).chmod(0o644)
        done = subprocess.run(
            [*self._command, "start"], capture_output=True, text=True, timeout=60, umask=0o022
        )
        if done.returncode != 0:
            told = done.stdout + done.stderr + self.log()
            self.close()
            raise AssertionError(f"postfix does not start: {told}")

    def log(self) -> str:
        file = self.at / "log"
        return file.read_text() if file.exists() else ""

    def close(self) -> None:
        subprocess.run([*self._command, "stop"], capture_output=True, timeout=60, check=False)
        shutil.rmtree(self.at, ignore_errors=True)


class Postfix(Instance):
    """Takes mail for ``domains`` as ``name``, whose certificate ``authority`` signs."""

    def __init__(self, authority: trustme.CA, name: str, address: str, domains: list[str]) -> None:
        super().__init__(name, address)
        issued = authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(self.at / "chain.pem"))
        self.make_own("mail")
        user = pwd.getpwnam("postfix")
        values = {"domains": " ".join(domains), "uid": user.pw_uid, "gid": user.pw_gid, "at": self.at}
        self.start(_MAILBOX.format(**values))

    def wait_for(self, subject: str, seconds: float = 30) -> str:
        """The message with ``subject``, as it lies in the mailbox."""
        give_up_at = time.monotonic() + seconds
        inbox = self.at / "mail" / "inbox"
        while time.monotonic() < give_up_at:
            messages = inbox.read_text().split("\nFrom ") if inbox.exists() else []
            found = [one for one in messages if f"\nSubject: {subject}\n" in one]
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"no message {subject!r}:\n{self.log()}")
