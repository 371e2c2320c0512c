"""MAIL and RCPT: what SES takes, and the kind of each refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.address import Mailbox
from relay.submission.envelope import (
    BodyType,
    CommandError,
    CommandFault,
    MailCommand,
    parse_mail,
    parse_mail_of_server,
    parse_rcpt,
)

_A = Mailbox("a", "b.example")
_MAX = 1000


@pytest.mark.parametrize(
    ("argument", "command"),
    [
        pytest.param(b"FROM:<a@b.example>", MailCommand(_A), id="plain"),
        pytest.param("FROM:<a@b.example>", MailCommand(_A), id="text"),
        pytest.param(b"from:<a@B.Example>", MailCommand(_A), id="any-case"),
        pytest.param(b"FROM: <a@b.example>", MailCommand(_A), id="blank-after-colon"),
        pytest.param(b"FROM:a@b.example", MailCommand(_A), id="no-brackets"),
        pytest.param(b"FROM: a@b.example", MailCommand(_A), id="blank-and-no-brackets"),
        pytest.param(b"FROM:<a@b.example> ", MailCommand(_A), id="trailing-blank"),
        pytest.param(b"FROM:<a@b.example> SIZE=1000", MailCommand(_A, size=1000), id="size"),
        pytest.param(b"FROM:<a@b.example> size=0", MailCommand(_A, size=0), id="size-zero"),
        pytest.param(b"FROM: a@b.example SIZE=7", MailCommand(_A, size=7), id="size-without-brackets"),
        pytest.param(b"FROM:<a@b.example> BODY=7bit", MailCommand(_A, BodyType.SEVEN_BIT), id="7bit"),
        pytest.param(
            b"FROM:<a@b.example> BODY=8BITMIME SIZE=1", MailCommand(_A, BodyType.EIGHT_BIT, 1), id="both"
        ),
        pytest.param(b"FROM:<a@b.example> AUTH=<>", MailCommand(_A), id="auth-ignored"),
        pytest.param(b"FROM:<a@b.example> AUTH=e+3Dmc2@example.com", MailCommand(_A), id="auth-xtext"),
    ],
)
def test_mail_is_taken_as_ses_takes_it(argument: bytes | str, command: MailCommand) -> None:
    found = parse_mail(argument, max_size=_MAX)
    assert found == command
    assert found.is_8bit == ("8BITMIME" in str(argument))


@pytest.mark.parametrize(
    ("argument", "fault", "subject"),
    [
        pytest.param(b"", CommandFault.SYNTAX, "", id="nothing"),
        pytest.param(b"FROM", CommandFault.SYNTAX, "", id="no-colon"),
        pytest.param(b"FROM:", CommandFault.SYNTAX, "", id="no-address"),
        pytest.param(b"FROM: ", CommandFault.SYNTAX, "", id="blank-only"),
        pytest.param(b"TO:<a@b.example>", CommandFault.SYNTAX, "", id="wrong-verb"),
        pytest.param(b"FROM :<a@b.example>", CommandFault.SYNTAX, "", id="blank-before-colon"),
        pytest.param(b"FROM:  <a@b.example>", CommandFault.SYNTAX, "", id="two-blanks"),
        pytest.param(b"FROM:\t<a@b.example>", CommandFault.SYNTAX, "", id="tab"),
        pytest.param(b"FROM:<a@b.example", CommandFault.SYNTAX, "", id="unclosed"),
        pytest.param(b"FROM:<a@b.example>x", CommandFault.SYNTAX, "", id="text-after-bracket"),
        pytest.param(b"FROM:<<a@b.example>>", CommandFault.SYNTAX, "", id="two-brackets"),
        pytest.param(b"FROM:Name <a@b.example>", CommandFault.BAD_ADDRESS, "Name", id="name"),
        pytest.param(b"FROM:<a@b.example>\r", CommandFault.SYNTAX, "", id="stray-cr"),
        pytest.param(b"FROM:<a@b.example\x00>", CommandFault.SYNTAX, "", id="nul"),
        pytest.param("FROM:<jösé@b.example>".encode(), CommandFault.SYNTAX, "", id="eight-bit"),
        pytest.param(b"FROM:<>", CommandFault.NULL_SENDER, "", id="null-sender"),
        pytest.param(b"FROM: <> SIZE=5", CommandFault.NULL_SENDER, "", id="null-sender-with-size"),
        pytest.param(b"FROM:<a>", CommandFault.BAD_ADDRESS, "a", id="no-domain"),
        pytest.param(b'FROM:<"a"@b.example>', CommandFault.BAD_ADDRESS, '"a"@b.example', id="quoted"),
        pytest.param(b'FROM:<"a b"@b.example>', CommandFault.SYNTAX, "", id="quoted-blank"),
        pytest.param(b"FROM:<@x:a@b.example>", CommandFault.BAD_ADDRESS, "@x:a@b.example", id="route"),
        pytest.param(b"FROM:<a@[192.0.2.1]>", CommandFault.BAD_ADDRESS, "a@[192.0.2.1]", id="literal"),
        pytest.param(b"FROM:<a@b.example> SIZE=1001", CommandFault.TOO_LARGE, "SIZE=1001", id="too-large"),
        pytest.param(b"FROM:<a@b.example> SIZE=", CommandFault.SYNTAX, "SIZE=", id="size-empty"),
        pytest.param(
            b"FROM:<a@b.example> SIZE", CommandFault.BAD_PARAMETER, "SIZE=", id="size-without-value"
        ),
        pytest.param(
            b"FROM:<a@b.example> SIZE=-1", CommandFault.BAD_PARAMETER, "SIZE=-1", id="size-negative"
        ),
        pytest.param(
            b"FROM:<a@b.example> SIZE=" + b"9" * 21,
            CommandFault.BAD_PARAMETER,
            "SIZE=" + "9" * 21,
            id="21-digits",
        ),
        pytest.param(
            b"FROM:<a@b.example> BODY=BINARYMIME", CommandFault.BAD_PARAMETER, "BODY=BINARYMIME", id="body"
        ),
        pytest.param(b"FROM:<a@b.example> AUTH=+zz", CommandFault.BAD_PARAMETER, "AUTH", id="auth"),
        pytest.param(
            b"FROM:<a@b.example> SMTPUTF8", CommandFault.UNKNOWN_PARAMETER, "SMTPUTF8", id="smtputf8"
        ),
        pytest.param(b"FROM:<a@b.example> RET=HDRS", CommandFault.UNKNOWN_PARAMETER, "RET=HDRS", id="dsn"),
        pytest.param(
            b"FROM:<a@b.example> SIZE=1 Size=1", CommandFault.REPEATED_PARAMETER, "Size=1", id="repeated"
        ),
        pytest.param(
            b"FROM:<a@b.example>  SIZE=1", CommandFault.SYNTAX, "", id="two-blanks-before-parameter"
        ),
        pytest.param(b"FROM:<a@b.example> =1", CommandFault.SYNTAX, "=1", id="no-keyword"),
    ],
)
def test_r15_mail_is_refused_by_kind(argument: bytes, fault: CommandFault, subject: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse_mail(argument, max_size=_MAX)
    assert (caught.value.fault, caught.value.subject) == (fault, subject)


@pytest.mark.parametrize("argument", ["TO:<a@b.example>", "to: a@B.example", b"TO:<a@b.example> "])
def test_rcpt_is_taken_as_ses_takes_it(argument: bytes | str) -> None:
    assert parse_rcpt(argument) == _A


@pytest.mark.parametrize(
    ("argument", "fault"),
    [
        pytest.param("TO:", CommandFault.SYNTAX, id="nothing"),
        pytest.param("FROM:<a@b.example>", CommandFault.SYNTAX, id="wrong-verb"),
        pytest.param("TO:<>", CommandFault.BAD_ADDRESS, id="null"),
        pytest.param("TO:<postmaster>", CommandFault.BAD_ADDRESS, id="no-domain"),
        pytest.param("TO:<a@b.example> NOTIFY=NEVER", CommandFault.UNKNOWN_PARAMETER, id="dsn"),
    ],
)
def test_r15_rcpt_is_refused_by_kind(argument: str, fault: CommandFault) -> None:
    with pytest.raises(CommandError) as caught:
        parse_rcpt(argument)
    assert caught.value.fault is fault


def test_what_is_quoted_back_is_bounded() -> None:
    with pytest.raises(CommandError) as caught:
        parse_rcpt("TO:<" + "a" * 1000 + ">")
    assert len(caught.value.subject) == 320


_COMMANDS = st.text(st.sampled_from('FROMTO:<>@ab.=+ SIZEBODYAUTH0189"\\\r\n\x00ü'), max_size=60)


@given(st.one_of(st.binary(max_size=80), _COMMANDS, _COMMANDS.map(lambda text: f"FROM:<a@b.example> {text}")))
def test_r46_commands_raise_their_own_error_only(argument: bytes | str) -> None:
    subjects: list[str] = []
    for parse in (lambda text: parse_mail(text, max_size=_MAX).mailbox, parse_rcpt):
        try:
            mailbox = parse(argument)
        except CommandError as error:
            subjects.append(error.subject)
            continue
        text = argument if isinstance(argument, str) else argument.decode("ascii")
        assert str(mailbox).lower() in text.lower()
    assert all(subject.isascii() and (not subject or subject.isprintable()) for subject in subjects)


class TestServers:
    """Another server's sender decides nothing: it is any text, but the command is as strict."""

    @pytest.mark.parametrize(
        ("argument", "sender"),
        [
            ("FROM:<>", ""),
            ("FROM:<> SIZE=1000 BODY=8BITMIME", ""),
            ("FROM:<a@b.example>", "a@b.example"),
            ("FROM:<odd..dots@b>", "odd..dots@b"),
            ('FROM:<"quoted"@b.example>', '"quoted"@b.example'),
        ],
    )
    def test_any_sender_is_taken(self, argument, sender):
        assert parse_mail_of_server(argument, max_size=_MAX) == sender

    @pytest.mark.parametrize(
        ("argument", "fault"),
        [
            ("TO:<a@b.example>", CommandFault.SYNTAX),
            ("FROM:", CommandFault.SYNTAX),
            ("FROM:<a b@c.example>", CommandFault.SYNTAX),
            ("FROM:<> SIZE=1001", CommandFault.TOO_LARGE),
            ("FROM:<> SIZE=x", CommandFault.BAD_PARAMETER),
            ("FROM:<> BODY=BINARYMIME", CommandFault.BAD_PARAMETER),
            ("FROM:<> SMTPUTF8", CommandFault.UNKNOWN_PARAMETER),
        ],
    )
    def test_the_rest_is_refused(self, argument, fault):
        with pytest.raises(CommandError) as caught:
            parse_mail_of_server(argument, max_size=_MAX)
        assert caught.value.fault is fault
