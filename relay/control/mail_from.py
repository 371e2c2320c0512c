"""The custom MAIL FROM domain of an identity: the envelope sender in a domain of the owner's (SPF aligned).

Its MX must be us, or nobody hears what is reported; until DNS shows that, and whenever it no longer does,
the owner's choice holds: mail leaves with the relay's own return path, or it is refused.
"""

from __future__ import annotations

from typing import Any

from relay.control.ground import ControlError, Ground, now
from relay.control.identities import IdentityView, show
from relay.control.proof import FAILED, PENDING, SUCCESS, TEMPORARY_FAILURE
from relay.store import identities
from relay.store.identities import IdentityRow
from relay.submission.address import AddressError, parse_domain

USE_DEFAULT_VALUE, REJECT_MESSAGE = "USE_DEFAULT_VALUE", "REJECT_MESSAGE"
_ACTION = "PutEmailIdentityMailFromAttributes"
# A path has 254 octets (RFC 5321 section 4.5.3.1.3); a return path of ours takes 34 and the "@".
_LONGEST_DOMAIN = 219


def put(
    ground: Ground, name: str, account_id: str, domain: str, on_failure: str = USE_DEFAULT_VALUE
) -> IdentityView:
    """Use ``domain`` from when its MX is seen; what was seen of the same domain before still counts."""
    if not ground.hears_reports:
        raise ControlError(
            "not_configured",
            "nothing listens for reports on such mail: set [bounce] listen, such as 0.0.0.0:25, and reload",
        )
    row = show(ground, name, account_id).row
    domain = _checked(row, domain)
    with ground.write() as write:
        values: dict[str, Any] = {"mail_from_domain": domain, "mail_from_on_failure": on_failure}
        if domain != row.mail_from_domain or row.mail_from_status == FAILED:
            at = now()
            values |= {"mail_from_status": PENDING, "mail_from_requested_at": at, "check_at": at}
        identities.change(write, row, _ACTION, None, **values)
    return show(ground, name, account_id)


def remove(ground: Ground, name: str, account_id: str) -> IdentityView:
    """Mail leaves with the relay's own return path again."""
    row = show(ground, name, account_id).row
    columns = ("mail_from_domain", "mail_from_status", "mail_from_on_failure", "mail_from_requested_at")
    with ground.write() as write:
        identities.change(write, row, _ACTION, None, **dict.fromkeys(columns))
    return show(ground, name, account_id)


def _checked(row: IdentityRow, domain: str) -> str:
    if row.verification_status not in (SUCCESS, TEMPORARY_FAILURE):
        raise ControlError("not_verified", f"{row.name} is not verified; see `relay identity verify`")
    try:
        name = parse_domain(domain)
    except AddressError as error:
        raise ControlError("invalid_name", f"{domain!r} is no domain: {error.reason}") from error
    above = row.name.rpartition("@")[2]
    if not name.endswith(f".{above}") or len(name) > _LONGEST_DOMAIN:
        raise ControlError(
            "invalid_name",
            f"{name} is no subdomain of {above}: take one that has no other use, such as bounce.{above}",
        )
    return name
