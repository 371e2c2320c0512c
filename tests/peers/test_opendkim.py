"""What arrives at the next hop verifies with a verifier that is not ours, and is what was submitted."""

from __future__ import annotations

import re
import smtplib
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway, Login, arn, grant, transact, user_arn
from tests.support.multibuffer import library
from tests.support.peers import require
from tests.support.web import ask

CLIENTS = 16
MESSAGES = {
    "plain": "Subject: Hello\r\n\r\nHello.\r\n",
    "no body": "Subject: Nothing\r\n\r\n",
    "no line end": "Subject: Cut\r\n\r\nno line end",
    "blank lines at the end": "Subject: Tail\r\n\r\nHello.\r\n\r\n\r\n",
    "dots": "Subject: Dots\r\n\r\n.\r\n..\r\n.x\r\nend\r\n",
    "8-bit": "Subject: Bytes\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n",
    "folded": "Subject: a\r\n  folded\r\n\tsubject\r\nX-Empty:\r\nX-Tail: x  \r\n\r\n  leading\ttabs  \r\n",
    "large": "Subject: Large\r\n\r\n" + ("0123456789" * 9 + "\r\n") * 9000,
}


@pytest.fixture(scope="module")
def lent(gateway: Gateway, app: Login) -> str:
    gateway.identity("peer.example")
    gateway.policy(arn("peer.example"), grant({"AWS": user_arn("app")}, arn("peer.example")))
    return "peer.example"


def submit(gateway: Gateway, app: Login, lent: str, rcpt: str, rest: str) -> None:
    message = f"From: a@{lent}\r\nTo: {rcpt}\r\nX-SES-SOURCE-ARN: {arn(lent)}\r\n{rest}"
    with gateway.client(app) as client:
        code, text = transact(client, f"a@{lent}", [rcpt], message)
    assert code == 250, text


@pytest.mark.parametrize("name", MESSAGES)
def test_opendkim_verifies_what_arrives(gateway, app, lent, recorder: Recorder, tmp_path: Path, name):
    require("opendkim")
    rcpt = f"{name.replace(' ', '-')}@customer.example"
    submit(gateway, app, lent, rcpt, MESSAGES[name])
    assert_verified(gateway, lent, recorder.wait_for(rcpt, 15).data, tmp_path)


def assert_verified(gateway: Gateway, lent: str, arrived: bytes, tmp_path: Path) -> None:
    opendkim = require("opendkim")
    (tmp_path / "message").write_bytes(arrived)
    keys = [f"{key} {value}" for key, value in gateway.records.items() if "._domainkey." in key]
    (tmp_path / "keys").write_text("\n".join(keys) + "\n")
    (tmp_path / "conf").write_text(
        f"Mode v\nTestPublicKeys {tmp_path}/keys\nSyslog no\nSocket local:{tmp_path}/s\n"
    )
    done = subprocess.run(
        [opendkim, "-t", str(tmp_path / "message"), "-x", str(tmp_path / "conf")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"d={lent}, 2048-bit key) succeeded" in done.stdout, done.stdout + done.stderr


def test_opendkim_verifies_what_was_signed_together(gateway, app, lent, recorder, tmp_path: Path):
    """Sixteen clients end their data in one moment, a few times."""
    library()
    rcpts = [f"together-{number}@customer.example" for number in range(CLIENTS * 4)]
    moment = threading.Barrier(CLIENTS)

    def send(first: int) -> list[int]:
        with gateway.client(app) as client:
            return [submit_at(moment, client, lent, rcpt) for rcpt in rcpts[first::CLIENTS]]

    with ThreadPoolExecutor(CLIENTS) as clients:
        codes = [code for each in clients.map(send, range(CLIENTS)) for code in each]
    assert codes == [250] * len(rcpts)
    for rcpt in rcpts:
        assert_verified(gateway, lent, recorder.wait_for(rcpt, 15).data, tmp_path)
    assert signatures(gateway, "together") >= 3


def submit_at(moment: threading.Barrier, client: smtplib.SMTP, lent: str, rcpt: str) -> int:
    client.mail(f"a@{lent}")
    client.rcpt(rcpt)
    client.docmd("DATA")
    moment.wait(20)
    message = f"From: a@{lent}\r\nTo: {rcpt}\r\nX-SES-SOURCE-ARN: {arn(lent)}\r\n\r\nHello.\r\n.\r\n"
    client.send(message.encode())
    return client.getreply()[0]


def signatures(gateway: Gateway, made: str) -> float:
    shown = ask(f"http://127.0.0.1:{gateway.http_port}/metrics").text
    found = re.search(rf'^relay_signatures_total{{made="{made}"}} (\S+)$', shown, re.MULTILINE)
    assert found, shown
    return float(found[1])


@pytest.mark.parametrize("name", MESSAGES)
def test_all_else_is_byte_for_byte_what_was_submitted(gateway, app, lent, recorder: Recorder, name):
    rcpt = f"bytes-{name.replace(' ', '-')}@customer.example"
    submit(gateway, app, lent, rcpt, MESSAGES[name])
    arrived = recorder.wait_for(rcpt, 15).data
    head, _, body = arrived.partition(b"\r\n\r\n")
    submitted_head, _, submitted_body = MESSAGES[name].encode("latin-1").partition(b"\r\n\r\n")
    # RFC 5321 section 4.1.1.4: the data ends with a line end, which a client adds where there is none.
    assert body == submitted_body + (
        b"" if submitted_body.endswith(b"\r\n") or not submitted_body else b"\r\n"
    )
    assert f"From: a@{lent}\r\nTo: {rcpt}\r\n".encode() + submitted_head in head + b"\r\n"
    assert b"x-ses-" not in head.lower()


def test_both_signatures_of_an_identity_with_two_keys_are_there(gateway, app, recorder: Recorder):
    gateway.identity("two.example")
    shown = gateway.run("identity", "dkim", "two.example", "--account", OWNER, "--algorithm", "both")
    gateway.records.update({row["name"]: row["value"] for row in shown["dns_records"]})
    gateway.policy(arn("two.example"), grant({"AWS": user_arn("app")}, arn("two.example")))
    submit(gateway, app, "two.example", "two@customer.example", "\r\nx\r\n")
    data = recorder.wait_for("two@customer.example", 15).data
    assert [line for line in data.split(b"\r\n") if b"a=rsa-sha256" in line]
    assert [line for line in data.split(b"\r\n") if b"a=ed25519-sha256" in line]
    from tests.support.dkim_verifier import verifies

    assert verifies(data, gateway.records, 0)
    assert verifies(data, gateway.records, 1)
