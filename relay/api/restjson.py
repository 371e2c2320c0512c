"""The REST-JSON protocol: verb, path, query string and JSON body in, JSON out, by the model's shapes."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from relay.api import models, scalars
from relay.api.large import Slimmed
from relay.api.values import APIError
from relay.httpd import Request, Response

_DEEPEST = 30
_JSON = "application/json"


@cache
def _routes(service: str) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    """(verb, pattern of the path, operation); fixed paths before those with a member in the same place."""
    model = models.service(service)
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = http["requestUri"].partition("?")[0]
        found.append((path.count("{"), http["method"], _pattern(path), name))
    found.sort(key=lambda one: one[0])
    return tuple((method, pattern, name) for _, method, pattern, name in found)


def _pattern(path: str) -> re.Pattern[str]:
    """``/v2/email/identities/{EmailIdentity}`` as a pattern with a group for each member."""
    parts = (
        f"(?P<{part[1:-1].rstrip('+')}>{'.+' if part.endswith('+}') else '[^/]+'})"
        if part.startswith("{")
        else re.escape(part)
        for part in re.split(r"(\{[^}]+\})", path)
    )
    return re.compile(f"{''.join(parts)}/?")


def route(service: str, method: str, path: str) -> tuple[OperationModel, dict[str, str]] | None:
    """The operation that a request is for, and the members that its path holds, decoded."""
    for verb, pattern, name in _routes(service):
        found = pattern.fullmatch(path) if verb == method else None
        if found:
            operation = models.operation(service, name)
            assert operation is not None
            return operation, {key: unquote(value) for key, value in found.groupdict().items()}
    return None


def decode(
    request: Request, operation: OperationModel, in_path: dict[str, str], slimmed: Slimmed | None = None
) -> dict[str, Any]:
    """The input of an operation; ``slimmed`` is the body of a large one."""
    shape = operation.input_shape
    if shape is None:
        return {}
    query = parse_qs(request.query, keep_blank_values=True)
    body = _body(request.body) if slimmed is None else slimmed.restored(_body(slimmed.body))
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        wire_name = member.serialization.get("name", name)
        location = member.serialization.get("location")
        if location == "uri":
            found[name] = scalars.from_text(in_path[wire_name], member, name)
        elif location == "querystring" and wire_name in query:
            found[name] = _from_query(query[wire_name], member, name)
        elif location is None and body.get(wire_name) is not None:
            found[name] = _value(body[wire_name], member, name)
    return found


def _body(octets: bytes | bytearray) -> dict[str, Any]:
    if not octets or octets.isspace():
        return {}
    try:
        body = orjson.loads(octets)
    except orjson.JSONDecodeError:
        raise APIError("MalformedInput", "The body is not JSON.") from None
    if not isinstance(body, dict):
        raise APIError("MalformedInput", "The body is not a JSON object.")
    return body


def _from_query(values: list[str], shape: Shape, name: str) -> Any:
    if isinstance(shape, ListShape):
        return [scalars.from_text(one, shape.member, name) for one in values]
    return scalars.from_text(values[-1], shape, name)


def _value(value: Any, shape: Shape, name: str, depth: int = 0) -> Any:
    if depth > _DEEPEST:
        raise APIError("MalformedInput", f"{name}: nested too deeply")
    if isinstance(shape, StructureShape):
        return _structure(_of_type(value, dict, name), shape, depth + 1)
    if isinstance(shape, ListShape):
        return [_value(one, shape.member, name, depth + 1) for one in _of_type(value, list, name)]
    if isinstance(shape, MapShape):
        items = _of_type(value, dict, name).items()
        return {key: _value(one, shape.value, name, depth + 1) for key, one in items}
    return scalars.from_json(value, shape, name)


def _structure(value: dict[str, Any], shape: StructureShape, depth: int) -> dict[str, Any]:
    """Unknown members are passed over, as AWS does; null is the same as absent."""
    return {
        name: _value(value[wire_name], member, name, depth)
        for name, member in shape.members.items()
        if value.get(wire_name := member.serialization.get("name", name)) is not None
    }


def _of_type(value: Any, wanted: type, name: str) -> Any:
    if not isinstance(value, wanted):
        kind = "an object" if wanted is dict else "a list"
        raise APIError("MalformedInput", f"{name}: {kind} is expected")
    return value


# ---------------------------------------------------------------- answers


def encode(output: dict[str, Any], operation: OperationModel, request_id: str) -> Response:
    """The answer to a call that succeeded."""
    shape = operation.output_shape
    body = _object(output, shape) if shape is not None else {}
    return Response(200, orjson.dumps(body), _JSON, {"x-amzn-RequestId": request_id})


def encode_error(code: str, message: str, status: int, request_id: str) -> Response:
    """The answer to one that did not; the code stands in a header, the text under SES's ``message``."""
    headers = {"x-amzn-RequestId": request_id, "x-amzn-ErrorType": code}
    return Response(status, orjson.dumps({"message": message}), _JSON, headers)


def _object(value: dict[str, Any], shape: StructureShape) -> dict[str, Any]:
    return {
        member.serialization.get("name", name): _encoded(value[name], member)
        for name, member in shape.members.items()
        if value.get(name) is not None
    }


def _encoded(value: Any, shape: Shape) -> Any:
    if isinstance(shape, StructureShape):
        return _object(value, shape)
    if isinstance(shape, ListShape):
        return [_encoded(one, shape.member) for one in value]
    if isinstance(shape, MapShape):
        return {key: _encoded(one, shape.value) for key, one in value.items()}
    return scalars.to_json(value, shape)
