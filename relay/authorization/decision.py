"""The decision: may this be sent, by whom is it granted, and whose key signs it.

One function, ``decide``, for live mail, ``relay explain``, dry runs and kept refusals.  It is pure: the
``Ground`` holds every account, identity and policy it reads, ``wanted`` says which those are.

The order is fixed (design, section 5): ARNs, the sender's own policies and the identity's, then
verification, sandbox, paused account, configuration set.  "Not authorized" therefore comes before "not
verified", as SES does it, and a stranger learns nothing of which identities exist: an ARN that names
nothing, another region or nonsense is answered like one without a grant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from relay.authorization.context import Context, context_of
from relay.authorization.evaluate import Effect, Verdict, evaluate
from relay.authorization.identities import (
    Identities,
    Identity,
    IdentityArn,
    covering_names,
    covers,
    identity_arn,
    most_specific_verified,
    parse_identity_arn,
)
from relay.authorization.policy import Policy
from relay.authorization.reasons import explain_denial, explain_own_side
from relay.authorization.request import Caller, Request, caller_of
from relay.authorization.send import Claim, Send
from relay.submission.address import Mailbox
from relay.submission.answer import Reason

# SES cuts the list of unverified identities with "..." when not all fit; a reply line has 512 octets.
_LISTED_IDENTITIES_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Rules:
    """What the operator fixed for every decision."""

    region: str
    owner_out_of_sandbox_too: bool = False
    simulator_domain: str = "simulator.amazonses.com"  # empty: there is none


@dataclass(frozen=True, slots=True)
class Account:
    """An account as the decision sees it; its quotas (-1 is no limit) are for the stage after it.

    ``suppressed_reasons`` are those for which it does not send to an address on its suppression list.
    """

    account_id: str
    production: bool
    paused: bool = False
    max_24h_send: int = -1
    max_send_rate: int = -1
    suppressed_reasons: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ConfigurationSet:
    """A configuration set; without ``suppressed_reasons`` of its own the account's hold.

    ``events`` are the types that an enabled destination takes, by the names of ``eventType``;
    ``max_delivery_seconds`` None leaves the time to the operator.
    """

    name: str
    sending_enabled: bool = True
    require_tls: bool = False
    suppressed_reasons: frozenset[str] | None = None
    events: frozenset[str] = frozenset()
    max_delivery_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything a decision is made on.  ``user_policies`` is None for a service, which has none."""

    account: Account
    user_policies: tuple[Policy, ...] | None
    identities: Identities
    owners: Mapping[str, Account]
    configuration_sets: Mapping[str, ConfigurationSet]


@dataclass(frozen=True, slots=True)
class Grant:
    """Why one address may be used: the identity, and the statement that allowed it if one did."""

    claim: Claim
    identity: Identity
    verdict: Verdict | None


@dataclass(frozen=True, slots=True)
class Allowed:
    """It may be sent.

    ``identity`` is the one named for From; ``settings`` the most specific verified one of the same
    account, whose switches apply.  ``signer`` is the domain identity whose key signs, or None with
    ``unsigned_because``.  ``mail_from_domain`` is that of the envelope sender, None for the relay's own.
    ``events`` are the types that the configuration set's destinations or the identity's topics take.
    """

    identity: Identity
    settings: Identity
    grants: tuple[Grant, ...]
    signer: Identity | None
    unsigned_because: str | None
    configuration_set: str | None
    require_tls: bool = False  # so the configuration set wants it
    suppressed_reasons: frozenset[str] = frozenset()
    mail_from_domain: str | None = None
    max_delivery_seconds: int | None = None  # the same
    events: frozenset[str] = frozenset()


SENDER, OWNER = "sender", "owner"


@dataclass(frozen=True, slots=True)
class Gap:
    """What an access was denied for: which side's policies lack the grant, on which resource.

    ``identity`` is None if the resource is no identity here; ``verdict`` None if no policy was asked.
    """

    side: str
    resource: str
    identity: Identity | None
    verdict: Verdict | None

    @property
    def is_explicit(self) -> bool:
        return self.verdict is not None and self.verdict.effect is Effect.EXPLICIT_DENY


@dataclass(frozen=True, slots=True)
class Denied:
    """It may not.  ``text`` is SES's sentence; ``explanation`` names what failed, no policy's value.

    ``gap`` is for the owner's eyes and no part of what the sender is told.
    """

    reason: Reason
    text: str
    explanation: str | None = None
    gap: Gap | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class _Unverified:
    claim: Claim
    why: str


Decision = Allowed | Denied


