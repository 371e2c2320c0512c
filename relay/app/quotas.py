"""The quotas that the settings give to accounts without numbers of their own."""

from __future__ import annotations

from relay.quotas.window import Quota, QuotaDefaults
from relay.settings import Settings


def quota_defaults(settings: Settings) -> QuotaDefaults:
    quota = settings.quota
    return QuotaDefaults(
        production=Quota(quota.production_24h, quota.production_rate),
        sandbox=Quota(quota.sandbox_24h, quota.sandbox_rate),
    )
