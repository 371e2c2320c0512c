"""Identities, their DKIM and policies, in the words of SES v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.api import models
from relay.api.configuration_sets import does_not_exist
from relay.api.configuration_sets import find as find_set
from relay.api.identities import named_view
from relay.api.pages import page, page_size
from relay.api.tags import labels, tags_of
from relay.api.targets import identity, nothing
from relay.api.values import APIError, Caller, Operations, in_thread
from relay.control import dkim, feedback, identities, mail_from, policies
from relay.control.feedback import Chosen
from relay.control.identities import IdentityView

_DEFAULT_PAGE = 1000
_IMPORTED = "EXTERNAL"


def _must_find(caller: Caller, name: str) -> IdentityView:
    return named_view(caller, name, models.SESV2)


def create_email_identity(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """A new identity; with an own key if one is given (BYODKIM)."""
    attributes = given.get("DkimSigningAttributes", {})
    _refuse_origin(attributes)
    default_set = given.get("ConfigurationSetName")
    if default_set is not None and find_set(caller, default_set) is None:
        raise APIError("NotFoundException", does_not_exist(default_set))
    view = identities.create(
        caller.ground, given["EmailIdentity"], caller.account_id, labels=labels(given.get("Tags", ()))
    )
    if "DomainSigningPrivateKey" in attributes:
        _import(caller, view, attributes)
    if default_set is not None:
        feedback.choose(caller.ground, view.row.name, caller.account_id, Chosen(default_set=default_set))
    view = _must_find(caller, view.row.name)
    return {
        "IdentityType": view.row.type,
        "VerifiedForSendingStatus": _is_verified(view),
        "DkimAttributes": _dkim(view),
    }


def _refuse_origin(attributes: Mapping[str, Any]) -> None:
    origin = attributes.get("DomainSigningAttributesOrigin", "AWS_SES")
    if origin not in ("AWS_SES", _IMPORTED):
        raise APIError(
            "BadRequestException", f"DomainSigningAttributesOrigin {origin}: keys of one region only."
        )


def _import(caller: Caller, view: IdentityView, attributes: Mapping[str, Any]) -> None:
    material = attributes.get("DomainSigningPrivateKey", "").encode()
    dkim.import_key(caller.ground, view.row, material, attributes.get("DomainSigningSelector", ""))


def get_email_identity(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given["EmailIdentity"])
    row = view.row
    return {
        "IdentityType": row.type,
        "FeedbackForwardingStatus": row.feedback_forwarding,
        "VerifiedForSendingStatus": _is_verified(view),
        "VerificationStatus": row.verification_status,
        "DkimAttributes": _dkim(view),
        "MailFromAttributes": _mail_from(view),
        "Policies": policies.documents(caller.ground, view),
        "Tags": tags_of(caller, view.arn),
        "ConfigurationSetName": row.configuration_set,
    }


def _is_verified(view: IdentityView) -> bool:
    return view.row.verification_status in ("SUCCESS", "TEMPORARY_FAILURE")


def _dkim(view: IdentityView) -> dict[str, Any]:
    """Tokens are the selectors of our keys, whose records are TXT (docs/api.md)."""
    return {
        "SigningEnabled": view.row.dkim_enabled,
        "Status": view.row.dkim_status,
        "Tokens": [key.selector for key in view.keys],
        "SigningAttributesOrigin": "AWS_SES",
        "CurrentSigningKeyLength": "RSA_2048_BIT" if view.keys else None,
        "NextSigningKeyLength": "RSA_2048_BIT" if view.keys else None,
    }


def _mail_from(view: IdentityView) -> dict[str, Any] | None:
    row = view.row
    if row.mail_from_domain is None:
        return None
    return {
        "MailFromDomain": row.mail_from_domain,
        "MailFromDomainStatus": row.mail_from_status,
        "BehaviorOnMxFailure": row.mail_from_on_failure,
    }


def list_email_identities(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    views = {view.row.name: view for view in identities.every(caller.ground, caller.account_id)}
    names, token = page(
        caller, list(views), given.get("NextToken"), page_size(given, "PageSize", _DEFAULT_PAGE)
    )
    return {
        "EmailIdentities": [
            {
                "IdentityType": views[name].row.type,
                "IdentityName": name,
                "SendingEnabled": _is_verified(views[name]),
                "VerificationStatus": views[name].row.verification_status,
            }
            for name in names
        ],
        "NextToken": token,
    }


def delete_email_identity(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given["EmailIdentity"])
    identities.delete(caller.ground, view.row.name, caller.account_id)
    return {}


def put_dkim(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view = _must_find(caller, given["EmailIdentity"])
    dkim.set_enabled(caller.ground, view.row, given.get("SigningEnabled", False))
    return {}


def put_dkim_signing(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """An own key, or new ones of ours, which sign once DNS has them."""
    view = _must_find(caller, given["EmailIdentity"])
    origin = given["SigningAttributesOrigin"]
    _refuse_origin({"DomainSigningAttributesOrigin": origin})
    if origin == _IMPORTED:
        _import(caller, view, given.get("SigningAttributes", {}))
    else:
        dkim.rotate(caller.ground, view.row)
    view = _must_find(caller, view.row.name)
    return {"DkimStatus": view.row.dkim_status, "DkimTokens": [key.selector for key in view.keys]}


def put_mail_from(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Without a domain none is used any more."""
    row = _must_find(caller, given["EmailIdentity"]).row
    if not given.get("MailFromDomain"):
        mail_from.remove(caller.ground, row.name, caller.account_id)
        return {}
    behavior = given.get("BehaviorOnMxFailure", mail_from.USE_DEFAULT_VALUE)
    mail_from.put(caller.ground, row.name, caller.account_id, given["MailFromDomain"], behavior)
    return {}


