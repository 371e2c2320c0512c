"""Which protocol a request speaks, and one face for both."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Protocol

from botocore.model import OperationModel

from relay.api import errors, models, query, restjson
from relay.api.large import LARGE_BYTES, Slimmed, slimmed_form, slimmed_json
from relay.api.values import APIError
from relay.httpd import Request, Response

_JSON_PREFIX = "/v2/email/"


class Wire(Protocol):
    """A request as its protocol reads it, and how its answers are written."""

    service: str
    request_id: str

    async def read(self) -> None:
        """Look at the body, before anything else is asked of it."""

    def operation(self) -> tuple[OperationModel, dict[str, str]]:
        """The operation asked for, and members that stand outside the body; APIError if there is none."""

    def decode(self, operation: OperationModel, in_path: dict[str, str]) -> dict[str, Any]:
        """The operation's input."""

    def answer(self, operation: OperationModel, output: dict[str, Any]) -> Response: ...

    def refusal(self, error: APIError) -> Response: ...


def wire_of(request: Request) -> Wire:
    """The protocol of a request, as AWS tells them apart: by the path."""
    request_id = str(uuid.uuid4())
    if is_json(request.raw_path):
        return _RestJSON(request, request_id)
    return _Query(request, request_id)


def is_json(raw_path: bytes) -> bool:
    return raw_path.startswith(_JSON_PREFIX.encode())


def unread(status: int, text: str, raw_path: bytes) -> Response:
    """The answer to a request whose body was not taken."""
    request_id = str(uuid.uuid4())
    code = {408: "RequestTimeout", 413: "RequestEntityTooLarge"}.get(status, "MalformedInput")
    if is_json(raw_path):
        return restjson.encode_error(f"{code}Exception", text, status, request_id)
    namespace = models.service(models.SES).metadata["xmlNamespace"]
    return query.encode_error(code, text, status, namespace, request_id)


@dataclass(slots=True)
class _RestJSON:
    request: Request
    request_id: str
    service: str = models.SESV2
    _slimmed: Slimmed | None = None

    async def read(self) -> None:
        if len(self.request.body) > LARGE_BYTES:
            self._slimmed = await slimmed_json(self.request.body)

    def operation(self) -> tuple[OperationModel, dict[str, str]]:
        path = self.request.raw_path.decode("latin-1")
        found = restjson.route(self.service, self.request.method, path)
        if found is None:
            raise APIError("InvalidAction", f"There is no {self.request.method} {path[:200]}")
        return found

    def decode(self, operation: OperationModel, in_path: dict[str, str]) -> dict[str, Any]:
        return restjson.decode(self.request, operation, in_path, self._slimmed)

    def answer(self, operation: OperationModel, output: dict[str, Any]) -> Response:
        return restjson.encode(output, operation, self.request_id)

    def refusal(self, error: APIError) -> Response:
        told = errors.on_the_wire(error, self.service)
        return restjson.encode_error(told.code, told.message, told.status, self.request_id)


@dataclass(slots=True)
class _Query:
    """``Action`` and ``Version`` stand in the body or, of a GET, in the query string."""

    request: Request
    request_id: str
    service: str = models.SES
    _given: dict[str, str] = field(default_factory=dict)

    async def read(self) -> None:
        body = self.request.body
        if self.request.method == "GET":
            self._given = query.parameters(self.request.query)
        elif len(body) <= LARGE_BYTES:
            self._given = query.parameters(body.decode("latin-1"))
        else:
            slimmed = await slimmed_form(body)
            self._given = slimmed.restored(query.parameters(slimmed.body.decode("latin-1")))

    def operation(self) -> tuple[OperationModel, dict[str, str]]:
        name, version = self._given.get("Action"), self._given.get("Version", "2010-12-01")
        if name is None:
            raise APIError("MissingAction", "The request names no Action.")
        if version not in models.QUERY_VERSIONS:
            raise APIError("InvalidAction", f"There is no API of version {version[:40]} here.")
        self.service = models.QUERY_VERSIONS[version]
        found = models.operation(self.service, name)
        if found is None:
            raise APIError("InvalidAction", f"Could not find operation {name[:80]} for version {version}")
        return found, {}

    def decode(self, operation: OperationModel, in_path: dict[str, str]) -> dict[str, Any]:
        return query.decode(self._given, operation)

    def answer(self, operation: OperationModel, output: dict[str, Any]) -> Response:
        return query.encode(output, operation, self.request_id)

    def refusal(self, error: APIError) -> Response:
        told = errors.on_the_wire(error, self.service)
        namespace = models.service(self.service).metadata["xmlNamespace"]
        return query.encode_error(told.code, told.message, told.status, namespace, self.request_id)
