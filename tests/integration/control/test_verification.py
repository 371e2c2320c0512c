"""What looks at DNS leave in the store, at instants that no test could wait for; on both engines."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from relay.control import accounts, confirmation, dkim, identities, mail_from, verification
from relay.control.ground import ControlError, Ground, now
from relay.control.proof import Purpose, Result
from relay.control.verification import RecordCheck
from relay.resolver import Absent, Answer, Found, Unavailable
from relay.store import changes
from relay.store import identities as rows
from relay.store.engine import Store
from relay.store.identities import IdentityRow
from relay.store.secrets import Secrets
from tests.support.zone import Zone

OWNER = "111122223333"
HOUR = 3_600_000_000


@pytest.fixture
def ground(store: Store, secrets: Secrets) -> Ground:
    one = Ground(store, secrets, "us-east-1", "test")
    accounts.create(one, "owner", OWNER)
    return one


def domain(ground: Ground, verified: bool = False) -> IdentityRow:
    return identities.create(ground, "owner.example", OWNER, verified).row


def current(ground: Ground, name: str = "owner.example") -> identities.IdentityView:
    return identities.show(ground, name, OWNER)


def looked(ground: Ground, result: Result, at: int, *, restart: bool = False) -> IdentityRow:
    """The identity after a look that finds the same of every record."""
    view = current(ground)
    checks = [
        RecordCheck("TXT", "", "", (), result, None, key_id) for key_id in (*(k.id for k in view.keys), None)
    ]
    verification.apply(ground, view.row, checks, at, restart=restart)
    return current(ground).row


def statuses(row: IdentityRow) -> tuple[str, str]:
    return row.verification_status, row.dkim_status


def test_pending_domain_fails_after_72_hours_and_is_looked_at_no_more(ground):
    began = domain(ground).created_at
    row = looked(ground, Result.MISSING, began + 71 * HOUR)
    assert (statuses(row), row.check_at) == (("PENDING", "PENDING"), began + 71 * HOUR + 60_000_000)
    row = looked(ground, Result.MISSING, began + 72 * HOUR)
    assert (statuses(row), row.check_at) == (("FAILED", "FAILED"), None)


def test_failed_domain_begins_anew_at_the_owners_word(ground):
    began = domain(ground).created_at
    looked(ground, Result.MISSING, began + 72 * HOUR)
    assert statuses(looked(ground, Result.FOUND, began + 73 * HOUR)) == ("FAILED", "FAILED")
    row = looked(ground, Result.MISSING, began + 73 * HOUR, restart=True)
    assert (statuses(row), row.verification_requested_at) == (("PENDING", "PENDING"), began + 73 * HOUR)
    assert statuses(looked(ground, Result.FOUND, began + 74 * HOUR)) == ("SUCCESS", "SUCCESS")


def test_verified_domain_has_72_hours_of_grace(ground):
    began = domain(ground).created_at
    looked(ground, Result.FOUND, began)
    assert statuses(looked(ground, Result.MISSING, began + HOUR)) == (
        "TEMPORARY_FAILURE",
        "TEMPORARY_FAILURE",
    )
    assert statuses(looked(ground, Result.MISSING, began + 72 * HOUR))[0] == "TEMPORARY_FAILURE"
    assert statuses(looked(ground, Result.UNAVAILABLE, began + 90 * HOUR))[0] == "TEMPORARY_FAILURE"
    assert statuses(looked(ground, Result.MISSING, began + 73 * HOUR)) == ("FAILED", "FAILED")


def test_only_a_changed_status_is_news_to_the_caches(ground):
    began = domain(ground).created_at
    looked(ground, Result.FOUND, began)
    with ground.store.read() as connection:
        before = changes.newest(connection)
    looked(ground, Result.FOUND, began + HOUR)
    looked(ground, Result.UNAVAILABLE, began + 2 * HOUR)
    with ground.store.read() as connection:
        assert changes.newest(connection) == before


def test_dns_takes_nothing_from_a_domain_that_was_vouched_for(ground):
    row = domain(ground, verified=True)
    assert row.check_at is None
    row = looked(ground, Result.MISSING, row.created_at + 1000 * HOUR)
    assert (statuses(row), row.check_at) == (("SUCCESS", "SUCCESS"), None)


def test_vouched_domain_is_looked_at_until_its_new_key_is_seen(ground):
    row = domain(ground, verified=True)
    [old] = current(ground).keys
    dkim.rotate(ground, row)
    assert looked(ground, Result.MISSING, now()).check_at is not None
    assert [key.status for key in current(ground).keys] == ["signing", "pending"]
    assert looked(ground, Result.FOUND, now()).check_at is None
    [key] = current(ground).keys
    assert (key.status, key.selector == old.selector) == ("signing", False)


def test_rotation_twice_leaves_one_key_waiting(ground):
    row = domain(ground)
    dkim.rotate(ground, row)
    dkim.rotate(ground, row)
    assert [key.status for key in current(ground).keys] == ["signing", "pending"]


def test_imported_key_waits_where_dns_vouches_and_signs_where_nobody_does(ground):
    material = dkim.new_key(dkim.RSA).pem
    dkim.import_key(ground, domain(ground), material, "own")
    assert [(key.selector, key.status) for key in current(ground).keys] == [("own", "signing")]
    row = looked(ground, Result.FOUND, now())
    dkim.import_key(ground, row, dkim.new_key(dkim.RSA).pem, "next")
    assert [(key.selector, key.status) for key in current(ground).keys] == [
        ("own", "signing"),
        ("next", "pending"),
    ]


def test_look_at_an_identity_that_was_made_anew_meanwhile_changes_nothing(ground):
    before = domain(ground)
    identities.delete(ground, "owner.example", OWNER)
    domain(ground)
    checks = [RecordCheck("TXT", "", "", (), Result.FOUND, None, None)]
    verification.apply(ground, before, checks, now())
    assert statuses(current(ground).row) == ("PENDING", "PENDING")
    identities.delete(ground, "owner.example", OWNER)
    assert verification.apply(ground, before, checks, now()) is None


def test_one_of_many_processes_does_the_look(ground):
    row = domain(ground)

    def claim(_: int) -> bool:
        with ground.store.write() as connection:
            return rows.claim_check(connection, row, row.created_at + HOUR)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_due_identities_come_the_longest_due_first(ground):
    made = [identities.create(ground, f"d{number}.example", OWNER).row for number in range(3)]
    with ground.store.write() as connection:
        rows.touch(connection, made[0], check_at=made[2].created_at + HOUR)
    with ground.store.read() as connection:
        at = made[2].created_at
        assert [row.name for row in rows.due(connection, at, 10)] == ["d1.example", "d2.example"]
        assert [row.name for row in rows.due(connection, at, 1)] == ["d1.example"]
        assert rows.next_check(connection) == made[1].check_at


class _Zone:
    """DNS from a table; what is not in it is unavailable."""

    def __init__(self, answers: dict[str, Answer[str]]) -> None:
        self._answers = answers

    async def txt(self, name: str) -> Answer[str]:
        return self._answers.get(name, Unavailable("no answer"))


async def test_token_may_stand_at_the_domain_itself(ground):
    row = domain(ground)
    keys = current(ground).keys
    zone = _Zone(
        {
            "_amazonses.owner.example": Absent(),
            "owner.example": Found(("v=spf1 -all", f"amazonses:{row.verification_token}")),
        }
    )
    key, token = await verification.look(row, keys, zone, "relay.example")
    assert (key.result, key.reason) == (Result.UNAVAILABLE, "no answer")
    assert (token.result, token.name) == (Result.FOUND, "owner.example")


class TestAddress:
    def pending(self, ground: Ground) -> IdentityRow:
        return identities.create(ground, "ann@owner.example", OWNER).row

    def test_waits_24_hours(self, ground):
        self.pending(ground)
        row = current(ground, "ann@owner.example").row
        asked_at = row.verification_requested_at
        assert row.check_at == asked_at + 24 * HOUR
        after = confirmation.expire(ground, row, asked_at + 24 * HOUR - 1)
        assert after.verification_status == "PENDING"
        after = confirmation.expire(ground, row, asked_at + 24 * HOUR)
        assert (after.verification_status, after.confirmation, after.check_at) == ("FAILED", None, None)

    def test_code_is_kept_as_a_hash(self, ground):
        self.pending(ground)
        stored = current(ground, "ann@owner.example").row.confirmation
        assert len(stored) == 64
        with pytest.raises(ControlError, match="no address waits"):
            confirmation.confirm(ground, stored)


class TestMailFrom:
    """A custom MAIL FROM domain lives by the same 72 hours, beside its identity's own status."""

    DOMAIN = "bounce.owner.example"

    @pytest.fixture
    def hearing(self, ground: Ground) -> Ground:
        return replace(ground, hears_reports=True, hostname="relay.example")

    def begun(self, ground: Ground, name: str = "owner.example", **options: str) -> IdentityRow:
        identities.create(ground, name, OWNER, verified=True)
        return mail_from.put(ground, name, OWNER, self.DOMAIN, **options).row

    def looked(self, ground: Ground, result: Result, at: int, *, restart: bool = False) -> IdentityRow:
        row = current(ground).row
        check = RecordCheck("MX", self.DOMAIN, "", (), result, None, None, Purpose.MAIL_FROM)
        verification.apply(ground, row, (check,), at, restart=restart)
        return current(ground).row

    def test_pending_fails_after_72_hours_and_begins_anew_at_the_owners_word(self, hearing):
        began = self.begun(hearing).mail_from_requested_at
        row = self.looked(hearing, Result.DIFFERENT, began + 71 * HOUR)
        assert (row.mail_from_status, row.check_at) == ("PENDING", began + 71 * HOUR + 60_000_000)
        row = self.looked(hearing, Result.MISSING, began + 72 * HOUR)
        assert (row.mail_from_status, row.check_at) == ("FAILED", None)
        assert self.looked(hearing, Result.FOUND, began + 73 * HOUR).mail_from_status == "FAILED"
        row = self.looked(hearing, Result.FOUND, began + 74 * HOUR, restart=True)
        assert (row.mail_from_status, row.verification_status) == ("SUCCESS", "SUCCESS")

    def test_lost_mx_has_72_hours_from_when_it_was_lost(self, hearing):
        began = self.begun(hearing).mail_from_requested_at
        lost = began + 1000 * HOUR
        assert self.looked(hearing, Result.FOUND, began).mail_from_status == "SUCCESS"
        assert self.looked(hearing, Result.UNAVAILABLE, lost - HOUR).mail_from_status == "SUCCESS"
        assert self.looked(hearing, Result.MISSING, lost).mail_from_status == "TEMPORARY_FAILURE"
        assert self.looked(hearing, Result.MISSING, lost + 71 * HOUR).mail_from_status == "TEMPORARY_FAILURE"
        row = self.looked(hearing, Result.MISSING, lost + 72 * HOUR)
        assert (row.mail_from_status, row.verification_status) == ("FAILED", "SUCCESS")

    def test_found_again_it_is_as_if_never_lost(self, hearing):
        began = self.begun(hearing).mail_from_requested_at
        self.looked(hearing, Result.FOUND, began)
        self.looked(hearing, Result.MISSING, began + HOUR)
        self.looked(hearing, Result.FOUND, began + 71 * HOUR)
        assert self.looked(hearing, Result.MISSING, began + 80 * HOUR).mail_from_status == "TEMPORARY_FAILURE"

    def test_look_at_the_domain_before_says_nothing_of_the_new_one(self, hearing):
        before = self.begun(hearing)
        mail_from.put(hearing, "owner.example", OWNER, "other.owner.example")
        check = RecordCheck("MX", self.DOMAIN, "", (), Result.FOUND, None, None, Purpose.MAIL_FROM)
        verification.apply(hearing, before, (check,), now())
        row = current(hearing).row
        assert (row.mail_from_domain, row.mail_from_status) == ("other.owner.example", "PENDING")
        assert row.check_at is not None

    def test_other_fallback_keeps_what_was_seen(self, hearing):
        began = self.begun(hearing).mail_from_requested_at
        self.looked(hearing, Result.FOUND, began)
        row = mail_from.put(hearing, "owner.example", OWNER, self.DOMAIN, mail_from.REJECT_MESSAGE).row
        assert (row.mail_from_status, row.mail_from_on_failure) == ("SUCCESS", "REJECT_MESSAGE")

    def test_removed_it_leaves_nothing(self, hearing):
        self.begun(hearing)
        view = mail_from.remove(hearing, "owner.example", OWNER)
        assert view.mail_from is None
        assert view.row.mail_from_requested_at is None
        assert [one["type"] for one in view.dns_records] == ["TXT", "TXT"]

    def test_address_has_one_too_and_its_own_status_is_left_alone(self, hearing):
        row = self.begun(hearing, "ann@owner.example")
        check = RecordCheck("MX", self.DOMAIN, "", (), Result.MISSING, None, None, Purpose.MAIL_FROM)
        after = verification.apply(hearing, row, (check,), row.mail_from_requested_at + 72 * HOUR)
        assert (after.mail_from_status, after.verification_status) == ("FAILED", "SUCCESS")

    async def test_one_mx_with_preference_10_is_wanted_and_spf_is_advice(self, hearing):
        row = self.begun(hearing)
        zone = Zone(mail={self.DOMAIN: [(10, "relay.example")]})
        *_, mx, spf = await verification.look(row, (), zone, "relay.example")
        assert (mx.purpose, mx.result, mx.found) == (Purpose.MAIL_FROM, Result.FOUND, ("10 relay.example",))
        assert (spf.purpose, spf.result) == (Purpose.ADVICE, Result.MISSING)
        for records in ([(20, "relay.example")], [(10, "relay.example"), (20, "b.example")], [(0, "")]):
            *_, mx, _ = await verification.look(row, (), Zone(mail={self.DOMAIN: records}), "relay.example")
            assert mx.result is Result.DIFFERENT
        gone = Zone(mail={self.DOMAIN: Unavailable("no answer")}, texts={self.DOMAIN: ["v=spf1 -all"]})
        *_, mx, spf = await verification.look(row, (), gone, "relay.example")
        assert (mx.result, mx.reason, spf.result) == (Result.UNAVAILABLE, "no answer", Result.FOUND)

    def test_it_needs_something_that_listens(self, ground):
        identities.create(ground, "owner.example", OWNER, verified=True)
        with pytest.raises(ControlError, match=r"set \[bounce\] listen"):
            mail_from.put(ground, "owner.example", OWNER, self.DOMAIN)
