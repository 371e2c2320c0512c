"""What posts notifications, made from the settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from relay.feedback.aws import AWS
from relay.feedback.email import Email
from relay.feedback.file import File
from relay.feedback.http import HTTP
from relay.feedback.pace import Pace
from relay.feedback.poster import Poster, PosterSettings
from relay.feedback.posting import Way
from relay.feedback.signer import Signer
from relay.feedback.webhook import Webhook
from relay.httpc import Client
from relay.maillog import Log
from relay.outcome.schedule import RetryPolicy
from relay.queue.notifications import Notifications
from relay.resolver import DNS
from relay.settings import Settings
from relay.store.engine import Store
from relay.store.secrets import Secrets

# Of each kind: those that write files must not wait for those that wait for AWS.
_THREADS = 8


def build_poster(
    settings: Settings,
    store: Store,
    secrets: Secrets,
    notifications: Notifications,
    dns: DNS,
    next_id: Callable[[], int],
    log: Log,
) -> Poster:
    """The poster of one worker process, not started."""
    webhooks, seconds = settings.webhooks, float(settings.webhooks.timeout_seconds)
    ca_file = str(settings.path(webhooks.ca_file)) if webhooks.ca_file else ""
    allowed = [ipaddress.ip_network(one) for one in webhooks.allow]
    client = Client(dns, allowed, "[webhooks] allow", ca_file)
    signer = Signer(store, secrets, settings.http.public_url, next_id)
    http = HTTP(client, signer, secrets, seconds)
    aws = AWS(signer, webhooks.aws_endpoint_url, seconds, ThreadPoolExecutor(_THREADS, "aws"))
    ways: dict[str, Way] = {
        "http": http,
        "https": http,
        "webhook": Webhook(client, secrets, seconds),
        "email": Email(
            settings.relay.hostname, settings.http.public_url, settings.delivery.expire_seconds, next_id
        ),
        "file": File(settings.file_directory, ThreadPoolExecutor(_THREADS, "file")),
        "sns": aws,
        "sqs": aws,
    }
    return Poster(_poster_settings(settings), store, notifications, ways, Pace(), log)


def _poster_settings(settings: Settings) -> PosterSettings:
    webhooks = settings.webhooks
    return PosterSettings(
        region=settings.relay.region,
        connections=webhooks.connections,
        connections_in_all=webhooks.connections_in_all,
        retry=RetryPolicy(webhooks.retry_first_seconds, webhooks.retry_max_seconds),
        give_up_seconds=webhooks.give_up_seconds,
        dead_seconds=webhooks.dead_seconds,
    )
