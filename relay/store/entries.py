"""What the store says of a subject of the change feed, as the values that decisions are made on.

Documents are compiled, keys parsed and passwords derived here, once for each time that an entry is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection, bindparam, func, select

from relay.authorization.decision import Account, ConfigurationSet
from relay.authorization.identities import Identity, MailFrom, identity_arn
from relay.authorization.policy import (
    Policy,
    PolicyError,
    compile_policy,
    compile_user_policy,
    unreadable,
)
from relay.outcome.events import BOUNCE, COMPLAINT, DELIVERY
from relay.quotas.window import QuotaDefaults
from relay.signing.dkim import SigningKey, load_private_key
from relay.store import configuration_sets
from relay.store.credentials import networks_of, secret_place
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

# About what entries take in memory, as measured (tests/bench/bench_scale.py).
_ENTRY_BYTES = 500
_KEY_BYTES = 8_000  # an RSA key that has signed
_POLICY_BYTES_PER_CHARACTER = 18  # compiled

# Made once: to put a statement together takes as long as to run it.
_ACCOUNT = select(account).where(account.c.account_id == bindparam("of"))
_CREDENTIAL = (
    select(credential, iam_user.c.name, iam_user.c.path, iam_user.c.unique_id, iam_user.c.tags)
    .outerjoin(iam_user, iam_user.c.id == credential.c.user_id)
    .where(credential.c.access_key_id == bindparam("of"))
)
_USER_POLICIES = (
    select(user_policy.c.name, user_policy.c.document)
    .join(iam_user, iam_user.c.id == user_policy.c.user_id)
    .where(iam_user.c.unique_id == bindparam("of"))
)
_IDENTITIES = select(identity).where(
    identity.c.account_id == bindparam("of"), func.lower(identity.c.name) == bindparam("folded")
)
_IDENTITY_POLICIES = (
    select(identity_policy.c.name, identity_policy.c.document)
    .where(identity_policy.c.identity_id == bindparam("of"))
    .order_by(identity_policy.c.name)
)
_SIGNING_KEYS = (
    select(dkim_key)
    .where(dkim_key.c.identity_id == bindparam("of"), dkim_key.c.status == "signing")
    .order_by(dkim_key.c.algorithm.desc())  # RSA first, Ed25519 as the second signature
)
_CONFIGURATION_SET = select(configuration_set).where(
    configuration_set.c.account_id == bindparam("of"), configuration_set.c.name == bindparam("called")
)


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
class User:
    """A user's own policies, compiled; about what they take in memory."""

    policies: tuple[Policy, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class IdentityEntry:
    """An identity with its policies, and the keys that sign for it; about what all of it takes in memory."""

    identity: Identity
    keys: tuple[SigningKey, ...]
    size_bytes: int


class Reader:
    """Reads entries; ``region`` is that of ARNs, ``quotas`` are of accounts that have none of their own."""

    def __init__(self, secrets: Secrets, region: str, quotas: QuotaDefaults) -> None:
        self._secrets = secrets
        self._region = region
        self._quotas = quotas

    def read(self, connection: Connection, subject: str) -> Any:
        """What a subject names (``relay.store.changes``)."""
        kind, _, rest = subject.partition(":")
        if kind == "identity":
            return self._read_identities(connection, *rest.split(":", 1))
        if kind == "configuration-set":
            return _read_set(connection, *rest.split(":", 1))
        if kind == "credential":
            return self._read_credential(connection, rest)
        return self._read_account(connection, rest) if kind == "account" else _read_user(connection, rest)

    def _read_account(self, connection: Connection, account_id: str) -> Account | None:
        row = connection.execute(_ACCOUNT, {"of": account_id}).first()
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
        row = connection.execute(_CREDENTIAL, {"of": access_key_id}).first()
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
    ) -> tuple[IdentityEntry, ...]:
        rows = connection.execute(_IDENTITIES, {"of": account_id, "folded": folded}).all()
        return tuple([self._entry(connection, row) for row in rows])

    def _entry(self, connection: Connection, row: Any) -> IdentityEntry:
        documents = connection.execute(_IDENTITY_POLICIES, {"of": row.id}).all()
        keys = self._read_keys(connection, row)
        of_policies = _bytes_compiled(document for _, document in documents)
        return IdentityEntry(
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
        keys = connection.execute(_SIGNING_KEYS, {"of": row.id}).all()
        return tuple(self._signing_key(row.name, key) for key in keys)

    def _signing_key(self, domain: str, key: Any) -> SigningKey:
        pem = self._secrets.open(key.private_key, key_place(key.id))
        return SigningKey(domain, key.selector, key.algorithm, load_private_key(pem, trusted=True))


def size_of(entry: Any) -> int:
    """About what an entry takes; an identity's is a group, empty where there is none of that name."""
    parts: tuple[Any, ...] = entry if isinstance(entry, tuple) else (entry,)
    sizes = [one.size_bytes for one in parts if isinstance(one, IdentityEntry | User)]
    return _ENTRY_BYTES + sum(sizes)


def _bytes_compiled(documents: Iterable[str]) -> int:
    return _POLICY_BYTES_PER_CHARACTER * sum(map(len, documents))


def _read_set(connection: Connection, account_id: str, name: str) -> ConfigurationSet | None:
    row = connection.execute(_CONFIGURATION_SET, {"of": account_id, "called": name}).first()
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


def _read_user(connection: Connection, unique_id: str) -> User:
    documents = connection.execute(_USER_POLICIES, {"of": unique_id}).all()
    policies = tuple(_compiled_of_user(name, document) for name, document in documents)
    return User(policies, _bytes_compiled(document for _, document in documents))


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
