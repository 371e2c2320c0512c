"""The request context: what a submission truthfully says to a policy's conditions.

A key that the gateway does not know is absent, never empty: an empty value would satisfy conditions
that ask only whether the key is there.  Keys are in lower case, as conditions compare them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from relay.authorization.send import Send
from relay.submission.principal import Principal, PrincipalKind

Context = dict[str, str | tuple[str, ...]]

# What differs from one message to the next of the same sender, From and Return-Path.
OF_EACH_MESSAGE = frozenset({"ses:recipients", "aws:currenttime", "aws:epochtime"})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How a request reached us.  ``at`` is microseconds UTC."""

    at: int
    source_ip: str
    is_secure: bool
    user_agent: str | None
    region: str


def context_of(send: Send, region: str) -> Context:
    """Every key but those of the resource, which differ from one asked identity to the next."""
    about = Circumstances(send.at, send.source_ip, send.is_secure, send.user_agent, region)
    context = context_of_call(send.principal, about)
    context |= {
        "ses:recipients": tuple([str(recipient) for recipient in send.recipients]),
        "ses:fromaddress": str(send.from_.mailbox),
        "ses:feedbackaddress": str(send.feedback_address),
        "ses:apiversion": send.api_version,
    }
    if send.from_.display_name:
        context["ses:fromdisplayname"] = send.from_.display_name
    return context


def context_of_call(principal: Principal, about: Circumstances) -> Context:
    """What is true of any request, whatever it is for."""
    seconds = about.at // 1_000_000
    context: Context = {
        "aws:sourceip": about.source_ip,
        "aws:securetransport": "true" if about.is_secure else "false",
        "aws:currenttime": _iso(seconds),
        "aws:epochtime": str(seconds),
        "aws:requestedregion": about.region,
        "aws:viaawsservice": "false",
    }
    if about.user_agent:
        context["aws:useragent"] = about.user_agent
    context.update(_of_principal(principal))
    return context


def _of_principal(principal: Principal) -> Context:
    if principal.kind is PrincipalKind.SERVICE:
        context: Context = {
            "aws:principalisawsservice": "true",
            "aws:sourceaccount": principal.account_id,
        }
        if principal.source_arn:
            context["aws:sourcearn"] = principal.source_arn
        return context
    context = {
        "aws:principalisawsservice": "false",
        "aws:principalarn": principal.arn,
        "aws:principalaccount": principal.account_id,
        "aws:principaltype": str(principal.kind),
        "aws:userid": principal.unique_id,
    }
    if principal.user_name:
        context["aws:username"] = principal.user_name
    for key, value in principal.tags:
        if value:
            context[f"aws:principaltag/{key.lower()}"] = value
    return context


@lru_cache(maxsize=8)
def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
