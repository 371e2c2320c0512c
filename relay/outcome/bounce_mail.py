"""The delivery report of RFC 3464: what became of a message, to the address that asked to be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Final

from relay.outcome import bounce_types
from relay.outcome.bounce_types import BounceKind
from relay.outcome.event_rows import Item, is_remotes, kind_of, status_of
from relay.outcome.report_mail import POLICY, Letter, clean, compose_report, date, machine_part


@dataclass(frozen=True, slots=True)
class FailedRecipient:
    """One recipient that failed or is late.

    ``status`` is the RFC 3463 code; ``code`` and ``text`` are the remote's reply, ``code`` None if there was
    none; ``host`` is ``name[address]:port``.  ``diagnostic`` is the remote's word of a late report, with its
    type.  ``at`` is microseconds UTC.
    """

    address: str
    status: str
    code: int | None
    text: str
    host: str
    at: int
    attempts: int
    expired: bool = False
    kind: BounceKind = bounce_types.UNDETERMINED
    diagnostic: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report to be written.  ``retry_until`` (microseconds UTC) makes it one of a delay."""

    letter: Letter
    recipients: tuple[FailedRecipient, ...]
    retry_until: int | None = None

    @property
    def is_delay(self) -> bool:
        return self.retry_until is not None


def compose(report: Report) -> bytes:
    """The whole message."""
    subject = f"Delivery Status Notification ({'Delay' if report.is_delay else 'Failure'})"
    return compose_report(report.letter, "delivery-status", subject, "".join(_words(report)), _status(report))


# ---------------------------------------------------------------- for people


def _words(report: Report) -> Iterator[str]:
    letter = report.letter
    if report.is_delay:
        yield "Your message is late for the recipients below. Nothing needs to be done: we keep trying"
        yield f" until {date(report.retry_until or 0)}, and tell you if that fails.\n"
    else:
        yield "An error occurred while trying to deliver the mail to the following recipients:\n"
    for one in report.recipients:
        yield f"\n{one.address}\n"
        yield from (f"    {line}\n" for line in _about(one, is_delay=report.is_delay))
    yield f"\nThe message was accepted by {letter.hostname} at {date(letter.received_at)}"
    yield f" as {letter.original_id}.\n"


def _about(one: FailedRecipient, *, is_delay: bool) -> Iterator[str]:
    """Why, in whose words, and what to do."""
    reason, remedy = _PLAIN[one.kind]
    if is_delay:
        reason = f"It was tried {one.attempts} times and could not be delivered yet."
    elif one.expired:
        reason = f"It could not be delivered in the time we try; we gave up after {one.attempts} attempts."
    yield reason
    if one.code is not None or one.diagnostic is not None:
        yield f"{_host_name(one.host)} said: {clean(_diagnostic(one))}"
    else:
        yield f"The last attempt ended so: {clean(one.text)} ({_host_name(one.host)})"
    if not is_delay:
        yield f"What to do: {remedy}"


_PLAIN: Final[Mapping[BounceKind, tuple[str, str]]] = {
    bounce_types.GENERAL: (
        "There is no such address, or it takes no mail any more.",
        "look for a typing error; if there is none, take the address off your lists.",
    ),
    bounce_types.NO_EMAIL: (
        "The part after the @ is no domain that takes mail.",
        "look for a typing error; if there is none, take the address off your lists.",
    ),
    bounce_types.ON_ACCOUNT_LIST: (
        "It was not sent: mail to this address has bounced or was called unwanted before.",
        "if the address takes mail again, have it removed from the account's suppression list.",
    ),
    bounce_types.ON_GLOBAL_LIST: (
        "It was not sent: mail to this address has bounced before.",
        "look for a typing error; if there is none, take the address off your lists.",
    ),
    bounce_types.MAILBOX_FULL: (
        "The mailbox is full.",
        "send it again in some days, or reach the recipient in another way.",
    ),
    bounce_types.TOO_LARGE: (
        "The message is larger than the recipient's server takes.",
        "send it smaller, such as with a link instead of an attachment.",
    ),
    bounce_types.CONTENT: (
        "The recipient's server refused what the message says or looks like.",
        "read its words; change the message, or ask the recipient to have such mail let through.",
    ),
    bounce_types.ATTACHMENT: (
        "The recipient's server refused an attachment.",
        "send the file in another form, or a link to it.",
    ),
    bounce_types.TIMEOUT: (
        "It could not be delivered within the time that its configuration set allows.",
        "send it again if it still matters.",
    ),
    bounce_types.SOFT: (
        "The message was refused; the address itself may be good.",
        "read the words of the refusal, mend what they name, and send it again.",
    ),
    bounce_types.UNDETERMINED: (
        "The message was refused, and the reply does not say why.",
        "ask the recipient, or whoever runs the mail of that domain, and quote the reply.",
    ),
}


def _diagnostic(one: FailedRecipient) -> str:
    if one.diagnostic is not None:
        return one.diagnostic.partition(";")[2].strip() or one.diagnostic
    return f"{one.code} {one.text}" if one.code is not None else one.text


# ---------------------------------------------------------------- for machines


def _status(report: Report) -> Message:
    """``message/delivery-status``: a block about the message, then one for each recipient."""
    part = machine_part("message/delivery-status", "Delivery Status Notification")
    about = Message(policy=POLICY)
    about["Reporting-MTA"] = f"dns; {report.letter.hostname}"
    about["X-Relay-ID"] = report.letter.original_id
    about["Arrival-Date"] = date(report.letter.received_at)
    part.set_payload([about, *(_block(one, report.retry_until) for one in report.recipients)])
    return part


def _block(one: FailedRecipient, retry_until: int | None) -> Message:
    """RFC 3464 section 2.3."""
    block = Message(policy=POLICY)
    block["Final-Recipient"] = f"rfc822; {one.address}"
    block["Action"] = "failed" if retry_until is None else "delayed"
    block["Status"] = one.status
    if one.diagnostic is not None or one.code is not None:
        block["Remote-MTA"] = f"dns; {_host_name(one.host)}"
    if one.diagnostic is not None:
        block["Diagnostic-Code"] = clean(one.diagnostic)
    elif one.code is not None:
        block["Diagnostic-Code"] = f"smtp; {clean(_diagnostic(one))}"
    else:
        block["Diagnostic-Code"] = f"X-Relay; {clean(one.text)}"
    block["Last-Attempt-Date"] = date(one.at)
    if retry_until is not None:
        block["Will-Retry-Until"] = date(retry_until)
    return block


def _host_name(host: str) -> str:
    """``mx.example[192.0.2.1]:25`` to ``mx.example``."""
    return clean(host.partition("[")[0] or host)


# ---------------------------------------------------------------- what was written down


def failed_recipients(items: Sequence[Item], *, is_custom_time: bool = False) -> tuple[FailedRecipient, ...]:
    """The recipients of an event row (``relay.outcome.event_rows``)."""
    return tuple(
        FailedRecipient(
            address=item["address"],
            status=status_of(item) or "5.0.0",
            code=item["code"] if is_remotes(item) else None,
            text=" ".join(str(part) for part in (item.get("enhanced"), item.get("text")) if part),
            host=item.get("host") or "-",
            at=item["at"],
            attempts=item.get("attempts") or 0,
            expired=bool(item.get("expired")),
            kind=kind_of(item, is_custom_time=is_custom_time),
            diagnostic=item.get("diagnostic"),
        )
        for item in items
    )
