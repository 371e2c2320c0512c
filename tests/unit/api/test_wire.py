"""Both protocols against botocore: what its serializers send is read the same, what we answer it reads."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest
from botocore.awsrequest import HeadersDict
from botocore.model import OperationModel
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from relay.api import models, query, restjson
from relay.api.values import APIError
from relay.httpd import Request, Response
from tests.support.shapes import sample

TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=12)


def every(service: str) -> list[tuple[str, str]]:
    return [(service, name) for name in models.service(service).operation_names]


def model(service: str, name: str) -> OperationModel:
    found = models.operation(service, name)
    assert found is not None
    return found


def drop_empty(value: Any) -> Any:
    """Empty structures are nothing on the Query wire."""
    if isinstance(value, dict):
        kept = {key: drop_empty(one) for key, one in value.items()}
        return {key: one for key, one in kept.items() if one not in ({}, [])}
    if isinstance(value, list):
        return [kept for one in value if (kept := drop_empty(one)) not in ({}, [])]
    return value


def incoming(method: str, path: str, query_string: str, body: bytes) -> Request:
    return Request(method, path, path.encode(), query_string, (), body, "192.0.2.1", False, True)


def answered(read: Callable[[], Any]) -> bool:
    """Whether it gives an input or a refusal, and raises nothing else."""
    try:
        return isinstance(read(), dict)
    except APIError as refusal:
        return refusal.code == "MalformedInput"


def received(response: Response) -> dict[str, Any]:
    headers = HeadersDict({"content-type": response.media_type, **response.headers})
    return {"status_code": response.status, "headers": headers, "body": response.body}


@pytest.mark.parametrize(("service", "name"), [*every("ses"), *every("sns"), *every("sts")])
def test_query_call_is_read_as_botocore_sends_it(service: str, name: str) -> None:
    operation = model(service, name)
    if operation.input_shape is None:
        return
    given = sample(operation.input_shape, Random(name))
    sent = create_serializer("query").serialize_to_request(given, operation)
    read = query.decode(query.parameters(urlencode(sent["body"])), operation)
    assert drop_empty(read) == drop_empty(given)


@pytest.mark.parametrize(("service", "name"), every("sesv2"))
def test_json_call_is_read_as_botocore_sends_it(service: str, name: str) -> None:
    operation = model(service, name)
    assert operation.input_shape is not None
    given = sample(operation.input_shape, Random(name))
    sent = create_serializer("rest-json").serialize_to_request(given, operation)
    body = sent["body"] if isinstance(sent["body"], bytes) else b""
    query_string = urlencode(sent["query_string"], doseq=True)
    request = incoming(sent["method"], sent["url_path"], query_string, body)
    routed = restjson.route(service, request.method, request.raw_path.decode())
    assert routed is not None
    assert routed[0].name == name
    assert drop_empty(restjson.decode(request, *routed)) == drop_empty(given)


@pytest.mark.parametrize(("service", "name"), [*every("ses"), *every("sesv2"), *every("sns"), *every("sts")])
def test_answer_is_read_by_botocore(service: str, name: str) -> None:
    operation = model(service, name)
    if operation.output_shape is None:
        return
    output = sample(operation.output_shape, Random(name))
    protocol = operation.service_model.metadata["protocol"]
    encode = restjson.encode if protocol == "rest-json" else query.encode
    response = encode(output, operation, "11111111-2222-3333-4444-555555555555")
    parsed = create_parser(protocol).parse(received(response), operation.output_shape)
    meta = parsed.pop("ResponseMetadata")
    assert meta["RequestId"] == "11111111-2222-3333-4444-555555555555"
    assert drop_empty(parsed) == drop_empty(output)


@given(TEXT)
def test_any_text_survives_both_wires(text: str) -> None:
    for service, encode in (("ses", query.encode), ("sesv2", restjson.encode)):
        name = "GetTemplate" if service == "ses" else "GetEmailTemplate"
        operation = model(service, name)
        output = (
            {"Template": {"TemplateName": "t", "SubjectPart": text}}
            if service == "ses"
            else {"TemplateName": "t", "TemplateContent": {"Subject": text}}
        )
        protocol = operation.service_model.metadata["protocol"]
        answer = create_parser(protocol).parse(
            received(encode(output, operation, "r")), operation.output_shape
        )
        found = (
            answer["Template"]["SubjectPart"] if service == "ses" else answer["TemplateContent"]["Subject"]
        )
        assert found == text


@given(st.dictionaries(st.text(".123abmemberDestinationToAddresses", max_size=30), st.text(max_size=10)))
def test_any_form_gives_an_input_or_an_error(form: dict[str, str]) -> None:
    assert answered(lambda: query.decode(query.parameters(urlencode(form)), model("ses", "SendEmail")))


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Content", "Raw", "Data", "Destination", "ToAddresses", "EmailTags", "Name", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_JSON)
def test_any_json_gives_an_input_or_an_error(value: Any) -> None:
    request = incoming("POST", "/v2/email/outbound-emails", "", orjson.dumps(value))
    routed = restjson.route("sesv2", "POST", request.path)
    assert routed is not None
    assert answered(lambda: restjson.decode(request, *routed))


def test_error_is_read_by_botocore() -> None:
    answer = query.encode_error("InvalidPolicy", "<&>", 400, "http://ses.amazonaws.com/doc/2010-12-01/", "r")
    parsed = create_parser("query").parse(received(answer), None)
    assert parsed["Error"] == {"Type": "Sender", "Code": "InvalidPolicy", "Message": "<&>"}
    answer = restjson.encode_error("NotFoundException", "no such thing", 404, "r")
    parsed = create_parser("rest-json").parse(
        received(answer), model("sesv2", "GetEmailIdentity").output_shape
    )
    assert (parsed["Error"]["Code"], parsed["Error"]["Message"]) == ("NotFoundException", "no such thing")