def wanted(send: Send, production: bool, rules: Rules) -> frozenset[tuple[str, str]]:
    """The (account, case-folded name) of every identity that ``decide`` may ask for."""
    own = send.principal.account_id
    found = _wanted(own, tuple([(claim.address, claim.arn) for claim in send.claims]))
    is_owner_asked = rules.owner_out_of_sandbox_too and bool(named_owners(send) - {own})
    if production and not is_owner_asked:
        return found
    covering = (name for recipient in send.recipients for name in covering_names(recipient))
    return found | {(own, name.lower()) for name in covering}


@lru_cache(maxsize=4096)
def _wanted(own: str, asked: tuple[tuple[Mailbox, str | None], ...]) -> frozenset[tuple[str, str]]:
    """What covers the addresses, under the ARNs named for them: one application's are always the same."""
    found: set[tuple[str, str]] = set()
    for address, named in asked:
        arn = parse_identity_arn(named) if named else None
        account_id = arn.account_id if arn and covers(arn.name, address) else own
        found.update((account_id, name.lower()) for name in covering_names(address))
    return frozenset(found)


def named_owners(send: Send) -> frozenset[str]:
    """The accounts whose identities the ARNs name."""
    return _owners(tuple([claim.arn for claim in send.claims]))


@lru_cache(maxsize=4096)
def _owners(arns: tuple[str | None, ...]) -> frozenset[str]:
    found = (parse_identity_arn(arn) for arn in arns if arn)
    return frozenset(arn.account_id for arn in found if arn)


def concerned(send: Send, ground: Ground) -> list[str]:
    """The ARNs of the identities here in whose name it would be sent, whatever is decided."""
    found = (_concerned(claim, send.principal.account_id, ground.identities) for claim in send.claims)
    return list(dict.fromkeys(identity.arn for identity in found if identity))


def _concerned(claim: Claim, own: str, identities: Identities) -> Identity | None:
    named = parse_identity_arn(claim.arn) if claim.arn else None
    if claim.arn and named is None:
        return None
    if named and covers(named.name, claim.address):
        identity = identities.named(named)
        return identity if identity and identity.arn == claim.arn else None
    return most_specific_verified(identities.covering(own, claim.address))


# Answers one question of a decision: the side asked ("sender" or "owner"), its policies, the request.
Ask = Callable[[str, Sequence[Policy], Request], Verdict]


def _ask(_side: str, policies: Sequence[Policy], request: Request) -> Verdict:
    return evaluate(policies, request)


def decide(send: Send, ground: Ground, rules: Rules, ask: Ask = _ask) -> Decision:
    """Allowed with what follows from it, or Denied with its reason.

    ``ask`` is given by whoever wants to see the questions (``trace.Questions``); the verdicts are the same.
    """
    judge = _Judge(send, ground, rules, ask)
    answers = [judge.claim(claim) for claim in send.claims]
    for answer in answers:
        if isinstance(answer, Denied):
            return answer
    unverified = [answer for answer in answers if isinstance(answer, _Unverified)]
    if unverified:
        first = unverified[0]
        explanation = f"{first.claim.role} {first.claim.address}: {first.why}"
        return _not_verified([answer.claim.shown for answer in unverified], rules.region, explanation)
    grants = tuple(answer for answer in answers if isinstance(answer, Grant))
    return _sandbox(send, ground, rules, grants) or _sending(send, ground, grants)


