"""What AWS published of its APIs: shapes, operations and errors, from botocore's service models.

No shape is written by hand here: an operation's members, their types, names on the wire and required
ones, its errors with their codes and statuses all come from the models.
"""

from __future__ import annotations

from functools import cache

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, StructureShape

SES, SESV2, SNS, STS = "ses", "sesv2", "sns", "sts"
# The Query protocol names the service by the version alone, as clients send it.
QUERY_VERSIONS = {"2010-12-01": SES, "2010-03-31": SNS, "2011-06-15": STS}
# What a signature's scope must name; both SES APIs sign as "ses".
SIGNING_NAMES = {SES: "ses", SESV2: "ses", SNS: "sns", STS: "sts"}


def load() -> None:
    """Read the models now: a tenth of a second that no call is to wait for."""
    for name in SIGNING_NAMES:
        error_shapes(name)


@cache
def service(name: str) -> ServiceModel:
    """The model of one service."""
    return ServiceModel(Loader().load_service_model(name, "service-2"), name)


@cache
def error_shapes(name: str) -> dict[str, StructureShape]:
    """The errors that a service has, by their names."""
    return {shape.name: shape for shape in service(name).error_shapes}


@cache
def operation(service_name: str, name: str) -> OperationModel | None:
    """An operation by its name, None if the service has none of it."""
    model = service(service_name)
    return model.operation_model(name) if name in model.operation_names else None
