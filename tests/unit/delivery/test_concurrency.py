"""How many connections a destination gets, after what."""

from __future__ import annotations

import pytest

from relay.delivery.concurrency import DOWN_MAX_SECONDS, HOLD_SECONDS, Concurrency, State

MOST = 20


def after(events: str, most: int = MOST) -> Concurrency:
    """What it has become after events, one a second: ``took``, ``answered``, ``refused``, ``away`` (with 3
    connections standing), ``dead`` (not reached), ``stands`` and ``wait`` (ten seconds more); ``*N`` is N
    times."""
    one, now = Concurrency(most), 1000.0
    for word in events.split():
        name, _, count = word.partition("*")
        for _ in range(int(count or 1)):
            now += 10 if name == "wait" else 1
            tell(one, name, now)
    return one


def tell(one: Concurrency, event: str, now: float) -> None:
    match event:
        case "took":
            one.took(now)
        case "answered":
            one.answered()
        case "refused":
            one.refused(now, now)
        case "away":
            one.turned_away(3, now)
        case "dead":
            one.unreachable(now, now)
        case "stands":
            one.connected(now)


@pytest.mark.parametrize(
    ("events", "state", "limit"),
    [
        pytest.param("", State.OPEN, 5, id="begins small"),
        pytest.param("took*3", State.OPEN, 8, id="grows with every message"),
        pytest.param("took*100", State.OPEN, MOST, id="grows up to what the settings allow"),
        pytest.param("answered*100", State.OPEN, 5, id="grows with messages, not with refusals of mail"),
        pytest.param("took*15 refused", State.THROTTLED, 10, id="a refusal halves"),
        pytest.param("took*15 refused*3", State.THROTTLED, 2, id="and so does the next"),
        pytest.param("took*15 refused took*9", State.THROTTLED, 10, id="nothing is added for a while"),
        pytest.param("took*15 refused wait took*10", State.THROTTLED, 10, id="then a round"),
        pytest.param("took*15 refused wait took*11", State.THROTTLED, 11, id="adds one"),
        pytest.param("took*15 refused wait took*200", State.OPEN, MOST, id="it recovers"),
        pytest.param("refused*3", State.THROTTLED, 1, id="one is left"),
        pytest.param("refused*4", State.DOWN, 1, id="a further refusal on one connection takes it down"),
        pytest.param("refused*3 took refused*2", State.THROTTLED, 1, id="not if it took mail between"),
        pytest.param("refused*3 answered refused*2", State.THROTTLED, 1, id="nor if it did its work"),
        pytest.param("took*15 away", State.THROTTLED, 3, id="turned away: as many as stand"),
        pytest.param("dead", State.DOWN, 1, id="cannot be reached"),
        pytest.param("dead took", State.DOWN, 1, id="what ends after it went down changes nothing"),
        pytest.param("dead stands", State.THROTTLED, 1, id="stands again"),
        pytest.param("dead stands took", State.THROTTLED, 2, id="grows from one, without a hold"),
        pytest.param("dead stands took*400", State.OPEN, MOST, id="is as before"),
    ],
)
def test_transitions(events: str, state: State, limit: int):
    one = after(events)
    assert (one.state, one.limit) == (state, limit)


@pytest.mark.parametrize(
    ("events", "seconds"),
    [
        ("dead", 1.0),
        ("dead*4", 8.0),
        ("dead*20", DOWN_MAX_SECONDS),
        ("dead*4 stands", 8.0),
        ("dead*4 stands refused*3", 16.0),
        ("dead*4 stands took", 0.0),
        ("dead*4 stands took dead", 1.0),
    ],
)
def test_wait_doubles_until_it_does_its_work(events: str, seconds: float):
    assert after(events).seconds == seconds


def test_one_connection_throttles_and_recovers_too():
    assert after("refused", most=1).state is State.THROTTLED
    assert after("refused wait took", most=1).state is State.OPEN
    assert after("refused*3", most=1).state is State.DOWN


def test_trouble_that_many_transactions_saw_counts_once():
    one = after("took*15")
    for _ in range(20):  # twenty connections, refused within a second
        one.refused(began_at=1050.0, now=1051.0)
    assert one.limit == 10
    one.unreachable(dialled_at=1050.5, now=1052.0)
    assert one.state is State.THROTTLED


def test_nothing_is_tried_while_it_is_down_and_it_is_remembered_for_a_while():
    one = Concurrency(MOST)
    assert not one.is_remembered(0.0)
    one.unreachable(10.0, 10.0)
    assert [one.is_down(now) for now in (10.0, 10.9, 11.0)] == [True, True, False]
    assert [one.is_remembered(now) for now in (70.0, 71.0)] == [True, False]
    one.connected(11.0)
    one.refused(12.0, 12.0)
    assert not one.is_down(12.0)
    assert [one.is_remembered(12.0 + HOLD_SECONDS + more) for more in (59.0, 60.0)] == [True, False]
