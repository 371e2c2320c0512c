"""A real name server on the loopback interface: BIND with the zones that a test gives it."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import dns.message
import dns.query

from tests.support.gateway import free_ports
from tests.support.peers import require

_CONFIGURATION = """
options {{
  directory "{directory}";
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  pid-file none;
  session-keyfile "{directory}/session.key";
  recursion no;
  notify no;
}};
controls {{ }};
"""
# A negative answer is remembered for a second, so that a test need not wait for what it adds.
_HEAD = """\
$TTL 1
@ IN SOA ns.{zone}. hostmaster.{zone}. {serial} 60 60 3600 1
@ IN NS ns.{zone}.
ns IN A 127.0.0.1
"""


class Bind:
    """``named`` with a zone for each domain; records are lines of a zone file."""

    def __init__(self, directory: Path, zones: dict[str, list[str]]) -> None:
        self._directory = directory
        self._serial = int(time.time())
        self.port = free_ports(1)[0]
        for zone, records in zones.items():
            self._write(zone, records)
        configuration = _CONFIGURATION.format(directory=directory, port=self.port)
        for zone in zones:
            configuration += f'zone "{zone}" {{ type primary; file "{zone}.zone"; }};\n'
        (directory / "named.conf").write_text(configuration)
        self._log = (directory / "named.log").open("wb")
        command = [require("named"), "-g", "-n", "1", "-c", str(directory / "named.conf")]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        self._wait_for(dict.fromkeys(zones, self._serial))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _write(self, zone: str, records: list[str]) -> None:
        text = _HEAD.format(zone=zone, serial=self._serial) + "".join(f"{line}\n" for line in records)
        (self._directory / f"{zone}.zone").write_text(text)

    def publish(self, zone: str, *records: str) -> None:
        """These records instead of those before; served when this returns."""
        self._serial += 1
        self._write(zone, list(records))
        self._process.send_signal(signal.SIGHUP)
        self._wait_for({zone: self._serial})

    def _wait_for(self, serials: dict[str, int], seconds: float = 20) -> None:
        give_up_at = time.monotonic() + seconds
        while not all(self._serves(zone, serial) for zone, serial in serials.items()):
            assert self._process.poll() is None, (self._directory / "named.log").read_text()
            assert time.monotonic() < give_up_at, (self._directory / "named.log").read_text()
            time.sleep(0.05)

    def _serves(self, zone: str, serial: int) -> bool:
        question = dns.message.make_query(zone, "SOA")
        try:
            answer = dns.query.udp(question, "127.0.0.1", 1, self.port)
        except (dns.exception.DNSException, OSError):
            return False
        return any(record.serial == serial for rrset in answer.answer for record in rrset)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


def txt(name: str, value: str) -> str:
    """A TXT record, its value in strings of at most 255 octets."""
    parts = [value[start : start + 255] for start in range(0, len(value), 255)]
    quoted = " ".join(f'"{part}"' for part in parts)
    return f"{name}. IN TXT {quoted}"
