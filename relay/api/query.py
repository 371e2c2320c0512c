"""The Query protocol: form parameters in, XML out, both by the model's shapes.

``Destination.ToAddresses.member.1=a@b.example`` becomes
``{"Destination": {"ToAddresses": ["a@b.example"]}}``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape

from relay.api import scalars
from relay.api.values import APIError
from relay.httpd import Response

_MOST_PARAMETERS = 5_000
_DEEPEST = 12
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]").sub

Tree = dict[str, Any]


def parameters(text: str) -> dict[str, str]:
    """The parameters of a form or a query string; the last of a repeated one counts, as in SES."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict")
    except ValueError:
        raise APIError("MalformedInput", "The query string contains a syntax error.") from None
    return dict(pairs)


def decode(given: dict[str, str], operation: OperationModel) -> dict[str, Any]:
    """The input of an operation; unknown parameters are passed over, as AWS does."""
    shape = operation.input_shape
    if shape is None:
        return {}
    return _structure(_tree(given), shape)


def _tree(given: dict[str, str]) -> Tree:
    root: Tree = {}
    for key, value in given.items():
        parts = key.split(".")
        if len(parts) > _DEEPEST:
            raise APIError("MalformedInput", f"{key[:80]}: nested too deeply")
        node = root
        for part in parts[:-1]:
            below = node.setdefault(part, {})
            if not isinstance(below, dict):
                raise APIError("MalformedInput", f"{key[:80]}: both a value and a structure")
            node = below
        if isinstance(node.get(parts[-1]), dict):
            raise APIError("MalformedInput", f"{key[:80]}: both a value and a structure")
        node[parts[-1]] = value
    return root


def _value(node: Any, shape: Shape, name: str) -> Any:
    if isinstance(shape, StructureShape):
        return _structure(_branch(node, name), shape)
    if isinstance(shape, ListShape):
        return _list(node, shape, name)
    if isinstance(shape, MapShape):
        return _map(_branch(node, name), shape, name)
    if isinstance(node, dict):
        raise APIError("MalformedInput", f"{name}: a single value is expected")
    return scalars.from_text(node, shape, name)


def _branch(node: Any, name: str) -> Tree:
    if node == "":
        return {}
    if not isinstance(node, dict):
        raise APIError("MalformedInput", f"{name}: a structure is expected")
    return node


def _structure(node: Tree, shape: StructureShape) -> dict[str, Any]:
    found = {}
    for name, member in shape.members.items():
        wire_name = member.serialization.get("name", name)
        if wire_name in node:
            found[name] = _value(node[wire_name], member, name)
    return found


def _list(node: Any, shape: ListShape, name: str) -> list[Any]:
    if not shape.serialization.get("flattened") and isinstance(node, dict):
        node = node.get(shape.member.serialization.get("name", "member"), {})
    return [_value(one, shape.member, name) for one in _numbered(_branch(node, name), name)]


def _map(node: Tree, shape: MapShape, name: str) -> dict[str, Any]:
    if not shape.serialization.get("flattened"):
        node = _branch(node.get("entry", {}), name)
    key_name = shape.key.serialization.get("name", "key")
    value_name = shape.value.serialization.get("name", "value")
    found = {}
    for entry in _numbered(node, name):
        if not isinstance(entry, dict) or not isinstance(entry.get(key_name), str):
            raise APIError("MalformedInput", f"{name}: an entry has a key and a value")
        found[entry[key_name]] = _value(entry.get(value_name, ""), shape.value, name)
    return found


def _numbered(node: Tree, name: str) -> Iterator[Any]:
    """The members in the order of their numbers, whatever gaps these have."""
    if not all(key.isascii() and key.isdigit() for key in node):
        raise APIError("MalformedInput", f"{name}: members of a list are numbered from 1")
    for key in sorted(node, key=int):
        yield node[key]


# ---------------------------------------------------------------- answers


def encode(output: dict[str, Any], operation: OperationModel, request_id: str) -> Response:
    """The answer to a call that succeeded."""
    namespace = operation.service_model.metadata["xmlNamespace"]
    name, shape = operation.name, operation.output_shape
    result = "".join(_members(output, shape)) if shape is not None else ""
    if shape is not None and "resultWrapper" in shape.serialization:
        result = _element(shape.serialization["resultWrapper"], result)
    body = result + _element("ResponseMetadata", _element("RequestId", request_id))
    return _xml(200, f'<{name}Response xmlns="{namespace}">{body}</{name}Response>', request_id)


def encode_error(code: str, message: str, status: int, namespace: str, request_id: str) -> Response:
    """The answer to one that did not."""
    fault = "Sender" if status < 500 else "Receiver"
    error = _element("Type", fault) + _element("Code", _text(code)) + _element("Message", _text(message))
    body = _element("Error", error) + _element("RequestId", request_id)
    return _xml(status, f'<ErrorResponse xmlns="{namespace}">{body}</ErrorResponse>', request_id)


def _xml(status: int, text: str, request_id: str) -> Response:
    return Response(status, text.encode(), "text/xml", {"x-amzn-RequestId": request_id})


def _element(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


def _text(value: str) -> str:
    """What XML 1.0 cannot hold is shown as a question mark."""
    return escape(_NOT_XML("?", value))


def _members(value: dict[str, Any], shape: StructureShape) -> Iterator[str]:
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _encoded(member.serialization.get("name", name), value[name], member)


def _encoded(name: str, value: Any, shape: Shape) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        yield _element(name, "".join(_members(value, shape)))
    elif isinstance(shape, ListShape):
        inner = (
            name if shape.serialization.get("flattened") else shape.member.serialization.get("name", "member")
        )
        content = "".join(part for one in value for part in _encoded(inner, one, shape.member))
        yield content if shape.serialization.get("flattened") else _element(name, content)
    elif isinstance(shape, MapShape):
        yield _element(name, "".join(_entry(key, one, shape) for key, one in value.items()))
    else:
        yield _element(name, _text(scalars.to_text(value, shape)))


def _entry(key: str, value: Any, shape: MapShape) -> str:
    inner = _element(shape.key.serialization.get("name", "key"), _text(key))
    inner += "".join(_encoded(shape.value.serialization.get("name", "value"), value, shape.value))
    return _element("entry", inner)
