"""Programs written for SES read what we post, with the setting changed that names whose messages they trust.

django-anymail and django-ses run in a thread of the test behind a real receiver, and say what they make of
each post; the gateway is a process, and its certificate and confirmations are fetched from its own listener.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest
import trustme
from django.conf import settings
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path

from relay.app.recorder import Recorder
from tests.e2e.test_notifications import TOPIC, put, subscribe, until
from tests.support.gateway import DELEGATE, Gateway, free_ports
from tests.support.receiver import Got, Receiver, answer

SECRET = "user:pass"
MAIL = {
    "timestamp": "2026-05-01T10:00:00.000Z",
    "source": "sender@owner.example",
    "sourceArn": "arn:aws:ses:us-east-1:111122223333:identity/owner.example",
    "sendingAccountId": DELEGATE,
    "messageId": "0100018f3333aaaa-00000000-1111-2222-3333-444444444444-000000",
    "destination": ["nobody@customer.example"],
    "headersTruncated": False,
    "headers": [{"name": "X-Tag", "value": "welcome"}],
    "commonHeaders": {"subject": "Hello"},
}
BOUNCE = {
    "eventType": "Bounce",
    "mail": MAIL,
    "bounce": {
        "bounceType": "Permanent",
        "bounceSubType": "General",
        "timestamp": "2026-05-01T10:00:01.000Z",
        "feedbackId": "0100018f3333bbbb-00000000-1111-2222-3333-555555555555-000000",
        "bouncedRecipients": [
            {
                "emailAddress": "nobody@customer.example",
                "action": "failed",
                "status": "5.1.1",
                "diagnosticCode": "smtp; 550 5.1.1 user unknown",
            }
        ],
    },
}
COMPLAINT = {
    "notificationType": "Complaint",
    "mail": MAIL,
    "complaint": {
        "complainedRecipients": [{"emailAddress": "nobody@customer.example"}],
        "timestamp": "2026-05-01T10:00:01.000Z",
        "feedbackId": "0100018f3333cccc-00000000-1111-2222-3333-555555555555-000000",
        "complaintFeedbackType": "abuse",
    },
}

if not settings.configured:
    settings.configure(
        SECRET_KEY="for tests",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["anymail", "django_ses"],
        USE_TZ=True,
        AWS_SES_VERIFY_EVENT_SIGNATURES=True,
    )
    django.setup()

from anymail.signals import tracking  # noqa: E402
from anymail.webhooks.amazon_ses import AmazonSESTrackingWebhookView  # noqa: E402
from django.views.decorators.csrf import csrf_exempt  # noqa: E402
from django_ses.signals import bounce_received, complaint_received  # noqa: E402
from django_ses.utils import clear_cert_cache  # noqa: E402
from django_ses.views import SESEventWebhookView  # noqa: E402


def _anymail(request: Any) -> HttpResponse:
    return AmazonSESTrackingWebhookView.as_view()(request)


urlpatterns = [
    path("anymail/", csrf_exempt(_anymail)),
    path("ses/", csrf_exempt(SESEventWebhookView.as_view())),
]


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway that is reached as https://localhost under a certificate that Python trusts."""
    recorder, authority = Recorder(refused=frozenset()), trustme.CA()
    gateway = Gateway(tmp_path / "relay", recorder, RELAY_WEBHOOKS__ALLOW="127.0.0.1/32")
    [port] = free_ports(1)
    gateway.environment["RELAY_HTTP__LISTEN_TLS"] = f"127.0.0.1:{port}"
    gateway.environment["RELAY_HTTP__PUBLIC_URL"] = f"https://localhost:{port}"
    gateway.run("init", str(gateway.directory))
    ours = authority.issue_cert("localhost", "relay.example")
    ours.private_key_pem.write_to_path(gateway.directory / "relay.pem")
    ours.cert_chain_pems[0].write_to_path(gateway.directory / "relay.crt")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    gateway.account(DELEGATE)
    gateway.start()
    yield gateway
    gateway.stop()
    recorder.close()


