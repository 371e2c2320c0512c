"""What the load client sends arrives once and unchanged, and what it says of it is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.bench.bench_relay import Relay, running
from tests.bench.load import SOURCE, Load, compile_client, send
from tests.bench.measuring import measure
from tests.support.gateway import Login, arn
from tests.support.peers import require

COUNT, CONNECTIONS = 25, 3
BODY = ".\n..dots\nlast line, without an end"


@dataclass(frozen=True)
class Place:
    relay: Relay
    recorder: Recorder
    program: Path
    directory: Path

    def message(self, sender: str) -> Path:
        path = self.directory / "message.eml"
        fields = f"From: {sender}\nSubject: @SEQ@ and @SEQ@\nX-SES-SOURCE-ARN: {arn('owner.example')}\n"
        path.write_text(f"{fields}\n{BODY}")
        return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    require("cc")
    directory = tmp_path_factory.mktemp("load")
    program = compile_client(SOURCE, directory)
    recorder = Recorder(frozenset())
    with running(directory / "relay", recorder, workers=1) as relay:
        yield Place(relay, recorder, program, directory)
    recorder.close()


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
@pytest.mark.parametrize("pipeline", [False, True], ids=["one-by-one", "pipelined"])
@pytest.mark.parametrize("reconnect_after", [0, 4], ids=["kept", "reconnecting"])
def test_every_message_arrives_once_and_unchanged(
    place: Place, tls: bool, pipeline: bool, reconnect_after: int
) -> None:
    place.recorder.arrived.clear()
    load = Load(place.message("a@owner.example"), CONNECTIONS, COUNT, pipeline, reconnect_after)
    relay = Relay(place.relay.gateway, place.relay.login, place.relay.store, tls)
    figures = measure(relay, place.program, load).figures
    octets = [one.data for one in place.recorder.arrived]
    numbers = [int(re.search(rb"\r\nSubject: (\d+) and \1\r\n", one)[1]) for one in octets]  # type: ignore[index]
    assert sorted(numbers) == list(range(1, COUNT + 1))
    assert {one.partition(b"\r\n\r\n")[2] for one in octets} == {
        BODY.replace("\n", "\r\n").encode() + b"\r\n"
    }
    assert all((b"with ESMTPSA" in one) == tls for one in octets)
    assert f"ok={COUNT} failed=0" in figures.line
    opened = int(figures.line.partition("connections=")[2].split()[0])
    assert opened >= COUNT / reconnect_after if reconnect_after else opened == CONNECTIONS
    assert 0 < figures.p50_ms <= figures.p95_ms <= figures.p99_ms <= figures.max_ms


def test_a_refused_message_fails_the_run(place: Place) -> None:
    load = Load(place.message("a@stranger.example"), CONNECTIONS, COUNT)
    with pytest.raises(SystemExit, match=rf"ok=0 failed={COUNT} (.|\n)*at the data: 554"):
        send(place.program, place.relay.port, place.relay.login, False, load)


def test_a_wrong_password_ends_the_run(place: Place) -> None:
    load = Load(place.message("a@owner.example"), CONNECTIONS, COUNT)
    wrong = Login(place.relay.login.username, "wrong")
    with pytest.raises(SystemExit, match=rf"ok=0 failed={COUNT} (.|\n)*at AUTH: 535"):
        send(place.program, place.relay.port, wrong, False, load)


def test_a_server_that_is_not_there_ends_the_run(place: Place) -> None:
    load = Load(place.message("a@owner.example"), CONNECTIONS, COUNT)
    with pytest.raises(SystemExit, match="at the greeting: Connection refused"):
        send(place.program, 1, place.relay.login, False, load)
