"""R2 as a table: what a look at DNS makes of a status, and what counts as found."""

from __future__ import annotations

import pytest

from relay.control.proof import (
    Intervals,
    Result,
    Standing,
    anyone,
    everyone,
    judge,
    key_result,
    next_look,
    restarted,
    token_result,
)

HOUR = 3_600_000_000
NOW = 1_000 * HOUR
EVERY = Intervals(pending_seconds=60, verified_seconds=3600, give_up_seconds=259_200)
FOUND, DIFFERENT, MISSING, UNAVAILABLE = Result.FOUND, Result.DIFFERENT, Result.MISSING, Result.UNAVAILABLE


@pytest.mark.parametrize(
    ("status", "waits_hours", "fails_hours", "result", "after"),
    [
        ("PENDING", 0, None, FOUND, "SUCCESS"),
        ("PENDING", 71, None, MISSING, "PENDING"),
        ("PENDING", 71, None, DIFFERENT, "PENDING"),
        ("PENDING", 72, None, MISSING, "FAILED"),
        ("PENDING", 72, None, DIFFERENT, "FAILED"),
        ("PENDING", 500, None, UNAVAILABLE, "PENDING"),
        ("PENDING", 500, None, FOUND, "SUCCESS"),
        ("SUCCESS", 500, None, FOUND, "SUCCESS"),
        ("SUCCESS", 500, None, MISSING, "TEMPORARY_FAILURE"),
        ("SUCCESS", 500, None, DIFFERENT, "TEMPORARY_FAILURE"),
        ("SUCCESS", 500, None, UNAVAILABLE, "SUCCESS"),
        ("TEMPORARY_FAILURE", 500, 71, MISSING, "TEMPORARY_FAILURE"),
        ("TEMPORARY_FAILURE", 500, 72, MISSING, "FAILED"),
        ("TEMPORARY_FAILURE", 500, 72, UNAVAILABLE, "TEMPORARY_FAILURE"),
        ("TEMPORARY_FAILURE", 500, 90, FOUND, "SUCCESS"),
        ("FAILED", 500, None, FOUND, "FAILED"),
        ("FAILED", 500, None, MISSING, "FAILED"),
    ],
)
def test_status_after_a_look(status, waits_hours, fails_hours, result, after):
    since = None if fails_hours is None else NOW - fails_hours * HOUR
    before = Standing(status, NOW - waits_hours * HOUR, since)
    assert judge(before, result, NOW, EVERY).status == after


def test_grace_begins_with_the_first_look_that_misses_and_ends_with_the_record():
    failing = judge(Standing("SUCCESS", 0), MISSING, NOW, EVERY)
    assert failing.failing_since == NOW
    assert judge(failing, MISSING, NOW + HOUR, EVERY).failing_since == NOW
    assert judge(failing, FOUND, NOW + HOUR, EVERY).failing_since is None


@pytest.mark.parametrize("status", ["SUCCESS", "TEMPORARY_FAILURE"])
@pytest.mark.parametrize("result", list(Result))
def test_dns_takes_nothing_from_what_was_vouched_for(status, result):
    vouched = Standing(status, requested_at=None, failing_since=0)
    assert judge(vouched, result, NOW, EVERY) == vouched


@pytest.mark.parametrize("status", ["FAILED", "NOT_STARTED"])
def test_what_failed_begins_anew_when_asked(status):
    assert restarted(Standing(status, 5, 6), NOW) == Standing("PENDING", NOW)


@pytest.mark.parametrize("status", ["PENDING", "SUCCESS", "TEMPORARY_FAILURE"])
def test_what_has_not_failed_goes_on(status):
    assert restarted(Standing(status, 5, 6), NOW) == Standing(status, 5, 6)


@pytest.mark.parametrize(
    ("statuses", "awaits_key", "seconds"),
    [
        (("PENDING", "PENDING"), False, 60),
        (("SUCCESS", "PENDING"), False, 60),
        (("SUCCESS", "SUCCESS"), False, 3600),
        (("SUCCESS", "TEMPORARY_FAILURE"), False, 60),
        (("SUCCESS", "SUCCESS"), True, 60),
        (("FAILED", "SUCCESS"), False, 3600),
        (("FAILED", "FAILED"), False, None),
    ],
)
def test_next_look(statuses, awaits_key, seconds):
    standings = [Standing(status, 0) for status in statuses]
    expected = None if seconds is None else NOW + seconds * 1_000_000
    assert next_look(standings, awaits_key, NOW, EVERY) == expected


def test_vouched_identity_is_looked_at_for_a_new_key_only():
    vouched = [Standing("SUCCESS", None)] * 2
    assert next_look(vouched, False, NOW, EVERY) is None
    assert next_look(vouched, True, NOW, EVERY) == NOW + 60_000_000


@pytest.mark.parametrize(
    ("results", "one", "all_"),
    [
        ([], MISSING, MISSING),
        ([FOUND], FOUND, FOUND),
        ([FOUND, MISSING], FOUND, MISSING),
        ([FOUND, DIFFERENT], FOUND, MISSING),
        ([FOUND, UNAVAILABLE], FOUND, UNAVAILABLE),
        ([MISSING, UNAVAILABLE], UNAVAILABLE, MISSING),
        ([MISSING, DIFFERENT], MISSING, MISSING),
    ],
)
def test_several_records(results, one, all_):
    assert (anyone(results), everyone(results)) == (one, all_)


KEY = "v=DKIM1; k=rsa; p=MIIBIjANBg"


@pytest.mark.parametrize(
    ("records", "result"),
    [
        ([KEY], FOUND),
        (["k=rsa;p=MIIB IjAN\tBg"], FOUND),
        (["v=DKIM1; t=s; p = MIIBIjANBg ;"], FOUND),
        (["v=spf1 -all", KEY], FOUND),
        (["v=DKIM1; p=MIIBIjANBgX"], DIFFERENT),
        (["v=DKIM1; p="], DIFFERENT),
        (["v=DKIM1; sp=MIIBIjANBg"], DIFFERENT),
        ([], MISSING),
    ],
)
def test_dkim_record(records, result):
    assert key_result(KEY, records) is result


@pytest.mark.parametrize(
    ("records", "result"),
    [
        (["dG9rZW4="], FOUND),
        (["amazonses:dG9rZW4="], FOUND),
        (["v=spf1 -all", " dG9rZW4= "], FOUND),
        (["DG9RZW4="], DIFFERENT),
        ([], MISSING),
    ],
)
def test_ownership_token(records, result):
    assert token_result("dG9rZW4=", records) is result