class _Judge:
    """Judges each claim of one submission; claims on the same address and ARN are judged once."""

    def __init__(self, send: Send, ground: Ground, rules: Rules, ask: Ask) -> None:
        self._ask = ask
        self._send = send
        self._ground = ground
        self._rules = rules
        self._caller: Caller = caller_of(send.principal)
        self._context: Context = context_of(send, rules.region)
        self._judged: dict[tuple[Mailbox, str | None], Grant | Denied | _Unverified] = {}
        self._verdicts: dict[tuple[str, str], Verdict] = {}

    def claim(self, claim: Claim) -> Grant | Denied | _Unverified:
        key = (claim.address, claim.arn)
        if key not in self._judged:
            self._judged[key] = self._judge(claim)
        answer = self._judged[key]
        # The same verdict, told of this role: From shows its display name, MAIL FROM the bare address.
        if isinstance(answer, _Unverified):
            return _Unverified(claim, answer.why)
        return Grant(claim, answer.identity, answer.verdict) if isinstance(answer, Grant) else answer

    def _judge(self, claim: Claim) -> Grant | Denied | _Unverified:
        named = parse_identity_arn(claim.arn) if claim.arn else None
        if claim.arn and (named is None or (named.partition, named.region) != ("aws", self._rules.region)):
            return self._denied(claim, claim.arn, None, Gap(OWNER, claim.arn, None, None))
        if named and not covers(named.name, claim.address):
            named = None  # it says nothing about this address; the sender's own identities do
        account_id = named.account_id if named else self._send.principal.account_id
        levels = self._ground.identities.covering(account_id, claim.address)
        target = self._ground.identities.named(named) if named else most_specific_verified(levels)
        resource = self._resource(claim, named, target)
        return self._own_side(claim, resource, account_id) or self._owners_side(
            claim, resource, account_id, levels, target, is_named=named is not None
        )

    def _resource(self, claim: Claim, named: IdentityArn | None, target: Identity | None) -> str:
        if named:
            return str(named)
        if target:
            return target.arn
        return identity_arn(self._rules.region, self._send.principal.account_id, str(claim.address))

    def _own_side(self, claim: Claim, resource: str, account_id: str) -> Denied | None:
        """The sender's user policies must allow the action on the identity too."""
        policies = self._ground.user_policies
        if policies is None:
            return None
        verdict = self._verdict(SENDER, policies, resource, account_id)
        if verdict.effect is Effect.ALLOW:
            return None
        explanation = explain_own_side(self._send.action, verdict)
        return self._refusal(resource, explanation, Gap(SENDER, resource, None, verdict))

    def _verdict(self, side: str, policies: Sequence[Policy], resource: str, account_id: str) -> Verdict:
        """From, Return-Path and MAIL FROM mostly use one identity: it is asked once."""
        verdict = self._verdicts.get((side, resource))
        if verdict is None:
            verdict = self._ask(side, policies, self._request(resource, account_id))
            self._verdicts[side, resource] = verdict
        return verdict

    def _owners_side(
        self,
        claim: Claim,
        resource: str,
        account_id: str,
        levels: Sequence[Identity],
        target: Identity | None,
        *,
        is_named: bool,
    ) -> Grant | Denied | _Unverified:
        if target is None:
            gap = Gap(OWNER, resource, None, None)
            return self._denied(claim, resource, None, gap) if is_named else _uncovered(claim, levels)
        deciding, verdict = self._deciding_level(levels, account_id)
        if deciding and verdict and verdict.effect is not Effect.ALLOW:
            request = self._request(deciding.arn, account_id)
            return self._denied(claim, resource, request, Gap(OWNER, deciding.arn, deciding, verdict))
        if verdict is None and account_id != self._send.principal.account_id:
            request = self._request(target.arn, account_id)
            gap = Gap(OWNER, target.arn, target, None)
            return self._denied(
                claim, resource, request, gap, [p for level in levels for p in level.policies]
            )
        if not target.verified:
            return _Unverified(claim, f"the identity {target.name} is not verified")
        if self._ground.identities.has_other_case(account_id, claim.address):
            return _Unverified(claim, "it differs from an identity in letter case")
        return Grant(claim, target, verdict)

    def _deciding_level(
        self, levels: Sequence[Identity], account_id: str
    ) -> tuple[Identity | None, Verdict | None]:
        """The most specific level that says anything.

        An Allow of an unverified identity is silence; a policy that cannot be read may have held a Deny.
        """
        for level in levels:
            if not level.policies:
                continue
            verdict = self._verdict(OWNER, level.policies, level.arn, account_id)
            if verdict.effect is Effect.ALLOW and not level.verified:
                continue
            if verdict.effect is not Effect.IMPLICIT_DENY or verdict.unreadable is not None:
                return level, verdict
        return None, None

    def _request(self, resource: str, account_id: str) -> Request:
        context = {**self._context, "aws:resourceaccount": account_id}
        return Request(self._caller, self._send.action, resource, context)

    def _denied(
        self,
        claim: Claim,
        resource: str,
        request: Request | None,
        gap: Gap,
        policies: Sequence[Policy] | None = None,
    ) -> Denied:
        if policies is None:
            policies = gap.identity.policies if gap.identity else ()
        return self._refusal(resource, explain_denial(policies, request, claim), gap)

    def _refusal(self, resource: str, explanation: str, gap: Gap) -> Denied:
        send = self._send
        text = (
            f"Access denied: User `{send.principal.arn}' is not authorized to perform"
            f" `{send.action}' on resource `{resource}'"
        )
        return Denied(Reason.ACCESS_DENIED, text, explanation, gap)


def _uncovered(claim: Claim, pending: Sequence[Identity]) -> _Unverified:
    """No verified identity of the sender covers the address: what the sender has to do or to name."""
    if pending:
        return _Unverified(claim, f"the identity {pending[0].name} is not verified yet")
    if claim.arn is None:
        return _Unverified(claim, "no identity of this account covers it, and no ARN names a lent one")
    return _Unverified(claim, "neither the ARN named for it nor an identity of this account covers it")


