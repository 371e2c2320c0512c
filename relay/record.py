"""What is kept of a message: for operators and events its record, for owners the entries of their ledgers.

Composed while a message is judged, written in the transaction that takes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from relay.authorization.decision import Allowed, Grant
from relay.authorization.send import Send, to_record
from relay.queue.values import QueuedMessage
from relay.signing.rewrite import Rewritten
from relay.store import ledger
from relay.submission.answer import Refused
from relay.submission.identifiers import ses_message_id
from relay.submission.originator import parse_message_tags
from relay.submission.submission import Submission

# ---------------------------------------------------------------- the record


def _tags(submission: Submission) -> tuple[tuple[str, str], ...]:
    """The sender's tags: those of the API replace those of the header, never added to them."""
    if submission.parameters.tags is not None:
        return submission.parameters.tags
    return parse_message_tags(submission.headers.value("x-ses-message-tags") or "")


def feedback_tags(submission: Submission) -> tuple[str, str]:
    """The two tags that fill the first fields of Feedback-ID."""
    tags = dict(_tags(submission))
    return tags.get("ses:feedback-id-a", ""), tags.get("ses:feedback-id-b", "")


def record_of_accepted(
    submission: Submission, send: Send, decision: Allowed, rewritten: Rewritten, signature_bytes: int
) -> str:
    """What ``relay message show`` tells of an accepted message, and what events quote."""
    record: dict[str, Any] = {
        "send": to_record(send),
        "client": {
            "helo": submission.client.helo,
            "protocol": submission.client.protocol,
            "tls": submission.client.tls_version,
        },
        "identity": decision.identity.arn,
        "settings": decision.settings.arn,
        "tags": _tags(submission),
        "max_delivery_seconds": decision.max_delivery_seconds,
        "grants": [{**_granted(grant), "identity": grant.identity.arn} for grant in decision.grants],
        "signed_by": decision.signer.name if decision.signer else None,
        "unsigned_because": decision.unsigned_because,
        "added": [field.raw.decode("latin-1") for field in rewritten.added],
        "removed": [field.raw.decode("latin-1") for field in rewritten.removed],
        "removed_at": rewritten.removed_at,
        "signature_bytes": signature_bytes,
    }
    return orjson.dumps(record).decode()


def record_of_refused(send: Send) -> str:
    """What is needed to judge a refused message again."""
    return orjson.dumps({"send": to_record(send)}).decode()


def _granted(grant: Grant) -> dict[str, Any]:
    """What was used as what, and which statement of the owner's let it."""
    return {
        "role": grant.claim.role,
        "address": str(grant.claim.address),
        "policy": grant.verdict.policy if grant.verdict else None,
        "statement": grant.verdict.statement if grant.verdict else None,
        "sid": grant.verdict.sid if grant.verdict else None,
    }


# ---------------------------------------------------------------- what owners are told for good


def accepted_entries(send: Send, decision: Allowed, message: QueuedMessage) -> tuple[ledger.Entry, ...]:
    """For each identity in whose name it is sent.  Recipients are the sender's affair: their number only."""
    granted: dict[str, list[dict[str, Any]]] = {}
    for grant in decision.grants:
        granted.setdefault(grant.identity.arn, []).append(_granted(grant))
    told = {
        **_sender(send),
        "message_id": ses_message_id(message.id),
        "size_bytes": message.size_bytes,
    }
    return tuple(
        ledger.entry(arn, message.received_at, ledger.ACCEPTED, {**told, "grants": grants})
        for arn, grants in granted.items()
    )


def refused_entries(send: Send, arns: Iterable[str], refused: Refused, at: int) -> tuple[ledger.Entry, ...]:
    told = {
        **_sender(send),
        "reference": refused.reference,
        "reason": refused.reason.value,
        "reply": refused.explanation or refused.text,
    }
    return tuple(ledger.entry(arn, at, ledger.REFUSED, told) for arn in arns)


def _sender(send: Send) -> dict[str, Any]:
    return {
        "account": send.principal.account_id,
        "user": send.principal.arn,
        "from": str(send.from_.mailbox),
        "return_path": str(send.feedback_address),
        "recipients": len(send.recipients),
    }
