"""Every request of the AWS protocols: told apart, read, signed by whom, allowed, done, answered.

    POST /             Query protocol; Version says which service (SES v1, SNS, STS)
    *    /v2/email/…   REST-JSON of SES v2; verb and path say which operation

The steps of ``_answer`` are the same for every operation; what each does stands in ``operations``.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from botocore.model import OperationModel

from relay.api import errors, models, sigv4
from relay.api.access import Access, denial, is_allowed
from relay.api.large import LARGE_BYTES
from relay.api.operations import OPERATIONS
from relay.api.throttle import Throttle
from relay.api.validation import validate
from relay.api.values import APIError, Caller, Target
from relay.api.wire import Wire, is_json, unread, wire_of
from relay.authorization.context import Circumstances, context_of_call
from relay.control.authentication import KeyHolders
from relay.control.ground import ControlError, Ground
from relay.httpd import Request, Response, Route
from relay.intake import Intake
from relay.maillog import Log
from relay.submission.submission import Client

_PREFIX = "/v2/email/"
# A message of 40 MB in base64 with what stands around it (SES API v2: 40 MB after encoding).
_OVERHEAD_BYTES = 1024 * 1024
_UNSIGNED = frozenset({"ConfirmSubscription", "Unsubscribe"})
_SMALL_BYTES = 16 * 1024
# v1 takes 10 MB; in a form some octets of base64 are written as three.
_MOST_V1_BYTES = 10 * 1024 * 1024 * 4 // 3 * 5 // 4


@dataclass(frozen=True, slots=True)
class APISettings:
    """What the operator fixed.  ``calls_per_second`` is of management calls of one account; 0 is any."""

    region: str
    max_message_bytes: int
    calls_per_second: int


class Front:
    """The AWS-compatible surface of one worker process."""

    def __init__(
        self,
        settings: APISettings,
        holders: KeyHolders,
        ground: Ground,
        intake: Intake,
        unsigned: Callable[[Request], Awaitable[Response]],
        unavailable: type[Exception],
        log: Log,
    ) -> None:
        self._settings = settings
        self._holders = holders
        self._ground = ground
        self._intake = intake
        self._unsigned = unsigned
        self._unavailable = unavailable
        self._log = log
        self._throttle = Throttle(settings.calls_per_second)

    def routes(self) -> tuple[Route, ...]:
        most = self._settings.max_message_bytes * 4 // 3 + _OVERHEAD_BYTES
        verbs = frozenset({"GET", "POST", "PUT", "DELETE"})
        return (
            Route("/", frozenset({"GET", "POST"}), self.respond, min(most, _MOST_V1_BYTES), unread),
            Route(f"{_PREFIX}{{rest:path}}", verbs, self.respond, most, unread),
        )

    async def respond(self, incoming: Request) -> Response:
        """Answer one request; whatever goes wrong inside is answered as our trouble."""
        if _is_unsigned_call(incoming):
            return await self._unsigned(incoming)
        wire = wire_of(incoming)
        try:
            model, output = await self._answer(wire, incoming)
            return wire.answer(model, output)
        except APIError as error:
            return wire.refusal(error)
        except ControlError as error:
            return wire.refusal(errors.of_control(error, wire.service))
        except self._unavailable as error:
            self._log("unavailable", level="error", error=str(error))
            return wire.refusal(APIError("ServiceUnavailable", "Try again later."))
        except Exception:
            self._log("call failed", level="error", id=wire.request_id, traceback=traceback.format_exc())
            return wire.refusal(APIError("InternalFailure", "Something went wrong here; the log says what."))

    async def _answer(self, wire: Wire, incoming: Request) -> tuple[OperationModel, dict[str, Any]]:
        caller, signed_for = await self._authenticate(incoming)
        await wire.read()
        model, in_path = wire.operation()
        if signed_for != models.SIGNING_NAMES[wire.service]:
            raise sigv4.wrong_scope(caller.region, models.SIGNING_NAMES[wire.service])
        operation = OPERATIONS.get((wire.service, model.name))
        if operation is None:
            raise APIError("InvalidAction", f"{model.name} is not offered here; see docs/api.md for what is.")
        if operation.action is not None and not self._throttle.admits(caller.account_id, time.monotonic()):
            raise APIError("Throttling", "Rate exceeded")
        given = wire.decode(model, in_path)
        validate(given, model.input_shape)
        if operation.action is not None:
            await self._authorize(operation.action, operation.target(caller, given), caller)
        return model, await operation.run(caller, given)

    async def _authenticate(self, incoming: Request) -> tuple[Caller, str]:
        """Who signed the request, and for which service; an unknown key reads as one that is switched off."""
        at = time.time_ns() // 1000
        path = incoming.raw_path.decode("latin-1")
        headers = _joined(incoming.headers)
        request = sigv4.Request(incoming.method, path, incoming.query, headers, "", at)
        claim = sigv4.claim_of(request)
        holder = await self._holders.find(claim.access_key_id)
        if holder is None or not holder.may_act_from(incoming.client):
            raise sigv4.unknown_token()
        request = replace(request, body_hash=await _hash(incoming.body))
        sigv4.check(claim, request, holder.secret, self._settings.region)
        protocol, tls = ("HTTPS", "TLS") if incoming.is_tls else ("HTTP", None)
        client = Client(incoming.client, "", protocol, tls, incoming.header("user-agent"))
        ground = replace(self._ground, actor=holder.principal.arn)
        return Caller(holder.principal, ground, client, at, self._intake), claim.service

    async def _authorize(self, action: str, target: Target, caller: Caller) -> None:
        """The sender's policies and, of an identity, its own; APIError if they do not allow the call."""
        client = caller.client
        about = Circumstances(caller.at, client.source_ip, client.is_secure, client.user_agent, caller.region)
        context = context_of_call(caller.principal, about)
        access = Access(caller.principal, action, target.arn, target.account_id, context)
        own, of_identity = await self._holders.policies(caller.principal, target.account_id, target.identity)
        if not is_allowed(access, own, of_identity):
            raise APIError("AccessDenied", denial(access))


async def _hash(body: bytes | bytearray) -> str:
    """A large body is hashed beside the loop; OpenSSL lets go of the interpreter meanwhile."""
    digest = sha256(body) if len(body) <= LARGE_BYTES else await asyncio.to_thread(sha256, body)
    return digest.hexdigest()


def _is_unsigned_call(incoming: Request) -> bool:
    """SNS takes a few calls from whoever has the token in them."""
    if is_json(incoming.raw_path) or incoming.header("authorization") or "X-Amz-" in incoming.query:
        return False
    given = incoming.query_fields()
    if incoming.method == "POST" and len(incoming.body) <= _SMALL_BYTES:
        given |= incoming.form_fields()
    return given.get("Action") in _UNSIGNED


def _joined(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Headers by name; the values of one that is repeated stand in their order."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found
