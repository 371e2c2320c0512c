"""The directory's cache: what a change makes it forget, and what it does when the feed or the key fails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, update

from relay.authorization.decision import Allowed, Decision, Denied, Rules, decide
from relay.authorization.send import Arns, Send
from relay.control import accounts, credentials, dkim, identities, policies, users
from relay.control.ground import Ground, new_id
from relay.store.changes import configuration_set_subject
from relay.store.directory import Directory
from relay.store.engine import Store, StoreUnavailable
from relay.store.secrets import KeyFileError, Secrets, create_key_file, load_key_file
from relay.store.tables import configuration_set, identity, user_policy
from relay.submission.address import parse_mailbox
from relay.submission.answer import Reason
from relay.submission.originator import NamedMailbox
from relay.submission.principal import Principal, PrincipalKind
from tests.support.gateway import DELEGATE, OWNER, REGION, arn, grant

RULES = Rules(REGION)
OWN = "owner.example"
POOL = f"arn:aws:cognito-idp:{REGION}:{DELEGATE}:userpool/pool"
SECONDS = 10.0


@dataclass
class Side:
    """A store with an owner who lends its domain to anybody, and the directory of one worker."""

    ground: Ground
    directory: Directory
    login: credentials.NewCredential

    async def principal(self) -> Principal:
        found = await self.directory.credential(self.login.access_key_id)
        assert found is not None
        return found.principal

    async def send(self, from_: str = f"a@{OWN}", **changed: object) -> Send:
        who = changed.pop("principal", None) or await self.principal()
        address = parse_mailbox(from_)
        made = Send(
            principal=who,  # type: ignore[arg-type]
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
            arns=Arns(source=arn(OWN)),
            configuration_set=None,
        )
        return replace(made, **changed)  # type: ignore[arg-type]

    async def decided(self, send: Send | None = None) -> Decision:
        asked = send or await self.send()
        found = await self.directory.ground(asked)
        assert found is not None
        return decide(asked, found.ground, RULES)


@pytest.fixture
def side(store: Store, secrets: Secrets) -> Side:
    ground = Ground(store, secrets, REGION, "test")
    accounts.create(ground, "owner", OWNER, production=True)
    accounts.create(ground, "delegate", DELEGATE, production=True)
    identities.create(ground, OWN, OWNER, verified=True)
    policies.put(ground, arn(OWN), "lend", json.dumps(grant("*", arn(OWN))))
    users.create(ground, "app", DELEGATE)
    login = credentials.create_for_user(ground, DELEGATE, "app")
    return Side(ground, Directory(store, secrets, RULES), login)


def deny_own(ground: Ground) -> None:
    statement = {"Effect": "Deny", "Action": "ses:*", "Resource": "*"}
    users.put_policy(
        ground, "app", DELEGATE, "stop", json.dumps({"Version": "2012-10-17", "Statement": statement})
    )


# ---------------------------------------------------------------- what a change makes it forget


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        pytest.param(
            lambda g: policies.delete(g, arn(OWN), "lend"), Reason.ACCESS_DENIED, id="grant-deleted"
        ),
        pytest.param(lambda g: identities.delete(g, OWN, OWNER), Reason.ACCESS_DENIED, id="identity-deleted"),
        pytest.param(deny_own, Reason.ACCESS_DENIED, id="user-policy"),
        pytest.param(
            lambda g: users.delete_policy(g, "app", DELEGATE, users.FIRST_POLICY_NAME),
            Reason.ACCESS_DENIED,
            id="user-policy-deleted",
        ),
        pytest.param(lambda g: accounts.pause(g, DELEGATE, "unpaid"), None, id="account-paused"),
    ],
)
async def test_change_counts_once_the_feed_was_read(
    side: Side, operation: Callable[[Ground], object], reason: Reason | None
) -> None:
    await side.directory.poll()
    assert isinstance(await side.decided(), Allowed)
    operation(side.ground)
    await side.directory.poll()
    found = await side.decided()
    assert isinstance(found, Denied)
    assert reason is None or found.reason is reason


async def test_resumed_account_sends_again(side: Side) -> None:
    await side.directory.poll()
    accounts.pause(side.ground, DELEGATE, "unpaid")
    await side.directory.poll()
    assert isinstance(await side.decided(), Denied)
    accounts.resume(side.ground, DELEGATE)
    await side.directory.poll()
    assert isinstance(await side.decided(), Allowed)


async def test_what_did_not_exist_is_found_once_it_was_made(side: Side) -> None:
    """Absence is cached too."""
    await side.directory.poll()
    send = await side.send("a@new.example", arns=Arns(source=arn("new.example")))
    assert isinstance(await side.decided(send), Denied)
    identities.create(side.ground, "new.example", OWNER, verified=True)
    policies.put(side.ground, arn("new.example"), "lend", json.dumps(grant("*", arn("new.example"))))
    await side.directory.poll()
    assert isinstance(await side.decided(send), Allowed)


async def test_credential_that_is_switched_off_and_on(side: Side) -> None:
    await side.directory.poll()
    who, key = await side.principal(), side.login.access_key_id
    assert side.directory.is_current(who, "192.0.2.1")
    credentials.set_active(side.ground, key, False)
    await side.directory.poll()
    assert side.directory.is_current(who, "192.0.2.1"), "nothing is known of it until it is read again"
    held = await side.directory.credential(key)
    assert held is not None
    assert not held.active
    assert not side.directory.is_current(who, "192.0.2.1")
    assert await side.directory.ground(await side.send(principal=who)) is None
    credentials.set_active(side.ground, key, True)
    await side.directory.poll()
    await side.directory.credential(key)
    assert side.directory.is_current(who, "192.0.2.1")
    assert isinstance(await side.decided(), Allowed)


async def test_deleted_credential_is_nobodys(side: Side) -> None:
    who = await side.principal()
    credentials.delete(side.ground, side.login.access_key_id)
    await side.directory.poll()
    assert await side.directory.credential(side.login.access_key_id) is None
    assert not side.directory.is_current(who, "192.0.2.1")
    assert await side.directory.ground(await side.send(principal=who)) is None


async def test_keys_are_read_again_after_they_changed(side: Side) -> None:
    await side.directory.poll()

    async def algorithms() -> list[str]:
        send = await side.send()
        found = await side.directory.ground(send)
        assert found is not None
        ground, keys_of, *_ = found
        decision = decide(send, ground, RULES)
        assert isinstance(decision, Allowed)
        assert decision.signer is not None
        return [key.algorithm for key in keys_of(decision.signer)]

    assert await algorithms() == ["rsa-sha256"]
    row = identities.show(side.ground, OWN, OWNER).row
    dkim.set_algorithm(side.ground, row, "both")
    await side.directory.poll()
    assert await algorithms() == ["rsa-sha256", "ed25519-sha256"]


# ---------------------------------------------------------------- reading and the feed at once


async def test_entry_that_changes_while_it_is_read_is_not_kept(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read before the change and kept after its record was seen, it would be stale for good."""
    await side.directory.poll()
    who = await side.principal()
    read, go_on = threading.Event(), threading.Event()
    real = side.directory._fetch

    def slow(reads: dict[str, object]) -> tuple[dict[str, object], int]:
        found = real(reads)  # type: ignore[arg-type]
        read.set()
        assert go_on.wait(SECONDS)
        return found

    monkeypatch.setattr(side.directory, "_fetch", slow)
    asking = asyncio.ensure_future(side.directory.ground(await side.send(principal=who)))
    await asyncio.to_thread(read.wait, SECONDS)
    policies.delete(side.ground, arn(OWN), "lend")
    await side.directory.poll()
    go_on.set()
    found = await asyncio.wait_for(asking, SECONDS)
    assert found is not None
    basis = found.basis
    assert basis.change < side.directory.change, "the commit must be able to tell"
    assert isinstance(await side.decided(), Denied)


