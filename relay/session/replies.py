"""Every reply we send: code, enhanced code, text.

The texts are SES's, because programs look for them; enhanced codes (RFC 3463) are added only when the
operator asks for them, since SES has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from relay.submission.answer import Accepted, Answer, Reason, Refused
from relay.submission.envelope import CommandError, CommandFault

# RFC 5321 section 4.5.3.1.5: a reply line has at most 512 octets with code and CRLF.
_LONGEST_TEXT = 490


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, of one or several lines."""

    code: int
    enhanced: str
    lines: tuple[str, ...]

    def encode(self, with_enhanced: bool) -> bytes:
        """The octets on the wire; whatever is not printable ASCII in a text is shown as ``?``."""
        return _encoded(self, with_enhanced)

    def _encode(self, with_enhanced: bool) -> bytes:
        # RFC 2034 section 4: greeting, EHLO's answer, 354 and 334 carry none.
        prefix = f"{self.enhanced} " if with_enhanced and self.enhanced else ""
        last = len(self.lines) - 1
        return b"".join(
            f"{self.code}{'-' if number < last else ' '}{prefix}{_printable(line)}\r\n".encode("ascii")
            for number, line in enumerate(self.lines)
        )


@lru_cache(maxsize=256)
def _encoded(of: Reply, with_enhanced: bool) -> bytes:
    """Most of what a session says it says all the time."""
    return of._encode(with_enhanced)


