"""The directory: accounts, credentials, identities, policies and keys, read through a bounded cache.

Documents are compiled, keys parsed and passwords derived once, when an entry is read.  An entry is true
until the change feed names its subject; the feed is read every 200 ms, and a message is committed only
if nothing it was judged on has changed since (``Basis``).  When the feed has been silent for more than
a second nobody can say what still holds: ``is_fresh`` is False and nothing is accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from sqlalchemy import Connection, func, select

from relay.authorization.decision import Account, ConfigurationSet, Ground, Rules, named_owners, wanted
from relay.authorization.identities import Identities, Identity, MailFrom, identity_arn
from relay.authorization.policy import (
    Policy,
    PolicyError,
    compile_policy,
    compile_user_policy,
    unreadable,
)
from relay.authorization.send import Send
from relay.outcome.events import BOUNCE, COMPLAINT, DELIVERY
from relay.quotas.window import SES_QUOTAS, QuotaDefaults
from relay.signing.dkim import SigningKey, load_private_key
from relay.store import changes, configuration_sets
from relay.store.changes import (
    account_subject,
    configuration_set_subject,
    credential_subject,
    identity_subject,
    user_subject,
)
from relay.store.credentials import networks_of, secret_place
from relay.store.engine import Store, StoreUnavailable
from relay.store.identities import key_place
from relay.store.secrets import Secrets
from relay.store.suppression import parse_reasons
from relay.store.tables import (
    account,
    configuration_set,
    credential,
    dkim_key,
    iam_user,
    identity,
    identity_policy,
    user_policy,
)
from relay.submission.principal import Network, Principal, PrincipalKind, is_within, parse_network
from relay.submission.smtp_password import smtp_password

POLL_SECONDS = 0.2
_SILENT_SECONDS = 1.0
MOST_BYTES = 128 * 1024 * 1024
# About what entries take in memory, as measured (tests/bench/bench_scale.py).
_ENTRY_BYTES = 500
_KEY_BYTES = 8_000  # an RSA key that has signed
_POLICY_BYTES_PER_CHARACTER = 18  # compiled


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential with what AUTH compares and what signs API calls; neither shows in a repr."""

    principal: Principal
    active: bool
    password: bytes
    secret: str
    networks: tuple[Network, ...] | None = None

    def may_come_from(self, source_ip: str) -> bool:
        """Whether it may be used from that address."""
        return self.networks is None or is_within(source_ip, self.networks)

    def __repr__(self) -> str:
        return f"Credential({self.principal.access_key_id}, active={self.active})"


