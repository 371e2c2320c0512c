"""From, Sender, Return-Path and control fields: one reading, or none."""

from __future__ import annotations

import email
import email.policy
import email.utils

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.submission.address import Mailbox
from relay.submission.headers import HeaderError, parse_headers
from relay.submission.originator import (
    ControlFields,
    NamedMailbox,
    Originators,
    parse_from,
    parse_message_tags,
    read_control_fields,
    read_originators,
)

_CEO = Mailbox("ceo", "owner.example")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        pytest.param("ceo@owner.example", None, id="address"),
        pytest.param("<ceo@owner.example>", None, id="bracketed"),
        pytest.param(" \t<ceo@Owner.Example> ", None, id="white-space-around"),
        pytest.param("Boss <ceo@owner.example>", "Boss", id="atom"),
        pytest.param("Boss<ceo@owner.example>", "Boss", id="no-blank-before-bracket"),
        pytest.param("The  Big \t Boss <ceo@owner.example>", "The Big Boss", id="white-space-between-atoms"),
        pytest.param("John Q. Public <ceo@owner.example>", "John Q. Public", id="full-stop"),
        pytest.param('"Boss, The (big)" <ceo@owner.example>', "Boss, The (big)", id="quoted"),
        pytest.param(r'"The \"Big\" \\ Boss" <ceo@owner.example>', r'The "Big" \ Boss', id="escapes"),
        pytest.param('"Big" Boss "No. 1" <ceo@owner.example>', "Big Boss No. 1", id="mixed"),
        pytest.param('"" <ceo@owner.example>', None, id="empty-quotes"),
        pytest.param("Boss\r\n <ceo@owner.example>", "Boss", id="folded"),
        pytest.param('"Big\r\n\tBoss" <ceo@owner.example>', "Big Boss", id="folded-inside-quotes"),
        pytest.param("=?utf-8?Q?J=C3=B6rg_M=2E?= <ceo@owner.example>", "Jörg M.", id="q-encoded"),
        pytest.param("=?UTF-8?b?SsO2cmc=?= <ceo@owner.example>", "Jörg", id="base64"),
        pytest.param("=?iso-8859-1*de?q?J=f6rg?= <ceo@owner.example>", "Jörg", id="language"),
        pytest.param("=?utf-8?q?a?= =?utf-8?q?b?= <ceo@owner.example>", "ab", id="blank-between-encoded"),
        pytest.param("=?utf-8?q?a_?=\r\n =?utf-8?q?b?= c <ceo@owner.example>", "a b c", id="folded-encoded"),
        pytest.param("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?= <ceo@owner.example>", "日本", id="japanese"),
        pytest.param(
            "=?utf-8?q?=F0=9F=91=A9=E2=80=8D=F0=9F=92=BB?= <ceo@owner.example>", "👩\u200d💻", id="emoji"
        ),
        pytest.param('"ceo@owner.example" <ceo@owner.example>', "ceo@owner.example", id="own-address"),
        pytest.param('"CEO@Owner.Example" <ceo@owner.example>', "CEO@Owner.Example", id="own-in-other-case"),
        pytest.param('"Dinner @ Joe\'s" <ceo@owner.example>', "Dinner @ Joe's", id="at-that-is-no-address"),
        pytest.param('"@handle" <ceo@owner.example>', "@handle", id="handle"),
    ],
)
def test_one_mailbox_in_a_plain_form_is_taken(value: str, name: str | None) -> None:
    assert parse_from(value.encode()) == NamedMailbox(name, _CEO)


