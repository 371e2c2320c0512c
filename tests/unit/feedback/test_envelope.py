"""SNS's document and the text that is signed, as SNS documents them."""

from __future__ import annotations

import json

from relay.feedback import envelope

FIELDS = {
    "Type": "Notification",
    "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
    "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
    "Subject": "My First Message",
    "Message": 'Hello "world"!\nü',
    "Timestamp": "2012-05-02T00:54:06.655Z",
    "SignatureVersion": "1",
    "Signature": "EXAMPLEw6JRN...",
    "SigningCertURL": "https://relay.example/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem",
    "UnsubscribeURL": "https://relay.example/sns/?Action=Unsubscribe&SubscriptionArn=arn:x",
}


def test_document_has_the_keys_of_sns_in_its_order() -> None:
    shuffled = dict(sorted(FIELDS.items()))
    octets = envelope.compose(shuffled)
    assert list(json.loads(octets)) == list(FIELDS)
    assert json.loads(octets) == FIELDS
    assert octets.startswith(b'{\n  "Type" : "Notification",\n  "MessageId" : "22b80b92')


def test_text_to_sign_is_that_of_the_documentation() -> None:
    assert envelope.to_be_signed(FIELDS).decode() == (
        'Message\nHello "world"!\nü\n'
        "MessageId\n22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324\n"
        "Subject\nMy First Message\n"
        "Timestamp\n2012-05-02T00:54:06.655Z\n"
        "TopicArn\narn:aws:sns:us-west-2:123456789012:MyTopic\n"
        "Type\nNotification\n"
    )


def test_subject_is_signed_only_if_there_is_one() -> None:
    bare = {key: value for key, value in FIELDS.items() if key != "Subject"}
    assert b"Subject" not in envelope.to_be_signed(bare)


def test_handshake_signs_its_token_and_url() -> None:
    fields = {
        "Type": "SubscriptionConfirmation",
        "MessageId": "i",
        "Token": "t",
        "TopicArn": "a",
        "Message": "m",
        "SubscribeURL": "u",
        "Timestamp": "w",
    }
    signed = envelope.to_be_signed(fields).decode()
    assert signed.split("\n")[::2] == [
        "Message",
        "MessageId",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
        "",
    ]
    assert list(json.loads(envelope.compose(fields)))[:4] == ["Type", "MessageId", "Token", "TopicArn"]


def test_times_have_milliseconds() -> None:
    assert envelope.timestamp(1_714_557_600_007_999) == "2024-05-01T10:00:00.007Z"


def test_only_event_records_have_a_subject() -> None:
    assert envelope.subject('{"eventType":"Bounce"}') == "Amazon SES Email Event Notification"
    assert envelope.subject('{"notificationType":"Bounce"}') is None
    assert envelope.subject("Successfully validated SNS topic for Amazon SES event publishing.") is None


def test_message_that_is_text_becomes_json() -> None:
    assert envelope.document('{"a":1}') == b'{"a":1}'
    assert json.loads(envelope.document("Successfully validated.")) == {"message": "Successfully validated."}
