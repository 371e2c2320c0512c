"""The client's side of a mail transaction, without I/O: octets of replies in, octets of commands out.

``ReplyReader`` turns octets into replies, bounded in every direction.  ``Transaction`` is one message for
some recipients: it says what to send, takes the replies in order and ends with an answer and a phase for
each recipient.  With PIPELINING (RFC 2920) MAIL, all RCPT and DATA go in one write.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from relay.outcome.outcome import Failure, Phase, Reply
from relay.submission.headers import has_bare_line_end

# RFC 5321 section 4.5.3.1.5 allows 512 octets a line; some send more, none a novel.
_LONGEST_LINE = 4096
_MOST_LINES = 100
_LONGEST_KEPT = 128
_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch
_ENHANCED = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)").match
_CONTROLS = re.compile(r"[^ -~]+")


class NotSMTP(Exception):
    """The other side does not speak SMTP, or far too much of it."""


class ReplyReader:
    """Collects octets and gives whole replies."""

    def __init__(self) -> None:
        self._buffer = b""
        self._lines: list[str] = []

    def feed(self, data: bytes) -> Iterator[Reply]:
        """The replies that ``data`` completes, one by one; NotSMTP at the first that is none."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            reply = self._take(line.rstrip(b"\r"))
            if reply is not None:
                yield reply
        if len(self._buffer) > _LONGEST_LINE:
            raise NotSMTP("a reply line without an end")

    def _take(self, line: bytes) -> Reply | None:
        if not self._lines and len(line) <= _LONGEST_KEPT:
            reply = _whole(line)
            if reply is not None:
                return reply
        found = _LINE(line)
        if found is None or len(line) > _LONGEST_LINE:
            raise NotSMTP(f"not a reply: {_clean(line[:80])!r}")
        code, separator, text = found.groups()
        self._lines.append(_clean(text or b""))
        if separator == b"-":
            if len(self._lines) >= _MOST_LINES:
                raise NotSMTP("a reply without an end")
            return None
        lines, self._lines = self._lines, []
        return make_reply(int(code), lines)


@lru_cache(maxsize=256)
def _whole(line: bytes) -> Reply | None:
    """The reply that is this one line, None if it is none or goes on.  Most are said again and again."""
    found = _LINE(line)
    if found is None or found[2] == b"-":
        return None
    return make_reply(int(found[1]), [_clean(found[3] or b"")])


def make_reply(code: int, lines: Sequence[str]) -> Reply:
    """The reply of some lines; the enhanced code is that of the last line which has one."""
    enhanced, texts = None, []
    for line in lines:
        found = _ENHANCED(line)
        if found is not None:
            enhanced, line = found[1], line[found.end() :]
        texts.append(line)
    return Reply(code, enhanced, " ".join(text for text in texts if text))


def _clean(text: bytes) -> str:
    return printable(text.decode("utf-8", "replace"))


def printable(text: str) -> str:
    """A stranger's words in printable ASCII: they go into the store, the log and reports."""
    return _CONTROLS.sub("?", text.replace("\t", " "))


