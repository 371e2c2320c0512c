"""How an error is named on each wire, and its HTTP status: from the models, and the ones common to AWS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from relay.api import models
from relay.api.values import APIError
from relay.control.ground import ControlError

_JSON_SERVICES: Final = frozenset({models.SESV2})

# Code of the Query protocol, code of REST-JSON, HTTP status of each (SES API reference, Common Errors).
_COMMON: Final = {
    "AccessDenied": ("AccessDenied", "AccessDeniedException", 403, 403),
    "IncompleteSignature": ("IncompleteSignature", "IncompleteSignatureException", 400, 400),
    "InternalFailure": ("InternalFailure", "InternalServiceErrorException", 500, 500),
    "InvalidAction": ("InvalidAction", "UnknownOperationException", 400, 404),
    "InvalidClientTokenId": ("InvalidClientTokenId", "UnrecognizedClientException", 403, 403),
    "InvalidParameterValue": ("InvalidParameterValue", "BadRequestException", 400, 400),
    "MalformedInput": ("MalformedInput", "SerializationException", 400, 400),
    "MissingAction": ("MissingAction", "BadRequestException", 400, 400),
    "MissingAuthenticationToken": (
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        403,
        403,
    ),
    "ServiceUnavailable": ("ServiceUnavailable", "ServiceUnavailableException", 503, 503),
    "SignatureDoesNotMatch": ("SignatureDoesNotMatch", "InvalidSignatureException", 403, 403),
    "Throttling": ("Throttling", "TooManyRequestsException", 400, 429),
    "ValidationError": ("ValidationError", "BadRequestException", 400, 400),
}


# What is common to AWS and has a name of its own in SNS.
_SNS: Final = {
    "AccessDenied": "AuthorizationErrorException",
    "InvalidParameterValue": "InvalidParameterException",
    "ValidationError": "InvalidParameterException",
}


@dataclass(frozen=True, slots=True)
class OnTheWire:
    """An error as the client reads it."""

    code: str
    message: str
    status: int


def on_the_wire(error: APIError, service: str) -> OnTheWire:
    """The error in the service's words."""
    is_json = service in _JSON_SERVICES
    name = _SNS.get(error.code, error.code) if service == models.SNS else error.code
    if name in (shapes := models.error_shapes(service)):
        told = shapes[name].metadata.get("error", {})
        code = name if is_json else told.get("code", name)
        return OnTheWire(code, error.message, told.get("httpStatusCode", 400))
    query_code, json_code, query_status, json_status = _COMMON[name]
    if is_json:
        return OnTheWire(json_code, error.message, json_status)
    return OnTheWire(query_code, error.message, query_status)


@contextmanager
def named(codes: Mapping[str, str]) -> Iterator[None]:
    """Refusals of the control plane within, by codes that the operation has of its own."""
    try:
        yield
    except ControlError as error:
        if error.code not in codes:
            raise
        raise APIError(codes[error.code], error.text) from error


# What an operation of the control plane refuses, in the words of each API; the rest is a bad value.
_CONTROL: Final = {
    "not_found": {models.SESV2: "NotFoundException", models.SNS: "NotFoundException"},
    "already_exists": {models.SES: "AlreadyExistsException", models.SESV2: "AlreadyExistsException"},
    "limit_exceeded": {models.SES: "LimitExceededException", models.SESV2: "LimitExceededException"},
    "invalid_policy": {models.SES: "InvalidPolicyException"},
    "invalid_template": {models.SES: "InvalidTemplateException"},
    "in_use": {models.SESV2: "ConflictException"},
}


def of_control(error: ControlError, service: str) -> APIError:
    """The refusal of an operation as an error of the service that was called."""
    code = _CONTROL.get(error.code, {}).get(service, "InvalidParameterValue")
    return APIError(code, error.text)