_ONE = "Exactly one mailbox is allowed, as local@domain or name <local@domain>"
_PHRASE = "Display name is not a phrase"
_ILLEGAL = "Local address contains illegal character"
_OTHER = "Display name contains another address"
_CONTROL = "Display name contains control characters"
_MALFORMED = "Display name has a malformed encoded word"
_UNDECODABLE = "Display name has an encoded word that cannot be decoded"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        pytest.param("", "Missing final '@domain'", id="empty"),
        pytest.param("<>", "Missing final '@domain'", id="null"),
        pytest.param("Boss", "Missing final '@domain'", id="name-only"),
        pytest.param("Big Boss", "Local address contains control or whitespace", id="two-names-only"),
        pytest.param("a@b.example, c@d.example", _ONE, id="two"),
        pytest.param("a@b.example,c@d.example", _ONE, id="two-without-blank"),
        pytest.param("<a@b.example> <c@d.example>", _ONE, id="two-bracketed"),
        pytest.param("X <a@b.example>, Y <c@d.example>", _ONE, id="two-named"),
        pytest.param("Friends: a@b.example;", _ONE, id="group"),
        pytest.param("Friends: X <a@b.example>;", _ONE, id="group-of-named"),
        pytest.param("Friends: <a@b.example>", _PHRASE, id="group-begun"),
        pytest.param("<@r.example:a@b.example>", _ILLEGAL, id="route"),
        pytest.param("a@b.example (Boss)", "Domain contains control or whitespace", id="comment-behind"),
        pytest.param(
            "(Boss) a@b.example", "Local address contains control or whitespace", id="comment-in-front"
        ),
        pytest.param(".Boss <a@b.example>", _PHRASE, id="full-stop-in-front"),
        pytest.param("Boss (x) <a@b.example>", _PHRASE, id="comment-in-name"),
        pytest.param("a@b.example <a@b.example>", _PHRASE, id="bare-address-as-name"),
        pytest.param("< a@b.example>", "Local address contains control or whitespace", id="blank-in-bracket"),
        pytest.param("Boss <a@b.example", _ONE, id="unclosed"),
        pytest.param("Boss <a@b.example> x", _ONE, id="text-behind"),
        pytest.param('"Boss <a@b.example>', _PHRASE, id="unclosed-quotes"),
        pytest.param('"a""b" <a@b.example>', _PHRASE, id="quotes-without-blank"),
        pytest.param('a"b" <a@b.example>', _PHRASE, id="atom-then-quotes"),
        pytest.param("Boss\\ <a@b.example>", _PHRASE, id="backslash"),
        # A reader that ends the quoted string at the bracket would find the first address.
        pytest.param('"x <ceo@owner.example>" <a@b.example>', _ONE, id="bracket-in-quotes"),
        pytest.param("=?utf-8?q?a?=b <a@b.example>", _MALFORMED, id="encoded-word-with-more"),
        pytest.param("=?utf-8?q?a <a@b.example>", _MALFORMED, id="encoded-word-unended"),
        pytest.param("=?utf-8?x?a?= <a@b.example>", _MALFORMED, id="unknown-encoding"),
        pytest.param("=?utf-8?q?a,b?= <a@b.example>", _PHRASE, id="special-in-encoded-word"),
        pytest.param("=?utf-8?q?a=4?= <a@b.example>", _UNDECODABLE, id="half-an-escape"),
        pytest.param(
            "=?utf-8?q?=C3?= =?utf-8?q?=B6?= <a@b.example>", _UNDECODABLE, id="character-in-two-words"
        ),
        pytest.param("=?utf-8?q?=FF?= <a@b.example>", _UNDECODABLE, id="not-utf-8"),
        pytest.param("=?us-ascii?q?=F6?= <a@b.example>", _UNDECODABLE, id="not-ascii"),
        pytest.param("=?utf-8?b?SsO2cmc?= <a@b.example>", _UNDECODABLE, id="base64-without-padding"),
        pytest.param("=?utf-8?b?SsO2-mc=?= <a@b.example>", _UNDECODABLE, id="base64-of-another-alphabet"),
        pytest.param(
            "=?utf-7?q?+AGE-?= <a@b.example>",
            "Display name has an encoded word of an unknown charset",
            id="utf-7",
        ),
        pytest.param(
            "=?rot13?q?nop?= <a@b.example>",
            "Display name has an encoded word of an unknown charset",
            id="rot13",
        ),
        pytest.param(
            '"=?utf-8?q?a?=" <a@b.example>',
            "Display name has an encoded word inside quotes",
            id="encoded-quoted",
        ),
        pytest.param('"ceo@owner.example" <a@b.example>', _OTHER, id="other-address"),
        pytest.param('"ceo @ owner.example" <a@b.example>', _OTHER, id="other-address-spaced"),
        pytest.param('"a@b.example ceo@owner.example" <a@b.example>', _OTHER, id="own-and-other"),
        pytest.param("=?utf-8?q?ceo=40owner.example?= <a@b.example>", _OTHER, id="other-address-encoded"),
        pytest.param("=?utf-8?q?ceo=EF=BC=A0owner.example?= <a@b.example>", _OTHER, id="fullwidth-at"),
        pytest.param("=?utf-8?q?ceo=E2=80=8B=40owner.example?= <a@b.example>", _OTHER, id="zero-width-space"),
        pytest.param("=?utf-8?q?a=00?= <a@b.example>", _CONTROL, id="nul"),
        pytest.param("=?utf-8?q?a=0D=0ABcc:x?= <a@b.example>", _PHRASE, id="line-end-and-colon"),
        pytest.param("=?utf-8?q?a=0D=0AB?= <a@b.example>", _CONTROL, id="line-end"),
        pytest.param("=?utf-8?q?a=C2=85b?= <a@b.example>", _CONTROL, id="next-line"),
        pytest.param("=?utf-8?q?a=E2=80=AEb?= <a@b.example>", _CONTROL, id="right-to-left-override"),
        pytest.param("=?utf-8?q?a=E2=81=A6b?= <a@b.example>", _CONTROL, id="isolate"),
        pytest.param("=?utf-8?q?a=E2=80=A8b?= <a@b.example>", _CONTROL, id="line-separator"),
    ],
)
def test_r08_r09_what_could_be_read_otherwise_is_refused(value: str, reason: str) -> None:
    with pytest.raises(HeaderError) as caught:
        parse_from(value.encode())
    assert caught.value.reason == reason


