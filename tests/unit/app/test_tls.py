"""A certificate's files while they are replaced, broken, missing, or grow old."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from relay.app.tls import Renewal, load_pair, trouble_with

NOW = datetime.now(UTC)
AUTHORITY = trustme.CA()


class Files:
    """A certificate and its key as a program that renews them leaves them: each replaced by rename."""

    def __init__(self, directory: Path) -> None:
        self.certificate, self.key = directory / "relay.crt", directory / "relay.pem"
        self.renew(days=90)

    def renew(self, days: float, which: str = "both", since: datetime | None = None) -> None:
        made = AUTHORITY.issue_cert("relay.example", not_before=since, not_after=NOW + timedelta(days=days))
        if which in ("both", "certificate"):
            self._put(self.certificate, b"".join(blob.bytes() for blob in made.cert_chain_pems))
        if which in ("both", "key"):
            self._put(self.key, made.private_key_pem.bytes())

    @staticmethod
    def _put(path: Path, content: bytes) -> None:
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        os.replace(fresh, path)

    def der(self) -> bytes:
        """The certificate that is in the file."""
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).public_bytes(Encoding.DER)

    @property
    def paths(self) -> tuple[Path, Path]:
        return self.certificate, self.key


class Watched:
    """A renewal with what it logged, and what its context serves."""

    def __init__(self, files: Files) -> None:
        self.lines: list[dict[str, Any]] = []
        pair = load_pair(*files.paths)
        self._context = pair.context
        self.renewal = Renewal(files.paths, pair, self._log)

    def _log(self, event: str, *, level: str = "info", **fields: Any) -> None:
        self.lines.append({"event": event, "level": level, **fields})

    async def look(self, times: int = 1, days: float = 0) -> list[tuple[str, str]]:
        """Look so often; level and event of the lines that brought."""
        before = len(self.lines)
        for _ in range(times):
            await self.renewal.look(NOW + timedelta(days=days))
        return [(line["level"], line["event"]) for line in self.lines[before:]]

    def served(self) -> bytes:
        """The certificate that a client gets now."""
        trusting = ssl.create_default_context()
        AUTHORITY.configure_trust(trusting)
        there, here = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting.wrap_bio(there, here, server_hostname="relay.example")
        server = self._context.wrap_bio(here, there, server_side=True)
        for side in (client, server, client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
        return client.getpeercert(binary_form=True) or b""


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def watched(files: Files) -> Watched:
    return Watched(files)


async def test_files_that_stay_are_not_loaded_again(watched):
    before = watched.served()
    assert await watched.look(times=3) == []
    assert watched.served() == before


async def test_new_pair_is_served_once(files, watched):
    files.renew(days=100)
    assert await watched.look(times=3) == [("info", "certificate renewed")]
    assert watched.served() == files.der()
    assert watched.lines[0]["file"] == str(files.certificate)


async def test_pair_that_is_being_replaced_is_awaited_without_a_complaint(files, watched):
    made = AUTHORITY.issue_cert("relay.example")
    files._put(files.certificate, made.cert_chain_pems[0].bytes())
    assert await watched.look() == []
    files._put(files.key, made.private_key_pem.bytes())
    assert await watched.look() == [("info", "certificate renewed")]
    assert watched.served() == files.der()


BREAKS: dict[str, tuple[Callable[[Files], object], str]] = {
    "no certificate": (lambda files: files.certificate.unlink(), "No such file"),
    "no key": (lambda files: files.key.unlink(), "No such file"),
    "certificate of another key": (lambda files: files.renew(90, "certificate"), "key values mismatch"),
    "key of another certificate": (lambda files: files.renew(90, "key"), "key values mismatch"),
    "empty certificate": (lambda files: files.certificate.write_bytes(b""), "PEM"),
    "half a certificate": (
        lambda files: files.certificate.write_bytes(files.certificate.read_bytes()[:300]),
        "PEM",
    ),
    "expired": (lambda files: files.renew(-1, since=NOW - timedelta(days=2)), "expired at"),
    "valid from tomorrow": (lambda files: files.renew(90, since=NOW + timedelta(days=1)), "valid only from"),
    "directory": (lambda files: (files.key.unlink(), files.key.mkdir()), ""),
}


@pytest.mark.parametrize(("spoil", "problem"), BREAKS.values(), ids=BREAKS)
async def test_files_that_cannot_be_served_leave_the_former_pair(files, watched, spoil, problem):
    before = files.der()
    spoil(files)
    assert await watched.look(times=5) == [("error", "certificate not usable")], "once"
    line = watched.lines[0]
    assert problem in line["problem"]
    assert (line["certificate"], line["private_key"]) == (str(files.certificate), str(files.key))
    assert line["cure"].startswith("put a certificate and its own key there")
    assert watched.served() == before


async def test_new_fault_is_named_and_the_mended_pair_served(files, watched):
    files.key.unlink()
    assert len(await watched.look(times=2)) == 1
    files.renew(90, "key")
    assert await watched.look(times=2) == [("error", "certificate not usable")]
    files.renew(90)
    assert await watched.look(times=2) == [("info", "certificate renewed")]
    files.certificate.unlink()
    assert await watched.look(times=2) == [("error", "certificate not usable")]


async def test_key_under_a_passphrase_is_an_error_and_asks_nobody(files, watched):
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    files._put(files.key, locked)
    assert await watched.look(times=2) == [("error", "certificate not usable")]


async def test_expiry_is_named_daily_from_fourteen_days_before_and_is_an_error_after(watched):
    assert await watched.look(days=75) == []
    assert await watched.look(times=3, days=76.5) == [("warning", "certificate expires")]
    assert await watched.look(days=77.4) == []
    assert await watched.look(days=77.6) == [("warning", "certificate expires")]
    assert await watched.look(days=89.9) == [("warning", "certificate expires")]
    assert await watched.look(times=3, days=90.1) == [("error", "certificate not valid")]
    assert await watched.look(days=91.2) == [("error", "certificate not valid")]
    assert all(line["cure"].startswith("renew it") for line in watched.lines)
    assert all(f"{NOW + timedelta(days=90):%Y-%m-%d}" in line["problem"] for line in watched.lines)


async def test_renewed_certificate_ends_the_reminders(files, watched):
    assert await watched.look(days=89) == [("warning", "certificate expires")]
    files.renew(days=180)
    assert await watched.look(days=89) == [("info", "certificate renewed")]
    assert await watched.look(days=91) == []


@pytest.mark.parametrize(
    ("days", "text", "is_soon"),
    [(13, "expires at", True), (0, "expired at", False), (-1, "expired at", False)],
)
def test_trouble_is_told_by_the_clock(files, days, text, is_soon):
    certificate = load_pair(*files.paths).certificate
    trouble = trouble_with(certificate, certificate.not_valid_after_utc - timedelta(days=days))
    assert trouble is not None
    assert trouble.text.startswith(text)
    assert trouble.is_soon is is_soon
    assert trouble_with(certificate, certificate.not_valid_after_utc - timedelta(days=14)) is None