@dataclass(frozen=True, slots=True)
class _User:
    policies: tuple[Policy, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _IdentityEntry:
    identity: Identity
    keys: tuple[SigningKey, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Basis:
    """What a decision was made on: the subjects it read, in lower case, as of change number ``change``."""

    change: int
    subjects: frozenset[str]


KeysOf = Callable[[Identity], tuple[SigningKey, ...]]


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
        self._secrets = secrets
        self._rules = rules
        self._quotas = quotas
        self._region = rules.region
        self._most_bytes = most_bytes
        self._entries: dict[str, Any] = {}
        self._bytes = 0
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

    async def ground(self, send: Send) -> tuple[Ground, KeysOf, Basis] | None:
        """What ``decide`` needs for a submission, the keys of an identity, and the basis for the commit.

        None if the credential is gone or no longer active.
        """
        subject = credential_subject(send.principal.access_key_id)
        found, change = await self._get([subject])
        if not _holds(found[subject], send.principal, send.source_ip):
            return None
        ground, keys_of, basis = await self.ground_for_anyone(send)
        return ground, keys_of, Basis(min(change, basis.change), basis.subjects | {subject.lower()})

    async def ground_for_anyone(self, send: Send) -> tuple[Ground, KeysOf, Basis]:
        """The same whether or not the principal has a credential: for what is only asked, never sent.

        The principal's account and user must exist.
        """
        entries, change = await self._get(_who(send.principal))
        own: Account = entries[account_subject(send.principal.account_id)]
        names = _subjects(wanted(send, own.production, self._rules))
        owners = named_owners(send)
        rest, later = await self._get([*names.values(), *map(account_subject, owners)])
        entries |= rest
        sets, last = await self._get(_sets(send, entries))
        basis = Basis(min(change, later, last), frozenset(map(str.lower, (*entries, *sets))))
        ground = Ground(
            account=own,
            user_policies=self._user_policies(send.principal, entries),
            identities=Identities(
                {name: tuple([one.identity for one in entries[of]]) for name, of in names.items()}
            ),
            owners={
                owner: found for owner in owners if (found := entries[account_subject(owner)]) is not None
            },
            configuration_sets={one.name: one for one in sets.values() if one is not None},
        )
        return ground, self._keys_of(entries), basis

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
        user: _User = entries[user_subject(principal.unique_id)]
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
            return {subject: self._read(connection, subject) for subject in subjects}, seen

    def _read(self, connection: Connection, subject: str) -> Any:
        """What a subject names (``relay.store.changes``)."""
        kind, _, rest = subject.partition(":")
        if kind == "identity":
            return self._read_identities(connection, *rest.split(":", 1))
        if kind == "configuration-set":
            return _read_set(connection, *rest.split(":", 1))
        if kind == "credential":
            return self._read_credential(connection, rest)
        return self._read_account(connection, rest) if kind == "account" else _read_user(connection, rest)

    def _keep(self, subject: str, entry: Any) -> None:
        self._drop(subject)  # two may have fetched it at once
        self._entries[subject] = entry
        self._bytes += _bytes(entry)
        while self._bytes > self._most_bytes:
            self._drop(next(iter(self._entries)))  # the oldest; one look-up if it is needed again

    def _drop(self, subject: str) -> None:
        entry = self._entries.pop(subject, _MISSING)
        if entry is not _MISSING:
            self._bytes -= _bytes(entry)

    # ------------------------------------------------------------ the rows

    def _read_account(self, connection: Connection, account_id: str) -> Account | None:
        row = connection.execute(select(account).where(account.c.account_id == account_id)).first()
        if row is None:
            return None
        quota = self._quotas.of(row.production, row.max_24h_send, row.max_send_rate)
        return Account(
            account_id,
            row.production,
            row.paused,
            quota.max_24h_send,
            quota.max_send_rate,
            parse_reasons(row.suppressed_reasons),
        )

    def _read_credential(self, connection: Connection, access_key_id: str) -> Credential | None:
        query = (
            select(credential, iam_user.c.name, iam_user.c.path, iam_user.c.unique_id, iam_user.c.tags)
            .outerjoin(iam_user, iam_user.c.id == credential.c.user_id)
            .where(credential.c.access_key_id == access_key_id)
        )
        row = connection.execute(query).first()
        if row is None:
            return None
        secret = self._secrets.open(row.secret, secret_place(access_key_id)).decode()
        password = smtp_password(secret, self._region).encode()
        networks = networks_of(row.networks)
        return Credential(
            _principal(row),
            row.active,
            password,
            secret,
            None if networks is None else tuple(parse_network(one) for one in networks),
        )

    def _read_identities(
        self, connection: Connection, account_id: str, folded: str
    ) -> tuple[_IdentityEntry, ...]:
        query = select(identity).where(
            identity.c.account_id == account_id, func.lower(identity.c.name) == folded
        )
        return tuple([self._entry(connection, row) for row in connection.execute(query).all()])

    def _entry(self, connection: Connection, row: Any) -> _IdentityEntry:
        documents = connection.execute(
            select(identity_policy.c.name, identity_policy.c.document)
            .where(identity_policy.c.identity_id == row.id)
            .order_by(identity_policy.c.name)
        ).all()
        keys = self._read_keys(connection, row)
        of_policies = _bytes_compiled(document for _, document in documents)
        return _IdentityEntry(
            Identity(
                id=row.id,
                arn=identity_arn(self._region, row.account_id, row.name),
                account_id=row.account_id,
                name=row.name,
                verified=row.verification_status in ("SUCCESS", "TEMPORARY_FAILURE"),
                policies=tuple(_compiled(name, document) for name, document in documents),
                dkim_enabled=row.dkim_enabled,
                dkim_verified=row.dkim_status in ("SUCCESS", "TEMPORARY_FAILURE"),
                has_keys=bool(keys),
                configuration_set=row.configuration_set,
                mail_from=_mail_from(row),
                events=_notified(row),
            ),
            keys,
            _ENTRY_BYTES + _KEY_BYTES * len(keys) + of_policies,
        )

    def _read_keys(self, connection: Connection, row: Any) -> tuple[SigningKey, ...]:
        query = (
            select(dkim_key)
            .where(dkim_key.c.identity_id == row.id, dkim_key.c.status == "signing")
            .order_by(dkim_key.c.algorithm.desc())  # RSA first, Ed25519 as the second signature
        )
        return tuple(self._signing_key(row.name, key) for key in connection.execute(query).all())

    def _signing_key(self, domain: str, key: Any) -> SigningKey:
        pem = self._secrets.open(key.private_key, key_place(key.id))
        return SigningKey(domain, key.selector, key.algorithm, load_private_key(pem, trusted=True))


_MISSING = object()
_ALL = "*"


def _bytes(entry: Any) -> int:
    """About what an entry takes; an identity's is a group, empty where there is none of that name."""
    parts: tuple[Any, ...] = entry if isinstance(entry, tuple) else (entry,)
    sizes = [one.size_bytes for one in parts if isinstance(one, _IdentityEntry | _User)]
    return _ENTRY_BYTES + sum(sizes)


def _bytes_compiled(documents: Iterable[str]) -> int:
    return _POLICY_BYTES_PER_CHARACTER * sum(map(len, documents))


def _key(subject: str) -> str:
    """Identities are cached under their case-folded name."""
    return subject.lower() if subject.startswith("identity:") else subject


def _who(principal: Principal) -> list[str]:
    subjects = [account_subject(principal.account_id)]
    if principal.kind is PrincipalKind.USER:
        subjects.append(user_subject(principal.unique_id))
    return subjects


@lru_cache(maxsize=4096)
def _subjects(names: frozenset[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """The subject of each identity; the same names come again and again."""
    return {(account_id, name): identity_subject(account_id, name) for account_id, name in names}


def _sets(send: Send, entries: dict[str, Any]) -> list[str]:
    """The set the message names, and those that are a default of an identity of the sender's account."""
    own = send.principal.account_id
    names = {send.configuration_set} if send.configuration_set else set()
    prefix = identity_subject(own, "")
    for subject, group in entries.items():
        if group and subject.startswith(prefix):
            names.update([entry.identity.configuration_set for entry in group])
    return [configuration_set_subject(own, name) for name in names if name]


def _holds(held: Credential | None, principal: Principal, source_ip: str) -> bool:
    if held is None or not held.active or held.principal.unique_id != principal.unique_id:
        return False
    return held.may_come_from(source_ip)


def _read_set(connection: Connection, account_id: str, name: str) -> ConfigurationSet | None:
    query = select(configuration_set).where(
        configuration_set.c.account_id == account_id, configuration_set.c.name == name
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    taken = [one.event_types for one in configuration_sets.destinations(connection, row.id) if one.enabled]
    return ConfigurationSet(
        row.name,
        row.sending_enabled,
        row.tls_policy == "REQUIRE",
        None if row.suppressed_reasons is None else parse_reasons(row.suppressed_reasons),
        events=frozenset().union(*taken),
        max_delivery_seconds=row.max_delivery_seconds,
    )


def _notified(row: Any) -> frozenset[str]:
    """The types that the identity has a topic for."""
    topics = {BOUNCE: row.bounce_topic, COMPLAINT: row.complaint_topic, DELIVERY: row.delivery_topic}
    return frozenset(name for name, topic in topics.items() if topic)


def _read_user(connection: Connection, unique_id: str) -> _User:
    query = (
        select(user_policy.c.name, user_policy.c.document)
        .join(iam_user, iam_user.c.id == user_policy.c.user_id)
        .where(iam_user.c.unique_id == unique_id)
    )
    documents = connection.execute(query).all()
    policies = tuple(_compiled_of_user(name, document) for name, document in documents)
    return _User(policies, _bytes_compiled(document for _, document in documents))


def _mail_from(row: Any) -> MailFrom | None:
    if row.mail_from_domain is None:
        return None
    rejects = row.mail_from_on_failure == "REJECT_MESSAGE"
    return MailFrom(row.mail_from_domain, row.mail_from_status == "SUCCESS", rejects)


def _compiled(name: str, document: str) -> Policy:
    try:
        return compile_policy(document, name=name)
    except PolicyError as error:
        return unreadable(name, error)


def _compiled_of_user(name: str, document: str) -> Policy:
    try:
        return compile_user_policy(document, name=name)
    except PolicyError as error:
        return unreadable(name, error)


def _principal(row: Any) -> Principal:
    if row.service:
        return Principal(
            kind=PrincipalKind.SERVICE,
            account_id=row.account_id,
            arn=row.service,
            unique_id=row.access_key_id,
            access_key_id=row.access_key_id,
            source_arn=row.source_arn,
        )
    return Principal(
        kind=PrincipalKind.USER,
        account_id=row.account_id,
        arn=f"arn:aws:iam::{row.account_id}:user{row.path}{row.name}",
        unique_id=row.unique_id,
        access_key_id=row.access_key_id,
        user_name=row.name,
        tags=tuple(sorted(orjson.loads(row.tags).items())),
    )
