"""Event rows, read: what the queue wrote down of a message's recipients, as the events that it tells.

A row is about the recipients of one message that were settled together; SES tells apart what differs in
more than the address, so one row may be several events.  Keys that are missing count as not said.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.outcome.bounce_types import (
    ON_ACCOUNT_LIST,
    ON_GLOBAL_LIST,
    SOFT,
    BounceKind,
    bounce_kind,
    delay_type,
)
from relay.outcome.events import (
    Bounced,
    Complained,
    Connected,
    Delayed,
    Delivered,
    Diagnosed,
    Happened,
    Rejected,
    Sent,
    feedback_id,
)
from relay.outcome.outcome import Phase

Item = Mapping[str, Any]
_LISTED: Final = [[kind.type, kind.subtype] for kind in (ON_ACCOUNT_LIST, ON_GLOBAL_LIST)]


@dataclass(frozen=True, slots=True)
class EventRow:
    """One row: ``kind`` as in the table, ``items`` one a recipient, ``at`` microseconds UTC.

    ``expires_at`` is the message's; ``is_custom_time`` tells that its configuration set fixed it.
    """

    id: int
    kind: str
    at: int
    items: Sequence[Item]
    expires_at: int
    is_custom_time: bool = False


def read_events(row: EventRow) -> tuple[Happened, ...]:
    """The events that the row tells, in the order of their first recipients."""
    return tuple(_READERS[row.kind](row))


def _read_delivery(row: EventRow) -> Iterator[Delivered]:
    for group in _together(row.items, lambda item: (reply_of(item), item.get("host"))):
        addresses = tuple([item["address"] for item in group])
        yield Delivered(row.at, addresses, reply_of(group[0]), _connected(group[0]))


def _read_delay(row: EventRow) -> Iterator[Delayed]:
    for group in _together(row.items, lambda item: (_delay_type(item), item.get("host"))):
        recipients = tuple([_diagnosed(item) for item in group])
        yield Delayed(row.at, _delay_type(group[0]), row.expires_at, recipients, _connected(group[0]))


def _read_bounce(row: EventRow) -> Iterator[Bounced]:
    def alike(item: Item) -> Hashable:
        return kind_of(item, is_custom_time=row.is_custom_time), item.get("host")

    for part, group in enumerate(_together(row.items, alike)):
        kind = kind_of(group[0], is_custom_time=row.is_custom_time)
        recipients = tuple([_diagnosed(item) for item in group])
        yield Bounced(row.at, kind, feedback_id(row.id, part), recipients, _connected(group[0]))


def _read_autoreply(row: EventRow) -> Iterator[Bounced]:
    """SES tells of an auto-reply as a soft bounce, of which nothing was diagnosed."""
    recipients = tuple([Diagnosed(item["address"]) for item in row.items])
    yield Bounced(row.at, SOFT, feedback_id(row.id), recipients)


def _read_complaint(row: EventRow) -> Iterator[Complained]:
    def alike(item: Item) -> tuple[Any, ...]:
        return tuple([item.get(key) for key in ("subtype", "user_agent", "feedback_type", "arrived_at")])

    for part, group in enumerate(_together(row.items, alike)):
        addresses = tuple([item["address"] for item in group])
        yield Complained(row.at, feedback_id(row.id, part), addresses, *alike(group[0]))


_READERS: Final[Mapping[str, Callable[[EventRow], Iterator[Happened]]]] = {
    "send": lambda _: iter((Sent(),)),
    "reject": lambda _: iter((Rejected(),)),
    "delivery": _read_delivery,
    "delay": _read_delay,
    "bounce": _read_bounce,
    "autoreply": _read_autoreply,
    "complaint": _read_complaint,
}


def _together(items: Sequence[Item], alike: Callable[[Item], Hashable]) -> list[list[Item]]:
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(alike(item), []).append(item)
    return list(groups.values())


# ---------------------------------------------------------------- one recipient


def kind_of(item: Item, *, is_custom_time: bool) -> BounceKind:
    """What its failure is called.  ``kind`` stands there where that is known without a reply."""
    if item.get("kind"):
        return BounceKind(*item["kind"])
    expired = bool(item.get("expired"))
    text = item.get("diagnostic") or reply_of(item)
    return bounce_kind(
        item.get("status") or "5.0.0", text, expired=expired, custom_timeout=expired and is_custom_time
    )


def status_of(item: Item) -> str | None:
    """The RFC 3463 code; of a delay with class 4, whatever the next hop called it (RFC 3464 2.3.4)."""
    status = item.get("status")
    if status is None and "enhanced" in item and not item.get("late"):
        return "4" + str(item["enhanced"] or "4.0.0")[1:]
    return status


def reply_of(item: Item) -> str:
    """``550 5.1.1 no such user``, or why there was no reply."""
    said = (item.get("code"), item.get("enhanced"), item.get("text"))
    return " ".join([str(part) for part in said if part])


def is_remotes(item: Item) -> bool:
    """Whether a next hop said it: what DNS said we word as a reply, though it is none."""
    return isinstance(item.get("code"), int) and item.get("phase") != Phase.ROUTE


def _diagnosed(item: Item) -> Diagnosed:
    return Diagnosed(item["address"], status_of(item), _diagnostic(item))


def _diagnostic(item: Item) -> str | None:
    if item.get("late"):
        return item.get("diagnostic")
    text: str = item["text"]
    if item.get("kind") in _LISTED:  # SES has no type before its own words about a suppressed address
        return text
    return f"smtp; {reply_of(item)}" if is_remotes(item) else f"X-Relay; {text}"


def _delay_type(item: Item) -> str:
    return delay_type(item.get("code"), item.get("enhanced"), item.get("text") or "")


def _connected(item: Item) -> Connected:
    """``name[address]:port`` holds the next hop's address, if it came to one."""
    _, bracket, rest = str(item.get("host") or "").partition("[")
    address = rest.partition("]")[0] if bracket else None
    return Connected(address, item.get("local"), item.get("tls"))
