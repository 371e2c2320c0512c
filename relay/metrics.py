"""Counters and histograms, by their Prometheus names.  No label holds an address."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

ACCEPTED = Counter("relay_accepted_total", "Messages accepted: durable and answered 250.")
REFUSED = Counter("relay_refused_total", "Messages refused, by reason.", ["reason"])
UNSIGNED = Counter("relay_unsigned_total", "Messages accepted that go out without a DKIM signature.")
ACCEPT_SECONDS = Histogram(
    "relay_accept_seconds",
    "From the end of the data to the answer.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
CONNECTIONS = Gauge("relay_connections", "Open connections of SMTP clients.")
AUTH_FAILURES = Counter("relay_auth_failures_total", "Failed logins.")
