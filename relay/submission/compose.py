"""A raw message from the API's simple form: subject, text, HTML, attachments, fields of one's own.

The standard library writes MIME; what goes into header fields is checked here, since a line end in a
value would begin a field of the sender's invention.  Nothing is random: boundaries derive from ``seed``.
"""

from __future__ import annotations

import base64
import codecs
import quopri
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.charset import BASE64, QP, Charset
from email.generator import BytesGenerator
from email.header import Header
from email.message import Message
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from io import BytesIO

_POLICY = compat32.clone(linesep="\r\n", max_line_length=0)
_LONGEST_LINE = 76
# RFC 5322 section 3.6.8.
_is_field_name = re.compile(r"[!-9;-~]{1,126}").fullmatch
_is_media_type = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}").fullmatch
_is_content_id = re.compile(r"[!-;=?-~]{1,200}").fullmatch


class ComposeError(Exception):
    """The parts make no message; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of text and the charset it is to be sent in."""

    data: str
    charset: str = "UTF-8"


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file.  ``transfer_encoding`` is BASE64, QUOTED_PRINTABLE or SEVEN_BIT, as SES names them."""

    file_name: str
    content: bytes
    media_type: str = "application/octet-stream"
    disposition: str = "attachment"
    description: str | None = None
    content_id: str | None = None
    transfer_encoding: str = "BASE64"


@dataclass(frozen=True, slots=True)
class SimpleMessage:
    """What the simple form says; addresses as they stand in their fields.  Bcc is the envelope's."""

    from_: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    reply_to: tuple[str, ...]
    subject: Text
    text: Text | None
    html: Text | None
    fields: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()


def compose(message: SimpleMessage, seed: str) -> bytes:
    """The octets of the message, with CRLF line ends."""
    if message.text is None and message.html is None:
        raise ComposeError("Body: text, HTML or both are needed")
    root = _body(message, seed)
    mime = {name: root[name] for name in ("MIME-Version", "Content-Type", "Content-Transfer-Encoding")}
    for name in mime:
        del root[name]
    for name, value in _fields(message):
        root[name] = value
    for name, value in mime.items():
        if value is not None:
            root[name] = value
    written = BytesIO()
    BytesGenerator(written, mangle_from_=False, policy=_POLICY).flatten(root)
    return written.getvalue()


# ---------------------------------------------------------------- fields


def _fields(message: SimpleMessage) -> Iterator[tuple[str, str]]:
    from_ = (message.from_,) if message.from_ else ()  # a preview is from nobody
    lists = (("From", from_), ("To", message.to), ("Cc", message.cc), ("Reply-To", message.reply_to))
    for name, addresses in lists:
        if addresses:
            yield name, ",\r\n ".join(address_text(one) for one in addresses)
    yield "Subject", _unstructured(message.subject, "Subject")
    for name, value in message.fields:
        if not _is_field_name(name):
            raise ComposeError(f"Headers: {name[:80]!r} is not a field name")
        yield name, _unstructured(Text(value), name)


def address_text(address: str) -> str:
    """``name <address>`` with the name encoded where it is not ASCII (RFC 2047)."""
    _one_line(address, "address")
    if address.isascii():
        return address
    name, opened, rest = address.rpartition("<")
    if not opened or not rest.isascii():
        raise ComposeError(
            f"{address[:80]!r}: only the name of an address may hold other than ASCII characters"
        )
    return f"{_encoded(name.strip().strip(chr(34)), 'utf-8')} <{rest}"


def _unstructured(text: Text, name: str) -> str:
    value = _one_line(text.data, name)
    if value.isascii():
        return "\r\n ".join(_wrapped(value))
    charset = _charset(text.charset, name)
    try:
        value.encode(charset)
    except UnicodeEncodeError:
        raise ComposeError(f"{name}: the text does not fit into {text.charset}") from None
    return _encoded(value, charset)


def _encoded(value: str, charset: str) -> str:
    return Header(value, charset, maxlinelen=_LONGEST_LINE).encode(linesep="\r\n")


