"""What the settings say to control-plane operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.control.ground import Ground
from relay.control.proof import Intervals
from relay.control.subscribing import Subscribing
from relay.outcome.reputation import Limits
from relay.quotas.window import Quota, QuotaDefaults
from relay.settings import Settings
from relay.store.engine import Store
from relay.store.secrets import Secrets

if TYPE_CHECKING:
    from relay.resolver import DNS


def ground_on(settings: Settings, store: Store, secrets: Secrets, actor: str) -> Ground:
    """What control-plane operations stand on, on a store that is open."""
    verification = settings.verification
    return Ground(
        store,
        secrets,
        settings.relay.region,
        actor,
        settings.sandbox.owner_too,
        quota_defaults(settings),
        Intervals(
            verification.pending_seconds,
            verification.verified_seconds,
            verification.give_up_seconds,
            verification.confirm_seconds,
        ),
        lambda: _resolver(settings),
        settings.relay.hostname,
        simulator_domain=settings.simulator.domain,
        public_url=settings.http.public_url,
        reputation=_limits(settings),
        hears_reports=bool(settings.bounce.listen),
        subscribing=Subscribing(settings.file_directory, settings.webhooks.confirm_seconds),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(**settings.reputation.model_dump(exclude={"check_seconds"}))


def _resolver(settings: Settings) -> DNS:
    from relay.resolver import Resolver  # slow to import, and few commands ask DNS

    return Resolver(settings.dns.servers, settings.dns.timeout_seconds)


def quota_defaults(settings: Settings) -> QuotaDefaults:
    """The quotas of accounts that have no numbers of their own."""
    quota = settings.quota
    return QuotaDefaults(
        production=Quota(quota.production_24h, quota.production_rate),
        sandbox=Quota(quota.sandbox_24h, quota.sandbox_rate),
    )