def _printable(text: str) -> str:
    if not (text.isascii() and text.isprintable()):
        text = "".join(character if " " <= character <= "~" else "?" for character in text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


def reply(code: int, enhanced: str, *lines: str) -> Reply:
    return Reply(code, enhanced, lines)


OK = reply(250, "2.0.0", "Ok")
BYE = reply(221, "2.0.0", "Bye")
START_TLS = reply(220, "2.0.0", "Ready to start TLS")
START_MAIL = reply(354, "", "End data with <CR><LF>.<CR><LF>")
AUTHENTICATED = reply(235, "2.7.0", "Authentication successful")
CANNOT_VERIFY = reply(252, "2.1.5", "Send some mail, and see")

CLOSING = reply(421, "4.3.2", "Service closing transmission channel")
IDLE = reply(421, "4.4.2", "Timeout waiting for data from client.")
TOO_MANY_CONNECTIONS = reply(421, "4.7.0", "Too many concurrent SMTP connections")
TOO_MANY_OF_ACCOUNT = reply(421, "4.7.0", "Too many concurrent SMTP connections of your account")
TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors")
TOO_MANY_FAILURES = reply(421, "4.7.0", "Too many authentication failures")
LOGINS_REFUSED = reply(421, "4.7.0", "Too many failed logins from your network; try again in some minutes")
TRY_LATER = reply(451, "4.3.0", "Temporary service failure")
AUTH_UNAVAILABLE = reply(454, "4.7.0", "Temporary authentication failure")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients")

LINE_TOO_LONG = reply(500, "5.5.2", "Command line too long")
NOT_A_COMMAND = reply(500, "5.5.2", "Command not recognized")
NOT_ASCII = reply(500, "5.5.2", "A command is a line of printable ASCII that ends with CRLF")
NO_ARGUMENT = reply(501, "5.5.4", "This command takes no argument")
NO_HELO = reply(501, "5.5.4", "EHLO needs the name of the client, such as EHLO app.example.com")
BAD_BASE64 = reply(501, "5.5.2", "The argument of AUTH is not base64")
AUTH_CANCELLED = reply(501, "5.7.0", "Authentication cancelled")
NOT_IMPLEMENTED = reply(502, "5.5.1", "Command not implemented")
NOT_SMTP = reply(502, "5.5.1", "This is an SMTP server")
BAD_SEQUENCE = reply(503, "5.5.1", "Bad sequence of commands")
NO_EHLO = reply(503, "5.5.1", "Send EHLO first")
TLS_ALREADY = reply(503, "5.5.1", "TLS is on already")
ALREADY_AUTHENTICATED = reply(503, "5.5.1", "Already authenticated")
NESTED_MAIL = reply(503, "5.5.1", "Sender already given; RSET begins anew")
UNKNOWN_MECHANISM = reply(504, "5.5.4", "The mechanisms are PLAIN and LOGIN")
NEEDS_TLS = reply(530, "5.7.0", "Must issue a STARTTLS command first")
NEEDS_AUTH = reply(530, "5.7.0", "Authentication required")
BAD_CREDENTIALS = reply(535, "5.7.8", "Authentication Credentials Invalid")
NO_RECIPIENTS = reply(554, "5.5.1", "No valid recipients")
STARTTLS_INJECTION = reply(554, "5.7.0", "Commands after STARTTLS in the same breath are not taken")


def banner(hostname: str, session: str) -> Reply:
    """The greeting, in SES's form; ``session`` tells one session from another."""
    return reply(220, "", f"{hostname} ESMTP SimpleEmailService-d-{session[:9]} {session[9:]}")


def challenge(text: str) -> Reply:
    return reply(334, "", text)


def bad_sender(error: CommandError) -> Reply:
    """What is wrong with a MAIL command."""
    if error.fault is CommandFault.BAD_ADDRESS and "@" in error.subject:
        return reply(553, "5.1.7", f"<{error.subject}> Invalid email address")
    if error.fault in (CommandFault.NULL_SENDER, CommandFault.BAD_ADDRESS):
        return reply(501, "5.1.7", "Invalid MAIL FROM address provided")
    return _bad_command(error)


def bad_recipient(error: CommandError) -> Reply:
    """What is wrong with a RCPT command."""
    if error.fault in (CommandFault.NULL_SENDER, CommandFault.BAD_ADDRESS):
        return reply(553, "5.1.3", f"<{error.subject}> address unknown")
    return _bad_command(error)


def _bad_command(error: CommandError) -> Reply:
    if error.fault is CommandFault.TOO_LARGE:
        return reply(552, "5.3.4", "Message is too long.")
    if error.fault is CommandFault.UNKNOWN_PARAMETER:
        return reply(555, "5.5.4", f"{error.reason}: {error.subject}")
    return reply(501, "5.5.4", f"{error.reason}: {error.subject}" if error.subject else error.reason)


# Code and enhanced code of each refusal, and SES's words before the text.
_REFUSALS = {
    Reason.SYNTAX: (554, "5.6.0", "Transaction failed: "),
    Reason.TOO_MANY_RECIPIENTS: (554, "5.5.3", "Transaction failed: "),
    Reason.BAD_RECIPIENT: (554, "5.1.3", "Transaction failed: "),
    Reason.LOOP: (554, "5.4.6", "Transaction failed: "),
    Reason.TOO_LARGE: (552, "5.3.4", ""),
    Reason.ACCESS_DENIED: (554, "5.7.1", ""),
    Reason.NOT_VERIFIED: (554, "5.7.1", ""),
    Reason.PAUSED: (554, "5.7.1", ""),
    Reason.CONFIGURATION_SET: (554, "5.7.1", ""),
    Reason.MAIL_FROM_DOMAIN: (554, "5.7.1", ""),
    Reason.CONFIGURATION_SET_PAUSED: (554, "5.7.1", ""),
    Reason.DAILY_QUOTA: (454, "4.7.0", "Throttling failure: "),
    Reason.SENDING_RATE: (454, "4.7.0", "Throttling failure: "),
    Reason.CREDENTIAL: (535, "5.7.8", ""),
    Reason.UNAVAILABLE: (451, "4.3.0", ""),
    Reason.LOW_DISK: (452, "4.3.1", ""),
    Reason.LOW_MEMORY: (452, "4.3.1", ""),
}


def answer(given: Answer) -> Reply:
    """The reply to the end of the data."""
    if isinstance(given, Accepted):
        return reply(250, "2.0.0", f"Ok {given.message_id}")
    return refusal(given)


def refusal(refused: Refused) -> Reply:
    """SES's line; then what failed, and the reference under which the record is kept."""
    code, enhanced, prefix = _REFUSALS[refused.reason]
    lines = [prefix + refused.text]
    more = [refused.explanation] if refused.explanation else []
    if refused.reference:
        more.append(f"reference {refused.reference} (relay message show {refused.reference})")
    if more:
        lines.append("; ".join(more))
    return reply(code, enhanced, *lines)