def _wrapped(value: str) -> list[str]:
    """Folded at single blanks where a line would be too long for SMTP; else as it is."""
    if len(value) <= 900:
        return [value]
    lines, line = [], ""
    for word in value.split(" "):
        if line and len(line) + len(word) > 900:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]


def _one_line(value: str, name: str) -> str:
    if any(character < " " and character != "\t" for character in value) or "\x7f" in value:
        raise ComposeError(f"{name}: line ends and control characters are not taken")
    return value


def _charset(name: str, where: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ComposeError(f"{where}: the charset {name[:40]!r} is not known") from None


# ---------------------------------------------------------------- bodies


def _body(message: SimpleMessage, seed: str) -> Message:
    """Text beside HTML as alternatives, and around them what is attached."""
    texts = [
        _text_part(text, kind)
        for text, kind in ((message.text, "plain"), (message.html, "html"))
        if text is not None
    ]
    body = texts[0] if len(texts) == 1 else _multipart("alternative", texts, f"{seed}-a")
    if not message.attachments:
        return body
    return _multipart("mixed", [body, *(_attached(one) for one in message.attachments)], f"{seed}-m")


def _multipart(kind: str, parts: Sequence[Message], boundary: str) -> Message:
    whole = MIMEMultipart(kind, boundary=f"=_{boundary}", policy=_POLICY)
    for part in parts:
        del part["MIME-Version"]
        whole.attach(part)
    return whole


def _text_part(text: Text, kind: str) -> Message:
    name = _charset(text.charset, "Body")
    try:
        octets = text.data.encode(name)
    except UnicodeEncodeError:
        raise ComposeError(f"Body: the text does not fit into {text.charset}") from None
    part = MIMENonMultipart("text", kind, charset=text.charset, policy=_POLICY)
    charset = Charset(name)
    charset.body_encoding = QP if _is_mostly_ascii(octets) else BASE64
    part.set_payload(text.data.replace("\r\n", "\n").replace("\r", "\n").encode(name), charset)
    return part


def _is_mostly_ascii(octets: bytes) -> bool:
    return sum(octet < 0x80 for octet in octets) * 10 >= len(octets) * 8


def _attached(one: Attachment) -> Message:
    if not _is_media_type(one.media_type):
        raise ComposeError(f"Attachments: {one.media_type[:80]!r} is not a media type")
    if one.content_id is not None and not _is_content_id(one.content_id):
        raise ComposeError(f"Attachments: {one.content_id[:80]!r} is not a content id")
    part = MIMENonMultipart(*one.media_type.split("/"), policy=_POLICY)
    del part["MIME-Version"]
    part.add_header("Content-Disposition", one.disposition, filename=_file_name(one.file_name))
    if one.description:
        part["Content-Description"] = _unstructured(Text(one.description), "ContentDescription")
    if one.content_id:
        part["Content-ID"] = f"<{one.content_id}>"
    _encode_content(part, one)
    return part


def _file_name(name: str) -> str | tuple[str, str, str]:
    """RFC 2231 where it is not ASCII."""
    _one_line(name, "FileName")
    return name if name.isascii() else ("utf-8", "", name)


def _encode_content(part: Message, one: Attachment) -> None:
    if one.transfer_encoding == "QUOTED_PRINTABLE":
        part["Content-Transfer-Encoding"] = "quoted-printable"
        part.set_payload(quopri.encodestring(one.content).decode("ascii"))
    elif one.transfer_encoding == "SEVEN_BIT":
        if not one.content.isascii() or any(len(line) > 998 for line in one.content.splitlines()):
            raise ComposeError("Attachments: the content is not 7bit; choose BASE64")
        part["Content-Transfer-Encoding"] = "7bit"
        part.set_payload(one.content.decode("ascii").replace("\r\n", "\n"))
    else:
        part["Content-Transfer-Encoding"] = "base64"
        part.set_payload(base64.encodebytes(one.content).decode("ascii"))