def test_a_mailbox_is_shown_as_ses_shows_it() -> None:
    assert str(NamedMailbox("Boss", _CEO)) == "Boss <ceo@owner.example>"
    assert str(NamedMailbox(None, _CEO)) == "ceo@owner.example"


_WORDS = st.sampled_from(
    ["Boss", " ", '"', "\\", "<", ">", "@", "ceo@owner.example", "<a@b.example>", ",", ":", ";", "(", ")"]
    + ["=?utf-8?q?", "=?utf-8?b?", "?=", "=40", "SsO2cmc=", "_", ".", "\t", "\r\n ", "a", "ü", "\0"]
)


@given(st.one_of(st.lists(_WORDS, max_size=10).map("".join).map(str.encode), st.binary(max_size=60)))
@example(b'"" <a@b.example>')
def test_r46_whatever_is_accepted_reads_the_same_to_others(value: bytes) -> None:
    try:
        named = parse_from(value)
    except HeaderError:
        return
    text = value.decode("ascii").replace("\r\n", "").replace("\t", " ").strip()
    address = str(named.mailbox)
    # The older reader of the standard library, and the newer one, which decodes the name as well.
    _, read = email.utils.parseaddr(text)
    assert read.lower() == address.lower()
    # (It stumbles over a full stop right before the bracket.)
    header = email.policy.default.header_factory("From", text.replace(".<", ". <"))
    assert [one.addr_spec.lower() for one in header.addresses] == [address.lower()]
    # Neither joins blanks exactly as RFC 2047 has it; letters must agree.
    assert header.addresses[0].display_name.replace(" ", "") == (named.display_name or "").replace(" ", "")


# ---------------------------------------------------------------- the header's originators


def _read(*lines: str) -> Originators:
    return read_originators(parse_headers("".join(f"{line}\r\n" for line in lines).encode()))


def test_originators_are_from_sender_and_return_path() -> None:
    found = _read(
        "Return-Path: <b@owner.example>", "FROM: Boss <ceo@owner.example>", "sender: s@owner.example"
    )
    assert found == Originators(
        NamedMailbox("Boss", _CEO),
        NamedMailbox(None, Mailbox("s", "owner.example")),
        Mailbox("b", "owner.example"),
    )


def test_sender_and_return_path_may_be_missing() -> None:
    assert _read("From: ceo@owner.example", "Reply-To: (anything) goes, here:;") == Originators(
        NamedMailbox(None, _CEO), None, None
    )


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        pytest.param(["To: a@b.example"], "Missing required header 'From'.", id="no-from"),
        pytest.param(["From: a@b.example", "Sender: x"], "Missing final '@domain'", id="sender"),
        pytest.param(
            ["From: a@b.example", "Return-Path: <>"], "Missing final '@domain'", id="null-return-path"
        ),
        pytest.param(
            ["From: a@b.example", "Return-Path: X <a@b.example>"],
            "Local address contains control or whitespace",
            id="named-return-path",
        ),
        pytest.param(
            ["From: a@b.example", "Resent-From: a@b.example"],
            "Resent- header fields are not supported.",
            id="resent-from",
        ),
        pytest.param(
            ["From: a@b.example", "Resent-Bcc: a@b.example"],
            "Resent- header fields are not supported.",
            id="resent-bcc",
        ),
    ],
)
def test_r10_originators_are_plain_or_refused(lines: list[str], reason: str) -> None:
    with pytest.raises(HeaderError) as caught:
        _read(*lines)
    assert caught.value.reason == reason


