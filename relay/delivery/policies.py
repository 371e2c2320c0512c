"""The MTA-STS policies of recipient domains: found by DNS, fetched over HTTPS, kept in memory and the store.

A policy once seen holds until its age is over, whatever DNS or the web server say meanwhile: who can
suppress both must not be able to take the protection away (RFC 8461 section 3.3).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.delivery.mta_sts import NoPolicy, Policy, parse_policy, parse_record
from relay.httpc import EVERYWHERE, Answer, Client, NotReached, Target
from relay.maillog import Log
from relay.outcome.outcome import Failure
from relay.queue.values import StoreUnavailable
from relay.resolver import DNS, Found

# RFC 8461 section 3.3 suggests a minute for the fetch, and says that the size be limited.
_FETCH_SECONDS = 30.0
_MOST_BYTES = 64 * 1024
# After a fetch that failed the next is tried so much later; a policy that holds is looked at anew each day.
_RETRY_SECONDS = 300.0
_REFRESH_US = 86_400 * 1_000_000
_MOST_KEPT = 10_000
# What other workers put into the store is seen after so long.
_LOOK_AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A policy as it was fetched; instants are microseconds UTC."""

    domain: str
    policy_id: str
    text: str
    fetched_at: int
    expires_at: int


class Shelf(Protocol):
    """Where policies outlive a restart; StoreUnavailable if it cannot be reached."""

    async def load(self, domain: str) -> Kept | None: ...
    async def save(self, kept: Kept) -> None: ...


@dataclass(slots=True)
class _Known:
    """What this process knows of a domain."""

    kept: Kept | None
    policy: Policy | None
    look_again_at: float
    fetch_again_at: float = 0.0


class Policies:
    """For one worker process.  ``allow_private`` lets policies come from addresses that are not public."""

    def __init__(
        self,
        dns: DNS,
        shelf: Shelf,
        log: Log,
        *,
        ca_file: str = "",
        allow_private: bool = False,
        port: int = 443,
        now: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._dns = dns
        self._shelf = shelf
        self._log = log
        self._port = port
        self._now = now
        allowed = EVERYWHERE if allow_private else ()
        self._client = Client(dns, allowed, '[delivery] mta_sts = "private"', ca_file)
        self._known: OrderedDict[str, _Known] = OrderedDict()

    async def of(self, domain: str) -> Policy | None:
        """The policy that holds for ``domain`` now, if any."""
        known = await self._recall(domain)
        answer = await self._dns.txt(f"_mta-sts.{domain}")
        policy_id = parse_record(answer.records) if isinstance(answer, Found) else None
        if policy_id is not None and self._is_to_be_fetched(known, policy_id):
            await self._refresh(domain, policy_id, known)
        if known.kept is None or self._now() >= known.kept.expires_at:
            return None
        return known.policy

    def _is_to_be_fetched(self, known: _Known, policy_id: str) -> bool:
        if time.monotonic() < known.fetch_again_at:
            return False
        kept, now = known.kept, self._now()
        return (
            kept is None
            or kept.policy_id != policy_id
            or now >= min(kept.expires_at, kept.fetched_at + _REFRESH_US)
        )

    async def _recall(self, domain: str) -> _Known:
        known = self._known.get(domain)
        if known is None:
            known = self._known[domain] = _Known(None, None, 0.0)
            if len(self._known) > _MOST_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(domain)
        if time.monotonic() >= known.look_again_at:
            known.look_again_at = time.monotonic() + _LOOK_AGAIN_SECONDS
            try:
                self._take(known, await self._shelf.load(domain))
            except StoreUnavailable:
                pass  # what we know holds; without the store no new mail comes anyway
        return known

    def _take(self, known: _Known, kept: Kept | None) -> None:
        """The newer of what is known and ``kept``."""
        if kept is None or (known.kept is not None and known.kept.fetched_at >= kept.fetched_at):
            return
        known.kept, known.policy = kept, parse_policy(kept.text)

    async def _refresh(self, domain: str, policy_id: str, known: _Known) -> None:
        known.fetch_again_at = time.monotonic() + _RETRY_SECONDS
        try:
            text = await self._fetch(domain)
            policy = parse_policy(text)
        except (NoPolicy, NotReached) as error:
            self._log("mta-sts policy not fetched", level="warning", domain=domain, reason=str(error))
            return
        now = self._now()
        kept = Kept(domain, policy_id, text, now, now + policy.max_age * 1_000_000)
        known.kept, known.policy, known.fetch_again_at = kept, policy, 0.0
        try:
            await self._shelf.save(kept)
        except StoreUnavailable:
            pass  # it holds in this process; the next one fetches it again
        self._log("mta-sts policy", domain=domain, mode=policy.mode.value, max_age=policy.max_age)

    async def _fetch(self, domain: str) -> str:
        to = Target("https", f"mta-sts.{domain}", self._port, "/.well-known/mta-sts.txt")
        headers = [("Accept-Encoding", "identity")]
        async with self._client.connections(1) as connection:
            return _text_of(
                await connection.request("GET", to, headers, seconds=_FETCH_SECONDS, most_bytes=_MOST_BYTES)
            )


def _text_of(answer: Answer) -> str:
    """Section 3.3: 200, text/plain, and no redirect."""
    if answer.status != 200:
        raise NoPolicy(f"the web server answers {answer.status}")
    kind = answer.header("content-type").partition(";")[0].strip().lower()
    if kind != "text/plain":
        raise NoPolicy(f"the policy is {kind[:80] or 'of no type'}, not text/plain")
    if not answer.is_whole:
        raise NoPolicy(f"the policy has more than {_MOST_BYTES} octets")
    try:
        return answer.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NoPolicy("the policy is not UTF-8") from error


def unmatched(domain: str) -> Failure:
    return Failure(f"the MTA-STS policy of {domain} (enforce) names none of its MX hosts")


def broken(domain: str, why: object) -> Failure:
    return Failure(f"the MTA-STS policy of {domain} (enforce) wants verified TLS: {why}")
