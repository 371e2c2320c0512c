"""What the accept path says to a submission: accepted with an id, or refused with its reason.

The SMTP session and the HTTP API each put these values into their own words; neither decides anew
whether a refusal is temporary.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a submission was refused; the value is the metric's label."""

    SYNTAX = "syntax"  # not a well-formed message, a repeated or missing field
    TOO_LARGE = "too_large"
    TOO_MANY_RECIPIENTS = "too_many_recipients"
    BAD_RECIPIENT = "bad_recipient"
    LOOP = "loop"
    ACCESS_DENIED = "access_denied"  # policies, IAM, or an ARN that names nothing here
    NOT_VERIFIED = "not_verified"
    PAUSED = "paused"
    MAIL_FROM_DOMAIN = "mail_from_domain"  # not verified, and its owner wants no fallback
    CONFIGURATION_SET = "configuration_set"  # there is none of that name
    CONFIGURATION_SET_PAUSED = "configuration_set_paused"
    DAILY_QUOTA = "daily_quota"
    SENDING_RATE = "sending_rate"
    CREDENTIAL = "credential"  # deactivated since the session began
    UNAVAILABLE = "unavailable"  # store, key or directory away: try again
    LOW_DISK = "low_disk"
    LOW_MEMORY = "low_memory"  # as much arrives at once as there is room for

    @property
    def is_temporary(self) -> bool:
        return self in _TEMPORARY


_TEMPORARY = frozenset(
    {Reason.DAILY_QUOTA, Reason.SENDING_RATE, Reason.UNAVAILABLE, Reason.LOW_DISK, Reason.LOW_MEMORY},
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The message is durable; ``message_id`` has SES's shape."""

    message_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was queued.

    ``text`` is SES's sentence without a code; ``explanation`` names the key or address that failed and
    never a policy's values; ``reference`` finds the kept record (``relay message show REFERENCE``).
    """

    reason: Reason
    text: str
    explanation: str | None = None
    reference: str | None = None


Answer = Accepted | Refused
