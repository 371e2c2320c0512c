"""The directory: accounts, credentials, identities, policies and keys, read through a bounded cache.

An entry (``relay.store.entries``) is true until the change feed names its subject; the feed is read every
200 ms, and a message is committed only if nothing it was judged on has changed since (``Basis``).  When the
feed has been silent for more than a second nobody can say what still holds: ``is_fresh`` is False and nothing
is accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from relay.authorization.decision import Account, Ground, Rules, named_owners, wanted
from relay.authorization.identities import Identities, Identity
from relay.authorization.policy import Policy
from relay.authorization.precedents import Precedents
from relay.authorization.send import Send
from relay.quotas.window import SES_QUOTAS, QuotaDefaults
from relay.signing.dkim import SigningKey
from relay.store import changes
from relay.store.changes import (
    account_subject,
    configuration_set_subject,
    credential_subject,
    identity_subject,
    user_subject,
)
from relay.store.engine import Store, StoreUnavailable
from relay.store.entries import Credential, Reader, User, size_of
from relay.store.secrets import Secrets
from relay.submission.principal import Principal, PrincipalKind

POLL_SECONDS = 0.2
_SILENT_SECONDS = 1.0
MOST_BYTES = 128 * 1024 * 1024
_MOST_GROUNDS = 1024


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision was made on: the subjects it read, in lower case, as of change number ``change``."""

    change: int
    subjects: frozenset[str]


KeysOf = Callable[[Identity], tuple[SigningKey, ...]]


class Found(NamedTuple):
    """What a submission is decided on, and what was decided on it before."""

    ground: Ground
    keys_of: KeysOf
    basis: Basis
    precedents: Precedents


class _Question(NamedTuple):
    """What a ground depends on; one application's messages mostly have the same."""

    principal: Principal
    names: frozenset[tuple[str, str]]
    owners: frozenset[str]
    configuration_set: str | None


