"""What an owner takes back reaches the mail that still waits: it is judged again, and held or bounced.

One worker of the store at a time follows the change feed.  When an identity, its policies or its keys
changed, the messages in the queue that used it and were sent by another account are put to the decision
function of live mail, on the record that was kept of them.  Only the owner's side counts here: a message is
stopped if the owner's policies grant it no more, and let go again if they do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import orjson

from relay.authorization.decision import Denied, Rules, decide, wanted
from relay.authorization.send import Send, from_record
from relay.control.ground import now
from relay.queue import revocation
from relay.queue.revocation import Done, Revoked
from relay.queue.values import Lease
from relay.queue.writer import GroupWriter, alone
from relay.store import audit, changes
from relay.store.directory import Directory
from relay.store.engine import Store, StoreUnavailable
from relay.submission.answer import Reason
from relay.submission.identifiers import ses_message_id

_ACTOR = "relay:revocation"
_POLL_SECONDS = 0.5
# What a worker has in hand is looked at again after this.
_IN_HAND_SECONDS = 5.0
# At a start delivery waits so long for another worker that is judging.
_START_SECONDS = 10.0
_MOST_CHANGES = 100

# The (account, case-folded name) of an identity.
Subject = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _News:
    """The changes that the queue was not judged on: up to which number, and the identities among them."""

    upto: int
    identities: frozenset[Subject]


class Revocations:
    """The revocations of one worker process."""

    def __init__(
        self,
        what: Revoked,
        rules: Rules,
        store: Store,
        writer: GroupWriter,
        directory: Directory,
        lease: Lease,
        next_id: Callable[[], int],
        log: Callable[..., None],
    ) -> None:
        self._what = what
        self._rules = rules
        self._store = store
        self._writer = writer
        self._directory = directory
        self._lease = lease
        self._next_id = next_id
        self._log = log

    async def run(self) -> None:
        """Judge what changed, again and again, until cancelled."""
        while True:
            in_hand = 0
            try:
                if await asyncio.to_thread(self._is_news):
                    in_hand = await self.judge() or 0
            except StoreUnavailable:
                pass  # nothing is noted as judged that was not
            await asyncio.sleep(_IN_HAND_SECONDS if in_hand else _POLL_SECONDS)

    async def catch_up(self) -> None:
        """At a start, before anything is delivered: judge what changed while nobody ran."""
        give_up_at = time.monotonic() + _START_SECONDS
        try:
            while await asyncio.to_thread(self._is_news) and await self.judge() is None:
                if time.monotonic() > give_up_at:
                    return
                await asyncio.sleep(_POLL_SECONDS)
        except StoreUnavailable:
            pass

    def _is_news(self) -> bool:
        with self._store.read() as connection:
            return revocation.is_news(connection)

    async def judge(self) -> int | None:
        """One pass; the recipients that workers have in hand, or None while another worker is at it."""
        judged = await self._writer.submit(
            alone(lambda connection: revocation.claim(connection, self._lease))
        )
        if judged is None:
            return None
        in_hand = 0
        while (news := await asyncio.to_thread(self._read_news, judged)).upto > judged:
            in_hand += await self._judge_queue(news.identities) if news.identities else 0
            judged = news.upto
            if in_hand:
                return in_hand  # these changes are gone through again
            upto = judged
            await self._writer.submit(alone(lambda c: revocation.finish(c, upto)))  # noqa: B023
        return in_hand

    def _read_news(self, judged: int) -> _News:
        with self._store.read() as connection:
            rows = changes.since(connection, judged, _MOST_CHANGES)
        subjects = (changes.identity_of(subject) for _, subject in rows)
        return _News(rows[-1][0] if rows else judged, frozenset(one for one in subjects if one is not None))

    async def _judge_queue(self, identities: frozenset[Subject]) -> int:
        """Judge every message that waits and used one of the identities; how many are in hand."""
        in_hand, after = 0, 0
        while True:
            sends, next_after = await asyncio.to_thread(self._waiting, identities, after)
            if sends:
                in_hand += await self._judge_messages(sends)
            if next_after is None:
                return in_hand
            after = next_after

    def _waiting(self, identities: frozenset[Subject], after: int) -> tuple[dict[int, Send], int | None]:
        with self._store.read() as connection:
            batch = revocation.waiting(connection, {account_id for account_id, _ in identities}, after)
        read = {message_id: self._send_of(message_id, record) for message_id, record in batch.records.items()}
        sends = {key: send for key, send in read.items() if send and self._borrows(send, identities)}
        return sends, batch.after

    def _send_of(self, message_id: int, record: str) -> Send | None:
        try:
            return from_record(orjson.loads(record)["send"])
        except (KeyError, ValueError) as error:  # another release may have worded it otherwise
            self._log("record unreadable", level="error", id=ses_message_id(message_id), error=repr(error))
            return None

    def _borrows(self, send: Send, identities: frozenset[Subject]) -> bool:
        """Whether it uses one of the identities, of another account than the sender's."""
        asked = wanted(send, True, self._rules) & identities
        return any(account_id != send.principal.account_id for account_id, _ in asked)

    async def _judge_messages(self, sends: dict[int, Send]) -> int:
        while True:
            await self._directory.poll()
            change = self._directory.change
            denied, granted = await self._verdicts(sends)
            apply = self._applied(change, denied, granted)
            done = await self._writer.submit(alone(apply))
            if done is not None:
                self._tell(done, denied)
                return done.in_hand

    def _applied(
        self, change: int, denied: dict[int, str], granted: list[int]
    ) -> Callable[[Any], Done | None]:
        """Writes what was judged as of a change; None if there is a newer one by then: judge again."""

        def apply(connection: Any) -> Done | None:
            if changes.newest(connection) > change:
                return None
            done = revocation.apply(connection, self._what, denied, granted, self._next_id)
            if done.stopped or done.released:
                detail = {"what": self._what, "stopped": len(done.stopped), "released": len(done.released)}
                audit.add(connection, now(), _ACTOR, "RevokeQueue", "queue", detail)
            return done

        return apply

    def _tell(self, done: Done, denied: dict[int, str]) -> None:
        for message_id in done.stopped:
            self._log("revoked", id=ses_message_id(message_id), what=self._what.value, why=denied[message_id])
        for message_id in done.released:
            self._log("granted again", id=ses_message_id(message_id))

    async def _verdicts(self, sends: dict[int, Send]) -> tuple[dict[int, str], list[int]]:
        denied: dict[int, str] = {}
        granted = []
        for message_id, send in sends.items():
            why = await self._why_not(send)
            if why is None:
                granted.append(message_id)
            else:
                denied[message_id] = why
            await asyncio.sleep(0)  # each takes its time of the loop
        return denied, granted

    async def _why_not(self, send: Send) -> str | None:
        """Why the owner's side does not grant it any more; None if it does."""
        found = await self._directory.ground_for_anyone(send)
        decision = decide(send, replace(found.ground, user_policies=None), self._rules)
        if not isinstance(decision, Denied) or decision.reason is not Reason.ACCESS_DENIED:
            return None
        name = decision.gap.resource.rpartition("identity/")[2] if decision.gap else ""
        return f"the owner of {name} took the grant back"