async def test_entry_is_not_kept_either_if_another_reading_ended_meanwhile(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two readings that nothing touched yet look alike; the one that ends must not take the other along."""
    await side.directory.poll()
    who = await side.principal()
    send = await side.send(principal=who)
    read, go_on = threading.Event(), threading.Event()
    real = side.directory._fetch

    def slow(reads: dict[str, object]) -> tuple[dict[str, object], int]:
        found = real(reads)  # type: ignore[arg-type]
        read.set()
        assert go_on.wait(SECONDS)
        return found

    monkeypatch.setattr(side.directory, "_fetch", slow)
    asking = asyncio.ensure_future(side.directory.ground(send))
    await asyncio.to_thread(read.wait, SECONDS)
    monkeypatch.setattr(side.directory, "_fetch", real)
    assert await side.directory.credential("AKIANOBODY") is None
    policies.delete(side.ground, arn(OWN), "lend")
    await side.directory.poll()
    go_on.set()
    await asyncio.wait_for(asking, SECONDS)
    assert isinstance(await side.decided(send), Denied)


async def test_basis_names_everything_that_was_asked(side: Side) -> None:
    await side.directory.poll()
    send = await side.send(configuration_set="News")
    found = await side.directory.ground(send)
    assert found is not None
    basis = found.basis
    who = send.principal
    assert {
        f"credential:{who.access_key_id}".lower(),
        f"account:{DELEGATE}",
        f"account:{OWNER}",
        f"user:{who.unique_id}".lower(),
        f"identity:{OWNER}:{OWN}",
        f"identity:{OWNER}:a@{OWN}",
        f"configuration-set:{DELEGATE}:news",
    } <= basis.subjects
    assert basis.subjects == {subject.lower() for subject in basis.subjects}
    assert basis.change == side.directory.change


async def test_basis_is_as_old_as_the_oldest_entry(side: Side) -> None:
    """Cached entries are as of the feed that was read, whatever is in the store by now."""
    await side.directory.poll()
    await side.decided()
    known = side.directory.change
    deny_own(side.ground)
    found = await side.directory.ground(await side.send())
    assert found is not None
    assert found.basis.change == known


# ---------------------------------------------------------------- grounds that were found before


async def test_same_question_has_the_same_ground_until_something_changes(side: Side) -> None:
    await side.directory.poll()
    first = await side.directory.ground_for_anyone(await side.send())
    again = await side.directory.ground_for_anyone(
        await side.send(recipients=(parse_mailbox("c@other.example"),))
    )
    other = await side.directory.ground_for_anyone(await side.send(configuration_set="News"))
    assert again is first
    assert other is not first
    accounts.create(side.ground, "somebody else", "333333333333")
    await side.directory.poll()
    later = await side.directory.ground_for_anyone(await side.send())
    assert later is not first
    assert later.basis.change == side.directory.change, "each commit would have to look at what came since"


async def test_ground_goes_with_an_entry_that_had_to_go(side: Side) -> None:
    """The cache is bounded by its entries: a ground that kept one alive would count nowhere."""
    await side.directory.poll()
    send = await side.send()
    first = await side.directory.ground_for_anyone(send)
    side.directory._most_bytes = 1
    assert await side.directory.credential("AKIANOBODY") is None
    side.directory._most_bytes = 1 << 20
    again = await side.directory.ground_for_anyone(send)
    assert again is not first


async def test_grounds_kept_are_few(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.store.directory._MOST_GROUNDS", 2)
    await side.directory.poll()
    for name in ("a", "b", "c", "d"):
        await side.directory.ground_for_anyone(await side.send(configuration_set=name))
        assert len(side.directory._grounds) <= 2
    assert isinstance(await side.decided(), Allowed)


# ---------------------------------------------------------------- when the feed or the store fails


async def test_feed_that_cannot_be_read_leaves_the_cache_as_it_was(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    await side.directory.poll()
    assert isinstance(await side.decided(), Allowed)

    def away() -> tuple[int, list[str] | None]:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(side.directory, "_read_feed", away)
        policies.delete(side.ground, arn(OWN), "lend")
        with pytest.raises(StoreUnavailable):
            await side.directory.poll()
        assert isinstance(await side.decided(), Allowed)
    await side.directory.poll()
    assert isinstance(await side.decided(), Denied)


async def test_following_the_feed_goes_on_after_the_store_was_away(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.store.directory.POLL_SECONDS", 0.005)
    real, failures = side.directory._read_feed, [1, 2, 3]

    def sometimes() -> tuple[int, list[str] | None]:
        if failures:
            failures.pop()
            raise StoreUnavailable("away")
        return real()

    monkeypatch.setattr(side.directory, "_read_feed", sometimes)
    following = asyncio.ensure_future(side.directory.run())
    async with asyncio.timeout(SECONDS):
        while not side.directory.is_fresh:
            await asyncio.sleep(0.005)
    assert side.directory.change > 0
    following.cancel()


async def test_feed_longer_than_a_portion_is_read_to_its_end(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    await side.directory.poll()
    assert isinstance(await side.decided(), Allowed)
    for number in range(5):
        accounts.update(side.ground, OWNER, name=f"owner {number}")
    policies.delete(side.ground, arn(OWN), "lend")
    since = Directory._read_feed.__globals__["changes"].since
    monkeypatch.setattr("relay.store.directory.changes.since", lambda c, seq: since(c, seq, 2))
    for _ in range(4):
        await side.directory.poll()
    assert isinstance(await side.decided(), Denied)


async def test_another_key_file_opens_no_credential(side: Side, tmp_path: Path) -> None:
    create_key_file(tmp_path / "other.key")
    other = Directory(side.ground.store, load_key_file(tmp_path / "other.key"), RULES)
    with pytest.raises(KeyFileError, match=f"does not open credential/secret/{side.login.access_key_id}"):
        await other.credential(side.login.access_key_id)


# ---------------------------------------------------------------- rows that are not as they should be


async def test_user_policy_that_cannot_be_read_denies(side: Side) -> None:
    """It may have held a Deny: what it allowed before does not count either."""
    with side.ground.store.write() as connection:
        connection.execute(update(user_policy).values(document='{"Statement": '))
    found = await side.decided()
    assert isinstance(found, Denied)
    assert found.reason is Reason.ACCESS_DENIED


@pytest.mark.parametrize(
    ("status", "sends"),
    [
        ("SUCCESS", True),
        ("TEMPORARY_FAILURE", True),
        ("PENDING", False),
        ("FAILED", False),
        ("NOT_STARTED", False),
    ],
)
async def test_only_a_verified_identity_sends(side: Side, status: str, sends: bool) -> None:
    with side.ground.store.write() as connection:
        connection.execute(update(identity).values(verification_status=status))
    found = await side.decided()
    assert isinstance(found, Allowed) is sends


async def test_r11_no_key_signs_before_its_record_was_seen(side: Side) -> None:
    with side.ground.store.write() as connection:
        connection.execute(update(identity).values(dkim_status="PENDING"))
    found = await side.decided()
    assert isinstance(found, Allowed)
    assert found.signer is None


async def test_account_whose_row_is_gone_has_no_owner_in_the_ground(side: Side) -> None:
    send = await side.send(arns=Arns(source=arn(OWN, "999999999999")))
    found = await side.directory.ground(send)
    assert found is not None
    assert "999999999999" not in found.ground.owners
    assert isinstance(decide(send, found.ground, RULES), Denied)


# ---------------------------------------------------------------- other principals, other sets


async def test_r17_service_has_no_policies_of_its_own(side: Side) -> None:
    login = credentials.create_for_service(side.ground, DELEGATE, "cognito-idp.amazonaws.com", POOL)
    held = await side.directory.credential(login.access_key_id)
    assert held is not None
    assert held.principal == Principal(
        kind=PrincipalKind.SERVICE,
        account_id=DELEGATE,
        arn="cognito-idp.amazonaws.com",
        unique_id=login.access_key_id,
        access_key_id=login.access_key_id,
        source_arn=POOL,
    )
    found = await side.directory.ground(await side.send(principal=held.principal))
    assert found is not None
    assert found.ground.user_policies is None


async def test_user_is_known_by_arn_path_and_tags(side: Side) -> None:
    users.create(side.ground, "robot", DELEGATE, path="/apps/", tags=["team=mail", "env=prod"])
    login = credentials.create_for_user(side.ground, DELEGATE, "robot")
    held = await side.directory.credential(login.access_key_id)
    assert held is not None
    assert held.principal.arn == f"arn:aws:iam::{DELEGATE}:user/apps/robot"
    assert held.principal.tags == (("env", "prod"), ("team", "mail"))
    assert held.password == login.smtp_password.encode()


async def test_what_is_only_asked_needs_no_credential(side: Side) -> None:
    who = replace(await side.principal(), access_key_id="none")
    send = await side.send(principal=who)
    assert await side.directory.ground(send) is None
    ground = (await side.directory.ground_for_anyone(send)).ground
    assert isinstance(decide(send, ground, RULES), Allowed)


def put_set(side: Side, name: str, sending_enabled: bool) -> None:
    row = {
        "id": new_id(),
        "account_id": DELEGATE,
        "name": name,
        "sending_enabled": sending_enabled,
        "created_at": 0,
    }
    with side.ground.write() as write:
        write.connection.execute(delete(configuration_set).where(configuration_set.c.name == name))
        write.connection.execute(insert(configuration_set), [row])
        write.record(configuration_set_subject(DELEGATE, name), "PutConfigurationSet")


async def test_configuration_set_is_looked_up_and_forgotten_like_the_rest(side: Side) -> None:
    await side.directory.poll()
    send = await side.send(configuration_set="news")
    assert isinstance(await side.decided(send), Denied)
    put_set(side, "news", sending_enabled=True)
    await side.directory.poll()
    assert isinstance(await side.decided(send), Allowed)
    put_set(side, "news", sending_enabled=False)
    await side.directory.poll()
    assert isinstance(await side.decided(send), Denied)


async def test_default_set_of_an_own_identity_is_in_the_ground(side: Side) -> None:
    identities.create(side.ground, "mine.example", DELEGATE, verified=True)
    put_set(side, "usual", sending_enabled=True)
    with side.ground.store.write() as connection:
        connection.execute(
            update(identity).where(identity.c.name == "mine.example").values(configuration_set="usual")
        )
    await side.directory.poll()
    send = await side.send("a@mine.example", arns=Arns())
    found = await side.directory.ground(send)
    assert found is not None
    assert set(found.ground.configuration_sets) == {"usual"}
    decision = decide(send, found.ground, RULES)
    assert isinstance(decision, Allowed)
    assert decision.configuration_set == "usual"