class Directory:
    """The cache of one worker process, of about ``most_bytes`` at most.

    All methods are called on its event loop.
    """

    def __init__(
        self,
        store: Store,
        secrets: Secrets,
        rules: Rules,
        quotas: QuotaDefaults = SES_QUOTAS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._store = store
        self._reader = Reader(secrets, rules.region, quotas)
        self._rules = rules
        self._most_bytes = most_bytes
        self._entries: dict[str, Any] = {}
        self._bytes = 0
        # Made of entries; none outlives a change, or an entry that had to go.
        self._grounds: dict[_Question, Found] = {}
        self._fetching: list[set[str]] = []
        # Of its own: behind the look-ups of a thousand new sessions the feed would seem silent.
        self._feed_thread = ThreadPoolExecutor(1, "feed")
        self._polled_at = float("-inf")
        self.change = 0

    # ------------------------------------------------------------ the feed

    async def poll(self) -> None:
        """Read the feed once and forget what it names; StoreUnavailable leaves the cache as it was."""
        loop = asyncio.get_running_loop()
        self.apply(await loop.run_in_executor(self._feed_thread, self._read_feed))

    def apply(self, feed: tuple[int, list[str] | None]) -> None:
        newest, subjects = feed
        if subjects != []:
            self._grounds.clear()
        if subjects is None:
            self._entries.clear()
            self._bytes = 0
        for subject in subjects or ():
            self._drop(_key(subject))
        for stale in self._fetching:
            stale.update([_key(subject) for subject in subjects] if subjects is not None else [_ALL])
        self.change = max(self.change, newest)
        self._polled_at = time.monotonic()

    def _read_feed(self) -> tuple[int, list[str] | None]:
        """The newest number and the subjects since ours, or None for everything."""
        with self._store.read() as connection:
            if self.change == 0:
                return changes.newest(connection), None
            rows = changes.since(connection, self.change)
        return (rows[-1][0], [subject for _, subject in rows]) if rows else (self.change, [])

    async def run(self) -> None:
        """Follow the feed until cancelled."""
        while True:
            try:
                await self.poll()
            except StoreUnavailable:
                pass  # is_fresh tells; the next round tries again
            await asyncio.sleep(POLL_SECONDS)

    @property
    def is_fresh(self) -> bool:
        return time.monotonic() - self._polled_at <= _SILENT_SECONDS

    # ------------------------------------------------------------ what the cache answers

    async def credential(self, access_key_id: str) -> Credential | None:
        """The credential with that id, active or not."""
        subject = credential_subject(access_key_id)
        found, _ = await self._get([subject])
        return found[subject]  # type: ignore[no-any-return]

    def is_current(self, principal: Principal, source_ip: str) -> bool:
        """Whether nothing is known against the credential; ``ground`` asks again before a commit."""
        held = self._entries.get(credential_subject(principal.access_key_id), _MISSING)
        return held is _MISSING or _holds(held, principal, source_ip)

    async def ground(self, send: Send) -> Found | None:
        """What ``decide`` needs for a submission, with the keys of an identity and the basis for the commit.

        None if the credential is gone or no longer active.
        """
        subject = credential_subject(send.principal.access_key_id)
        held, change = await self._get([subject])
        if not _holds(held[subject], send.principal, send.source_ip):
            return None
        found = await self.ground_for_anyone(send)
        if found.basis.change <= change:
            return found
        return found._replace(basis=Basis(change, found.basis.subjects))

    async def ground_for_anyone(self, send: Send) -> Found:
        """The same whether or not the principal has a credential: for what is only asked, never sent.

        The principal's account and user must exist.
        """
        entries, change = await self._get(_who(send.principal))
        own: Account = entries[account_subject(send.principal.account_id)]
        names = wanted(send, own.production, self._rules)
        question = _Question(send.principal, names, named_owners(send), send.configuration_set)
        held = self._grounds.get(question)
        if held is not None:
            return held
        found = await self._find(question, entries, change)
        # What changed meanwhile may have been read before it did.
        if found.basis.change == self.change:
            if len(self._grounds) == _MOST_GROUNDS:
                self._grounds.clear()
            self._grounds[question] = found
        return found

    async def _find(self, question: _Question, entries: dict[str, Any], change: int) -> Found:
        """The answer, when the entries of who asks are known already."""
        principal, names, owners, _ = question
        subjects = {(account_id, name): identity_subject(account_id, name) for account_id, name in names}
        rest, later = await self._get([*subjects.values(), *map(account_subject, owners)])
        entries |= rest
        sets, last = await self._get(_sets(question, entries))
        subjects_read = (credential_subject(principal.access_key_id), *entries, *sets)
        basis = Basis(min(change, later, last), frozenset(map(str.lower, subjects_read)))
        ground = Ground(
            account=entries[account_subject(principal.account_id)],
            user_policies=self._user_policies(principal, entries),
            identities=Identities(
                {name: tuple([one.identity for one in entries[of]]) for name, of in subjects.items()}
            ),
            owners={
                owner: found for owner in owners if (found := entries[account_subject(owner)]) is not None
            },
            configuration_sets={one.name: one for one in sets.values() if one is not None},
        )
        return Found(ground, self._keys_of(entries), basis, Precedents(principal, ground, self._rules))

    async def policies(
        self, principal: Principal, account_id: str, name: str | None
    ) -> tuple[tuple[Policy, ...] | None, tuple[Policy, ...]]:
        """The principal's own policies, None for a service, and those of an identity if one is named."""
        is_user = principal.kind is PrincipalKind.USER
        subjects = [user_subject(principal.unique_id)] if is_user else []
        of = identity_subject(account_id, name.lower()) if name is not None else None
        entries, _ = await self._get([*subjects, of] if of is not None else subjects)
        group = entries[of] if of is not None else ()
        of_identity = next((one.identity.policies for one in group if one.identity.name == name), ())
        return self._user_policies(principal, entries), of_identity

    @staticmethod
    def _user_policies(principal: Principal, entries: dict[str, Any]) -> tuple[Policy, ...] | None:
        if principal.kind is PrincipalKind.SERVICE:
            return None
        user: User = entries[user_subject(principal.unique_id)]
        return user.policies

    @staticmethod
    def _keys_of(entries: dict[str, Any]) -> KeysOf:
        def keys(of: Identity) -> tuple[SigningKey, ...]:
            group = entries[identity_subject(of.account_id, of.name.lower())]
            return next(entry.keys for entry in group if entry.identity.id == of.id)

        return keys

    # ------------------------------------------------------------ the cache

    async def _get(self, subjects: Sequence[str]) -> tuple[dict[str, Any], int]:
        """The entries asked for, and the change number as of which all of them are true."""
        change = self.change
        entries = self._entries
        found = {subject: entries.get(subject, _MISSING) for subject in subjects}
        missing = [subject for subject, entry in found.items() if entry is _MISSING]
        if not missing:
            return found, change
        touched: set[str] = set()
        self._fetching.append(touched)
        try:
            fetched, seen = await asyncio.to_thread(self._fetch, missing)
        finally:
            # This one and not its like: two that nothing touched yet are equal.
            self._fetching = [one for one in self._fetching if one is not touched]
        for subject, entry in fetched.items():
            if subject not in touched and _ALL not in touched:
                self._keep(subject, entry)
        return {**found, **fetched}, min(change, seen)

    def _fetch(self, subjects: Sequence[str]) -> tuple[dict[str, Any], int]:
        with self._store.read() as connection:
            seen = changes.newest(connection)
            return {subject: self._reader.read(connection, subject) for subject in subjects}, seen

    def _keep(self, subject: str, entry: Any) -> None:
        self._drop(subject)  # two may have fetched it at once
        self._entries[subject] = entry
        self._bytes += size_of(entry)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))  # the oldest; one look-up if it is needed again

    def _drop(self, subject: str) -> None:
        entry = self._entries.pop(subject, _MISSING)
        if entry is not _MISSING:
            self._bytes -= size_of(entry)
            self._grounds.clear()


_MISSING = object()
_ALL = "*"


def _key(subject: str) -> str:
    """Identities are cached under their case-folded name."""
    return subject.lower() if subject.startswith("identity:") else subject


def _who(principal: Principal) -> list[str]:
    subjects = [account_subject(principal.account_id)]
    if principal.kind is PrincipalKind.USER:
        subjects.append(user_subject(principal.unique_id))
    return subjects


def _sets(question: _Question, entries: dict[str, Any]) -> list[str]:
    """The set the message names, and those that are a default of an identity of the sender's account."""
    own = question.principal.account_id
    names = {question.configuration_set} if question.configuration_set else set()
    prefix = identity_subject(own, "")
    for subject, group in entries.items():
        if group and subject.startswith(prefix):
            names.update([entry.identity.configuration_set for entry in group])
    return [configuration_set_subject(own, name) for name in names if name]


def _holds(held: Credential | None, principal: Principal, source_ip: str) -> bool:
    if held is None or not held.active or held.principal.unique_id != principal.unique_id:
        return False
    return held.may_come_from(source_ip)