def consumer(where: str) -> Any:
    """A receiver's answer: what Django makes of the post."""

    def ask(got: Got) -> bytes:
        names = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in got.headers.items()}
        said = Client().post(where, data=got.body, content_type=got.headers["content-type"], **names)
        return answer(f"{said.status_code} Said", said.content)

    async def say(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(await asyncio.to_thread(ask, got))

    return say


async def test_django_anymail_confirms_and_tracks(relay: Gateway):
    events: list[Any] = []

    def seen(sender: Any, event: Any, esp_name: str, **_: Any) -> None:
        events.append(event)

    tracking.connect(seen)
    relay.run("topic", "create", "events", "--account", DELEGATE)
    host = relay.environment["RELAY_HTTP__PUBLIC_URL"]
    settings_ = {"AMAZON_SES_CLIENT_PARAMS": {"endpoint_url": f"{host}/sns"}, "WEBHOOK_SECRET": SECRET}
    with override_settings(ANYMAIL=settings_):
        async with Receiver(say=consumer("/anymail/")).running() as receiver:
            url = receiver.url.replace("http://", f"http://{SECRET}@")
            arn = subscribe(relay, "http", url)["subscription_arn"]
            await until(lambda: _status(relay) == "confirmed")
            ids = put(relay, arn, body=json.dumps(BOUNCE)) + put(relay, arn, body=json.dumps(COMPLAINT))
            put(relay, arn, body="Successfully validated SNS topic for Amazon SES event publishing.")
            await receiver.wait(4)
            await until(lambda: len(events) == 2)
    found = {event.event_type: event for event in events}
    assert found["bounced"].recipient == "nobody@customer.example"
    assert found["bounced"].mta_response == "smtp; 550 5.1.1 user unknown"
    assert found["bounced"].message_id == MAIL["messageId"]
    assert found["bounced"].tags == ["welcome"]
    assert {found["bounced"].event_id, found["complained"].event_id} == set(ids)


def _status(relay: Gateway) -> str:
    [one] = relay.run("topic", "show", TOPIC)["subscriptions"]
    return str(one["status"])


async def test_django_ses_verifies_and_signals(relay: Gateway):
    seen: list[tuple[str, Any]] = []

    def bounced(sender: Any, mail_obj: Any, bounce_obj: Any, **_: Any) -> None:
        seen.append(("bounce", bounce_obj["bouncedRecipients"][0]["emailAddress"]))

    def complained(sender: Any, mail_obj: Any, complaint_obj: Any, **_: Any) -> None:
        seen.append(("complaint", complaint_obj["complaintFeedbackType"]))

    bounce_received.connect(bounced)
    complaint_received.connect(complained)
    clear_cert_cache()
    # It knows signatures of version 1 alone.
    relay.run("topic", "create", "events", "--account", DELEGATE, "--signature-version", "1")
    trusted = relay.environment["RELAY_HTTP__PUBLIC_URL"].removeprefix("https://")
    with override_settings(AWS_SNS_EVENT_CERT_TRUSTED_DOMAINS=[trusted]):
        async with Receiver(say=consumer("/ses/")).running() as receiver:
            arn = subscribe(relay, "http", receiver.url)["subscription_arn"]
            relay.run("topic", "confirm", arn)  # it fetches no SubscribeURL but Amazon's
            put(relay, arn, body=json.dumps(BOUNCE))
            put(relay, arn, body=json.dumps(COMPLAINT))
            await until(lambda: len(seen) == 2)
    assert sorted(seen) == [("bounce", "nobody@customer.example"), ("complaint", "abuse")]


async def test_django_ses_refuses_what_another_signed(relay: Gateway):
    clear_cert_cache()
    relay.run("topic", "create", "events", "--account", DELEGATE, "--signature-version", "1")
    with override_settings(AWS_SNS_EVENT_CERT_TRUSTED_DOMAINS=["another.example"]):
        async with Receiver(say=consumer("/ses/")).running() as receiver:
            arn = subscribe(relay, "http", receiver.url)["subscription_arn"]
            relay.run("topic", "confirm", arn)
            put(relay, arn, body=json.dumps(BOUNCE))
            await until(lambda: _last_error(relay) == "400 Signature verification failed.")


def _last_error(relay: Gateway) -> Any:
    [one] = relay.run("topic", "show", TOPIC)["subscriptions"]
    return one["last_error"]
