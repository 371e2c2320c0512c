"""Guessing passwords: slower and slower, then not at all, and to nobody else's harm (security rule 21)."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import OWNER, Gateway, Login
from tests.support.wire import Wire

MOST = 4
REFUSED = "421 Too many failed logins from your network; try again in some minutes"
WRONG = "535 Authentication Credentials Invalid"
_addresses = (f"127.7.0.{number}" for number in count(1))


def plain(username: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{username}\0{password}".encode()).decode()


def started(directory: Path, recorder: Recorder, most: int) -> Iterator[Gateway]:
    one = Gateway(directory, recorder, RELAY_SMTP__MAX_AUTH_FAILURES_PER_ADDRESS=str(most))
    one.run("init", str(directory))
    one.account(OWNER)
    one.start()
    yield one
    assert one.stop() == 0, one.log()
    assert "Traceback" not in one.log(), one.log()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Iterator[Gateway]:
    yield from started(tmp_path_factory.mktemp("relay"), recorder, MOST)


@pytest.fixture(scope="module")
def owner(gateway: Gateway) -> Login:
    return gateway.login("owner", account=OWNER)


@pytest.fixture
def address() -> str:
    """Of a client that nobody has seen yet."""
    return next(_addresses)


@pytest.fixture
def guess(gateway: Gateway, address: str) -> Iterator[list[Wire]]:
    """As many wrong passwords as one address may have, under way at once."""
    with ExitStack() as stack:
        yield [guessed(stack, gateway, address, f"guess{number}", number) for number in range(MOST)]


def guessed(stack: ExitStack, gateway: Gateway, address: str, username: str, before: int) -> Wire:
    """A connection on which the answer to a wrong password is under way, the first after ``before``."""
    wire = stack.enter_context(Wire(gateway, sender=address))
    wire.say("EHLO x")
    wire.send(plain(username, "wrong").encode() + b"\r\n")
    await_failures(gateway, address, before + 1)
    return wire


def failures(gateway: Gateway, address: str) -> int:
    return gateway.log().count(f"login failed client={address} ")


def await_failures(gateway: Gateway, address: str, wanted: int) -> None:
    give_up_at = time.monotonic() + 10
    while failures(gateway, address) < wanted:
        assert time.monotonic() < give_up_at, gateway.log()
        time.sleep(0.01)


def attempt(gateway: Gateway, address: str, username: str, password: str) -> tuple[str, float]:
    """The reply to a login from that address, and the seconds it took."""
    with Wire(gateway, sender=address) as wire:
        wire.say("EHLO x")
        began = time.monotonic()
        reply = wire.say(plain(username, password))
        took = time.monotonic() - began
        if reply.startswith("421"):
            assert wire.is_closed()
        return reply, took


def test_failing_answers_come_later_each_time(gateway, address):
    with Wire(gateway, sender=address) as wire:
        wire.say("EHLO x")
        took = []
        for _ in range(3):
            began = time.monotonic()
            assert wire.say(plain("nobody-at-all", "wrong")) == WRONG
            took.append(time.monotonic() - began)
    assert 0.4 < took[0] < took[1] < took[2]


def test_guesser_does_not_lock_out_the_honest_client_elsewhere(gateway, owner):
    """Two addresses guess one user's password until they are refused; it still comes in at once."""
    guessers, home = [next(_addresses), next(_addresses)], next(_addresses)
    with ExitStack() as stack:
        for guesser in guessers:
            for number in range(MOST):
                guessed(stack, gateway, guesser, owner.username, number)
                reply, took = attempt(gateway, home, owner.username, owner.password)
                assert reply.startswith("235"), reply
                assert took < 0.5, "while answers to the guesser wait"
            assert attempt(gateway, guesser, owner.username, "wrong")[0] == REFUSED
        for honest in (home, next(_addresses)):
            assert attempt(gateway, honest, owner.username, owner.password)[0].startswith("235")


def test_network_that_failed_too_often_is_refused_quickly(gateway, address, guess):
    for number in range(20):
        reply, took = attempt(gateway, address, f"more{number}", "wrong")
        assert reply == REFUSED
        assert took < 0.5
    assert failures(gateway, address) == MOST, "a guesser cannot fill the log"
    assert f"logins refused network={address}" in gateway.log()


def test_answers_that_wait_are_given_all_the_same(gateway, guess):
    assert [wire.reply() for wire in guess] == [WRONG] * MOST


def test_user_that_logged_in_beside_the_guesser_before_still_may(gateway, address, owner, request):
    assert attempt(gateway, address, owner.username, owner.password)[0].startswith("235")
    request.getfixturevalue("guess")
    reply, took = attempt(gateway, address, owner.username, owner.password)
    assert reply.startswith("235"), reply
    assert took < 0.5
    newcomer = gateway.login(f"newcomer-{address}", account=OWNER)
    assert attempt(gateway, address, newcomer.username, newcomer.password)[0] == REFUSED


def test_guesser_learns_nothing_of_who_logged_in_beside_it(gateway, address, owner, request):
    assert attempt(gateway, address, owner.username, owner.password)[0].startswith("235")
    request.getfixturevalue("guess")
    for username in (owner.username, "AKIAUNKNOWNUNKNOWN00"):
        reply, took = attempt(gateway, address, username, "wrong")
        assert reply == REFUSED
        assert took < 0.5


def test_known_and_unknown_users_read_and_cost_the_same(gateway):
    known = gateway.login("known", account=OWNER)
    for username in (known.username, "AKIAUNKNOWNUNKNOWN01"):
        reply, took = attempt(gateway, next(_addresses), username, "wrong")
        assert reply == WRONG
        assert 0.4 < took < 0.95, "the first delay is half a second, the second a whole one"


def test_answers_that_wait_at_once_are_bounded(tmp_path, recorder):
    """Whatever the limit in a quarter of an hour: ten answers to one network wait, the next is refused."""
    for one in started(tmp_path, recorder, most=10_000):
        address = next(_addresses)
        with ExitStack() as stack:
            wires = [stack.enter_context(Wire(one, sender=address)) for _ in range(12)]
            for wire in wires:
                wire.say("EHLO x")
            for number, wire in enumerate(wires[:10]):
                wire.send(plain(f"u{number}", "wrong").encode() + b"\r\n")
                await_failures(one, address, number + 1)
            # The first of the ten waits half a second, so one of the next two finds ten of them.
            assert REFUSED in [wire.say(plain("one-more", "wrong")) for wire in wires[10:]]
