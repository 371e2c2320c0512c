"""The question a submission poses, as one frozen value that can be kept and asked again.

Live mail, ``relay explain``, dry runs and the records of refusals all hold this value; it has all that
a decision reads besides the ground (accounts, identities, policies) it is made on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from relay.submission.address import Mailbox, parse_mailbox
from relay.submission.originator import NamedMailbox, read_control_fields, read_originators
from relay.submission.principal import Principal, PrincipalKind
from relay.submission.submission import Submission


class Arns(NamedTuple):
    """The three ARNs a sender may name; a parameter of the API has beaten its header field already."""

    source: str | None = None
    from_: str | None = None
    return_path: str | None = None


class Claim(NamedTuple):
    """One address that the message uses, what it is used as, and the ARN named for it, if any."""

    role: str
    address: Mailbox
    shown: str
    arn: str | None


@dataclass(frozen=True, slots=True)
class Send:
    """May this be sent?  ``at`` is microseconds UTC; ``return_path`` is the Return-Path field's."""

    principal: Principal
    action: str
    api_version: str
    at: int
    source_ip: str
    is_secure: bool
    user_agent: str | None
    mail_from: Mailbox
    recipients: tuple[Mailbox, ...]
    from_: NamedMailbox
    sender: NamedMailbox | None
    return_path: Mailbox | None
    arns: Arns
    configuration_set: str | None
    # Every address that must be the sender's own or granted, with the ARN that covers it.
    claims: tuple[Claim, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "claims", tuple(_claims(self)))

    @property
    def feedback_address(self) -> Mailbox:
        """Where bounces go, and the value of ``ses:FeedbackAddress``."""
        return self.return_path or self.mail_from


def _claims(send: Send) -> Iterator[Claim]:
    """The order of the ARNs is the table of the design's section 5."""
    arns = send.arns
    from_arn = arns.from_ or arns.source
    yield Claim("From", send.from_.mailbox, str(send.from_), from_arn)
    if send.sender is not None:
        yield Claim("Sender", send.sender.mailbox, str(send.sender), from_arn)
    feedback = send.feedback_address
    yield Claim("Return-Path", feedback, str(feedback), arns.return_path or arns.source or arns.from_)
    if send.return_path is not None and send.return_path != send.mail_from:
        yield Claim("MAIL FROM", send.mail_from, str(send.mail_from), arns.source or arns.from_)


def send_of(submission: Submission) -> Send:
    """The question that a submission poses; HeaderError if its fields do not pose one."""
    originators = read_originators(submission.headers)
    fields = read_control_fields(submission.headers)
    parameters = submission.parameters
    return Send(
        principal=submission.principal,
        action=parameters.action,
        api_version=parameters.api_version,
        at=submission.received_at,
        source_ip=submission.client.source_ip,
        is_secure=submission.client.is_secure,
        user_agent=submission.client.user_agent,
        mail_from=submission.envelope.reverse_path,
        recipients=submission.envelope.recipients,
        from_=originators.from_,
        sender=originators.sender,
        return_path=originators.return_path,
        arns=Arns(
            source=parameters.source_arn or fields.source_arn,
            from_=parameters.from_arn or fields.from_arn,
            return_path=parameters.return_path_arn or fields.return_path_arn,
        ),
        configuration_set=parameters.configuration_set or fields.configuration_set,
    )


def to_record(send: Send) -> dict[str, Any]:
    """A JSON object from which ``from_record`` makes the same value."""
    principal = send.principal
    return {
        "principal": {
            "kind": str(principal.kind),
            "account_id": principal.account_id,
            "arn": principal.arn,
            "unique_id": principal.unique_id,
            "access_key_id": principal.access_key_id,
            "user_name": principal.user_name,
            "source_arn": principal.source_arn,
            "tags": dict(principal.tags),
        },
        "action": send.action,
        "api_version": send.api_version,
        "at": send.at,
        "source_ip": send.source_ip,
        "is_secure": send.is_secure,
        "user_agent": send.user_agent,
        "mail_from": str(send.mail_from),
        "recipients": [str(recipient) for recipient in send.recipients],
        "from": _named(send.from_),
        "sender": _named(send.sender) if send.sender else None,
        "return_path": str(send.return_path) if send.return_path else None,
        "source_arn": send.arns.source,
        "from_arn": send.arns.from_,
        "return_path_arn": send.arns.return_path,
        "configuration_set": send.configuration_set,
    }


def from_record(record: Mapping[str, Any]) -> Send:
    """The value that ``to_record`` wrote down; raises KeyError or ValueError on anything else."""
    who = record["principal"]
    return Send(
        principal=Principal(
            kind=PrincipalKind(who["kind"]),
            account_id=who["account_id"],
            arn=who["arn"],
            unique_id=who["unique_id"],
            access_key_id=who["access_key_id"],
            user_name=who["user_name"],
            source_arn=who["source_arn"],
            tags=tuple(who["tags"].items()),
        ),
        action=record["action"],
        api_version=record["api_version"],
        at=record["at"],
        source_ip=record["source_ip"],
        is_secure=record["is_secure"],
        user_agent=record["user_agent"],
        mail_from=parse_mailbox(record["mail_from"]),
        recipients=tuple(parse_mailbox(text) for text in record["recipients"]),
        from_=_from_named(record["from"]),
        sender=_from_named(record["sender"]) if record["sender"] else None,
        return_path=parse_mailbox(record["return_path"]) if record["return_path"] else None,
        arns=Arns(record["source_arn"], record["from_arn"], record["return_path_arn"]),
        configuration_set=record["configuration_set"],
    )


def _named(value: NamedMailbox) -> list[str | None]:
    return [value.display_name, str(value.mailbox)]


def _from_named(value: list[str | None]) -> NamedMailbox:
    name, address = value
    return NamedMailbox(name, parse_mailbox(address or ""))
