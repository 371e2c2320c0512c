"""From a call to the accept path of SMTP (R18), and from its refusals to SES's errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from relay.api import models
from relay.api.large import Octets
from relay.api.values import APIError, Caller
from relay.receipt import Receipt
from relay.submission.answer import Accepted, Reason, Refused
from relay.submission.envelope import Envelope
from relay.submission.submission import Parameters

_PIECE_BYTES = 64 * 1024


async def accept(
    caller: Caller, envelope: Envelope, parameters: Parameters, octets: Octets, service: str
) -> str:
    """The id of the message, durable; APIError if it was refused."""
    answer = await answered(caller, envelope, parameters, octets)
    if isinstance(answer, Accepted):
        return answer.message_id
    raise refusal(answer, service)


async def answered(
    caller: Caller, envelope: Envelope, parameters: Parameters, octets: Octets
) -> Accepted | Refused:
    """What the accept path says to one message."""
    if not envelope.recipients:
        return Refused(Reason.SYNTAX, "The message has no recipients.")
    intake = caller.intake
    refusing = intake.refusing()
    if refusing is not None:
        return refusing
    intake.transaction_opened()
    receipt = intake.receive(caller.principal, caller.client, envelope, parameters)
    try:
        # A client that goes away now does not undo what is being committed.
        return await asyncio.shield(_finish(receipt, octets))
    finally:
        intake.transaction_closed()


async def _finish(receipt: Receipt, octets: Octets) -> Accepted | Refused:
    try:
        for number, piece in enumerate(_pieces(octets)):
            await receipt.write(piece)
            if number:
                await asyncio.sleep(0)  # a large one lets the others go on
    except BaseException:
        receipt.abandon()
        raise
    return await receipt.finish()


def _pieces(octets: Octets) -> Iterator[bytes]:
    """The message in pieces; where its first line ends in LF, all lines are given CRLF.

    Deliberate: HTTP delimits the message, so a bare LF ends no data, and SDKs send what their language's
    library writes.  Where other lines end otherwise than the first, nobody can tell what was meant: a CR
    or an LF stays alone, and such a message is refused on the accept path.
    """
    is_lf = has_bare_lines(octets)
    for start in range(0, len(octets), _PIECE_BYTES):
        piece = bytes(octets[start : start + _PIECE_BYTES])
        yield piece.replace(b"\n", b"\r\n") if is_lf else piece


def has_bare_lines(octets: Octets) -> bool:
    """Whether its first line ends in LF alone."""
    first = octets.find(b"\n")
    return first >= 0 and octets[first - 1 : first] != b"\r"


_V1 = {
    Reason.ACCESS_DENIED: "AccessDenied",
    Reason.NOT_VERIFIED: "MessageRejected",
    Reason.PAUSED: "AccountSendingPausedException",
    Reason.CONFIGURATION_SET: "ConfigurationSetDoesNotExistException",
    Reason.CONFIGURATION_SET_PAUSED: "ConfigurationSetSendingPausedException",
    Reason.MAIL_FROM_DOMAIN: "MailFromDomainNotVerifiedException",
    Reason.DAILY_QUOTA: "Throttling",
    Reason.SENDING_RATE: "Throttling",
    Reason.CREDENTIAL: "InvalidClientTokenId",
    Reason.UNAVAILABLE: "ServiceUnavailable",
    Reason.LOW_DISK: "ServiceUnavailable",
    Reason.LOW_MEMORY: "ServiceUnavailable",
}
_V2 = _V1 | {
    Reason.PAUSED: "SendingPausedException",
    Reason.CONFIGURATION_SET: "NotFoundException",
    Reason.CONFIGURATION_SET_PAUSED: "SendingPausedException",
}


def refusal(refused: Refused, service: str) -> APIError:
    """SES's error for a refusal of the accept path; what SES does not say stands behind its sentence."""
    names = _V2 if service == models.SESV2 else _V1
    return APIError(names.get(refused.reason, "InvalidParameterValue"), told(refused))


def told(refused: Refused) -> str:
    """SES's sentence, then what failed and the reference under which it is kept."""
    text = refused.text.removeprefix("Message rejected: ").removeprefix("Access denied: ")
    more = [refused.explanation] if refused.explanation else []
    if refused.reference:
        more.append(f"reference {refused.reference}")
    return f"{text} ({'; '.join(more)})" if more else text
