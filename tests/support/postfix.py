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
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
error unix - - n - - error
retry unix - - n - - error
"""


class Postfix:
    """Takes mail for ``domains`` as ``name``, whose certificate ``authority`` signs."""

    def __init__(self, authority: trustme.CA, name: str, address: str, domains: list[str]) -> None:
        program = require("postfix")
        if os.geteuid() != 0:
            pytest.skip("postfix is started by root alone")
        # Not below the tests' directory: its parents are closed to Postfix's own user.
        self._at = Path(tempfile.mkdtemp(prefix="relay-postfix-"))
        self._at.chmod(0o755)
        (self.port,) = free_ports(1)
        user = pwd.getpwnam("postfix")
        values = {
            "at": self._at,
            "name": name,
            "address": address,
            "port": self.port,
            "domains": " ".join(domains),
            "uid": user.pw_uid,
            "gid": user.pw_gid,
        }
        issued = authority.issue_cert(name)
        issued.private_key_and_cert_chain_pem.write_to_path(str(self._at / "chain.pem"))
        for directory in ("etc", "queue", "data", "mail"):
            (self._at / directory).mkdir()
            (self._at / directory).chmod(0o755)  # commands of the relay in this process narrow the umask
        for directory in ("data", "mail"):
            os.chown(self._at / directory, user.pw_uid, user.pw_gid)
        (self._at / "etc" / "main.cf").write_text(_MAIN.format(**values))
        (self._at / "etc" / "master.cf").write_text(_MASTER.format(**values))
        for file in ("main.cf", "master.cf"):
            (self._at / "etc" / file).chmod(0o644)
        self._command = [program, "-c", str(self._at / "etc")]
        done = subprocess.run(
            [*self._command, "start"], capture_output=True, text=True, timeout=60, umask=0o022
        )
        if done.returncode != 0:
            told = done.stdout + done.stderr + self.log()
            self.close()
            raise AssertionError(f"postfix does not start: {told}")

    def log(self) -> str:
        file = self._at / "log"
        return file.read_text() if file.exists() else ""

    def wait_for(self, subject: str, seconds: float = 30) -> str:
        """The message with ``subject``, as it lies in the mailbox."""
        give_up_at = time.monotonic() + seconds
        inbox = self._at / "mail" / "inbox"
        while time.monotonic() < give_up_at:
            messages = inbox.read_text().split("\nFrom ") if inbox.exists() else []
            found = [one for one in messages if f"\nSubject: {subject}\n" in one]
            if found:
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"no message {subject!r}:\n{self.log()}")

    def close(self) -> None:
        subprocess.run([*self._command, "stop"], capture_output=True, timeout=60, check=False)
        shutil.rmtree(self._at, ignore_errors=True)
