"""Every operation that is offered: by service and name, what it does, and what policies call it."""

from __future__ import annotations

from typing import Final

from relay.api import (
    account,
    bulk,
    configuration_sets_v1,
    configuration_sets_v2,
    event_destinations,
    feedback,
    identities_v1,
    identities_v2,
    insights,
    models,
    send,
    sns,
    sts,
    suppression,
    tags,
    templates_v1,
    templates_v2,
)
from relay.api.targets import nothing
from relay.api.values import Operation, Operations

# Sending is judged by the decision of live mail, and anyone may ask who it is.
_JUDGED_ELSEWHERE: Operations = {
    (models.SES, "SendRawEmail"): Operation(send.send_raw_email, None, nothing),
    (models.SES, "SendEmail"): Operation(send.send_email, None, nothing),
    (models.SES, "SendTemplatedEmail"): Operation(send.send_templated_email, None, nothing),
    (models.SES, "SendBulkTemplatedEmail"): Operation(bulk.send_bulk_templated_email, None, nothing),
    (models.SESV2, "SendEmail"): Operation(send.send_email_v2, None, nothing),
    (models.SESV2, "SendBulkEmail"): Operation(bulk.send_bulk_email, None, nothing),
    (models.STS, "GetCallerIdentity"): Operation(sts.get_caller_identity, None, nothing),
}

OPERATIONS: Final[Operations] = {
    **_JUDGED_ELSEWHERE,
    **identities_v1.OPERATIONS,
    **identities_v2.OPERATIONS,
    **account.OPERATIONS,
    **configuration_sets_v1.OPERATIONS,
    **configuration_sets_v2.OPERATIONS,
    **event_destinations.OPERATIONS,
    **feedback.OPERATIONS,
    **suppression.OPERATIONS,
    **tags.OPERATIONS,
    **templates_v1.OPERATIONS,
    **templates_v2.OPERATIONS,
    **insights.OPERATIONS,
    **sns.OPERATIONS,
}
