"""What every control-plane operation stands on, and how it says no."""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.control.proof import SES_INTERVALS, Intervals
from relay.control.subscribing import SNS_SUBSCRIBING, Subscribing
from relay.outcome.reputation import Limits
from relay.queue.ids import SEQUENCES, Ids
from relay.quotas.window import SES_QUOTAS, QuotaDefaults
from relay.store.changes import ControlWrite, control_write
from relay.store.engine import Store
from relay.store.engine import StoreUnavailable as StoreUnavailable  # pages know control only
from relay.store.secrets import Secrets

if TYPE_CHECKING:
    from relay.resolver import DNS

_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
# Worker number 0 is that of commands.
CONTROL_WORKER = 0


# Commands run beside each other: within a millisecond each begins somewhere else.
new_id = Ids(CONTROL_WORKER, lambda: random.randbelow(SEQUENCES)).next


def no_dns() -> DNS:
    """The answer of a ground that was made without a resolver."""
    raise ControlError("unavailable", "there is no resolver here: DNS cannot be asked")


class ControlError(Exception):
    """The operation is refused.  ``code`` is for machines, ``text`` says what to do next."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class Ground:
    """The store, its key and its region, and who acts ("cli:root").

    ``owner_out_of_sandbox_too`` is the operator's setting for decisions, ``quotas`` what accounts without
    numbers of their own may send, ``intervals`` how often DNS is asked about identities; ``dns`` makes the
    resolver that is asked, since few operations need one.  ``hostname`` is ours, in mail that we write;
    ``simulator_domain`` is that of the mailbox simulator, empty for none.  ``public_url`` is where our
    pages are, empty if they are for nobody else.  ``reputation`` is what rates are held against,
    ``subscribing`` what the operator lets subscriptions do; ``hears_reports`` tells that something of ours
    listens for reports on mail that has left.  ``new_id`` makes keys: a worker has its own.
    """

    store: Store
    secrets: Secrets
    region: str
    actor: str
    owner_out_of_sandbox_too: bool = False
    quotas: QuotaDefaults = SES_QUOTAS
    intervals: Intervals = SES_INTERVALS
    dns: Callable[[], DNS] = no_dns
    hostname: str = "localhost"
    simulator_domain: str = "simulator.amazonses.com"
    public_url: str = ""
    reputation: Limits = Limits()  # noqa: RUF009  # frozen
    hears_reports: bool = False
    subscribing: Subscribing = SNS_SUBSCRIBING
    new_id: Callable[[], int] = new_id

    @contextmanager
    def write(self) -> Iterator[ControlWrite]:
        """One control-plane transaction."""
        with control_write(self.store, self.actor) as write:
            yield write


def now() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1000


def letters(count: int) -> str:
    """Random base32 letters, as IAM's ids have them."""
    return "".join(random.choice(_BASE32) for _ in range(count))
