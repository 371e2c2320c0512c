"""What would be decided, and why: for a message that was not sent, and for one that was.

It asks the decision function of live mail on what is stored now, and remembers each question.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.authorization.decision import Allowed, Decision, Denied, Rules, decide
from relay.authorization.send import Send, from_record, send_of
from relay.authorization.suggest import Suggestion, suggest
from relay.authorization.trace import Question, Questions
from relay.control import accounts
from relay.control.ground import ControlError, Ground, new_id, now
from relay.store import users
from relay.store.directory import Directory
from relay.submission.address import AddressError, Mailbox, parse_mailbox
from relay.submission.envelope import Envelope
from relay.submission.headers import HeaderError, parse_headers
from relay.submission.principal import Principal, PrincipalKind
from relay.submission.submission import Body, Client, Submission

_USER_ARN = re.compile(r"arn:aws:iam::([0-9]{12}):user/(?:[!-~]+/)?([^/]+)").fullmatch


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision with the questions that it asked of policies, in order, and what would help."""

    send: Send
    decision: Decision
    questions: tuple[Question, ...]
    suggestion: Suggestion

    def as_record(self) -> dict[str, Any]:
        """A JSON object for machines."""
        return {
            **_decision_record(self.decision),
            "questions": [
                {
                    "side": question.side,
                    "resource": question.resource,
                    "verdict": question.verdict.effect,
                    "policy": question.verdict.policy,
                    "statement": question.verdict.statement,
                    "statements": [one.as_record() for one in question.statements()],
                }
                for question in self.questions
            ],
            "suggestion": {
                "grants": [
                    {"side": one.side, "resource": one.resource, "document": one.document}
                    for one in self.suggestion.grants
                ],
                "obstacle": self.suggestion.obstacle,
            },
        }


def _decision_record(decision: Decision) -> dict[str, Any]:
    if isinstance(decision, Denied):
        return {
            "decision": "Denied",
            "reason": decision.reason.value,
            "text": decision.text,
            "explanation": decision.explanation,
        }
    return {
        "decision": "Allowed",
        "identity": decision.identity.arn,
        "signed_by": decision.signer.name if decision.signer else None,
        "unsigned_because": decision.unsigned_because,
        "configuration_set": decision.configuration_set,
    }


def explain(ground: Ground, send: Send) -> Explanation:
    """Decide on what is stored now; nothing is written."""
    accounts.get(ground, send.principal.account_id)
    rules = Rules(ground.region, ground.owner_out_of_sandbox_too, ground.simulator_domain)
    directory = Directory(ground.store, ground.secrets, rules)
    found = asyncio.run(directory.ground_for_anyone(send)).ground
    questions = Questions()
    decision = decide(send, found, rules, questions.ask)
    suggestion = Suggestion(()) if isinstance(decision, Allowed) else suggest(send, found, rules)
    return Explanation(send, decision, tuple(questions), suggestion)


def explain_record(ground: Ground, record: dict[str, Any]) -> Explanation:
    """The same for a message whose record was kept, at the instant at which it was judged."""
    send = from_record(record["send"])
    if send.principal.kind is PrincipalKind.USER:
        user_principal(ground, send.principal.arn)  # it may be gone
    return explain(ground, send)


# ---------------------------------------------------------------- what was not sent


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What an SMTP session would have said of a message in a file."""

    mail_from: str
    recipients: Sequence[str]
    source_ip: str = "127.0.0.1"
    is_secure: bool = True
    at: int | None = None


def send_of_file(message: bytes, principal: Principal, around: Circumstances) -> Send:
    """The question that a message file poses; ControlError if SMTP would refuse it unread."""
    head, _, _ = message.replace(b"\r\n", b"\n").partition(b"\n\n")
    block = head.rstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n"
    at = now() if around.at is None else around.at
    client = Client(around.source_ip, "explain", "ESMTPSA", "TLSv1.3" if around.is_secure else None)
    try:
        return send_of(
            Submission(
                id=new_id(),
                received_at=at,
                principal=principal,
                client=client,
                envelope=_envelope(around),
                headers=parse_headers(block),
                body=Body(0, b"", ()),
            )
        )
    except HeaderError as error:
        raise ControlError("malformed_message", f"554 Transaction failed: {error.reason}") from error


def _envelope(around: Circumstances) -> Envelope:
    return Envelope(_mailbox(around.mail_from), tuple(_mailbox(text) for text in around.recipients))


def _mailbox(text: str) -> Mailbox:
    try:
        return parse_mailbox(text)
    except AddressError as error:
        raise ControlError("invalid_address", f"{text!r}: {error.reason}") from error


def user_principal(ground: Ground, arn: str) -> Principal:
    """The user that an ARN names, as if logged in."""
    found = _USER_ARN(arn)
    user = None
    if found is not None:
        with ground.store.read() as connection:
            user = users.find(connection, found[1], found[2])
    if user is None or user.arn != arn:
        raise ControlError("not_found", f"no user {arn}; see `relay user list`")
    return Principal(
        kind=PrincipalKind.USER,
        account_id=user.account_id,
        arn=user.arn,
        unique_id=user.unique_id,
        access_key_id="",
        user_name=user.name,
        tags=tuple(sorted(user.tags.items())),
    )


def service_principal(ground: Ground, account_id: str, service: str, source_arn: str | None) -> Principal:
    """A service that acts for a resource of an account, as if logged in."""
    accounts.get(ground, account_id)
    return Principal(PrincipalKind.SERVICE, account_id, service, service, "", source_arn=source_arn)
