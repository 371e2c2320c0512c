"""Bounce types and delay types in SES's words, from status and text: one written table.

Hard is what is wrong with the address for good: only that may put an address on a suppression list or
count as a hard bounce.  A refusal of the message, of its sender or of its size says nothing of the
recipient and is Transient, however final it was for this one message, as in SES (Developer Guide,
"Contents of event data", bounce object).

    status (class left out)         Permanent: wrong for good          Transient: about this message
    1.1 1.3 1.6 2.1 4.1             General                            (2.1 and 4.1 only with class 5)
    1.2 1.10 4.4 with class 5       NoEmail: no mail for this domain
    2.2                                                                MailboxFull
    2.3 3.4                                                            MessageTooLarge
    6.x, or 7.x about content                                          ContentRejected, AttachmentRejected
    anything else of class 5 or 4                                      General
    0.0 of class 5                  Undetermined: the reply says too little
    expired                                                            General, CustomTimeoutExceeded
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class BounceKind:
    """``bounceType`` and ``bounceSubType`` as events have them."""

    type: str
    subtype: str

    @property
    def is_hard(self) -> bool:
        """Whether the address itself is bad, as far as this reply tells."""
        return self.type == "Permanent"


GENERAL: Final = BounceKind("Permanent", "General")
NO_EMAIL: Final = BounceKind("Permanent", "NoEmail")
ON_ACCOUNT_LIST: Final = BounceKind("Permanent", "OnAccountSuppressionList")
ON_GLOBAL_LIST: Final = BounceKind("Permanent", "Suppressed")
UNDETERMINED: Final = BounceKind("Undetermined", "Undetermined")
SOFT: Final = BounceKind("Transient", "General")
MAILBOX_FULL: Final = BounceKind("Transient", "MailboxFull")
TOO_LARGE: Final = BounceKind("Transient", "MessageTooLarge")
CONTENT: Final = BounceKind("Transient", "ContentRejected")
ATTACHMENT: Final = BounceKind("Transient", "AttachmentRejected")
TIMEOUT: Final = BounceKind("Transient", "CustomTimeoutExceeded")

_BY_DETAIL: Final = {
    "1.1": GENERAL,
    "1.3": GENERAL,
    "1.6": GENERAL,
    "2.1": GENERAL,
    "4.1": GENERAL,
    "1.2": NO_EMAIL,
    "1.10": NO_EMAIL,
    "4.4": NO_EMAIL,
    "2.2": MAILBOX_FULL,
    "2.3": TOO_LARGE,
    "3.4": TOO_LARGE,
    "0.0": UNDETERMINED,
}
_is_about_attachment = re.compile(r"\b(attachments?|file types?|virus|malware|executable)\b", re.I).search
_is_about_content = re.compile(r"\b(spam|content|phish\w*|unsolicited|bulk|junk)\b", re.I).search


def bounce_kind(status: str, text: str, *, expired: bool = False, custom_timeout: bool = False) -> BounceKind:
    """What a failure is called.  ``status`` is the RFC 3463 code, ``text`` the remote's words.

    ``expired`` tells that only time ran out, ``custom_timeout`` that it was the configuration set's.
    """
    if custom_timeout:
        return TIMEOUT
    detail = status[2:]
    if detail.startswith(("6.", "7.")):
        return _about_the_message(detail, text)
    kind = _BY_DETAIL.get(detail, SOFT)
    if expired or not status.startswith("5"):
        return kind if kind.type == "Transient" else SOFT
    return kind


def _about_the_message(detail: str, text: str) -> BounceKind:
    """RFC 3463 sections 3.7 and 3.8: media and policy."""
    if _is_about_attachment(text):
        return ATTACHMENT
    return CONTENT if detail.startswith("6.") or _is_about_content(text) else SOFT


def delay_type(code: int | None, enhanced: str | None, text: str) -> str:
    """``delayType`` of a DeliveryDelay event; ``code`` None if the next hop did not answer."""
    if code is None:
        return "TransientCommunicationFailure"
    detail = (enhanced or "4.0.0")[2:]
    if detail == "2.2":
        return "MailboxFull"
    if _is_about_content(text):
        return "SpamDetected"
    if detail.startswith(("3.", "4.")) or code == 421:
        return "RecipientServerError"
    return "General"
