"""What a failure is called in events, and whether it is held against the address."""

from __future__ import annotations

import pytest

from relay.outcome.bounce_types import bounce_kind, delay_type


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        ("5.1.1", "user unknown", "Permanent/General"),
        ("5.2.1", "mailbox disabled", "Permanent/General"),
        ("4.2.1", "mailbox busy", "Transient/General"),
        ("5.4.1", "Recipient address rejected: Access denied", "Permanent/General"),
        ("5.1.2", "no such domain", "Permanent/NoEmail"),
        ("5.1.10", "null MX", "Permanent/NoEmail"),
        ("5.1.8", "bad sender's system address", "Transient/General"),
        ("5.2.2", "mailbox full", "Transient/MailboxFull"),
        ("5.3.4", "message too big", "Transient/MessageTooLarge"),
        ("5.2.3", "message length exceeds limit", "Transient/MessageTooLarge"),
        ("5.6.0", "bad MIME", "Transient/ContentRejected"),
        ("5.7.1", "looks like spam", "Transient/ContentRejected"),
        ("5.7.1", "this attachment is not allowed", "Transient/AttachmentRejected"),
        ("5.7.1", "relaying denied", "Transient/General"),
        ("5.7.26", "not authenticated", "Transient/General"),
        ("5.0.0", "no", "Undetermined/Undetermined"),
    ],
)
def test_refusal_has_its_type(status: str, text: str, expected: str) -> None:
    kind = bounce_kind(status, text)
    assert f"{kind.type}/{kind.subtype}" == expected
    assert kind.is_hard == expected.startswith("Permanent")


def test_what_only_ran_out_of_time_is_never_hard() -> None:
    assert bounce_kind("5.1.1", "user unknown", expired=True).subtype == "General"
    assert not bounce_kind("5.1.1", "user unknown", expired=True).is_hard
    assert bounce_kind("4.2.2", "full", expired=True).subtype == "MailboxFull"
    assert bounce_kind("4.4.1", "", expired=True, custom_timeout=True).subtype == "CustomTimeoutExceeded"


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "expected"),
    [
        (None, None, "timed out", "TransientCommunicationFailure"),
        (452, "4.2.2", "over quota", "MailboxFull"),
        (451, "4.7.1", "greylisted", "General"),
        (421, "4.7.0", "unsolicited mail", "SpamDetected"),
        (421, None, "too busy", "RecipientServerError"),
        (451, "4.3.0", "disk", "RecipientServerError"),
        (450, None, "later", "General"),
    ],
)
def test_delay_has_its_type(code: int | None, enhanced: str | None, text: str, expected: str) -> None:
    assert delay_type(code, enhanced, text) == expected
