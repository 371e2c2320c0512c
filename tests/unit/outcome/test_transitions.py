"""The states of a recipient: the whole table, written out."""

from __future__ import annotations

import itertools

import pytest

from relay.outcome.transitions import TRANSITIONS, IllegalTransition, State, check, is_final

Q, L, H, DE, B, DR = (
    State.QUEUED,
    State.LEASED,
    State.HELD,
    State.DELIVERED,
    State.BOUNCED,
    State.DROPPED,
)
LEGAL = {
    (Q, L): "claimed",
    (Q, H): "held by the operator",
    (Q, B): "bounced by the operator",
    (Q, DR): "dropped by the operator",
    (L, Q): "deferred, released or reclaimed",
    (L, DE): "taken by the next hop",
    (L, B): "refused by the next hop, or expired",
    (H, Q): "let go",
    (H, B): "bounced by the operator",
    (H, DR): "dropped by the operator",
}
PAIRS = list(itertools.product(State, State))


@pytest.mark.parametrize(("before", "after"), LEGAL, ids=lambda state: state.value)
def test_legal_transition_gives_the_new_state(before: State, after: State) -> None:
    assert check(before, after) is after


@pytest.mark.parametrize(
    ("before", "after"), [pair for pair in PAIRS if pair not in LEGAL], ids=lambda state: state.value
)
def test_illegal_transition_raises_and_names_both_states(before: State, after: State) -> None:
    with pytest.raises(IllegalTransition, match=f"^{before} -> {after}$"):
        check(before, after)


def test_every_state_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(State)


@pytest.mark.parametrize("state", State)
def test_only_what_left_the_queue_is_final(state: State) -> None:
    assert is_final(state) is (state in {DE, B, DR})


def test_every_state_can_be_reached_and_left_for_a_final_one() -> None:
    reached, waiting = {Q}, [Q]
    while waiting:
        for state in TRANSITIONS[waiting.pop()] - reached:
            reached.add(state)
            waiting.append(state)
    assert reached == set(State)
    assert all(any(is_final(after) for after in TRANSITIONS[state]) for state in (Q, L, H))


def test_mail_being_tried_is_out_of_the_operators_reach() -> None:
    """The next hop may have it already: what becomes of it is the attempt's to say."""
    assert not TRANSITIONS[L] & {H, DR}