# ---------------------------------------------------------------- control fields

_ARN = "arn:aws:ses:us-east-1:111111111111:identity/owner.example"


def _control(*lines: str) -> ControlFields:
    return read_control_fields(parse_headers("".join(f"{line}\r\n" for line in lines).encode()))


def test_control_fields_are_read_as_written() -> None:
    found = _control(
        "From: a@b.example",
        f"X-SES-SOURCE-ARN: {_ARN} ",
        f"x-ses-from-arn:\r\n\t{_ARN}x",
        f"X-Ses-Return-Path-Arn: {_ARN} y",
        "X-SES-CONFIGURATION-SET: set1",
        "X-SES-MESSAGE-TAGS: campaign=spring, ses:feedback-id-a=x",
    )
    assert found == ControlFields(
        _ARN, f"{_ARN}x", f"{_ARN} y", "set1", (("campaign", "spring"), ("ses:feedback-id-a", "x"))
    )


@pytest.mark.parametrize("lines", [(), ("X-SES-SOURCE-ARN:", "X-SES-MESSAGE-TAGS:"), ("X-SES-OTHER: x",)])
def test_missing_and_empty_control_fields_are_none(lines: tuple[str, ...]) -> None:
    assert _control(*lines) == ControlFields(None, None, None, None, ())


@pytest.mark.parametrize("name", ["X-SES-SOURCE-ARN", "X-SES-FROM-ARN", "X-SES-RETURN-PATH-ARN"])
def test_r12_an_arn_given_twice_is_refused(name: str) -> None:
    with pytest.raises(HeaderError) as caught:
        _control(f"{name}: {_ARN}", f"{name.lower()}: {_ARN}")
    assert caught.value.reason == f"Duplicate header '{name}'."


def test_of_other_control_fields_the_first_counts() -> None:
    found = _control("X-SES-CONFIGURATION-SET: one", "X-SES-CONFIGURATION-SET: two")
    assert found.configuration_set == "one"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", ()),
        ("a=b", (("a", "b"),)),
        ("a=b,c-1=d_2@e.example", (("a", "b"), ("c-1", "d_2@e.example"))),
        (" a = b ,\tc=d", (("a", "b"), ("c", "d"))),
        ("n" * 255 + "=" + "v" * 256, (("n" * 255, "v" * 256),)),
    ],
)
def test_tags_are_pairs(text: str, tags: tuple[tuple[str, str], ...]) -> None:
    assert parse_message_tags(text) == tags


_NAME = "only alphanumeric ASCII characters, '_',  '-' are allowed."
_VALUE = "only alphanumeric ASCII characters, '_',  '-' , '.', '@' are allowed."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("=b", "The tag name must be specified.", id="no-name"),
        pytest.param("a=b,", "The tag name must be specified.", id="comma-at-the-end"),
        pytest.param("a.b=c", f"Invalid tag name <a.b>: {_NAME}", id="bad-name"),
        pytest.param("ses:x=c", f"Invalid tag name <ses:x>: {_NAME}", id="reserved-name"),
        pytest.param("a", f"Invalid tag value <>: {_VALUE}", id="no-value"),
        pytest.param("a=b=c", f"Invalid tag value <b=c>: {_VALUE}", id="bad-value"),
        pytest.param("a=b c", f"Invalid tag value <b c>: {_VALUE}", id="blank-in-value"),
        pytest.param("n" * 256 + "=b", "Tag name cannot exceed 255 characters.", id="long-name"),
        pytest.param("a=" + "v" * 257, "Tag value cannot exceed 256 characters.", id="long-value"),
    ],
)
def test_malformed_tags_are_refused_in_the_words_of_ses(text: str, reason: str) -> None:
    with pytest.raises(HeaderError) as caught:
        parse_message_tags(text)
    assert caught.value.reason == reason
