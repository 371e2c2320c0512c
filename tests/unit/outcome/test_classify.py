"""The written policy at the head of ``relay.outcome.classify``, line by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.dialogue import make_reply
from relay.outcome.classify import Kind, Sign, Verdict, classify, sign_of
from relay.outcome.outcome import Failure, Phase, Reply

BEFORE_MAIL = (Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.TLS, Phase.AUTH)
ABOUT_THE_MAIL = (Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT)


def kind(code: int, phase: Phase, enhanced: str | None = None) -> Kind:
    return classify(Reply(code, enhanced, "text"), phase).kind


@pytest.mark.parametrize("phase", Phase)
def test_no_reply_is_temporary_in_every_phase(phase: Phase) -> None:
    status = "4.4.3" if phase is Phase.ROUTE else "4.4.2"
    assert classify(Failure("timed out"), phase) == Verdict(Kind.TEMPORARY, status)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("enhanced", [None, "4.3.2", "5.7.1"])
def test_421_is_temporary_in_every_phase(phase: Phase, enhanced: str | None) -> None:
    assert kind(421, phase, enhanced) is Kind.TEMPORARY


@pytest.mark.parametrize("phase", BEFORE_MAIL)
@pytest.mark.parametrize("code", [450, 454, 500, 530, 535, 550, 554])
def test_any_refusal_before_mail_is_temporary(phase: Phase, code: int) -> None:
    assert kind(code, phase) is Kind.TEMPORARY
    assert kind(code, phase, "5.7.1") is Kind.TEMPORARY


@pytest.mark.parametrize("enhanced", ["5.1.2", "5.1.10", "5.4.6"])
def test_what_dns_says_for_sure_is_permanent(enhanced: str) -> None:
    assert classify(Reply(550, enhanced, "no"), Phase.ROUTE) == Verdict(Kind.PERMANENT, enhanced)


@pytest.mark.parametrize("phase", [Phase.RCPT, Phase.DOT])
@pytest.mark.parametrize("enhanced", [None, "5.2.2", "5.5.3", "5.0.0"])
def test_552_that_may_mean_too_many_or_too_full_is_temporary(phase: Phase, enhanced: str | None) -> None:
    assert kind(552, phase, enhanced) is Kind.TEMPORARY


@pytest.mark.parametrize("phase", [Phase.RCPT, Phase.DOT])
@pytest.mark.parametrize("enhanced", ["5.3.4", "5.2.3"])
def test_552_that_says_too_large_is_permanent(phase: Phase, enhanced: str) -> None:
    assert kind(552, phase, enhanced) is Kind.PERMANENT


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.DATA])
def test_552_about_no_recipient_is_permanent(phase: Phase) -> None:
    assert kind(552, phase) is Kind.PERMANENT


@pytest.mark.parametrize("phase", ABOUT_THE_MAIL)
def test_452_is_temporary(phase: Phase) -> None:
    assert kind(452, phase) is Kind.TEMPORARY
    assert kind(452, phase, "5.5.3") is Kind.TEMPORARY


@pytest.mark.parametrize("phase", ABOUT_THE_MAIL)
@pytest.mark.parametrize("code", [500, 501, 503, 550, 551, 553, 554, 571, 599])
def test_5yz_about_the_mail_is_permanent(phase: Phase, code: int) -> None:
    assert kind(code, phase) is Kind.PERMANENT
    assert kind(code, phase, "5.1.1") is Kind.PERMANENT


@pytest.mark.parametrize("phase", ABOUT_THE_MAIL)
def test_5yz_with_an_enhanced_code_of_4_is_temporary(phase: Phase) -> None:
    assert kind(550, phase, "4.2.1") is Kind.TEMPORARY


@pytest.mark.parametrize("phase", ABOUT_THE_MAIL)
@pytest.mark.parametrize("code", [450, 451, 455])
def test_4yz_is_temporary_whatever_the_enhanced_code_says(phase: Phase, code: int) -> None:
    assert kind(code, phase) is Kind.TEMPORARY
    assert kind(code, phase, "5.1.1") is Kind.TEMPORARY


@pytest.mark.parametrize("code", [200, 250, 251, 252, 299])
def test_2yz_to_the_dot_is_delivered(code: int) -> None:
    assert kind(code, Phase.DOT) is Kind.DELIVERED
    assert kind(code, Phase.DOT, "5.0.0") is Kind.DELIVERED


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.DOT])
@pytest.mark.parametrize("code", [220, 250, 354])
def test_success_where_the_dialogue_ends_otherwise_is_temporary(phase: Phase, code: int) -> None:
    assert kind(code, phase) is Kind.TEMPORARY


def test_354_to_the_dot_is_temporary() -> None:
    assert kind(354, Phase.DOT) is Kind.TEMPORARY


def test_eight_bit_mail_to_a_hop_without_8bitmime_is_permanent() -> None:
    assert classify(Reply(554, "5.6.3", "not asked"), Phase.DATA) == Verdict(Kind.PERMANENT, "5.6.3")


# A code that no server may send; the client library gives -1 for a reply it cannot read.
@pytest.mark.parametrize("code", [-1, 0, 199])
@pytest.mark.parametrize("phase", Phase)
def test_a_surprise_defers(code: int, phase: Phase) -> None:
    assert kind(code, phase) is Kind.TEMPORARY


@pytest.mark.parametrize(
    ("answer", "phase", "status"),
    [
        pytest.param(Reply(250, "2.0.0", "Ok"), Phase.DOT, "2.0.0", id="as-given"),
        pytest.param(Reply(550, "5.1.1", "no"), Phase.RCPT, "5.1.1", id="as-given-permanent"),
        pytest.param(Reply(550, "4.2.1", "no"), Phase.RCPT, "4.2.1", id="the-milder-of-two"),
        pytest.param(Reply(535, "5.7.8", "no"), Phase.AUTH, "4.7.8", id="class-is-ours-before-mail"),
        pytest.param(Reply(450, "5.2.1", "no"), Phase.RCPT, "4.2.1", id="class-is-ours"),
        pytest.param(Reply(250, None, "Ok"), Phase.DOT, "2.0.0", id="none-delivered"),
        pytest.param(Reply(550, None, "no"), Phase.RCPT, "5.1.1", id="550-of-a-recipient"),
        pytest.param(Reply(551, None, "no"), Phase.RCPT, "5.1.6", id="551-of-a-recipient"),
        pytest.param(Reply(553, None, "no"), Phase.RCPT, "5.1.3", id="553-of-a-recipient"),
        pytest.param(Reply(450, None, "no"), Phase.RCPT, "4.2.1", id="450-of-a-recipient"),
        pytest.param(Reply(452, None, "no"), Phase.RCPT, "4.2.2", id="452-of-a-recipient"),
        pytest.param(Reply(552, None, "no"), Phase.MAIL, "5.3.4", id="552-of-a-size"),
        pytest.param(Reply(554, None, "no"), Phase.DOT, "5.6.0", id="554-of-a-message"),
        pytest.param(Reply(550, None, "no"), Phase.DOT, "5.0.0", id="550-of-a-message"),
        pytest.param(Reply(451, None, "no"), Phase.DATA, "4.0.0", id="none-temporary"),
        pytest.param(Reply(550, None, "no"), Phase.DATA, "5.0.0", id="550-of-the-data-command"),
        pytest.param(Reply(550, "5.1", "no"), Phase.MAIL, "5.0.0", id="broken-enhanced-code"),
        pytest.param(Reply(550, "9.9.9", "no"), Phase.RCPT, "5.1.1", id="enhanced-code-of-no-class"),
        pytest.param(Failure("no route"), Phase.ROUTE, "4.4.3", id="no-route"),
        pytest.param(Failure("refused"), Phase.CONNECT, "4.4.2", id="no-connection"),
        pytest.param(Failure("timed out"), Phase.DOT, "4.4.2", id="no-answer"),
    ],
)
def test_status_is_the_code_to_report(answer: Reply | Failure, phase: Phase, status: str) -> None:
    assert classify(answer, phase).status == status


@given(
    st.integers(-1, 999),
    st.sampled_from(Phase),
    st.none() | st.from_regex(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True) | st.text(max_size=8),
)
def test_every_reply_has_a_verdict_whose_status_agrees_with_it(
    code: int, phase: Phase, enhanced: str | None
) -> None:
    verdict = classify(Reply(code, enhanced, "text"), phase)
    classes = {Kind.DELIVERED: "2", Kind.TEMPORARY: "4", Kind.PERMANENT: "5"}
    first, subject, detail = verdict.status.split(".")
    assert first == classes[verdict.kind]
    assert subject.isdigit()
    assert detail.isdigit()


@pytest.mark.parametrize(
    ("answer", "phase", "sign"),
    [
        ("250 2.0.0 Ok", Phase.DOT, Sign.TAKES),
        ("421 4.7.28 rate limited", Phase.RCPT, Sign.OVERLOADED),
        ("421", Phase.DOT, Sign.OVERLOADED),
        ("554 5.7.1 go away", Phase.GREETING, Sign.OVERLOADED),
        ("451 4.3.2", Phase.EHLO, Sign.OVERLOADED),
        ("454 4.7.0 TLS not available", Phase.TLS, Sign.OVERLOADED),
        ("451 4.7.500 server busy", Phase.MAIL, Sign.OVERLOADED),
        ("450", Phase.MAIL, Sign.OVERLOADED),
        ("451", Phase.DATA, Sign.OVERLOADED),
        ("450 4.1.8 sender domain not found", Phase.MAIL, Sign.NOTHING),
        ("550 5.7.1 sender refused", Phase.MAIL, Sign.NOTHING),
        ("450 4.2.0 greylisted", Phase.RCPT, Sign.NOTHING),
        ("451 4.7.1 greylisted", Phase.RCPT, Sign.NOTHING),
        ("450", Phase.RCPT, Sign.NOTHING),
        ("452 4.2.2 mailbox full", Phase.RCPT, Sign.NOTHING),
        ("450 4.2.1 user receives mail too fast", Phase.RCPT, Sign.NOTHING),
        ("550 5.1.1 no such user", Phase.RCPT, Sign.NOTHING),
        ("452 4.3.1 insufficient system storage", Phase.RCPT, Sign.OVERLOADED),
        ("451 4.3.0 local error", Phase.RCPT, Sign.OVERLOADED),
        ("451 4.4.5 congestion", Phase.RCPT, Sign.OVERLOADED),
        ("452", Phase.DOT, Sign.OVERLOADED),
        ("452 4.3.1", Phase.DOT, Sign.OVERLOADED),
        ("452 4.2.2 mailbox full", Phase.DOT, Sign.NOTHING),
        ("451 4.7.1 greylisted", Phase.DOT, Sign.NOTHING),
        ("451", Phase.DOT, Sign.NOTHING),
        ("554 5.7.1 spam", Phase.DOT, Sign.NOTHING),
        ("550 5.1.2 no such domain", Phase.ROUTE, Sign.NOTHING),
    ],
)
def test_what_a_reply_says_of_the_next_hop(answer: str, phase: Phase, sign: Sign):
    code, _, text = answer.partition(" ")
    assert sign_of(make_reply(int(code), [text]), phase) is sign


@pytest.mark.parametrize("phase", list(Phase))
def test_no_reply_is_the_next_hops_trouble_unless_it_was_not_asked(phase: Phase):
    expected = Sign.NOTHING if phase is Phase.ROUTE else Sign.OVERLOADED
    assert sign_of(Failure("timed out"), phase) is expected
