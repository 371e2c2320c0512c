"""Where mail goes: the operator's routes, and the order of a domain's exchangers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.route import (
    ByMX,
    Destination,
    Route,
    Routes,
    TLSMode,
    addresses_of,
    exchangers,
    way_of,
)
from relay.outcome.outcome import Failure, Reply
from relay.resolver import MX, Absent, Answer, Found, Unavailable

OWN = "relay.example"
ONE, OTHER = "111122223333", "222222222222"


def mx(*records: tuple[int, str]) -> Found[MX]:
    return Found(tuple(MX(*record) for record in records))


def hosts(answer: Answer[MX]) -> tuple[str, ...] | Reply | Failure:
    return exchangers("x.example", answer, OWN, lambda: 0.5)


# ---------------------------------------------------------------- exchangers


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(mx((20, "b.x"), (10, "a.x")), ("a.x", "b.x"), id="by-preference"),
        pytest.param(Absent(), ("x.example",), id="implicit"),
        pytest.param(mx((10, "b.x"), (20, OWN), (30, "c.x")), ("b.x",), id="only-better-than-ourselves"),
        pytest.param(mx((10, "b.x"), (20, OWN), (20, "c.x")), ("b.x",), id="as-good-as-ourselves-goes-too"),
        pytest.param(mx((5, OWN), (10, "b.x"), (1, "a.x"), (7, OWN)), ("a.x",), id="ourselves-twice"),
        pytest.param(mx((0, ""), (10, "a.x")), ("a.x",), id="null-beside-another-says-nothing"),
        pytest.param(mx((10, "a.x"), (20, "a.x")), ("a.x",), id="one-host-twice"),
        pytest.param(
            mx(*((number, f"h{number}.x") for number in range(9))),
            tuple(f"h{number}.x" for number in range(5)),
            id="five-at-most",
        ),
    ],
)
def test_exchangers_are_tried_in_order(answer: Answer[MX], expected: tuple[str, ...]) -> None:
    assert hosts(answer) == expected


@pytest.mark.parametrize(
    ("answer", "code", "enhanced"),
    [
        pytest.param(Absent(no_such_name=True), 550, "5.1.2", id="no-such-domain"),
        pytest.param(mx((0, "")), 556, "5.1.10", id="null-mx"),
        pytest.param(mx((10, OWN), (20, "b.x")), 554, "5.4.6", id="we-are-the-best"),
    ],
)
def test_domain_without_a_way_is_refused_for_good(answer: Answer[MX], code: int, enhanced: str) -> None:
    found = hosts(answer)
    assert isinstance(found, Reply)
    assert (found.code, found.enhanced) == (code, enhanced)
    assert "x.example" in found.text


def test_dns_that_does_not_answer_is_no_answer() -> None:
    assert hosts(Unavailable("no answer in time")) == Failure("no answer in time")


RECORDS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([OWN, "a.x", "b.x", "c.x", "d.x", "e.x"])), min_size=1
)


@given(RECORDS, st.integers())
def test_order_is_that_of_preference_whatever_chance_says_and_never_reaches_us(
    records: list[tuple[int, str]], seed: int
) -> None:
    found = exchangers("x.example", mx(*records), OWN, random.Random(seed).random)
    best = {host: min(preference for preference, other in records if other == host) for _, host in records}
    better = {host for host in best if host != OWN and best[host] < best.get(OWN, 4)}
    if isinstance(found, Reply):
        assert not better
        return
    assert isinstance(found, tuple)
    assert set(found) == better
    assert [best[host] for host in found] == sorted(best[host] for host in found)


def test_equal_preference_is_spread_by_chance() -> None:
    numbers = iter([0.9, 0.1, 0.5])
    found = exchangers("x.example", mx((1, "a.x"), (1, "b.x"), (1, "c.x")), OWN, lambda: next(numbers))
    assert found == ("b.x", "c.x", "a.x")


# ---------------------------------------------------------------- addresses


def test_some_addresses_of_both_families_are_tried() -> None:
    many = Found(("2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2", "192.0.2.3"))
    found = addresses_of("a.x", "x.example", many)
    assert found == ("2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2")


def test_exchanger_without_an_address_is_temporary_and_a_domain_without_any_is_not() -> None:
    assert isinstance(addresses_of("a.x", "x.example", Absent(no_such_name=True)), Failure)
    assert isinstance(addresses_of("a.x", "x.example", Unavailable("no answer")), Failure)
    found = addresses_of("x.example", "x.example", Absent())
    assert isinstance(found, Reply)
    assert found.enhanced == "5.4.4"


# ---------------------------------------------------------------- routes

HUB = Destination("hub.example", 25, TLSMode.NONE)
LAB = Destination("lab.example", 25)
BULK = Destination("bulk.example", 587, TLSMode.VERIFY)
ROUTES = Routes(
    Route(HUB),
    (
        Route(None, TLSMode.VERIFY, domain="partner.example"),
        Route(BULK, account=ONE, domain=".lab.example"),
        Route(LAB, domain=".lab.example"),
        Route(BULK, account=OTHER),
    ),
    port=2525,
)


@pytest.mark.parametrize(
    ("account", "domain", "way"),
    [
        pytest.param(ONE, "x.example", HUB, id="default"),
        pytest.param(ONE, "partner.example", ByMX("partner.example", 2525, TLSMode.VERIFY), id="by-mx"),
        pytest.param(ONE, "a.partner.example", HUB, id="no-dot-is-the-domain-alone"),
        pytest.param(ONE, "a.lab.example", BULK, id="domain-and-account"),
        pytest.param(OTHER, "a.b.lab.example", LAB, id="any-depth-below"),
        pytest.param(ONE, "lab.example", HUB, id="dot-is-not-the-domain-itself"),
        pytest.param(ONE, "collab.example", HUB, id="not-a-mere-suffix"),
        pytest.param(OTHER, "x.example", BULK, id="account"),
        pytest.param(
            OTHER, "partner.example", ByMX("partner.example", 2525, TLSMode.VERIFY), id="first-wins"
        ),
    ],
)
def test_first_route_that_matches_is_taken(account: str, domain: str, way: Destination | ByMX) -> None:
    assert way_of(ROUTES, account, domain, require_tls=False) == way


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TLSMode.NONE, TLSMode.REQUIRE),
        (TLSMode.OPPORTUNISTIC, TLSMode.REQUIRE),
        (TLSMode.REQUIRE, TLSMode.REQUIRE),
        (TLSMode.VERIFY, TLSMode.VERIFY),
    ],
)
def test_message_that_requires_tls_never_gets_less(before: TLSMode, after: TLSMode) -> None:
    by_host = way_of(Routes(Route(Destination("h.example", 25, before))), ONE, "x.example", True)
    by_mx = way_of(Routes(Route(None, before)), ONE, "x.example", True)
    assert (by_host.tls, by_mx.tls) == (after, after)