# ---------------------------------------------------------------- policies


def get_policies(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"Policies": policies.documents(caller.ground, _must_find(caller, given["EmailIdentity"]))}


def create_policy(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    view, name = _must_find(caller, given["EmailIdentity"]), given["PolicyName"]
    if name in policies.documents(caller.ground, view):
        raise APIError("AlreadyExistsException", f"Policy <{name}> already exists.")
    policies.put(caller.ground, view.arn, name, given["Policy"])
    return {}


def update_policy(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """Succeeds though there was none of that name, as in SES."""
    view = _must_find(caller, given["EmailIdentity"])
    policies.put(caller.ground, view.arn, given["PolicyName"], given["Policy"])
    return {}


def delete_policy(caller: Caller, given: Mapping[str, Any]) -> dict[str, Any]:
    """No error if there is none, as in SES."""
    view = _must_find(caller, given["EmailIdentity"])
    if given["PolicyName"] in policies.documents(caller.ground, view):
        policies.delete(caller.ground, view.arn, given["PolicyName"])
    return {}


_OF_IDENTITY = identity("EmailIdentity")

OPERATIONS: Operations = {
    (models.SESV2, name): in_thread(work, name, target)
    for name, work, target in (
        ("CreateEmailIdentity", create_email_identity, _OF_IDENTITY),
        ("GetEmailIdentity", get_email_identity, _OF_IDENTITY),
        ("ListEmailIdentities", list_email_identities, nothing),
        ("DeleteEmailIdentity", delete_email_identity, _OF_IDENTITY),
        ("PutEmailIdentityDkimAttributes", put_dkim, _OF_IDENTITY),
        ("PutEmailIdentityDkimSigningAttributes", put_dkim_signing, _OF_IDENTITY),
        ("PutEmailIdentityMailFromAttributes", put_mail_from, _OF_IDENTITY),
        ("GetEmailIdentityPolicies", get_policies, _OF_IDENTITY),
        ("CreateEmailIdentityPolicy", create_policy, _OF_IDENTITY),
        ("UpdateEmailIdentityPolicy", update_policy, _OF_IDENTITY),
        ("DeleteEmailIdentityPolicy", delete_policy, _OF_IDENTITY),
    )
}
