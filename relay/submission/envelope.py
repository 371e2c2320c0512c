"""The envelope: who gets bounces, who gets the mail, and the SMTP commands that say so.

``parse_mail`` and ``parse_rcpt`` read what follows ``MAIL `` and ``RCPT ``.  As SES does they take an
address without angle brackets and one space after the colon, and nothing else that RFC 5321 does not.
What is wrong is told by kind; the session has the words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.submission.address import AddressError, Mailbox, parse_mailbox


class CommandFault(StrEnum):
    """What is wrong with a MAIL or RCPT command."""

    SYNTAX = "syntax"  # no FROM: or TO:, no address, octets that no command has
    NULL_SENDER = "null_sender"  # MAIL FROM:<>
    BAD_ADDRESS = "bad_address"
    UNKNOWN_PARAMETER = "unknown_parameter"
    REPEATED_PARAMETER = "repeated_parameter"
    BAD_PARAMETER = "bad_parameter"  # a known one with a value it cannot have
    TOO_LARGE = "too_large"  # SIZE declares more than is taken


class CommandError(ValueError):
    """The command cannot be taken.

    ``fault`` is its kind, ``reason`` a sentence, ``subject`` the address or parameter as the client
    wrote it: printable ASCII, at most 320 characters.
    """

    def __init__(self, fault: CommandFault, reason: str, subject: str = "") -> None:
        super().__init__(reason)
        self.fault = fault
        self.reason = reason
        self.subject = subject[:_LONGEST_SUBJECT]


class BodyType(StrEnum):
    """The values of BODY (RFC 6152)."""

    SEVEN_BIT = "7BIT"
    EIGHT_BIT = "8BITMIME"


@dataclass(frozen=True, slots=True)
class Envelope:
    """Sender and recipients of one message, in the order given; a recipient may be named twice."""

    reverse_path: Mailbox
    recipients: tuple[Mailbox, ...]
    body_8bit: bool = False
    declared_size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MailCommand:
    """What a MAIL command said; ``size`` is in octets, None if not declared."""

    mailbox: Mailbox
    body: BodyType | None = None
    size: int | None = None

    @property
    def is_8bit(self) -> bool:
        return self.body is BodyType.EIGHT_BIT


_Match = Callable[[str], re.Match[str] | None]

_LONGEST_SUBJECT = 320
# The address ends at the first space or closing bracket: a plain one holds neither.
_PATH: Final = r": ?(?:<(?P<inner>[^<> ]*+)>|(?P<bare>[^<> ]++))(?P<rest>(?: .*)?)"
_match_mail = re.compile("FROM" + _PATH, re.IGNORECASE | re.ASCII).fullmatch
_match_rcpt = re.compile("TO" + _PATH, re.IGNORECASE | re.ASCII).fullmatch
_is_printable = re.compile(r"[ -~]*").fullmatch
_match_parameter = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~]+))?").fullmatch
# RFC 1870 section 3: up to 20 digits.
_is_size = re.compile(r"[0-9]{1,20}").fullmatch
# RFC 4954 section 5: an xtext-encoded mailbox or "<>".
_is_auth = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})+").fullmatch
_KNOWN_PARAMETERS = frozenset({"BODY", "SIZE", "AUTH"})


def parse_mail(argument: bytes | str, *, max_size: int) -> MailCommand:
    """``FROM:<a@b.example> SIZE=1000 BODY=8BITMIME``; CommandError for anything else."""
    address, rest = _split(argument, _match_mail)
    if not address:
        raise CommandError(CommandFault.NULL_SENDER, "The null reverse-path is not accepted")
    mailbox = _mailbox(address)
    if not rest:
        return MailCommand(mailbox)
    parameters = _parameters(rest)
    return MailCommand(mailbox, _body(parameters), _size(parameters, max_size))


def parse_mail_of_server(argument: bytes | str, *, max_size: int) -> str:
    """The sender that another mail server names, empty for the null one; CommandError as above.

    Nothing is sent to it and nothing is decided by it, so that it may be any text without blanks.
    """
    address, rest = _split(argument, _match_mail)
    parameters = _parameters(rest) if rest else {}
    _body(parameters)
    _size(parameters, max_size)
    return address


def parse_rcpt(argument: bytes | str) -> Mailbox:
    """``TO:<a@b.example>``; CommandError for anything else.  No parameter is known."""
    address, rest = _split(argument, _match_rcpt)
    mailbox = _mailbox(address)
    if rest:
        keyword = rest.split(" ", 1)[0]
        raise CommandError(CommandFault.UNKNOWN_PARAMETER, "Parameter is not supported", keyword)
    return mailbox


def _split(argument: bytes | str, match: _Match) -> tuple[str, str]:
    """The address without brackets, and the parameters without the blanks around them."""
    text = argument.decode("latin-1") if isinstance(argument, bytes) else argument
    if not _is_printable(text):
        raise CommandError(CommandFault.SYNTAX, "Commands are printable ASCII")
    found = match(text)
    if found is None:
        raise CommandError(CommandFault.SYNTAX, "Not an address after the colon")
    address = found["bare"] if found["inner"] is None else found["inner"]
    # RFC 5321 section 4.1.1: receivers tolerate trailing white space.
    return address, found["rest"].rstrip(" ")[1:]


def _mailbox(address: str) -> Mailbox:
    try:
        return parse_mailbox(address)
    except AddressError as error:
        raise CommandError(CommandFault.BAD_ADDRESS, error.reason, address) from error


def _parameters(text: str) -> dict[str, str | None]:
    parameters: dict[str, str | None] = {}
    for word in text.split(" "):
        found = _match_parameter(word)
        if found is None:
            raise CommandError(CommandFault.SYNTAX, "Malformed parameter", word)
        keyword = found[1].upper()
        if keyword not in _KNOWN_PARAMETERS:
            raise CommandError(CommandFault.UNKNOWN_PARAMETER, "Parameter is not supported", word)
        if keyword in parameters:
            raise CommandError(CommandFault.REPEATED_PARAMETER, "Parameter is given twice", word)
        parameters[keyword] = found[2]
    _check_auth(parameters)
    return parameters


def _check_auth(parameters: dict[str, str | None]) -> None:
    # RFC 4954 section 5: a server that does not trust the client takes AUTH= and acts as if it were <>.
    if "AUTH" in parameters and not _is_auth(parameters["AUTH"] or ""):
        raise CommandError(CommandFault.BAD_PARAMETER, "Bad value of AUTH", "AUTH")


def _body(parameters: dict[str, str | None]) -> BodyType | None:
    if "BODY" not in parameters:
        return None
    value = (parameters["BODY"] or "").upper()
    try:
        return BodyType(value)
    except ValueError:
        raise CommandError(CommandFault.BAD_PARAMETER, "Bad value of BODY", f"BODY={value}") from None


def _size(parameters: dict[str, str | None], max_size: int) -> int | None:
    if "SIZE" not in parameters:
        return None
    value = parameters["SIZE"] or ""
    if not _is_size(value):
        raise CommandError(CommandFault.BAD_PARAMETER, "Bad value of SIZE", f"SIZE={value}")
    size = int(value)
    if size > max_size:
        raise CommandError(CommandFault.TOO_LARGE, "Message is too long.", f"SIZE={value}")
    return size
