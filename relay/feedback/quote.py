"""A message as its events quote it: from its row and the record of its acceptance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from relay.outcome.events import Mail
from relay.queue.values import QueuedMessage
from relay.signing.rewrite import Rewriting, submitted


def read_record(text: str, header: bytes) -> dict[str, Any]:
    """What intake kept of a message with that header; what the first schema's releases did not keep yet is
    filled in, since their mail still waits when a node is upgraded."""
    record: dict[str, Any] = orjson.loads(text)
    if "send" not in record or "settings" in record:
        return record
    return {
        "settings": record["identity"],
        "tags": [],
        "max_delivery_seconds": None,
        # Signatures stand before the first field that we added; where a removed one stood nobody noted.
        "signature_bytes": header.index(record["added"][0].encode("latin-1")),
        "removed_at": range(len(record["removed"])),
        **record,
    }


def quote(of: QueuedMessage, record: Mapping[str, Any]) -> Mail:
    """The message as submitted; ``record`` is what intake kept of it."""
    send = record["send"]
    principal = send["principal"]
    fields = submitted(of.header, _rewriting(record))
    return Mail(
        id=of.id,
        received_at=of.received_at,
        source=send["mail_from"],
        source_arn=of.identity_arn,
        source_ip=send["source_ip"],
        caller_identity=principal["user_name"] or principal["arn"],
        account_id=of.account_id,
        destination=tuple(send["recipients"]),
        headers=tuple([(one.raw[: one.raw.index(b":")].decode("ascii"), one.value) for one in fields]),
        from_domain=send["from"][1].rpartition("@")[2],
        operation=send["action"].removeprefix("ses:"),
        configuration_set=of.configuration_set,
        source_tls=record["client"]["tls"],
        tags=tuple([(name, value) for name, value in record["tags"]]),
    )


def _rewriting(record: Mapping[str, Any]) -> Rewriting:
    return Rewriting(
        signature_bytes=record["signature_bytes"],
        added=tuple([raw.encode("latin-1") for raw in record["added"]]),
        removed=tuple([raw.encode("latin-1") for raw in record["removed"]]),
        removed_at=tuple(record["removed_at"]),
    )