class Next(Enum):
    """What the transport has to do after a reply."""

    WAIT = auto()
    SEND_MESSAGE = auto()  # the message's octets, then the dot
    SEND_DOT = auto()  # 354 though nobody is left: a lone dot (RFC 2920 section 3.1)
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Offer:
    """What the next hop offered in its EHLO reply."""

    pipelining: bool = False
    eight_bit_mime: bool = False
    size: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended for one recipient."""

    answer: Reply | Failure
    phase: Phase


class Transaction:
    """One message for ``recipients``.  ``results`` has an entry for each once it is done."""

    def __init__(self, reverse_path: str, recipients: Sequence[str], size_bytes: int, offer: Offer) -> None:
        self.results: list[Ended | None] = [None] * len(recipients)
        self.must_reset = False
        self.is_closing = False
        self._offer = offer
        self._commands = deque(_commands(reverse_path, recipients, size_bytes, offer))
        self._awaited: deque[tuple[Phase, int]] = deque()

    def start(self, reset: bool) -> bytes:
        """The first octets to send; ``reset`` if the last transaction was left open."""
        if reset:
            self._commands.appendleft((Phase.EHLO, -1, b"RSET\r\n"))
        return self._send(len(self._commands) if self._offer.pipelining else 1)

    def _send(self, count: int) -> bytes:
        octets = []
        for _ in range(count):
            phase, number, command = self._commands.popleft()
            self._awaited.append((phase, number))
            octets.append(command)
        return b"".join(octets)

    def receive(self, reply: Reply) -> tuple[Next, bytes]:
        """What to do next, and what to send at once; NotSMTP if nothing was asked."""
        if not self._awaited:
            raise NotSMTP(f"a reply to nothing: {reply}")
        phase, number = self._awaited.popleft()
        if reply.code == 421:
            self.fail(reply, phase)
            return Next.DONE, b""
        self._note(phase, number, reply)
        return self._proceed(phase, reply)

    def _note(self, phase: Phase, number: int, reply: Reply) -> None:
        """Write down what the reply decides."""
        if phase is Phase.MAIL and reply.code >= 300:
            self._settle(reply, phase)
        elif phase is Phase.RCPT and reply.code >= 300 and self.results[number] is None:
            self.results[number] = Ended(reply, phase)
        elif phase is Phase.DOT or (phase is Phase.DATA and reply.code != 354):
            self._settle(reply, phase)

    def _proceed(self, phase: Phase, reply: Reply) -> tuple[Next, bytes]:
        if phase is Phase.DATA and reply.code == 354:
            self._awaited.append((Phase.DOT, -1))
            return (Next.SEND_MESSAGE, b"") if None in self.results else (Next.SEND_DOT, b"")
        if phase is Phase.DATA:
            self.must_reset = True
        if phase in (Phase.DATA, Phase.DOT):
            return Next.DONE, b""
        if self._awaited:
            return Next.WAIT, b""
        # Step by step, and nobody is left to say DATA for.
        if phase is not Phase.EHLO and None not in self.results:
            self.must_reset = True
            return Next.DONE, b""
        return Next.WAIT, self._send(1)

    def fail(self, answer: Reply | Failure, phase: Phase | None = None) -> None:
        """The connection is of no more use: this is the answer for whoever has none."""
        if phase is None:
            phase = self._awaited[0][0] if self._awaited else Phase.MAIL
        self.is_closing = True
        self._settle(answer, phase)

    def _settle(self, answer: Reply | Failure, phase: Phase) -> None:
        ended = Ended(answer, phase)
        self.results = [result or ended for result in self.results]


def _commands(
    reverse_path: str, recipients: Sequence[str], size_bytes: int, offer: Offer
) -> list[tuple[Phase, int, bytes]]:
    mail = f"MAIL FROM:<{reverse_path}>"
    if offer.size:
        mail += f" SIZE={size_bytes}"
    if offer.eight_bit_mime:
        mail += " BODY=8BITMIME"
    commands = [(Phase.MAIL, -1, _line(mail))]
    commands += [(Phase.RCPT, number, _line(f"RCPT TO:<{to}>")) for number, to in enumerate(recipients)]
    commands.append((Phase.DATA, -1, b"DATA\r\n"))
    return commands


def _line(command: str) -> bytes:
    octets = command.encode("ascii")
    # The parsers let no such address in; a line end here would be a command of somebody else's.
    assert b"\r" not in octets, command
    assert b"\n" not in octets, command
    return octets + b"\r\n"


class UncleanMessage(AssertionError):
    """The stored octets are not what was checked on the way in."""


def stuff(octets: bytes, at_line_start: bool = True) -> bytes:
    """``octets`` as they go through DATA (RFC 5321 section 4.5.2); UncleanMessage on a stray CR or LF.

    The one writer of message octets: whatever wrote the queue, nothing leaves that could end the data
    early.
    """
    if has_bare_line_end(octets):
        raise UncleanMessage("a stray CR or LF in the queue")
    if b"\n." in octets:
        octets = octets.replace(b"\r\n.", b"\r\n..")
    return b"." + octets if at_line_start and octets.startswith(b".") else octets
