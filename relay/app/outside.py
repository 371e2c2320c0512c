"""What is seen of the gateway by HTTP: whether it lives, whether it takes mail, what it counts."""

from __future__ import annotations

import asyncio
import hmac
import math
import time
from collections.abc import Callable

from relay import metrics
from relay.httpd import Request, Response, Route, plain
from relay.queue import views
from relay.store.engine import Store, StoreUnavailable

ALIVE = "relay: alive"
_READ = frozenset({"GET"})
# The queue is read at most so often, and for at most a twentieth of the time.
_LOOK_SECONDS = 5.0
_LOOK_SHARE = 20
# A store that is away must not keep the other figures from who asks.
_PATIENCE_SECONDS = 2.0


class Outside:
    """Answers for one worker process; ``why_not`` says why no mail is taken at present, or None."""

    def __init__(self, store: Store, why_not: Callable[[], str | None], token: str) -> None:
        self._store = store
        self._why_not = why_not
        self._token = token
        self._look: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    def routes(self) -> tuple[Route, ...]:
        return (
            Route("/healthz", _READ, self._health),
            Route("/readyz", _READ, self._ready),
            Route("/metrics", _READ, self._metrics),
        )

    async def _health(self, _request: Request) -> Response:
        return plain(200, ALIVE)

    async def _ready(self, _request: Request) -> Response:
        reason = self._why_not()
        return plain(200, "relay: ready") if reason is None else plain(503, f"relay: {reason}")

    async def _metrics(self, request: Request) -> Response:
        if not self._token and not request.is_local:
            return plain(403, "Metrics are for this machine alone unless [http] metrics_token_file is set.")
        if self._token and not _shows(request, self._token):
            return plain(
                401, "The token of [http] metrics_token_file is wanted.", {"www-authenticate": "Bearer"}
            )
        async with self._turn:
            await self._see_queue()
            exposition = await asyncio.to_thread(metrics.exposition)
        return Response(200, exposition, metrics.CONTENT_TYPE)

    async def _see_queue(self) -> None:
        """Have the figures of the queue brought up to date, without waiting long for it."""
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(asyncio.to_thread(look_at_queue, self._store))
        await asyncio.wait([self._look], timeout=_PATIENCE_SECONDS)


def _shows(request: Request, token: str) -> bool:
    shown = request.header("authorization") or ""
    return hmac.compare_digest(shown.encode("latin-1"), f"Bearer {token}".encode())


def look_at_queue(store: Store) -> None:
    """Count what waits in each state, unless a worker of this node did lately; NaN if nobody can."""
    for state, look_at in metrics.QUEUE_LOOK_AT.items():
        began = time.monotonic()
        if began < look_at.value:
            continue
        look_at.set(began + _LOOK_SECONDS)  # the others need not look meanwhile
        try:
            with store.read() as connection:
                count, oldest = views.depth(connection, state)
        except StoreUnavailable:
            _show(state, math.nan, math.nan)
        else:
            _show(state, count, 0.0 if oldest is None else max(time.time() - oldest / 1_000_000, 0.0))
        ended = time.monotonic()
        look_at.set(ended + max(_LOOK_SECONDS, (ended - began) * _LOOK_SHARE))


def _show(state: str, count: float, age_seconds: float) -> None:
    metrics.QUEUE_RECIPIENTS.labels(state).set(count)
    metrics.QUEUE_OLDEST_SECONDS.labels(state).set(age_seconds)
