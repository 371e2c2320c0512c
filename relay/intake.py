"""The accept path: parse, authorize, check the quota, rewrite, sign, commit, answer.

SMTP and HTTP both end here.  ``Intake.receive`` gives a ``Receipt`` that takes the message's octets as
they arrive; its ``finish`` walks the path and answers.  Whatever goes wrong on our side is answered
with a temporary refusal; an ``Accepted`` is given after the commit and never before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from relay import metrics, record
from relay.authorization.decision import Account, Allowed, Denied, Ground, Rules, concerned
from relay.authorization.identities import Identity
from relay.authorization.send import Send, send_of
from relay.maillog import Log
from relay.outcome.events import LISTENED
from relay.queue.refusals import Refusal, Refusals
from relay.queue.spool import CHUNK_BYTES, Committed, Spool, Stale
from relay.queue.values import (
    Consignment,
    Lease,
    NewMessage,
    QueuedMessage,
    QueuedRecipient,
)
from relay.queue.writer import GroupWriter
from relay.quotas.check import Charge, Exceeded
from relay.quotas.exhausted import Exhausted
from relay.quotas.window import Quota
from relay.receipt import Receipt
from relay.signer.batch import Signer
from relay.signing.dkim import SigningError, SigningKey
from relay.signing.return_path import Issuer
from relay.signing.rewrite import Rewritten, TraceFacts, rewrite
from relay.store.directory import Basis, Directory
from relay.submission.answer import Accepted, Answer, Reason, Refused
from relay.submission.envelope import Envelope
from relay.submission.headers import HeaderError
from relay.submission.identifiers import reference, ses_message_id
from relay.submission.principal import Principal
from relay.submission.submission import Body, Client, Parameters, Submission

# Each round judges anew on what changed; a control plane that outruns us so often is not our fault.
_MOST_JUDGEMENTS = 10
_UNAVAILABLE = Refused(Reason.UNAVAILABLE, "Temporary service failure")


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """What the operator fixed for accepting."""

    hostname: str
    rules: Rules
    max_recipients: int
    max_message_bytes: int
    max_arriving_bytes: int
    expire_seconds: int
    replaces_identity_fields: bool = False  # the "ses" dialect
    return_paths: Callable[[], Issuer] | None = None  # None: the author's goes out unchanged


class Intake:
    """The accept path of one worker process."""

    def __init__(
        self,
        settings: IntakeSettings,
        directory: Directory,
        writer: GroupWriter,
        spool: Spool,
        signer: Signer,
        refusals: Refusals,
        lease: Lease,
        next_id: Callable[[], int],
        offer: Callable[[Consignment], None],
        has_room: Callable[[str], bool],
        log: Log,
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.spool = spool
        self.lease = lease
        self.next_id = next_id
        self._writer = writer
        self._signer = signer
        self._refusals = refusals
        self._offer = offer
        self._has_room = has_room
        self._log = log
        self._exhausted = Exhausted()
        self.low_disk = False
        self.arriving_bytes = 0

    # ------------------------------------------------------------ what the fronts call

    def transaction_opened(self) -> None:
        self._writer.transaction_opened()

    def transaction_closed(self) -> None:
        self._writer.transaction_closed()

    def refusing(self) -> Refused | None:
        """Why no message is taken at present, or None."""
        if self.low_disk:
            return Refused(Reason.LOW_DISK, "Insufficient system storage")
        if self.arriving_bytes >= self.settings.max_arriving_bytes:
            return Refused(Reason.LOW_MEMORY, "Too much mail is arriving at once; try again later")
        return None if self.directory.is_fresh else _UNAVAILABLE

    def receive(
        self,
        principal: Principal,
        client: Client,
        envelope: Envelope,
        parameters: Parameters | None = None,
    ) -> Receipt:
        """Begin to take one message."""
        return Receipt(self, principal, client, envelope, parameters or Parameters())

    # ------------------------------------------------------------ the path

    async def accept(self, submission: Submission) -> Answer:
        """Judge, sign and commit one complete submission."""
        try:
            send = send_of(submission)
        except HeaderError as error:
            return self._refuse_syntax(submission, error.reason)
        for _ in range(_MOST_JUDGEMENTS):
            answer = await self._judge_and_commit(submission, send)
            if answer is not None:
                return answer
        return _UNAVAILABLE

    async def _judge_and_commit(self, submission: Submission, send: Send) -> Answer | None:
        """One round; None if what it was judged on changed before the commit."""
        started = time.perf_counter()
        found = await self.directory.ground(send)
        if found is None:
            return Refused(Reason.CREDENTIAL, "Authentication Credentials Invalid")
        ground, keys_of, basis, precedents = found
        decision = precedents.decide(send)
        metrics.AUTHORIZATION_SECONDS.observe(time.perf_counter() - started)
        if isinstance(decision, Denied):
            # What was granted a moment ago must not be refused for good: look whether this is the latest.
            await self.directory.poll()
            if self.directory.change > basis.change:
                return None
            return await self._refuse(submission, send, ground, decision)
        charge = _charge(send, ground.account, self.settings.rules)
        exceeded = self._exhausted.check(charge, _monotonic())
        if exceeded is not None:
            return self._throttle(submission, exceeded)
        rewritten = self._rewrite(submission, decision)
        signatures = await self._signatures(submission, rewritten, decision, keys_of)
        new = self._new_message(submission, send, decision, rewritten, signatures, basis, charge)
        started = time.perf_counter()
        result = await self.spool.enqueue(new)
        metrics.COMMIT_SECONDS.observe(time.perf_counter() - started)
        if isinstance(result, Stale):
            await self.directory.poll()
            return None
        if isinstance(result, Exceeded):
            self._exhausted.remember(charge.account_id, result.usage, _monotonic())
            return self._throttle(submission, result)
        self._accepted(new, result, send, decision)
        return Accepted(ses_message_id(submission.id))

    def _rewrite(self, submission: Submission, decision: Allowed) -> Rewritten:
        at = submission.received_at // 1_000_000
        facts = TraceFacts(
            hostname=self.settings.hostname,
            helo=submission.client.helo,
            protocol=submission.client.protocol,
            tls_version=submission.client.tls_version,
            message_id=ses_message_id(submission.id),
            at=at,
            region=self.settings.rules.region,
            feedback_tags=record.feedback_tags(submission),
        )
        return rewrite(
            submission.headers,
            facts,
            signing_domain=decision.signer.name if decision.signer else None,
            replaces_identity_fields=self.settings.replaces_identity_fields,
        )

    async def _signatures(
        self,
        submission: Submission,
        rewritten: Rewritten,
        decision: Allowed,
        keys_of: Callable[[Identity], tuple[SigningKey, ...]],
    ) -> bytes:
        """The DKIM-Signature fields; nothing that should be signed may leave without: no key raises."""
        if decision.signer is None:
            return b""
        keys = keys_of(decision.signer)
        if not keys:
            raise SigningError(f"no key to sign for {decision.signer.name}")
        at, started = submission.received_at // 1_000_000, time.perf_counter()
        signatures = await self._signer.sign(rewritten.headers, submission.body.simple_digest, keys, at)
        metrics.SIGNING_SECONDS.observe(time.perf_counter() - started)
        return signatures

    def _new_message(
        self,
        submission: Submission,
        send: Send,
        decision: Allowed,
        rewritten: Rewritten,
        signatures: bytes,
        basis: Basis,
        charge: Charge,
    ) -> NewMessage:
        header = signatures + bytes(rewritten.headers)
        body = submission.body
        return_path = str(send.feedback_address)
        seconds = decision.max_delivery_seconds or self.settings.expire_seconds
        message = QueuedMessage(
            id=submission.id,
            account_id=send.principal.account_id,
            identity_arn=decision.identity.arn,
            reverse_path=self._reverse_path(submission, decision) or return_path,
            return_path=return_path,
            configuration_set=decision.configuration_set,
            received_at=submission.received_at,
            expires_at=submission.received_at + seconds * 1_000_000,
            size_bytes=len(header) + 2 + body.size_bytes,
            header=header,
            body=body.parts,
            chunks=_chunk_count(body),
            require_tls=decision.require_tls,
            events=decision.events & LISTENED,
        )
        return NewMessage(
            message=message,
            recipients=tuple(
                QueuedRecipient(number, str(address), address.domain)
                for number, address in enumerate(send.recipients)
            ),
            record=record.record_of_accepted(submission, send, decision, rewritten, len(signatures)),
            lease=self.lease if self._has_room(send.principal.account_id) else None,
            judged_at=basis.change,
            judged_on=basis.subjects,
            spilled=body.parts is None,
            charge=charge,
            suppressed_reasons=decision.suppressed_reasons,
            entries=record.accepted_entries(send, decision, message),
        )

    def _reverse_path(self, submission: Submission, decision: Allowed) -> str | None:
        """The address of ours that reports come back to; None if nothing of ours listens for them."""
        if self.settings.return_paths is None:
            return None
        issuer = self.settings.return_paths()
        return issuer.issue(submission.id, submission.received_at // 1_000_000, decision.mail_from_domain)

    def _accepted(self, new: NewMessage, committed: Committed, send: Send, decision: Allowed) -> None:
        metrics.ACCEPTED.inc()
        if decision.signer is None:
            metrics.UNSIGNED.inc()
        self._log(
            "accepted",
            id=ses_message_id(new.message.id),
            account=send.principal.account_id,
            user=send.principal.arn,
            client=send.source_ip,
            **{"from": str(send.from_.mailbox)},
            identity=decision.identity.arn,
            recipients=len(send.recipients),
            size=new.message.size_bytes,
            dkim=decision.signer.name if decision.signer else "none",
            unsigned=decision.unsigned_because,
        )
        sent = new.recipients
        if committed.suppressed:
            self._log_suppressed(new, committed)
            sent = tuple(one for one in sent if one.number not in committed.suppressed)
        if new.lease is not None and sent:
            self._offer(Consignment(new.message, sent, new.lease))

    def _log_suppressed(self, new: NewMessage, committed: Committed) -> None:
        for one in new.recipients:
            if one.number in committed.suppressed:
                metrics.BOUNCED.inc()
                reply = committed.suppressed[one.number]
                self._log("bounced", id=ses_message_id(new.message.id), to=one.address, reply=reply)

    # ------------------------------------------------------------ refusing

    def _refuse_syntax(self, submission: Submission, reason: str) -> Refused:
        return self.refused(submission.principal, submission.client, Refused(Reason.SYNTAX, reason))

    def _throttle(self, submission: Submission, exceeded: Exceeded) -> Refused:
        refused = Refused(exceeded.reason, exceeded.text, exceeded.explanation)
        return self.refused(submission.principal, submission.client, refused)

    def refused(self, principal: Principal, client: Client, refused: Refused) -> Refused:
        """Log a refusal that has no decision behind it."""
        self._log(
            "refused",
            reason=refused.reason.value,
            account=principal.account_id,
            user=principal.arn,
            client=client.source_ip,
            reply=refused.text,
            explanation=refused.explanation,
        )
        return refused

    async def _refuse(self, submission: Submission, send: Send, ground: Ground, denied: Denied) -> Refused:
        """Keep what is needed to judge it again, under a reference that the client is told."""
        refused = Refused(denied.reason, denied.text, denied.explanation, reference(submission.id))
        kept = Refusal(
            id=submission.id,
            reference=refused.reference or "",
            account_id=send.principal.account_id,
            access_key_id=send.principal.access_key_id,
            at=submission.received_at,
            reason=denied.reason.value,
            reply=f"{denied.text}\n{denied.explanation or ''}".rstrip(),
            record=record.record_of_refused(send),
            entries=record.refused_entries(send, concerned(send, ground), refused, submission.received_at),
        )
        if not await self._refusals.keep(kept):
            refused = replace(refused, reference=None)
        self._log(
            "refused",
            reason=denied.reason.value,
            reference=refused.reference,
            account=send.principal.account_id,
            user=send.principal.arn,
            client=send.source_ip,
            **{"from": str(send.from_.mailbox)},
            mail_from=str(send.mail_from),
            reply=denied.text,
            explanation=denied.explanation,
        )
        return refused

    def failed(self, principal: Principal, message_id: int, error: Exception) -> Refused:
        """Our own trouble: the client may come again."""
        if isinstance(error, SigningError):
            metrics.SIGNING_ERRORS.inc()
        self._log(
            "unavailable",
            level="error",
            id=ses_message_id(message_id),
            account=principal.account_id,
            error=f"{type(error).__name__}: {error}",
        )
        return _UNAVAILABLE


def _monotonic() -> int:
    return time.monotonic_ns() // 1000


def _charge(send: Send, account: Account, rules: Rules) -> Charge:
    """R9: the sending account's quota is charged, not the owner's."""
    simulated = sum(address.domain == rules.simulator_domain for address in send.recipients)
    return Charge(
        account_id=account.account_id,
        quota=Quota(account.max_24h_send, account.max_send_rate),
        recipients=len(send.recipients),
        in_24h=len(send.recipients) - simulated,
    )


def _chunk_count(body: Body) -> int:
    if body.parts is not None:
        return len(body.parts)
    return -(-body.size_bytes // CHUNK_BYTES)
