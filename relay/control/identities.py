"""Identities: made, vouched for, shown, removed."""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from relay.authorization.identities import IdentityArn, identity_arn, parse_identity_arn
from relay.control import accounts, confirmation, reputation, tags
from relay.control.dkim import new_key, seal_key
from relay.control.ground import ControlError, Ground, now
from relay.store import identities, usage
from relay.store import tags as stored_tags
from relay.store.identities import IdentityRow as IdentityRow  # the API shows it
from relay.store.identities import KeyRow
from relay.store.usage import Line
from relay.submission.address import AddressError, parse_domain, parse_mailbox

DOMAIN, EMAIL_ADDRESS = "DOMAIN", "EMAIL_ADDRESS"
# What an identity may have a topic for.
_NOTIFIED = ("bounce", "complaint", "delivery")


@dataclass(frozen=True, slots=True)
class IdentityView:
    """An identity as commands and API show it."""

    row: IdentityRow
    arn: str
    keys: tuple[KeyRow, ...]
    policies: tuple[str, ...] = ()
    hostname: str = ""

    @property
    def dns_records(self) -> list[dict[str, str]]:
        return [*dns_records(self.row, self.keys), *mail_from_records(self.row, self.hostname)]

    @property
    def mail_from(self) -> dict[str, str | None] | None:
        """The custom MAIL FROM domain, if there is one."""
        row = self.row
        if row.mail_from_domain is None:
            return None
        return {
            "domain": row.mail_from_domain,
            "status": row.mail_from_status,
            "on_mx_failure": row.mail_from_on_failure,
        }

    def as_record(self) -> dict[str, Any]:
        """What scripts read."""
        row = self.row
        return {
            "arn": self.arn,
            "name": row.name,
            "account_id": row.account_id,
            "type": row.type,
            "verification_status": row.verification_status,
            "dkim_enabled": row.dkim_enabled,
            "dkim_status": row.dkim_status,
            "keys": [
                {"selector": key.selector, "algorithm": key.algorithm, "status": key.status}
                for key in self.keys
            ],
            "policies": list(self.policies),
            "configuration_set": row.configuration_set,
            "feedback_forwarding": row.feedback_forwarding,
            "mail_from": self.mail_from,
            "bounce_topic": row.bounce_topic,
            "complaint_topic": row.complaint_topic,
            "delivery_topic": row.delivery_topic,
            "headers_in": [name for name in _NOTIFIED if getattr(row, f"headers_in_{name}")],
            "dns_records": self.dns_records,
        }


def dns_records(row: IdentityRow, keys: Sequence[KeyRow]) -> list[dict[str, str]]:
    """What the owner puts into DNS: one TXT for each key, and the ownership token."""
    if row.type != DOMAIN:
        return []
    records = [
        {"type": "TXT", "name": f"{key.selector}._domainkey.{row.name}", "value": key.public_record}
        for key in keys
    ]
    token = {"type": "TXT", "name": f"_amazonses.{row.name}", "value": row.verification_token}
    return [*records, token]


def mail_from_records(row: IdentityRow, hostname: str) -> list[dict[str, str]]:
    """What the owner puts into DNS for a MAIL FROM domain: reports come to us, and we send for it."""
    name = row.mail_from_domain
    if name is None:
        return []
    return [
        {"type": "MX", "name": name, "value": f"10 {hostname}"},
        {"type": "TXT", "name": name, "value": f"v=spf1 a:{hostname} ~all"},
    ]


def normalised(name: str) -> str:
    """The name as stored; a domain in lower-case A-labels, an address with its local part as written."""
    try:
        if "@" in name:
            return str(parse_mailbox(name))
        domain = parse_domain(name)
    except AddressError as error:
        raise ControlError(
            "invalid_name", f"{name!r} is neither a domain nor an address: {error.reason}"
        ) from error
    if "." not in domain:
        raise ControlError("invalid_name", f"{name!r}: a top-level domain is nobody's to verify")
    return domain


def create(
    ground: Ground,
    name: str,
    account_id: str,
    verified: bool = False,
    labels: Mapping[str, str] | None = None,
) -> IdentityView:
    """A new identity, pending; ``verified`` vouches for it and for its key in DNS."""
    accounts.get(ground, account_id)
    name = normalised(name)
    is_domain = "@" not in name
    status = "SUCCESS" if verified else "PENDING"
    at = now()
    row = IdentityRow(
        id=ground.new_id(),
        account_id=account_id,
        name=name,
        type=DOMAIN if is_domain else EMAIL_ADDRESS,
        verification_status=status,
        verification_token=base64.b64encode(random.token_bytes(32)).decode(),
        dkim_enabled=True,
        dkim_status=status if is_domain else "NOT_STARTED",
        feedback_forwarding=True,
        configuration_set=None,
        created_at=at,
        # What is vouched for is never looked up: DNS takes nothing from it.
        verification_requested_at=None if verified else at,
        dkim_requested_at=at if is_domain and not verified else None,
        check_at=at if is_domain and not verified else None,
    )
    # Generated outside the transaction: an RSA key takes a moment, and the store has one writer.
    key = new_key("rsa-sha256") if is_domain else None
    with ground.write() as write:
        if identities.find(write.connection, account_id, name):
            raise ControlError("already_exists", f"account {account_id} has the identity {name} already")
        identities.add(write, row)
        tags.add(write, account_id, identity_arn(ground.region, account_id, name), labels or {})
        if key is not None:
            seal_key(ground, write, row, key)
        elif not verified:
            confirmation.ask(ground, write, row)
    return show(ground, name, account_id)


def show(ground: Ground, name: str, account_id: str) -> IdentityView:
    name = normalised(name)
    with ground.store.read() as connection:
        row = identities.find(connection, account_id, name)
        if row is None:
            raise ControlError(
                "not_found", f"account {account_id} has no identity {name}; see `relay identity list`"
            )
        keys = tuple(identities.keys(connection, row.id))
        policies = tuple(identities.policies(connection, row.id))
    return IdentityView(row, identity_arn(ground.region, account_id, name), keys, policies, ground.hostname)


def every(ground: Ground, account_id: str | None) -> list[IdentityView]:
    """All identities of an account, or of all."""
    with ground.store.read() as connection:
        return [
            IdentityView(row, identity_arn(ground.region, row.account_id, row.name), ())
            for row in identities.every(connection, account_id)
        ]


def senders(ground: Ground, arn: str) -> list[Line]:
    """Which account sent how much in its name in the days that reputation is judged on, and how it fared."""
    first = reputation.first_day(ground.reputation)
    with ground.store.read() as connection:
        return list(usage.lines(connection, ("account_id",), first=first, identity_arn=arn))


def delete(ground: Ground, name: str, account_id: str) -> IdentityView:
    """Remove the identity with its keys, policies and tags."""
    view = show(ground, name, account_id)
    with ground.write() as write:
        identities.remove(write, view.row)
        stored_tags.forget(write, view.arn)
    return view


def by_arn(ground: Ground, arn: str) -> IdentityView:
    """The identity that an ARN names, exactly."""
    parsed = checked_arn(ground, arn)
    return show(ground, parsed.name, parsed.account_id)


def checked_arn(ground: Ground, arn: str) -> IdentityArn:
    """The parts of an identity's ARN of this region, whether there is such an identity or not."""
    parsed = parse_identity_arn(arn)
    if parsed is None:
        raise ControlError(
            "invalid_arn", f"{arn!r} is not an identity's ARN; `relay identity list` shows them"
        )
    if parsed.region != ground.region:
        raise ControlError("not_found", f"{arn}: this store belongs to region {ground.region}")
    return parsed
