"""Identities, their verification, DKIM and policies, in the words of SES v1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api import models
from relay.api.identities import find, named_view, views
from relay.api.pages import page, page_size
from relay.api.targets import identity, nothing
from relay.api.values import Caller, Operations, in_thread
from relay.control import dkim, identities, mail_from, policies, verification
from relay.control.identities import IdentityRow, IdentityView

_STATUSES = {
    "PENDING": "Pending",
    "SUCCESS": "Success",
    "FAILED": "Failed",
    "TEMPORARY_FAILURE": "TemporaryFailure",
    "NOT_STARTED": "NotStarted",
}
_TYPES = {"EmailAddress": "EMAIL_ADDRESS", "Domain": "DOMAIN"}
_BEHAVIORS = {"UseDefaultValue": mail_from.USE_DEFAULT_VALUE, "RejectMessage": mail_from.REJECT_MESSAGE}
_DEFAULT_PAGE = 100


def verify_domain_identity(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """A domain new or known; what had failed begins anew."""
    view = _verified_anew(caller, given["Domain"])
    return {"VerificationToken": view.row.verification_token}


def verify_domain_dkim(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """The selectors of its keys; here their records are TXT and not CNAME (docs/api.md)."""
    view = _verified_anew(caller, given["Domain"])
    return {"DkimTokens": [key.selector for key in view.keys]}


def verify_email_identity(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Mails a code to the address."""
    _verified_anew(caller, given["EmailAddress"])
    return {}


def _verified_anew(caller: Caller, name: str) -> IdentityView:
    found = find(caller, name)
    if found is None:
        return identities.create(caller.ground, name, caller.account_id)
    if found.row.verification_status == "SUCCESS":
        return found
    return verification.verify(caller.ground, name, caller.account_id).view


def _must_find(caller: Caller, name: str) -> IdentityView:
    return named_view(caller, name, models.SES)


def list_identities(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    wanted = _TYPES.get(given.get("IdentityType", ""))
    names = [
        view.row.name
        for view in identities.every(caller.ground, caller.account_id)
        if wanted is None or view.row.type == wanted
    ]
    chosen, token = page(caller, names, given.get("NextToken"), page_size(given, "MaxItems", _DEFAULT_PAGE))
    return {"Identities": chosen, "NextToken": token}


def delete_identity(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """No error if there is none, as in SES."""
    found = find(caller, given["Identity"])
    if found is not None:
        identities.delete(caller.ground, found.row.name, caller.account_id)
    return {}


def get_identity_verification_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "VerificationAttributes": {
            name: {
                "VerificationStatus": _STATUSES[view.row.verification_status],
                "VerificationToken": view.row.verification_token if view.row.type == "DOMAIN" else None,
            }
            for name, view in views(caller, given["Identities"]).items()
        }
    }


def get_identity_dkim_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "DkimAttributes": {
            name: {
                "DkimEnabled": view.row.dkim_enabled,
                "DkimVerificationStatus": _STATUSES[view.row.dkim_status],
                "DkimTokens": [key.selector for key in view.keys],
            }
            for name, view in views(caller, given["Identities"]).items()
        }
    }


def set_identity_dkim_enabled(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    dkim.set_enabled(caller.ground, _must_find(caller, given["Identity"]).row, given["DkimEnabled"])
    return {}


def set_identity_mail_from_domain(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Without a domain none is used any more."""
    row = _must_find(caller, given["Identity"]).row
    if not given.get("MailFromDomain"):
        mail_from.remove(caller.ground, row.name, caller.account_id)
        return {}
    behavior = _BEHAVIORS[given.get("BehaviorOnMXFailure", "UseDefaultValue")]
    mail_from.put(caller.ground, row.name, caller.account_id, given["MailFromDomain"], behavior)
    return {}


def get_identity_mail_from_domain_attributes(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "MailFromDomainAttributes": {
            name: _mail_from(view.row) for name, view in views(caller, given["Identities"]).items()
        }
    }


def _mail_from(row: IdentityRow) -> dict[str, Any]:
    """One without a domain has the default, as in SES."""
    words = {stored: word for word, stored in _BEHAVIORS.items()}
    return {
        "MailFromDomain": row.mail_from_domain or "",
        "MailFromDomainStatus": _STATUSES[row.mail_from_status] if row.mail_from_status else "",
        "BehaviorOnMXFailure": words[row.mail_from_on_failure or mail_from.USE_DEFAULT_VALUE],
    }


# ---------------------------------------------------------------- policies


def put_identity_policy(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    arn = _must_find(caller, given["Identity"]).arn
    policies.put(caller.ground, arn, given["PolicyName"], given["Policy"])
    return {}


def get_identity_policies(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    documents = policies.documents(caller.ground, _must_find(caller, given["Identity"]))
    return {"Policies": {name: documents[name] for name in given["PolicyNames"] if name in documents}}


def list_identity_policies(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"PolicyNames": list(policies.documents(caller.ground, _must_find(caller, given["Identity"])))}


def delete_identity_policy(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """No error if there is none, as in SES."""
    view = _must_find(caller, given["Identity"])
    if given["PolicyName"] in policies.documents(caller.ground, view):
        policies.delete(caller.ground, view.arn, given["PolicyName"])
    return {}


# ---------------------------------------------------------------- forms that SES calls deprecated


def list_verified_email_addresses(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    views = identities.every(caller.ground, caller.account_id)
    addresses = [view.row for view in views if view.row.type == "EMAIL_ADDRESS"]
    return {"VerifiedEmailAddresses": [row.name for row in addresses if row.verification_status == "SUCCESS"]}


def delete_verified_email_address(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return delete_identity(caller, {"Identity": given["EmailAddress"]})


OPERATIONS: Operations = {
    (models.SES, name): in_thread(work, name, target)
    for name, work, target in (
        ("VerifyDomainIdentity", verify_domain_identity, identity("Domain")),
        ("VerifyDomainDkim", verify_domain_dkim, identity("Domain")),
        ("VerifyEmailIdentity", verify_email_identity, identity("EmailAddress")),
        ("VerifyEmailAddress", verify_email_identity, identity("EmailAddress")),
        ("ListIdentities", list_identities, nothing),
        ("DeleteIdentity", delete_identity, identity("Identity")),
        ("GetIdentityVerificationAttributes", get_identity_verification_attributes, nothing),
        ("GetIdentityDkimAttributes", get_identity_dkim_attributes, nothing),
        ("SetIdentityDkimEnabled", set_identity_dkim_enabled, identity("Identity")),
        ("SetIdentityMailFromDomain", set_identity_mail_from_domain, identity("Identity")),
        ("GetIdentityMailFromDomainAttributes", get_identity_mail_from_domain_attributes, nothing),
        ("PutIdentityPolicy", put_identity_policy, identity("Identity")),
        ("GetIdentityPolicies", get_identity_policies, identity("Identity")),
        ("ListIdentityPolicies", list_identity_policies, identity("Identity")),
        ("DeleteIdentityPolicy", delete_identity_policy, identity("Identity")),
        ("ListVerifiedEmailAddresses", list_verified_email_addresses, nothing),
        ("DeleteVerifiedEmailAddress", delete_verified_email_address, identity("EmailAddress")),
    )
}
