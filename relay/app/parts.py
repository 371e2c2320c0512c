"""Every part of a worker process, made from the settings and joined to the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from relay.api.front import APISettings, Front
from relay.app.control import ground_on, quota_defaults
from relay.app.outside import Outside
from relay.app.posting import build_poster
from relay.app.readiness import Readiness
from relay.app.return_paths import ReturnPaths
from relay.app.shelf import Shelf
from relay.app.tls import Renewal, files, load_pair
from relay.app.token import metrics_token
from relay.authorization.decision import Rules
from relay.console.confirmation import ConfirmationPages
from relay.console.sns import SNSDesk
from relay.control.authentication import Authenticator, KeyHolders
from relay.control.ground import Ground
from relay.control.reputation import ReputationWatch
from relay.control.revocation import Revocations
from relay.control.verification import Watch
from relay.delivery.line import ReuseLimits
from relay.delivery.policies import Policies
from relay.delivery.route import Destination, Route, Routes, TLSMode
from relay.delivery.worker import DeliverySettings, DeliveryWorker
from relay.feedback.bounces import BounceMail
from relay.feedback.choices import Choices
from relay.feedback.dispatcher import Dispatcher
from relay.feedback.pace import Pace
from relay.feedback.poster import Poster
from relay.httpd import HTTPListener
from relay.httpd import Route as HTTPRoute
from relay.intake import Intake, IntakeSettings
from relay.maillog import Log
from relay.outcome.schedule import RetryPolicy
from relay.queue.claims import Claims
from relay.queue.ids import Ids
from relay.queue.notifications import Notifications
from relay.queue.outbox import Outbox
from relay.queue.refusals import Refusals
from relay.queue.reports import Reports
from relay.queue.retention import Retention
from relay.queue.revocation import Revoked
from relay.queue.sealer import Sealer
from relay.queue.settlement import Settlement
from relay.queue.simulation import Simulation
from relay.queue.spool import Spool
from relay.queue.values import Claimed, Consignment, Lease, QueuedMessage, Settled, StoreUnavailable
from relay.queue.writer import GroupWriter
from relay.reports.handler import ReportHandler, ReportSettings
from relay.reports.session import ReportSession
from relay.resolver import Resolver
from relay.session.handler import Handler, SessionSettings
from relay.session.listener import Listener
from relay.session.smtp import SMTPSession
from relay.settings import RouteSection, Settings, parse_endpoint
from relay.signer import multibuffer
from relay.signer.batch import Signer
from relay.store.directory import Directory
from relay.store.engine import Store
from relay.store.secrets import Secrets
from relay.submission.principal import Network, parse_network

_REPORT_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Parts:
    """What a worker starts and stops."""

    writer: GroupWriter
    directory: Directory
    intake: Intake
    delivery: DeliveryWorker
    feedback: Dispatcher
    poster: Poster
    retention: Retention
    verification: Watch
    revocations: Revocations | None
    renewal: Renewal
    reputation: ReputationWatch
    sealer: Sealer
    listener: Listener[Handler]
    reports: Listener[ReportHandler]
    readiness: Readiness
    http: HTTPListener


@dataclass(frozen=True, slots=True)
class _Queue:
    """The queue as delivery sees it."""

    spool: Spool
    claims: Claims
    settlement: Settlement

    def settle(self, settled: Sequence[Settled]) -> asyncio.Future[None]:
        return self.settlement.settle(settled)

    async def claim(self, limit: int, but: Collection[str]) -> Claimed:
        return await self.claims.claim(limit, but)

    async def release(self, consignments: Sequence[Consignment]) -> None:
        await self.claims.release(consignments)

    async def postpone(self, consignments: Sequence[Consignment], seconds: float) -> None:
        await self.claims.postpone(consignments, seconds)

    async def leased(self) -> dict[tuple[int, int], int]:
        return await self.claims.leased()

    async def give_back(self, keys: Collection[tuple[int, int]]) -> None:
        await self.claims.give_back(keys)

    def body(self, of: QueuedMessage) -> AsyncIterator[bytes]:
        return self.spool.body(of)


@dataclass(frozen=True, slots=True)
class _Ground:
    """What the parts have in common."""

    settings: Settings
    store: Store
    secrets: Secrets
    lease: Lease
    log: Log
    ids: Ids
    writer: GroupWriter
    directory: Directory
    dns: Resolver

    def acting_as(self, actor: str) -> Ground:
        """What an operation of the control plane stands on."""
        made = ground_on(self.settings, self.store, self.secrets, actor)
        return replace(made, new_id=self.ids.next)


def build(settings: Settings, store: Store, secrets: Secrets, lease: Lease, log: Log) -> Parts:
    """The parts of one worker process, not started."""
    quotas, most = quota_defaults(settings), settings.store.cache_bytes
    directory = Directory(store, secrets, _rules(settings), quotas, most)
    dns = Resolver(settings.dns.servers, settings.dns.timeout_seconds)
    ids, writer = Ids(lease.worker_id), GroupWriter(store)
    on = _Ground(settings, store, secrets, lease, log, ids, writer, directory, dns)
    spool = Spool(store, writer, ids.next)
    simulation = Simulation(settings.relay.hostname, settings.delivery.expire_seconds, ids.next)
    settlement = Settlement(writer, ids.next, simulation)
    delivery = _delivery(on, spool, settlement)
    return_paths = ReturnPaths(settings.bounce, secrets)
    intake = _intake(on, spool, delivery, return_paths)
    poster = build_poster(settings, store, secrets, Notifications(store, writer, lease), dns, ids.next, log)
    pair = load_pair(*files(settings))
    readiness = Readiness(intake, writer)
    verifying = on.acting_as("relay:verification")
    judging = on.acting_as("relay:reputation")
    return Parts(
        writer=writer,
        directory=directory,
        intake=intake,
        delivery=delivery,
        feedback=_feedback(on, delivery, poster),
        poster=poster,
        retention=Retention(writer, settings.retention.days, settlement.finished),
        verification=Watch(verifying, verifying.dns(), log),
        revocations=_revocations(on),
        reputation=ReputationWatch(judging, settings.reputation.check_seconds, log),
        sealer=Sealer(store, writer),
        renewal=Renewal(files(settings), pair, log),
        listener=Listener(_handler(on, intake), SMTPSession, pair.context),
        reports=Listener(_hearing(on, intake, return_paths), ReportSession, pair.context),
        readiness=readiness,
        http=HTTPListener(
            _routes_of_http(on, intake, readiness), pair.context, _networks(settings.http.proxy_from), log
        ),
    )


def _delivery(on: _Ground, spool: Spool, settlement: Settlement) -> DeliveryWorker:
    queue = _Queue(spool, Claims(on.store, on.writer, on.lease), settlement)
    policies = _policies(on.settings, on.dns, Shelf(on.store, on.writer), on.log)
    return DeliveryWorker(_delivery_settings(on.settings), queue, on.dns, on.log, random.random, policies)


def _intake(on: _Ground, spool: Spool, delivery: DeliveryWorker, return_paths: ReturnPaths) -> Intake:
    return Intake(
        _intake_settings(on.settings, return_paths),
        on.directory,
        on.writer,
        spool,
        Signer(multibuffer.load(), on.log),
        Refusals(on.writer),
        on.lease,
        on.ids.next,
        delivery.offer,
        delivery.has_room,
        on.log,
    )


def _feedback(on: _Ground, delivery: DeliveryWorker, poster: Poster) -> Dispatcher:
    settings = on.settings
    return Dispatcher(
        Outbox(on.store, on.writer, on.lease),
        Choices(on.store),
        BounceMail(settings.relay.hostname, settings.delivery.expire_seconds, on.ids.next),
        on.ids.next,
        poster.wake,
        Pace(),
        on.lease,
        delivery.offer,
        delivery.has_room,
        on.log,
    )


def _handler(on: _Ground, intake: Intake) -> Handler:
    authenticate = Authenticator(on.directory).authenticate
    return Handler(_session_settings(on.settings), intake, authenticate, StoreUnavailable, on.log)


def _hearing(on: _Ground, intake: Intake, return_paths: ReturnPaths) -> ReportHandler:
    return ReportHandler(
        _report_settings(on.settings),
        return_paths.keys,
        Reports(on.store, on.writer, on.ids.next, on.lease.worker_id),
        lambda: intake.low_disk,
        on.log,
    )


def _revocations(on: _Ground) -> Revocations | None:
    """Nothing looks at queued mail where it goes on anyway."""
    revoked = on.settings.delivery.revoked
    if revoked == "release":
        return None
    around = (_rules(on.settings), on.store, on.writer, on.directory, on.lease, on.ids.next, on.log)
    return Revocations(Revoked(revoked), *around)


def _routes_of_http(on: _Ground, intake: Intake, readiness: Readiness) -> tuple[HTTPRoute, ...]:
    outside = Outside(on.store, readiness.why_not, metrics_token(on.settings))
    pages = ConfirmationPages(on.acting_as("http:confirm"), on.log)
    desk = SNSDesk(on.acting_as("http:sns"), on.log)
    front = Front(
        _api_settings(on.settings),
        KeyHolders(on.directory),
        on.acting_as("api"),
        intake,
        desk.answer,
        StoreUnavailable,
        on.log,
    )
    return (*outside.routes(), *pages.routes(), *desk.routes(), *front.routes())


def _rules(settings: Settings) -> Rules:
    return Rules(settings.relay.region, settings.sandbox.owner_too, settings.simulator.domain)


def _intake_settings(settings: Settings, return_paths: ReturnPaths) -> IntakeSettings:
    return IntakeSettings(
        hostname=settings.relay.hostname,
        rules=_rules(settings),
        max_recipients=settings.smtp.max_recipients,
        max_message_bytes=settings.smtp.max_message_bytes,
        max_arriving_bytes=settings.smtp.max_arriving_bytes,
        expire_seconds=settings.delivery.expire_seconds,
        replaces_identity_fields=settings.relay.dialect == "ses",
        return_paths=return_paths.issuer if settings.bounce.listen else None,
    )


def _report_settings(settings: Settings) -> ReportSettings:
    # A report may have the whole message in it that it is about.
    most = settings.smtp.max_message_bytes + _REPORT_BYTES
    return ReportSettings(
        settings.relay.hostname,
        most,
        settings.smtp.idle_seconds,
        proxies=_networks(settings.smtp.proxy_from),
    )


def _networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(map(parse_network, texts))


def _api_settings(settings: Settings) -> APISettings:
    return APISettings(
        region=settings.relay.region,
        max_message_bytes=settings.smtp.max_message_bytes,
        calls_per_second=settings.api.calls_per_second,
    )


def _session_settings(settings: Settings) -> SessionSettings:
    smtp = settings.smtp
    return SessionSettings(
        hostname=settings.relay.hostname,
        max_message_bytes=smtp.max_message_bytes,
        max_connections=smtp.max_connections,
        max_connections_per_address=smtp.max_connections_per_address,
        idle_seconds=smtp.idle_seconds,
        max_auth_failures=smtp.max_auth_failures,
        max_auth_failures_per_address=smtp.max_auth_failures_per_address,
        auth_failures_seconds=smtp.auth_failures_seconds,
        proxies=_networks(smtp.proxy_from),
        allow_plaintext_auth=smtp.allow_plaintext_auth,
        enhanced_status_codes=smtp.enhanced_status_codes,
    )


def _delivery_settings(settings: Settings) -> DeliverySettings:
    delivery = settings.delivery
    return DeliverySettings(
        hostname=settings.relay.hostname,
        routes=_routes(settings),
        retry=RetryPolicy(
            first_seconds=delivery.retry_first_seconds,
            max_seconds=delivery.retry_max_seconds,
            delay_notice_seconds=delivery.delay_notice_seconds,
        ),
        reuse=ReuseLimits(
            connections=delivery.connections,
            messages=delivery.connection_messages,
            seconds=delivery.connection_seconds,
        ),
        lanes=max(delivery.connections_in_all, delivery.connections),
        simulator_domain=settings.simulator.domain,
    )


def _routes(settings: Settings) -> Routes:
    delivery = settings.delivery
    default = RouteSection(
        smarthost=delivery.smarthost,
        tls=delivery.smarthost_tls,
        user=delivery.smarthost_user,
        password_file=delivery.smarthost_password_file,
    )
    return Routes(
        default=_route(settings, default),
        routes=tuple(_route(settings, one) for one in delivery.routes),
        port=delivery.port,
        ca_file=_ca_file(settings),
    )


def _route(settings: Settings, route: RouteSection) -> Route:
    tls = TLSMode(route.tls)
    if not route.smarthost:
        return Route(None, tls, route.domain, route.account)
    host, port = parse_endpoint(route.smarthost)
    password = ""
    if route.password_file:
        password = settings.path(route.password_file).read_text(encoding="utf-8").rstrip("\n")
    to = Destination(host, port, tls, route.user, password, _ca_file(settings))
    return Route(to, tls, route.domain, route.account)


def _policies(settings: Settings, dns: Resolver, shelf: Shelf, log: Log) -> Policies | None:
    wanted = settings.delivery.mta_sts
    if wanted == "off":
        return None
    return Policies(dns, shelf, log, ca_file=_ca_file(settings), allow_private=wanted == "private")


def _ca_file(settings: Settings) -> str:
    return str(settings.path(settings.delivery.ca_file)) if settings.delivery.ca_file else ""
