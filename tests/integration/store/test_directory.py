"""The directory: what it answers, when it forgets, and when nobody can say what holds."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading

import pytest
from sqlalchemy import update

from relay.authorization.decision import Allowed, Denied, Rules, decide
from relay.authorization.send import Arns, Send
from relay.control import accounts, credentials, identities, policies, users
from relay.control.ground import Ground
from relay.store.changes import identity_subject
from relay.store.directory import Directory
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.store.tables import identity_policy
from relay.submission.address import parse_mailbox
from relay.submission.originator import NamedMailbox
from relay.submission.principal import Principal
from tests.support.gateway import DELEGATE, OWNER, arn, grant, user_arn

RULES = Rules("us-east-1")


@pytest.fixture
def ground(store: Store, secrets: Secrets) -> Ground:
    """An owner who lends owner.example to the delegate's user ``app``."""
    ground = Ground(store, secrets, "us-east-1", "test")
    accounts.create(ground, "owner", OWNER, production=True)
    accounts.create(ground, "delegate", DELEGATE, production=True)
    identities.create(ground, "owner.example", OWNER, verified=True)
    users.create(ground, "app", DELEGATE)
    lend(ground)
    return ground


def lend(ground: Ground, **extra: object) -> None:
    document = grant({"AWS": user_arn("app")}, arn("owner.example"), **extra)
    policies.put(ground, arn("owner.example"), "lend", json.dumps(document))


@pytest.fixture
def directory(ground: Ground) -> Directory:
    return Directory(ground.store, ground.secrets, RULES)


@pytest.fixture
def login(ground: Ground) -> credentials.NewCredential:
    return credentials.create_for_user(ground, DELEGATE, "app")


async def principal(directory: Directory, login: credentials.NewCredential) -> Principal:
    found = await directory.credential(login.access_key_id)
    assert found is not None
    return found.principal


def send(who: Principal) -> Send:
    address = parse_mailbox("a@owner.example")
    return Send(
        principal=who,
        action="ses:SendRawEmail",
        api_version="2",
        at=1_795_492_359_000_000,
        source_ip="127.0.0.1",
        is_secure=True,
        user_agent=None,
        mail_from=address,
        recipients=(parse_mailbox("b@customer.example"),),
        from_=NamedMailbox(None, address),
        sender=None,
        return_path=None,
        arns=Arns(source=arn("owner.example")),
        configuration_set=None,
    )


async def decided(directory: Directory, who: Principal) -> Allowed | Denied:
    found = await directory.ground(send(who))
    assert found is not None
    return decide(send(who), found.ground, RULES)


async def test_ground_has_all_that_a_decision_needs(directory, login):
    await directory.poll()
    who = await principal(directory, login)
    found = await directory.ground(send(who))
    assert found is not None
    ground, keys_of, basis, _ = found
    decision = decide(send(who), ground, RULES)
    assert isinstance(decision, Allowed)
    assert decision.signer is not None
    [key] = keys_of(decision.signer)
    assert key.domain == "owner.example"
    assert f"identity:{OWNER}:owner.example" in basis.subjects
    assert basis.change > 0


async def test_entry_is_read_again_after_the_feed_named_it(directory, ground, login):
    await directory.poll()
    who = await principal(directory, login)
    assert isinstance(await decided(directory, who), Allowed)
    lend(ground, Effect="Deny")
    assert isinstance(await decided(directory, who), Allowed)  # cached: the commit would find it stale
    await directory.poll()
    assert isinstance(await decided(directory, who), Denied)


async def test_change_of_something_else_forgets_nothing(directory, ground, login):
    await directory.poll()
    who = await principal(directory, login)
    await decided(directory, who)
    before = dict(directory._entries)
    identities.create(ground, "other.example", OWNER)
    await directory.poll()
    assert {key: directory._entries.get(key) for key in before} == before


async def test_deactivated_credential_has_no_ground(directory, ground, login):
    await directory.poll()
    who = await principal(directory, login)
    credentials.set_active(ground, login.access_key_id, False)
    await directory.poll()
    assert await directory.ground(send(who)) is None


async def test_user_made_again_is_another_principal(directory, ground, login):
    await directory.poll()
    who = await principal(directory, login)
    users.delete(ground, "app", DELEGATE, force=True)
    users.create(ground, "app", DELEGATE)
    again = credentials.create_for_user(ground, DELEGATE, "app")
    await directory.poll()
    assert await directory.ground(send(who)) is None
    assert isinstance(await decided(directory, await principal(directory, again)), Denied)


async def test_document_that_cannot_be_read_denies(directory, ground, login):
    who = await principal(directory, login)
    with ground.store.write() as connection:
        connection.execute(update(identity_policy).values(document='{"Statement": '))
    assert isinstance(await decided(directory, who), Denied)


async def test_silent_feed_is_not_fresh(directory, monkeypatch):
    assert not directory.is_fresh
    await directory.poll()
    assert directory.is_fresh
    monkeypatch.setattr("relay.store.directory._SILENT_SECONDS", -1.0)
    assert not directory.is_fresh


async def test_unknown_credential_is_none(directory):
    assert await directory.credential("AKIANOBODY") is None


async def test_password_never_shows(directory, login):
    found = await directory.credential(login.access_key_id)
    assert login.smtp_password not in repr(found)
    assert login.secret_access_key not in repr(found)


async def test_many_entries_push_out_the_oldest(ground, login):
    directory = Directory(ground.store, ground.secrets, RULES, most_bytes=1_500)
    await directory.poll()
    who = await principal(directory, login)
    assert isinstance(await decided(directory, who), Allowed)
    assert len(directory._entries) <= 3


async def test_entries_count_by_what_they_take(ground):
    """A name of which nothing is known takes little; an identity's key and policies take much."""
    directory = Directory(ground.store, ground.secrets, RULES)
    await directory.poll()
    await directory._get([identity_subject(OWNER, f"unknown{number}.example") for number in range(10)])
    of_unknown = directory._bytes
    policies.put(ground, arn("owner.example"), "long", json.dumps(long_policy()))
    await directory._get([identity_subject(OWNER, "owner.example")])
    assert directory._bytes - of_unknown > 5 * of_unknown


async def test_what_is_forgotten_counts_no_more(ground):
    directory = Directory(ground.store, ground.secrets, RULES)
    await directory.poll()
    await directory._get([identity_subject(OWNER, "owner.example")])
    lend(ground, Sid="again")
    await directory.poll()
    assert (directory._entries, directory._bytes) == ({}, 0)


async def test_feed_is_read_while_every_thread_looks_something_up(directory):
    """A thousand sessions that log in at once after a start must not make the feed seem silent."""
    over = threading.Event()
    lookups = [asyncio.ensure_future(asyncio.to_thread(over.wait, 20)) for _ in range(64)]
    await asyncio.sleep(0)  # they begin
    try:
        async with asyncio.timeout(10):
            await directory.poll()
        assert directory.is_fresh
        assert not any(one.done() for one in lookups)
    finally:
        over.set()
        await asyncio.gather(*lookups)


def long_policy() -> dict[str, object]:
    users_ = [user_arn(f"app{number}") for number in range(80)]
    return grant({"AWS": users_}, arn("owner.example"))


def test_rows_are_values(ground):
    row = accounts.get(ground, OWNER)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.name = "x"  # type: ignore[misc]