def _not_verified(shown: Sequence[str], region: str, explanation: str | None = None) -> Denied:
    text = (
        "Message rejected: Email address is not verified. The following identities failed the check in"
        f" region {region.upper()}: {', '.join(_fitting(dict.fromkeys(shown)))}"
    )
    return Denied(Reason.NOT_VERIFIED, text, explanation)


def _fitting(shown: Mapping[str, None]) -> Iterator[str]:
    room = _LISTED_IDENTITIES_CHARACTERS
    for text in shown:
        room -= len(text) + 2
        if room < 0:
            yield "..."
            return
        yield text


def _sandbox(send: Send, ground: Ground, rules: Rules, grants: Sequence[Grant]) -> Denied | None:
    """R15: from a sandbox only verified recipients and the mailbox simulator are reached."""
    if ground.account.production and not (rules.owner_out_of_sandbox_too and _lent(send, ground, grants)):
        return None
    own = send.principal.account_id
    failed = [
        str(recipient)
        for recipient in send.recipients
        if recipient.domain != rules.simulator_domain
        and not most_specific_verified(ground.identities.covering(own, recipient))
    ]
    return _not_verified(failed, rules.region) if failed else None


def _lent(send: Send, ground: Ground, grants: Sequence[Grant]) -> bool:
    """Whether an identity of another account that is still in the sandbox is used."""
    owners = {grant.identity.account_id for grant in grants} - {send.principal.account_id}
    return any(not ground.owners[owner].production for owner in owners if owner in ground.owners)


def _sending(send: Send, ground: Ground, grants: tuple[Grant, ...]) -> Decision:
    """Everything is granted: what remains are switches."""
    if ground.account.paused:
        return Denied(
            Reason.PAUSED,
            "Message rejected: Sending paused for this account. For more information, please check the"
            " inbox of the email address associated with your AWS account.",
        )
    granted = grants[0]
    identity = granted.identity
    levels = ground.identities.covering(identity.account_id, granted.claim.address)
    settings = most_specific_verified(levels) or identity
    configuration_set = send.configuration_set
    if configuration_set is None and settings.account_id == send.principal.account_id:
        configuration_set = settings.configuration_set  # R3: never a foreign identity's default
    refusal = _configuration_set(configuration_set, ground) or _mail_from(settings)
    if refusal:
        return refusal
    signer, unsigned_because = _signer(settings, levels)
    used = ground.configuration_sets.get(configuration_set or "")
    return Allowed(
        identity,
        settings,
        grants,
        signer,
        unsigned_because,
        configuration_set,
        require_tls=used is not None and used.require_tls,
        suppressed_reasons=_suppressed_reasons(ground.account, used),
        mail_from_domain=settings.mail_from.domain
        if settings.mail_from and settings.mail_from.verified
        else None,
        max_delivery_seconds=used.max_delivery_seconds if used else None,
        events=settings.events | used.events if used else settings.events,
    )


def _suppressed_reasons(account: Account, used: ConfigurationSet | None) -> frozenset[str]:
    own = used.suppressed_reasons if used is not None else None
    return account.suppressed_reasons if own is None else own


def _configuration_set(name: str | None, ground: Ground) -> Denied | None:
    if name is None:
        return None
    found = ground.configuration_sets.get(name)
    if found is None:
        text = f"Message rejected: Configuration set <{name}> does not exist."
        return Denied(Reason.CONFIGURATION_SET, text)
    if not found.sending_enabled:
        text = f"Message rejected: Sending paused for configuration set <{name}>."
        return Denied(Reason.CONFIGURATION_SET_PAUSED, text)
    return None


def _mail_from(settings: Identity) -> Denied | None:
    """The owner would rather send nothing than from another envelope domain."""
    domain = settings.mail_from
    if domain is None or domain.verified or not domain.rejects:
        return None
    explanation = f"the MX of {domain.domain}, MAIL FROM domain of {settings.name}, is not seen in DNS"
    return Denied(Reason.MAIL_FROM_DOMAIN, "Mail FROM domain is not verified", explanation)


def _signer(settings: Identity, levels: Sequence[Identity]) -> tuple[Identity | None, str | None]:
    """R11: whose key signs.  An address identity uses the key of the domain identity above it."""
    if not settings.dkim_enabled:
        return None, f"DKIM is switched off for {settings.name}"
    domain = most_specific_verified([level for level in levels if level.is_domain])
    if domain is None or not domain.has_keys:
        return None, f"no domain identity above {settings.name} holds a key"
    if not domain.dkim_enabled:
        return None, f"DKIM is switched off for {domain.name}"
    if not domain.dkim_verified:
        return None, f"the DKIM key of {domain.name} has not been seen in DNS"
    return domain, None
