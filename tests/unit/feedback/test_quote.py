"""Mail that waits when a node is upgraded was recorded by the release before."""

from __future__ import annotations

import json

from relay.feedback.quote import quote, read_record
from relay.queue.values import QueuedMessage

_RECEIVED = "Received: by relay.example with ESMTPSA\r\n\tid 1; Wed, 25 Nov 2026 22:00:00 +0000\r\n"
_ADDED_BELOW = "Feedback-ID: ::1.us-east-1.x:RelaySMTP\r\n"
# As the releases of the first two revisions of the schema wrote it.
_RECORD = {
    "send": {
        "principal": {"user_name": "app", "arn": "arn:aws:iam::222222222222:user/app"},
        "mail_from": "bounces@owner.example",
        "source_ip": "192.0.2.1",
        "recipients": ["user@customer.example"],
        "from": ["", "alerts@owner.example"],
        "action": "ses:SendRawEmail",
    },
    "client": {"helo": "client.example", "protocol": "ESMTPSA", "tls": "TLSv1.3"},
    "identity": "arn:aws:ses:us-east-1:111122223333:identity/owner.example",
    "grants": [],
    "signed_by": "owner.example",
    "unsigned_because": None,
    "added": [_RECEIVED, "X-Relay-ID: 1\r\n", _ADDED_BELOW],
    "removed": ["Bcc: secret@customer.example\r\n"],
}
_HEADER = (
    "DKIM-Signature: v=1; d=owner.example\r\n"
    f"{_RECEIVED}X-Relay-ID: 1\r\nFrom: alerts@owner.example\r\nSubject: Hello\r\n{_ADDED_BELOW}"
).encode()


def test_record_of_an_earlier_release_tells_whose_settings_apply():
    record = read_record(json.dumps(_RECORD), _HEADER)
    assert record["settings"] == _RECORD["identity"]
    assert record["max_delivery_seconds"] is None


def test_mail_of_an_earlier_release_is_quoted_as_it_was_submitted():
    message = QueuedMessage(
        id=1 << 22,
        account_id="222222222222",
        received_at=1,
        expires_at=2,
        reverse_path="bounces@owner.example",
        return_path="bounces@owner.example",
        header=_HEADER,
        body=None,
        chunks=1,
        size_bytes=1,
        configuration_set=None,
        identity_arn=_RECORD["identity"],
    )
    mail = quote(message, read_record(json.dumps(_RECORD), _HEADER))
    assert mail.headers == (
        ("Bcc", "secret@customer.example"),
        ("From", "alerts@owner.example"),
        ("Subject", "Hello"),
    )
    assert mail.tags == ()


def test_records_of_our_own_mail_and_of_this_release_stay_as_they_are():
    for record in ({"report_on": "x"}, {**_RECORD, "settings": "y", "tags": [["a", "b"]]}):
        assert read_record(json.dumps(record), _HEADER) == record
