"""Simple messages: what a mail reader gets out is what was put in, and no value begins a field."""

from __future__ import annotations

import email
from dataclasses import replace
from email.message import EmailMessage
from email.policy import default

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.compose import Attachment, ComposeError, SimpleMessage, Text, compose
from relay.submission.headers import LineCheck, parse_headers

PRINTABLE = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=300)
BODY = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), include_characters="\n"))


def text(value: str | Text | None) -> Text | None:
    return Text(value) if isinstance(value, str) else value


def simple(**more: object) -> bytes:
    given = {"subject": "Hello", "text": "Hi\n", "html": None, **more}
    message = SimpleMessage(
        from_="Acme <a@owner.example>",
        to=("b@customer.example",),
        cc=(),
        reply_to=(),
        subject=Text(""),
        text=None,
        html=None,
    )
    texts = {name: text(given.pop(name)) for name in ("subject", "text", "html")}  # type: ignore[arg-type]
    return compose(replace(message, **texts, **given), "seed")  # type: ignore[arg-type]


def read(octets: bytes) -> EmailMessage:
    """By the standard library, after our own checks of lines and fields."""
    head, _, body = octets.partition(b"\r\n\r\n")
    parse_headers(head + b"\r\n")
    lines = LineCheck()
    assert lines.feed(body) is None
    assert lines.end() is None
    found = email.message_from_bytes(octets, policy=default)
    assert isinstance(found, EmailMessage)
    return found


@given(PRINTABLE)
def test_any_subject_arrives(subject: str) -> None:
    assert " ".join(str(read(simple(subject=subject))["Subject"]).split()) == " ".join(subject.split())


@given(BODY, BODY)
def test_any_text_and_html_arrive(words: str, html: str) -> None:
    found = read(simple(text=words, html=html))
    plain, rich = found.get_body(("plain",)), found.get_body(("html",))
    assert plain is not None
    assert rich is not None
    assert plain.get_content().rstrip("\r\n") == words.rstrip("\r\n")
    assert rich.get_content().rstrip("\r\n") == html.rstrip("\r\n")


def test_text_alone_is_no_multipart() -> None:
    assert read(simple()).get_content_type() == "text/plain"


@given(st.binary(max_size=300))
def test_attachment_arrives_octet_by_octet(content: bytes) -> None:
    found = read(simple(attachments=(Attachment("Übersicht.pdf", content, "application/pdf"),)))
    (one,) = found.iter_attachments()
    assert (one.get_filename(), one.get_content_type()) == ("Übersicht.pdf", "application/pdf")
    assert one.get_content() == content


def test_own_fields_and_encodings_arrive() -> None:
    attached = Attachment(
        "a.txt", b"hi\n", "text/plain", transfer_encoding="QUOTED_PRINTABLE", content_id="x@y"
    )
    found = read(simple(fields=(("List-Unsubscribe", "<https://x.example/u>"),), attachments=(attached,)))
    assert found["List-Unsubscribe"] == "<https://x.example/u>"
    (one,) = found.iter_attachments()
    # A line of text ends in CRLF in every transfer encoding but base64 (RFC 2045 section 6.7).
    assert (one["Content-ID"], one.get_content()) == ("<x@y>", "hi\r\n")


def test_name_that_is_not_ascii_is_encoded() -> None:
    octets = simple(from_="Jörg Müller <a@owner.example>")
    assert octets.isascii()
    assert str(read(octets)["From"]) == "Jörg Müller <a@owner.example>"


def test_same_message_is_composed_to_the_same_octets() -> None:
    assert simple(html="<p>x</p>") == simple(html="<p>x</p>")


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": Text("a\r\nBcc: victim@x.example")},
        {"subject": Text("ü", "us-ascii")},
        {"subject": Text("ü", "no-such-charset")},
        {"text": Text("ü", "us-ascii")},
        {"text": None},
        {"from_": "a@owner.example\nX: y"},
        {"from_": "jörg@owner.example"},
        {"to": ("b@customer.example\r\n",)},
        {"fields": (("X Y", "z"),)},
        {"fields": (("X", "y\nZ: a"),)},
        {"attachments": (Attachment("a\n.txt", b""),)},
        {"attachments": (Attachment("a", b"", "text"),)},
        {"attachments": (Attachment("a", b"", content_id="<x>"),)},
        {"attachments": (Attachment("a", b"\xff", transfer_encoding="SEVEN_BIT"),)},
        {"attachments": (Attachment("a", b"", description="x\ny"),)},
    ],
    ids=str,
)
def test_what_makes_no_message_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ComposeError):
        simple(**wrong)  # type: ignore[arg-type]
