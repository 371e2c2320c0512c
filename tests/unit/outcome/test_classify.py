"""Temporary or permanent: each line of the policy at the head of ``relay.outcome.classify``."""

from __future__ import annotations

import pytest

from relay.outcome.classify import Kind, Verdict, classify
from relay.outcome.outcome import Failure, Phase, Reply

D, T, P = Kind.DELIVERED, Kind.TEMPORARY, Kind.PERMANENT
BEFORE_MAIL = [Phase.CONNECT, Phase.GREETING, Phase.EHLO, Phase.TLS, Phase.AUTH]
ABOUT_THE_MAIL = [Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT]


@pytest.mark.parametrize("phase", Phase)
def test_no_reply_is_temporary(phase):
    expected = "4.4.3" if phase is Phase.ROUTE else "4.4.2"
    assert classify(Failure("broken"), phase) == Verdict(T, expected)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("enhanced", [None, "5.7.1"])
def test_421_is_temporary(phase, enhanced):
    assert classify(Reply(421, enhanced, ""), phase).kind is T


@pytest.mark.parametrize("phase", BEFORE_MAIL)
@pytest.mark.parametrize("code", [450, 500, 530, 535, 550, 554])
def test_refusal_before_mail_is_temporary(phase, code):
    assert classify(Reply(code, "5.7.1", ""), phase).kind is T


@pytest.mark.parametrize("phase", ABOUT_THE_MAIL)
@pytest.mark.parametrize(("code", "kind"), [(450, T), (451, T), (500, P), (550, P), (554, P), (599, P)])
def test_class_of_the_reply_decides_about_the_mail(phase, code, kind):
    assert classify(Reply(code, None, ""), phase).kind is kind


@pytest.mark.parametrize("phase", ABOUT_THE_MAIL)
def test_permanent_code_with_a_temporary_enhanced_code_is_temporary(phase):
    assert classify(Reply(550, "4.2.1", ""), phase).kind is T


@pytest.mark.parametrize(("enhanced", "kind"), [(None, T), ("5.5.3", T), ("5.3.4", P), ("5.2.3", P)])
def test_552_to_rcpt_is_too_many_recipients_unless_it_says_size(enhanced, kind):
    assert classify(Reply(552, enhanced, ""), Phase.RCPT).kind is kind


def test_552_to_the_dot_is_permanent():
    assert classify(Reply(552, None, ""), Phase.DOT) == Verdict(P, "5.3.4")


def test_only_2yz_to_the_dot_is_delivery():
    assert classify(Reply(250, "2.0.0", ""), Phase.DOT) == Verdict(D, "2.0.0")
    for phase in set(Phase) - {Phase.DOT}:
        assert classify(Reply(250, None, ""), phase).kind is T


@pytest.mark.parametrize(
    ("code", "enhanced", "phase", "status"),
    [
        (550, "5.1.1", Phase.RCPT, "5.1.1"),
        (550, "9.9.9", Phase.RCPT, "5.1.1"),
        (550, None, Phase.RCPT, "5.1.1"),
        (450, None, Phase.RCPT, "4.2.1"),
        (554, None, Phase.DOT, "5.6.0"),
        (550, "4.2.1", Phase.RCPT, "4.2.1"),
        (535, "5.7.8", Phase.AUTH, "4.7.8"),
        (550, None, Phase.DATA, "5.0.0"),
    ],
)
def test_status_is_the_remotes_where_it_fits_the_outcome(code, enhanced, phase, status):
    assert classify(Reply(code, enhanced, ""), phase).status == status
