from __future__ import annotations

from relay.delivery.holdings import Holdings

KEY, OTHER = (4711, 2), (4711, 3)


def test_what_is_missed_at_two_looks_is_a_stray_once():
    holdings = Holdings()
    holdings.take([OTHER])
    leased = {KEY: 0, OTHER: 0}
    assert [holdings.strays(leased) for _ in range(3)] == [[], [KEY], []]


def test_what_was_tried_between_two_looks_is_another_claim_on_its_way():
    holdings = Holdings()
    assert [holdings.strays({KEY: attempts}) for attempts in range(3)] == [[], [], []]
    assert holdings.strays({KEY: 2}) == [KEY]


def test_what_came_to_us_between_two_looks_is_none():
    holdings = Holdings()
    assert holdings.strays({KEY: 0}) == []
    holdings.take([KEY])
    assert holdings.strays({KEY: 0}) == []


def test_what_came_again_before_it_was_let_go_is_ours_until_that_is_let_go_too():
    holdings = Holdings()
    holdings.take([KEY])
    holdings.take([KEY])
    holdings.let_go([KEY])
    assert [holdings.strays({KEY: 1}) for _ in range(2)] == [[], []]
    holdings.let_go([KEY])
    assert [holdings.strays({KEY: 1}) for _ in range(2)] == [[], [KEY]]


def test_what_was_never_ours_is_let_go_without_a_trace():
    holdings = Holdings()
    holdings.let_go([KEY])
    assert [holdings.strays({KEY: 0}) for _ in range(2)] == [[], [KEY]]
