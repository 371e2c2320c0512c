"""Who claims to send: From, Sender, Return-Path, and the control fields that name identities.

These fields are decided on, so they are read by a grammar of our own, stricter than RFC 5322: one
mailbox, as ``addr``, ``<addr>`` or ``name <addr>``.  No groups, routes, comments; nothing a receiver
might read as another address.  Fields that nobody decides on (To, Reply-To) are not looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from relay.submission.address import AddressError, Mailbox, parse_mailbox
from relay.submission.display_name import DisplayNameError, decode_display_name
from relay.submission.headers import HeaderBlock, HeaderError


class NamedMailbox(NamedTuple):
    """A mailbox with the name shown for it, decoded; None if there is none."""

    display_name: str | None
    mailbox: Mailbox

    def __str__(self) -> str:
        if self.display_name is None:
            return str(self.mailbox)
        return f"{self.display_name} <{self.mailbox}>"


@dataclass(frozen=True, slots=True)
class Originators:
    """The addresses of the header that must be the sender's own or granted."""

    from_: NamedMailbox
    sender: NamedMailbox | None
    return_path: Mailbox | None


@dataclass(frozen=True, slots=True)
class ControlFields:
    """The values of the X-SES-* fields, as written; None where there is none.

    An empty value counts as none.  ``message_tags`` are in the order given.
    """

    source_arn: str | None
    from_arn: str | None
    return_path_arn: str | None
    configuration_set: str | None
    message_tags: tuple[tuple[str, str], ...]


# ---------------------------------------------------------------- addresses

_match_named = re.compile(r"([^<>]*)<([^<>]*)>").fullmatch
_holds_more = re.compile(r"[<>,;]").search
_LONGEST_KEPT = 1024
_NOT_ONE = "Exactly one mailbox is allowed, as local@domain or name <local@domain>"


def parse_from(value: bytes) -> NamedMailbox:
    """The one mailbox that a field body holds, folded or not; HeaderError if it is anything else."""
    return _parse_kept(value) if len(value) <= _LONGEST_KEPT else _parse_from(value)


@lru_cache(maxsize=4096)
def _parse_kept(value: bytes) -> NamedMailbox:
    """The same, remembered: it is alike in all mail of an application."""
    return _parse_from(value)


def _parse_from(value: bytes) -> NamedMailbox:
    text = _unfold(value)
    found = _match_named(text)
    if found is None and _holds_more(text):
        raise HeaderError(_NOT_ONE)
    try:
        if found is None:
            return NamedMailbox(None, parse_mailbox(text))
        name, address = found.groups()
        mailbox = parse_mailbox(address)
        name = name.strip(" ")
        return NamedMailbox(decode_display_name(name, mailbox) if name else None, mailbox)
    except (AddressError, DisplayNameError) as error:
        raise HeaderError(error.reason) from error


def read_originators(headers: HeaderBlock) -> Originators:
    """From, Sender and Return-Path; HeaderError if one is missing or not plain.

    Deliberate: Resent-* fields are refused.  They are identities as much as From is, and no policy of
    SES can grant them.
    """
    fields = dict(_wanted(headers))
    if "from" not in fields:
        raise HeaderError("Missing required header 'From'.")
    sender, return_path = fields.get("sender"), fields.get("return-path")
    return Originators(
        parse_from(fields["from"]),
        None if sender is None else parse_from(sender),
        None if return_path is None else _parse_path(return_path),
    )


def _wanted(headers: HeaderBlock) -> list[tuple[str, bytes]]:
    found = []
    for field in headers.fields:
        name = field[0]
        if name in _ORIGINATORS:
            found.append((name, field.body))
        elif name.startswith("resent-"):
            raise HeaderError("Resent- header fields are not supported.")
    return found


_ORIGINATORS = frozenset({"from", "sender", "return-path"})


def _parse_path(value: bytes) -> Mailbox:
    """``<addr>`` or ``addr``; the null path is nobody's, so that no identity can stand for it."""
    text = _unfold(value)
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise HeaderError(error.reason) from error


def _unfold(value: bytes) -> str:
    """Folding white space becomes blanks (RFC 5322 section 2.2.3); other octets are refused later."""
    return value.replace(b"\r\n", b"").replace(b"\t", b" ").strip(b" ").decode("latin-1")


# ---------------------------------------------------------------- control fields

_PREFIX = "x-ses-"
_ARNS = {
    "x-ses-source-arn": "X-SES-SOURCE-ARN",
    "x-ses-from-arn": "X-SES-FROM-ARN",
    "x-ses-return-path-arn": "X-SES-RETURN-PATH-ARN",
}


def read_control_fields(headers: HeaderBlock) -> ControlFields:
    """The X-SES-* fields; HeaderError if an ARN is given twice or a tag is malformed.

    Of a repeated field that is no ARN the first counts, as in SES.
    """
    values: dict[str, str] = {}
    for field in headers.fields:
        name = field[0]
        if not name.startswith(_PREFIX):
            continue
        if name not in values:
            values[name] = field.value
        elif name in _ARNS:  # Deliberate: SES takes the first; a repeat is a fault or an attack.
            raise HeaderError(f"Duplicate header '{_ARNS[name]}'.")
    if not values:
        return _NO_CONTROL_FIELDS
    return ControlFields(
        values.get("x-ses-source-arn") or None,
        values.get("x-ses-from-arn") or None,
        values.get("x-ses-return-path-arn") or None,
        values.get("x-ses-configuration-set") or None,
        parse_message_tags(values.get("x-ses-message-tags", "")),
    )


_NO_CONTROL_FIELDS = ControlFields(None, None, None, None, ())

_LONGEST_TAG_NAME = 255
_LONGEST_TAG_VALUE = 256
_is_tag_name = re.compile(r"[A-Za-z0-9_-]+").fullmatch
_is_tag_value = re.compile(r"[A-Za-z0-9_.@-]+").fullmatch
# The only names with a colon that a sender may set: they fill the first two fields of Feedback-ID.
_RESERVED_TAGS = frozenset({"ses:feedback-id-a", "ses:feedback-id-b"})


def parse_message_tags(text: str) -> tuple[tuple[str, str], ...]:
    """``name1=value1, name2=value2``; HeaderError with SES's sentence if malformed."""
    if not text:
        return ()
    return tuple([_parse_tag(pair) for pair in text.split(",")])


def _parse_tag(pair: str) -> tuple[str, str]:
    name, _, value = (part.strip(" \t") for part in pair.partition("="))
    if not name:
        raise HeaderError("The tag name must be specified.")
    if len(name) > _LONGEST_TAG_NAME:
        raise HeaderError(f"Tag name cannot exceed {_LONGEST_TAG_NAME} characters.")
    if len(value) > _LONGEST_TAG_VALUE:
        raise HeaderError(f"Tag value cannot exceed {_LONGEST_TAG_VALUE} characters.")
    if not _is_tag_name(name) and name not in _RESERVED_TAGS:
        allowed = "only alphanumeric ASCII characters, '_',  '-' are allowed."
        raise HeaderError(f"Invalid tag name <{name}>: {allowed}")
    if not _is_tag_value(value):
        allowed = "only alphanumeric ASCII characters, '_',  '-' , '.', '@' are allowed."
        raise HeaderError(f"Invalid tag value <{value}>: {allowed}")
    return name, value
