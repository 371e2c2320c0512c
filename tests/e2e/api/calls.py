"""Every operation that is offered and every error that is documented of it, as a table.

``$`` in an argument is a name of the case's own.  ``before`` are calls that succeed first.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.support.gateway import DELEGATE, OWNER, REGION, STRANGER, arn

Args = dict[str, Any]
Call = tuple[str, Args]


@dataclass(frozen=True)
class Case:
    """One call: what it is answered with, an error's code or members of the output."""

    call: str
    args: Args
    error: str | None = None
    before: tuple[Call, ...] = ()
    expect: Args = field(default_factory=dict)
    as_: str = "admin"

    @property
    def id(self) -> str:
        return f"{self.call}-{self.error or 'ok'}"


def case(call: str, args: Args | None = None, error: str | None = None, **more: Any) -> Case:
    before = tuple(more.pop("before", ()))
    return Case(call, args or {}, error, before, more.pop("expect", {}), more.pop("as_", "admin"))


DOMAIN = "owner.example"
TO = "user@customer.example"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": DELEGATE},
                "Action": "ses:SendEmail",
                "Resource": arn(DOMAIN),
            }
        ],
    }
)
BAD_TOKEN = "bm8gdG9rZW4gb2Ygb3Vycw=="
SECONDARY = "arn:aws:ses:eu-west-1:111122223333:identity/owner.example"
MANY_TAGS = [{"Key": f"k{number}", "Value": "v"} for number in range(51)]
TAGS = [{"Key": "team", "Value": "mail"}]
SET_ARN = f"arn:aws:ses:{REGION}:{OWNER}:configuration-set/$"

# ---------------------------------------------------------------- identities

NEW2: Call = ("sesv2.CreateEmailIdentity", {"EmailIdentity": "$.example"})
MISSING2 = {"EmailIdentity": "missing.example"}
BAD2 = {"EmailIdentity": "not a name"}
NAMED2 = {"EmailIdentity": DOMAIN, "PolicyName": "$"}

IDENTITIES_V2 = [
    case(*NEW2, expect={"IdentityType": "DOMAIN", "VerifiedForSendingStatus": False}),
    case("sesv2.CreateEmailIdentity", {"EmailIdentity": "$@new.example", "Tags": TAGS}),
    case(*NEW2, error="AlreadyExistsException", before=[NEW2]),
    case("sesv2.CreateEmailIdentity", BAD2, error="BadRequestException"),
    case("sesv2.CreateEmailIdentity", {**NEW2[1], "Tags": MANY_TAGS}, error="LimitExceededException"),
    case(
        "sesv2.CreateEmailIdentity",
        {**NEW2[1], "ConfigurationSetName": "missing"},
        error="NotFoundException",
    ),
    case("sesv2.GetEmailIdentity", {"EmailIdentity": DOMAIN}, expect={"VerificationStatus": "SUCCESS"}),
    case("sesv2.GetEmailIdentity", {"EmailIdentity": arn(DOMAIN)}, expect={"IdentityType": "DOMAIN"}),
    case("sesv2.GetEmailIdentity", MISSING2, error="NotFoundException"),
    case("sesv2.GetEmailIdentity", {"EmailIdentity": SECONDARY}, error="BadRequestException"),
    case("sesv2.ListEmailIdentities", {"PageSize": 1}),
    case("sesv2.ListEmailIdentities", {"NextToken": BAD_TOKEN}, error="BadRequestException"),
    case("sesv2.DeleteEmailIdentity", NEW2[1], before=[NEW2]),
    case("sesv2.DeleteEmailIdentity", MISSING2, error="NotFoundException"),
    case("sesv2.DeleteEmailIdentity", BAD2, error="BadRequestException"),
    case("sesv2.PutEmailIdentityDkimAttributes", {**NEW2[1], "SigningEnabled": False}, before=[NEW2]),
    case("sesv2.PutEmailIdentityDkimAttributes", MISSING2, error="NotFoundException"),
    case("sesv2.PutEmailIdentityDkimAttributes", BAD2, error="BadRequestException"),
    case(
        "sesv2.PutEmailIdentityDkimSigningAttributes",
        {**NEW2[1], "SigningAttributesOrigin": "AWS_SES"},
        before=[NEW2],
        expect={"DkimStatus": "PENDING"},
    ),
    case(
        "sesv2.PutEmailIdentityDkimSigningAttributes",
        {**MISSING2, "SigningAttributesOrigin": "AWS_SES"},
        error="NotFoundException",
    ),
    case("sesv2.PutEmailIdentityDkimSigningAttributes", NEW2[1], error="BadRequestException", before=[NEW2]),
    case("sesv2.GetEmailIdentityPolicies", {"EmailIdentity": DOMAIN}),
    case("sesv2.GetEmailIdentityPolicies", MISSING2, error="NotFoundException"),
    case("sesv2.GetEmailIdentityPolicies", BAD2, error="BadRequestException"),
    case("sesv2.CreateEmailIdentityPolicy", {**NAMED2, "Policy": POLICY}),
    case(
        "sesv2.CreateEmailIdentityPolicy",
        {**NAMED2, "Policy": POLICY},
        error="AlreadyExistsException",
        before=[("sesv2.CreateEmailIdentityPolicy", {**NAMED2, "Policy": POLICY})],
    ),
    case("sesv2.CreateEmailIdentityPolicy", {**NAMED2, "Policy": "{}"}, error="BadRequestException"),
    case(
        "sesv2.CreateEmailIdentityPolicy",
        {**MISSING2, "PolicyName": "p", "Policy": POLICY},
        error="NotFoundException",
    ),
    case("sesv2.UpdateEmailIdentityPolicy", {**NAMED2, "Policy": POLICY}),
    case("sesv2.UpdateEmailIdentityPolicy", {**NAMED2, "Policy": "{"}, error="BadRequestException"),
    case(
        "sesv2.UpdateEmailIdentityPolicy",
        {**MISSING2, "PolicyName": "p", "Policy": POLICY},
        error="NotFoundException",
    ),
    case("sesv2.DeleteEmailIdentityPolicy", NAMED2),
    case("sesv2.DeleteEmailIdentityPolicy", {**MISSING2, "PolicyName": "p"}, error="NotFoundException"),
    case("sesv2.DeleteEmailIdentityPolicy", {**BAD2, "PolicyName": "p"}, error="BadRequestException"),
]

NEW1: Call = ("ses.VerifyDomainIdentity", {"Domain": "$.example"})
IDENTITIES_V1 = [
    case(*NEW1),
    case(*NEW1, before=[NEW1]),
    case("ses.VerifyDomainIdentity", {"Domain": "not a name"}, error="InvalidParameterValue"),
    case("ses.VerifyDomainDkim", {"Domain": "$.example"}),
    case("ses.VerifyEmailIdentity", {"EmailAddress": "$@new.example"}),
    case("ses.VerifyEmailAddress", {"EmailAddress": "$@new.example"}),
    case("ses.ListIdentities", {"IdentityType": "Domain"}),
    case("ses.ListIdentities", {"NextToken": BAD_TOKEN}, error="InvalidParameterValue"),
    case("ses.ListIdentities", {"IdentityType": "Planet"}, error="ValidationError"),
    case("ses.DeleteIdentity", {"Identity": "missing.example"}),
    case("ses.DeleteIdentity", {"Identity": "$.example"}, before=[NEW1]),
    case(
        "ses.GetIdentityVerificationAttributes",
        {"Identities": [DOMAIN, "missing.example"]},
    ),
    case("ses.GetIdentityDkimAttributes", {"Identities": [DOMAIN]}),
    case("ses.SetIdentityDkimEnabled", {"Identity": "$.example", "DkimEnabled": True}, before=[NEW1]),
    case(
        "ses.SetIdentityDkimEnabled",
        {"Identity": "missing.example", "DkimEnabled": True},
        error="InvalidParameterValue",
    ),
    case("ses.PutIdentityPolicy", {"Identity": DOMAIN, "PolicyName": "$", "Policy": POLICY}),
    case(
        "ses.PutIdentityPolicy",
        {"Identity": DOMAIN, "PolicyName": "$", "Policy": "no JSON"},
        error="InvalidPolicy",
    ),
    case("ses.GetIdentityPolicies", {"Identity": DOMAIN, "PolicyNames": ["missing"]}),
    case("ses.ListIdentityPolicies", {"Identity": DOMAIN}),
    case("ses.DeleteIdentityPolicy", {"Identity": DOMAIN, "PolicyName": "missing"}),
    case("ses.ListVerifiedEmailAddresses"),
    case("ses.DeleteVerifiedEmailAddress", {"EmailAddress": "missing@new.example"}),
]

PENDING = {
    "MailFromDomain": "mail.owner.example",
    "MailFromDomainStatus": "Pending",
    "BehaviorOnMXFailure": "UseDefaultValue",
}
PATH1 = {"Identity": DOMAIN, "MailFromDomain": "mail.owner.example"}
PATH2 = {"EmailIdentity": DOMAIN, "MailFromDomain": "mail.owner.example"}
MAIL_FROM = [
    case("ses.SetIdentityMailFromDomain", PATH1),
    case("ses.SetIdentityMailFromDomain", {"Identity": DOMAIN}),
    case(
        "ses.SetIdentityMailFromDomain",
        {**PATH1, "MailFromDomain": "else.example"},
        error="InvalidParameterValue",
    ),
    case(
        "ses.GetIdentityMailFromDomainAttributes",
        {"Identities": [DOMAIN]},
        before=[("ses.SetIdentityMailFromDomain", PATH1)],
        expect={"MailFromDomainAttributes": {DOMAIN: PENDING}},
    ),
    case("sesv2.PutEmailIdentityMailFromAttributes", {**PATH2, "BehaviorOnMxFailure": "USE_DEFAULT_VALUE"}),
    case("sesv2.PutEmailIdentityMailFromAttributes", {"EmailIdentity": DOMAIN}),
    case("sesv2.PutEmailIdentityMailFromAttributes", MISSING2, error="NotFoundException"),
    case(
        "sesv2.PutEmailIdentityMailFromAttributes",
        {**PATH2, "MailFromDomain": "x y"},
        error="BadRequestException",
    ),
]

# ---------------------------------------------------------------- account, sending

ACCOUNT = [
    case("ses.GetSendQuota", expect={"Max24HourSend": -1.0, "MaxSendRate": 1_000_000.0}),
    case("ses.GetSendStatistics"),
    case("ses.GetAccountSendingEnabled", expect={"Enabled": True}),
    case("ses.UpdateAccountSendingEnabled", {"Enabled": True}),
    case("sesv2.GetAccount", expect={"SendingEnabled": True, "ProductionAccessEnabled": True}),
    case("sesv2.PutAccountSendingAttributes", {"SendingEnabled": True}),
    case("sts.GetCallerIdentity", expect={"Account": OWNER}),
    case("sts.GetCallerIdentity", as_="nobody", expect={"Account": STRANGER}),
]

RAW = b"From: a@owner.example\r\nTo: user@customer.example\r\nSubject: $\r\n\r\nHello.\r\n"
SIMPLE = {"Subject": {"Data": "Hello"}, "Body": {"Text": {"Data": "Hello."}}}
SOURCE = "a@owner.example"
STOPPED = [
    (
        "sesv2.CreateConfigurationSet",
        {"ConfigurationSetName": "$", "SendingOptions": {"SendingEnabled": False}},
    )
]


def v1(**more: Any) -> Args:
    return {"Source": SOURCE, "Destination": {"ToAddresses": [TO]}, "Message": SIMPLE, **more}


def v2(**more: Any) -> Args:
    to = {"FromEmailAddress": SOURCE, "Destination": {"ToAddresses": [TO]}}
    return {**to, "Content": {"Simple": SIMPLE}, **more}


V1_REFUSED = {
    "MessageRejected": ({"Source": "a@stranger.example"}, (), "admin"),
    "ConfigurationSetDoesNotExist": ({"ConfigurationSetName": "missing"}, (), "admin"),
    "ConfigurationSetSendingPausedException": ({"ConfigurationSetName": "$"}, STOPPED, "admin"),
    "AccountSendingPausedException": ({}, (), "paused"),
    "AccessDenied": ({"SourceArn": arn(DOMAIN)}, (), "nobody"),
    "Throttling": ({}, (), "throttled"),
    "MailFromDomainNotVerifiedException": ({}, (), "rejecting"),
}
V2_REFUSED = {
    "MessageRejected": ({"FromEmailAddress": "a@stranger.example"}, (), "admin"),
    "NotFoundException": ({"ConfigurationSetName": "missing"}, (), "admin"),
    "SendingPausedException": ({}, (), "paused"),
    "AccessDeniedException": ({"FromEmailAddressIdentityArn": arn(DOMAIN)}, (), "nobody"),
    "TooManyRequestsException": ({}, (), "throttled"),
    "MailFromDomainNotVerifiedException": ({}, (), "rejecting"),
    "BadRequestException": ({"FromEmailAddress": "no address"}, (), "admin"),
}

SENDING = [
    case("ses.SendEmail", v1()),
    case("ses.SendRawEmail", {"RawMessage": {"Data": RAW}}),
    case("sesv2.SendEmail", v2()),
    case("sesv2.SendEmail", v2(Content={"Raw": {"Data": RAW}})),
    case("sesv2.SendEmail", v2(ConfigurationSetName="$"), error="SendingPausedException", before=STOPPED),
    case("sesv2.SendEmail", v2(TenantName="t"), error="BadRequestException"),
    case("sesv2.SendEmail", v2(Content={}), error="BadRequestException"),
    *(
        case("ses.SendEmail", v1(**more), error=error, before=before, as_=as_)
        for error, (more, before, as_) in V1_REFUSED.items()
    ),
    *(
        case(
            "ses.SendRawEmail",
            {
                "RawMessage": {"Data": RAW.replace(b"a@owner.example", more.pop("Source", SOURCE).encode())},
                **more,
            },
            error=error,
            before=before,
            as_=as_,
        )
        for error, (more, before, as_) in {k: (dict(v[0]), v[1], v[2]) for k, v in V1_REFUSED.items()}.items()
    ),
    *(
        case("sesv2.SendEmail", v2(**more), error=error, before=before, as_=as_)
        for error, (more, before, as_) in V2_REFUSED.items()
    ),
    case(
        "ses.SendRawEmail",
        {"RawMessage": {"Data": b"To: u@customer.example\n\nx"}},
        error="InvalidParameterValue",
    ),
    case("sesv2.GetMessageInsights", {"MessageId": "0100-none"}, error="NotFoundException"),
]

# ---------------------------------------------------------------- configuration sets

SET1: Call = ("ses.CreateConfigurationSet", {"ConfigurationSet": {"Name": "$"}})
SET2: Call = ("sesv2.CreateConfigurationSet", {"ConfigurationSetName": "$", "Tags": TAGS})
NO_SET = {"ConfigurationSetName": "missing"}
BAD_SET = {"ConfigurationSetName": "no name"}
OF_SET = {"ConfigurationSetName": "$"}

SETS = [
    case(*SET1),
    case(*SET1, error="ConfigurationSetAlreadyExists", before=[SET1]),
    case(
        "ses.CreateConfigurationSet", {"ConfigurationSet": {"Name": "a b"}}, error="InvalidConfigurationSet"
    ),
    case(
        "ses.DescribeConfigurationSet",
        {**OF_SET, "ConfigurationSetAttributeNames": ["deliveryOptions", "reputationOptions"]},
        before=[SET1],
        expect={"DeliveryOptions": {"TlsPolicy": "Optional"}},
    ),
    case("ses.DescribeConfigurationSet", NO_SET, error="ConfigurationSetDoesNotExist"),
    case("ses.ListConfigurationSets", {"MaxItems": 1}, before=[SET1]),
    case("ses.DeleteConfigurationSet", OF_SET, before=[SET1]),
    case("ses.DeleteConfigurationSet", NO_SET, error="ConfigurationSetDoesNotExist"),
    case(
        "ses.PutConfigurationSetDeliveryOptions",
        {**OF_SET, "DeliveryOptions": {"TlsPolicy": "Require"}},
        before=[SET1],
    ),
    case("ses.PutConfigurationSetDeliveryOptions", NO_SET, error="ConfigurationSetDoesNotExist"),
    case("ses.UpdateConfigurationSetSendingEnabled", {**OF_SET, "Enabled": False}, before=[SET1]),
    case(
        "ses.UpdateConfigurationSetSendingEnabled",
        {**NO_SET, "Enabled": True},
        error="ConfigurationSetDoesNotExist",
    ),
    case(*SET2),
    case(*SET2, error="AlreadyExistsException", before=[SET2]),
    case("sesv2.CreateConfigurationSet", BAD_SET, error="BadRequestException"),
    case("sesv2.CreateConfigurationSet", {**OF_SET, "Tags": MANY_TAGS}, error="LimitExceededException"),
    case(
        "sesv2.CreateConfigurationSet",
        {**OF_SET, "TrackingOptions": {"CustomRedirectDomain": "t.example"}},
        error="BadRequestException",
    ),
    case(
        "sesv2.GetConfigurationSet",
        OF_SET,
        before=[SET2],
        expect={"Tags": TAGS, "DeliveryOptions": {"TlsPolicy": "OPTIONAL"}},
    ),
    case("sesv2.ListConfigurationSets", {"PageSize": 1}, before=[SET2]),
    case("sesv2.ListConfigurationSets", {"NextToken": BAD_TOKEN}, error="BadRequestException"),
    case("sesv2.DeleteConfigurationSet", OF_SET, before=[SET2]),
    case("sesv2.PutConfigurationSetDeliveryOptions", {**OF_SET, "TlsPolicy": "REQUIRE"}, before=[SET2]),
    case("sesv2.PutConfigurationSetSendingOptions", {**OF_SET, "SendingEnabled": False}, before=[SET2]),
    case("sesv2.PutConfigurationSetSuppressionOptions", {**OF_SET, "SuppressedReasons": []}, before=[SET2]),
    *(
        case(f"sesv2.{name}", args, error=error)
        for name in (
            "GetConfigurationSet",
            "DeleteConfigurationSet",
            "PutConfigurationSetDeliveryOptions",
            "PutConfigurationSetSendingOptions",
            "PutConfigurationSetSuppressionOptions",
        )
        for args, error in ((NO_SET, "NotFoundException"), (BAD_SET, "BadRequestException"))
    ),
]

# ---------------------------------------------------------------- suppression, tags

LISTED: Call = ("sesv2.PutSuppressedDestination", {"EmailAddress": "$@gone.example", "Reason": "BOUNCE"})
OF_LIST = {"EmailAddress": "$@gone.example"}

SUPPRESSION = [
    case(*LISTED),
    case("sesv2.PutSuppressedDestination", {**OF_LIST, "Reason": "MOOD"}, error="BadRequestException"),
    case("sesv2.GetSuppressedDestination", OF_LIST, before=[LISTED]),
    case("sesv2.GetSuppressedDestination", OF_LIST, error="NotFoundException"),
    case("sesv2.GetSuppressedDestination", {"EmailAddress": "x"}, error="BadRequestException"),
    case("sesv2.DeleteSuppressedDestination", OF_LIST, before=[LISTED]),
    case("sesv2.DeleteSuppressedDestination", OF_LIST, error="NotFoundException"),
    case("sesv2.DeleteSuppressedDestination", {"EmailAddress": "x"}, error="BadRequestException"),
    case("sesv2.ListSuppressedDestinations", {"Reasons": ["BOUNCE"]}, before=[LISTED]),
    case("sesv2.ListSuppressedDestinations", {"Reasons": ["MOOD"]}, error="BadRequestException"),
    case("sesv2.ListSuppressedDestinations", {"NextToken": BAD_TOKEN}, error="InvalidNextTokenException"),
    case("sesv2.PutAccountSuppressionAttributes", {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]}),
    case(
        "sesv2.PutAccountSuppressionAttributes", {"SuppressedReasons": ["MOOD"]}, error="BadRequestException"
    ),
]

NO_RESOURCE = {"ResourceArn": f"arn:aws:ses:{REGION}:{OWNER}:configuration-set/missing"}
BAD_RESOURCE = {"ResourceArn": "arn:aws:s3:::bucket"}
TAGGING = [
    case("sesv2.TagResource", {"ResourceArn": SET_ARN, "Tags": TAGS}, before=[SET2]),
    case("sesv2.TagResource", {**NO_RESOURCE, "Tags": TAGS}, error="NotFoundException"),
    case("sesv2.TagResource", {**BAD_RESOURCE, "Tags": TAGS}, error="BadRequestException"),
    case("sesv2.UntagResource", {"ResourceArn": SET_ARN, "TagKeys": ["team"]}, before=[SET2]),
    case("sesv2.UntagResource", {**NO_RESOURCE, "TagKeys": ["team"]}, error="NotFoundException"),
    case("sesv2.UntagResource", {**BAD_RESOURCE, "TagKeys": ["team"]}, error="BadRequestException"),
    case("sesv2.ListTagsForResource", {"ResourceArn": SET_ARN}, before=[SET2], expect={"Tags": TAGS}),
    case("sesv2.ListTagsForResource", NO_RESOURCE, error="NotFoundException"),
    case("sesv2.ListTagsForResource", BAD_RESOURCE, error="BadRequestException"),
]

# ---------------------------------------------------------------- templates

T1: Call = (
    "ses.CreateTemplate",
    {"Template": {"TemplateName": "$", "SubjectPart": "Hi {{name}}", "TextPart": "Dear {{name}}"}},
)
T2: Call = (
    "sesv2.CreateEmailTemplate",
    {"TemplateName": "$", "TemplateContent": {"Subject": "Hi {{name}}", "Html": "<p>{{name}}"}, "Tags": TAGS},
)
CHANGED2 = {"TemplateName": "$", "TemplateContent": {"Text": "Hello {{name}}"}}
DATA = json.dumps({"name": "Anaya"})
NO_TEMPLATE = {"TemplateName": "missing"}
OF_TEMPLATE = {"TemplateName": "$"}
TEMPLATED = {"Source": SOURCE, "Destination": {"ToAddresses": [TO]}, "Template": "$", "TemplateData": DATA}
BULK1 = {
    "Source": SOURCE,
    "Template": "$",
    "DefaultTemplateData": DATA,
    "Destinations": [{"Destination": {"ToAddresses": [TO]}}],
}
BULK2 = {
    "FromEmailAddress": SOURCE,
    "DefaultContent": {"Template": {"TemplateName": "$", "TemplateData": DATA}},
    "BulkEmailEntries": [{"Destination": {"ToAddresses": [TO]}}],
}
INLINE = {"Template": {"TemplateContent": {"Subject": "{{name}}", "Text": "{{name}}"}, "TemplateData": DATA}}

TEMPLATES = [
    case(*T1),
    case(*T1, error="AlreadyExists", before=[T1]),
    case(
        "ses.CreateTemplate",
        {"Template": {"TemplateName": "$", "TextPart": "{{#if"}},
        error="InvalidTemplate",
    ),
    case("ses.GetTemplate", OF_TEMPLATE, before=[T1]),
    case("ses.GetTemplate", NO_TEMPLATE, error="TemplateDoesNotExist"),
    case("ses.ListTemplates", {"MaxItems": 1}, before=[T1]),
    case("ses.UpdateTemplate", T1[1], before=[T1]),
    case("ses.UpdateTemplate", T1[1], error="TemplateDoesNotExist"),
    case("ses.UpdateTemplate", {"Template": {"TemplateName": "$"}}, error="InvalidTemplate", before=[T1]),
    case("ses.DeleteTemplate", OF_TEMPLATE, before=[T1]),
    case("ses.DeleteTemplate", NO_TEMPLATE),
    case("ses.TestRenderTemplate", {**OF_TEMPLATE, "TemplateData": DATA}, before=[T1]),
    case("ses.TestRenderTemplate", {**NO_TEMPLATE, "TemplateData": DATA}, error="TemplateDoesNotExist"),
    case(
        "ses.TestRenderTemplate",
        {**OF_TEMPLATE, "TemplateData": "{}"},
        error="MissingRenderingAttribute",
        before=[T1],
    ),
    case(
        "ses.TestRenderTemplate",
        {**OF_TEMPLATE, "TemplateData": "{"},
        error="InvalidRenderingParameter",
        before=[T1],
    ),
    case(*T2),
    case(*T2, error="AlreadyExistsException", before=[T2]),
    case("sesv2.CreateEmailTemplate", {**T2[1], "TemplateContent": {}}, error="BadRequestException"),
    case("sesv2.CreateEmailTemplate", {**T2[1], "Tags": MANY_TAGS}, error="LimitExceededException"),
    case("sesv2.GetEmailTemplate", OF_TEMPLATE, before=[T2], expect={"Tags": TAGS}),
    case("sesv2.ListEmailTemplates", {"PageSize": 1}, before=[T2]),
    case("sesv2.ListEmailTemplates", {"NextToken": BAD_TOKEN}, error="BadRequestException"),
    case("sesv2.UpdateEmailTemplate", CHANGED2, before=[T2]),
    case("sesv2.UpdateEmailTemplate", CHANGED2, error="NotFoundException"),
    case("sesv2.UpdateEmailTemplate", OF_TEMPLATE, error="BadRequestException"),
    case("sesv2.DeleteEmailTemplate", OF_TEMPLATE, before=[T2]),
    case("sesv2.TestRenderEmailTemplate", {**OF_TEMPLATE, "TemplateData": DATA}, before=[T2]),
    case("sesv2.TestRenderEmailTemplate", {**NO_TEMPLATE, "TemplateData": DATA}, error="NotFoundException"),
    case(
        "sesv2.TestRenderEmailTemplate",
        {**OF_TEMPLATE, "TemplateData": "{}"},
        error="BadRequestException",
        before=[T2],
    ),
    *(
        case(f"sesv2.{name}", args, error=error)
        for name in ("GetEmailTemplate", "DeleteEmailTemplate")
        for args, error in (
            (NO_TEMPLATE, "NotFoundException"),
            ({"TemplateName": "no name"}, "BadRequestException"),
        )
    ),
    case("ses.SendTemplatedEmail", TEMPLATED, before=[T1]),
    case("ses.SendTemplatedEmail", TEMPLATED, error="TemplateDoesNotExist"),
    case(
        "ses.SendTemplatedEmail",
        {**TEMPLATED, "TemplateData": "{}"},
        error="InvalidParameterValue",
        before=[T1],
    ),
    *(
        case("ses.SendTemplatedEmail", {**TEMPLATED, **more}, error=error, before=(T1, *before), as_=as_)
        for error, (more, before, as_) in V1_REFUSED.items()
    ),
    case("ses.SendBulkTemplatedEmail", BULK1, before=[T1], expect={"Status.0.Status": "Success"}),
    case("ses.SendBulkTemplatedEmail", BULK1, error="TemplateDoesNotExist"),
    *(
        case(
            "ses.SendBulkTemplatedEmail",
            {**BULK1, **more},
            before=(T1, *before),
            as_=as_,
            expect={"Status.0.Status": status},
        )
        for status, (more, before, as_) in {
            "MessageRejected": V1_REFUSED["MessageRejected"],
            "ConfigurationSetDoesNotExist": V1_REFUSED["ConfigurationSetDoesNotExist"],
            "ConfigurationSetSendingPaused": V1_REFUSED["ConfigurationSetSendingPausedException"],
            "AccountSendingPaused": V1_REFUSED["AccountSendingPausedException"],
            "MailFromDomainNotVerified": V1_REFUSED["MailFromDomainNotVerifiedException"],
            "AccountThrottled": V1_REFUSED["Throttling"],
        }.items()
    ),
    case("sesv2.SendEmail", v2(Content=INLINE)),
    case("sesv2.SendEmail", v2(Content={"Template": NO_TEMPLATE}), error="NotFoundException"),
    case(
        "sesv2.SendBulkEmail",
        BULK2,
        before=[T2],
        expect={"BulkEmailEntryResults.0.Status": "SUCCESS"},
    ),
    case("sesv2.SendBulkEmail", BULK2, error="NotFoundException"),
    case("sesv2.SendBulkEmail", {**BULK2, "DefaultContent": {}}, error="BadRequestException"),
    *(
        case(
            "sesv2.SendBulkEmail",
            {**BULK2, **more},
            before=(T2, *before),
            as_=as_,
            expect={"BulkEmailEntryResults.0.Status": status},
        )
        for status, (more, before, as_) in {
            "MESSAGE_REJECTED": V2_REFUSED["MessageRejected"],
            "CONFIGURATION_SET_NOT_FOUND": V2_REFUSED["NotFoundException"],
            "CONFIGURATION_SET_SENDING_PAUSED": ({"ConfigurationSetName": "$"}, STOPPED, "admin"),
            "ACCOUNT_SENDING_PAUSED": V2_REFUSED["SendingPausedException"],
            "MAIL_FROM_DOMAIN_NOT_VERIFIED": V2_REFUSED["MailFromDomainNotVerifiedException"],
            "ACCOUNT_THROTTLED": V2_REFUSED["TooManyRequestsException"],
        }.items()
    ),
]

# ---------------------------------------------------------------- who is told

TOPIC: Call = ("sns.CreateTopic", {"Name": "$"})
TOPIC_ARN = f"arn:aws:sns:{REGION}:{OWNER}:$"
NO_TOPIC = f"arn:aws:sns:{REGION}:{OWNER}:missing"
NOT_MINE = f"arn:aws:sns:{REGION}:{STRANGER}:theirs"
BAD_TOPIC = {"TopicArn": "arn:aws:s3:::bucket"}
OF_NEW1 = {"Identity": "$.example", "NotificationType": "Bounce"}
EMAIL = {"TopicArn": TOPIC_ARN, "Protocol": "email", "Endpoint": "$@ops.example"}

TOPICS = [
    case(*TOPIC, expect={"TopicArn": TOPIC_ARN}),
    case(*TOPIC, before=[TOPIC]),
    case("sns.CreateTopic", {"Name": "no name"}, error="InvalidParameter"),
    case("sns.DeleteTopic", {"TopicArn": TOPIC_ARN}, before=[TOPIC]),
    case("sns.DeleteTopic", {"TopicArn": NO_TOPIC}),
    case("sns.DeleteTopic", {"TopicArn": "arn:aws:s3:::bucket"}, error="InvalidParameter"),
    case(
        "sns.DeleteTopic",
        {"TopicArn": TOPIC_ARN},
        error="InvalidState",
        before=[TOPIC, NEW1, ("ses.SetIdentityNotificationTopic", {**OF_NEW1, "SnsTopic": TOPIC_ARN})],
    ),
    case("sns.ListTopics", before=[TOPIC]),
    *(
        case(f"sns.{name}", args, error="InvalidParameter")
        for name, args in (
            ("ListTopics", {"NextToken": BAD_TOKEN}),
            ("ListSubscriptions", {"NextToken": BAD_TOKEN}),
            ("GetTopicAttributes", BAD_TOPIC),
            ("SetTopicAttributes", {**BAD_TOPIC, "AttributeName": "SignatureVersion", "AttributeValue": "1"}),
            ("ListSubscriptionsByTopic", BAD_TOPIC),
            ("Publish", {**BAD_TOPIC, "Message": "hello"}),
            ("Unsubscribe", {"SubscriptionArn": "none"}),
        )
    ),
    case("sns.GetTopicAttributes", {"TopicArn": TOPIC_ARN}, before=[TOPIC]),
    case(
        "sns.SetTopicAttributes",
        {"TopicArn": TOPIC_ARN, "AttributeName": "SignatureVersion", "AttributeValue": "1"},
        before=[TOPIC],
    ),
    case(
        "sns.SetTopicAttributes",
        {"TopicArn": NO_TOPIC, "AttributeName": "SignatureVersion", "AttributeValue": "1"},
        error="NotFound",
    ),
    case("sns.Subscribe", EMAIL, before=[TOPIC], expect={"SubscriptionArn": "pending confirmation"}),
    case("sns.Subscribe", {**EMAIL, "TopicArn": NO_TOPIC}, error="NotFound"),
    case(
        "sns.Subscribe",
        {**EMAIL, "Protocol": "file", "Endpoint": "x"},
        error="InvalidParameter",
        before=[TOPIC],
    ),
    case("sns.Unsubscribe", {"SubscriptionArn": f"{NO_TOPIC}:none"}, error="NotFound"),
    case("sns.ConfirmSubscription", {"TopicArn": TOPIC_ARN, "Token": "none"}, error="InvalidParameter"),
    case("sns.ListSubscriptions"),
    case("sns.ListSubscriptionsByTopic", {"TopicArn": TOPIC_ARN}, before=[TOPIC]),
    case("sns.Publish", {"TopicArn": TOPIC_ARN, "Message": "hello"}, before=[TOPIC]),
    *(
        case(f"sns.{name}", {**more, "TopicArn": arn_}, error=error)
        for name, more in (
            ("GetTopicAttributes", {}),
            ("ListSubscriptionsByTopic", {}),
            ("Publish", {"Message": "hello"}),
        )
        for arn_, error in ((NO_TOPIC, "NotFound"), (NOT_MINE, "AuthorizationError"))
    ),
]

OF_NEW2 = {"EmailIdentity": "$.example"}
TOLD: Call = ("ses.SetIdentityNotificationTopic", {**OF_NEW1, "SnsTopic": TOPIC_ARN})
MISSING1 = {"Identity": "missing.example"}

FEEDBACK = [
    case(*TOLD, before=[NEW1, TOPIC]),
    case(
        "ses.SetIdentityNotificationTopic",
        {**OF_NEW1, "SnsTopic": NO_TOPIC},
        error="InvalidParameterValue",
        before=[NEW1],
    ),
    case(
        "ses.SetIdentityNotificationTopic", {**OF_NEW1, "NotificationType": "Mood"}, error="ValidationError"
    ),
    case(
        "ses.SetIdentityHeadersInNotificationsEnabled",
        {**OF_NEW1, "Enabled": True},
        before=[NEW1, TOPIC, TOLD],
    ),
    case(
        "ses.SetIdentityHeadersInNotificationsEnabled",
        {**OF_NEW1, "Enabled": True},
        error="InvalidParameterValue",
        before=[NEW1],
    ),
    case(
        "ses.SetIdentityFeedbackForwardingEnabled",
        {"Identity": "$.example", "ForwardingEnabled": True},
        before=[NEW1],
    ),
    case(
        "ses.SetIdentityFeedbackForwardingEnabled",
        {"Identity": "$.example", "ForwardingEnabled": False},
        error="InvalidParameterValue",
        before=[NEW1],
    ),
    case("ses.GetIdentityNotificationAttributes", {"Identities": [DOMAIN, "missing.example"]}),
    case(
        "sesv2.PutEmailIdentityFeedbackAttributes",
        {**OF_NEW2, "EmailForwardingEnabled": False},
        before=[NEW2],
    ),
    case(
        "sesv2.PutEmailIdentityConfigurationSetAttributes",
        {**OF_NEW2, "ConfigurationSetName": "$"},
        before=[NEW2, SET2],
    ),
    case("sesv2.CreateEmailIdentity", {**OF_NEW2, "ConfigurationSetName": "$"}, before=[SET2]),
    case(
        "sesv2.DeleteConfigurationSet",
        OF_SET,
        error="ConflictException",
        before=[SET2, ("sesv2.CreateEmailIdentity", {**OF_NEW2, "ConfigurationSetName": "$"})],
    ),
    *(
        case(f"sesv2.{name}", args, error=error)
        for name in ("PutEmailIdentityFeedbackAttributes", "PutEmailIdentityConfigurationSetAttributes")
        for args, error in ((MISSING2, "NotFoundException"), (BAD2, "BadRequestException"))
    ),
]

EVENTS1 = {"Name": "d", "MatchingEventTypes": ["bounce"], "SNSDestination": {"TopicARN": TOPIC_ARN}}
DEST1: Call = ("ses.CreateConfigurationSetEventDestination", {**OF_SET, "EventDestination": EVENTS1})
EVENTS2 = {
    "MatchingEventTypes": ["BOUNCE", "SEND"],
    "SnsDestination": {"TopicArn": TOPIC_ARN},
    "Enabled": True,
}
OF_DEST = {**OF_SET, "EventDestinationName": "d"}
DEST2: Call = (
    "sesv2.CreateConfigurationSetEventDestination",
    {**OF_DEST, "EventDestination": EVENTS2},
)
FIREHOSE = {"IAMRoleARN": "r", "DeliveryStreamARN": "s"}
CLOUDWATCH = {"DimensionConfigurations": []}
MANY_DESTINATIONS = [(DEST2[0], {**DEST2[1], "EventDestinationName": f"d{number}"}) for number in range(10)]

DESTINATIONS = [
    case(*DEST1, before=[SET1, TOPIC]),
    case(*DEST1, error="EventDestinationAlreadyExists", before=[SET1, TOPIC, DEST1]),
    case(*DEST1, error="ConfigurationSetDoesNotExist"),
    case(*DEST1, error="InvalidSNSDestination", before=[SET1]),
    case(*DEST1, error="LimitExceeded", before=[SET2, TOPIC, *MANY_DESTINATIONS]),
    case("ses.UpdateConfigurationSetEventDestination", DEST1[1], before=[SET1, TOPIC, DEST1]),
    case("ses.UpdateConfigurationSetEventDestination", DEST1[1], error="ConfigurationSetDoesNotExist"),
    case(
        "ses.UpdateConfigurationSetEventDestination",
        DEST1[1],
        error="EventDestinationDoesNotExist",
        before=[SET1],
    ),
    case(
        "ses.UpdateConfigurationSetEventDestination",
        {**OF_SET, "EventDestination": {**EVENTS1, "SNSDestination": {"TopicARN": NO_TOPIC}}},
        error="InvalidSNSDestination",
        before=[SET1, TOPIC, DEST1],
    ),
    *(
        case(
            f"ses.{verb}ConfigurationSetEventDestination",
            {**OF_SET, "EventDestination": {"Name": "d", "MatchingEventTypes": ["bounce"], **other}},
            error=error,
            before=[SET1, *before],
        )
        for verb, before in (("Create", ()), ("Update", (TOPIC, DEST1)))
        for other, error in (
            ({"KinesisFirehoseDestination": FIREHOSE}, "InvalidFirehoseDestination"),
            ({"CloudWatchDestination": CLOUDWATCH}, "InvalidCloudWatchDestination"),
        )
    ),
    case("ses.DeleteConfigurationSetEventDestination", OF_DEST, before=[SET1, TOPIC, DEST1]),
    case("ses.DeleteConfigurationSetEventDestination", OF_DEST, error="ConfigurationSetDoesNotExist"),
    case(
        "ses.DeleteConfigurationSetEventDestination",
        OF_DEST,
        error="EventDestinationDoesNotExist",
        before=[SET1],
    ),
    case(
        "ses.DescribeConfigurationSet",
        {**OF_SET, "ConfigurationSetAttributeNames": ["eventDestinations"]},
        before=[SET1, TOPIC, DEST1],
        expect={"EventDestinations": [{**EVENTS1, "Enabled": False}]},
    ),
    case(*DEST2, before=[SET2, TOPIC]),
    case(*DEST2, error="AlreadyExistsException", before=[SET2, TOPIC, DEST2]),
    case(*DEST2, error="NotFoundException"),
    case(*DEST2, error="LimitExceededException", before=[SET2, TOPIC, *MANY_DESTINATIONS]),
    case(
        "sesv2.CreateConfigurationSetEventDestination",
        {**OF_DEST, "EventDestination": {**EVENTS2, "MatchingEventTypes": ["MOOD"]}},
        error="BadRequestException",
        before=[SET2],
    ),
    case("sesv2.GetConfigurationSetEventDestinations", OF_SET, before=[SET2, TOPIC, DEST2]),
    case("sesv2.GetConfigurationSetEventDestinations", NO_SET, error="NotFoundException"),
    case("sesv2.GetConfigurationSetEventDestinations", BAD_SET, error="BadRequestException"),
    case("sesv2.UpdateConfigurationSetEventDestination", DEST2[1], before=[SET2, TOPIC, DEST2]),
    case("sesv2.UpdateConfigurationSetEventDestination", DEST2[1], error="NotFoundException", before=[SET2]),
    case(
        "sesv2.UpdateConfigurationSetEventDestination",
        {**OF_DEST, "EventDestination": {"MatchingEventTypes": ["CLICK"]}},
        error="BadRequestException",
        before=[SET2, TOPIC, DEST2],
    ),
    case("sesv2.DeleteConfigurationSetEventDestination", OF_DEST, before=[SET2, TOPIC, DEST2]),
    case("sesv2.DeleteConfigurationSetEventDestination", OF_DEST, error="NotFoundException", before=[SET2]),
    case("sesv2.DeleteConfigurationSetEventDestination", {**OF_DEST, **BAD_SET}, error="BadRequestException"),
]

CASES: list[Case] = [
    *IDENTITIES_V2,
    *IDENTITIES_V1,
    *MAIL_FROM,
    *ACCOUNT,
    *SENDING,
    *SETS,
    *SUPPRESSION,
    *TAGGING,
    *TEMPLATES,
    *TOPICS,
    *FEEDBACK,
    *DESTINATIONS,
]

# ---------------------------------------------------------------- documented and not met here

NEVER: dict[str, str] = {
    "ConcurrentModificationException": "writes of the control plane wait for each other",
    "InternalError": "of ours",
    "InvalidSecurity": "topics are not encrypted here",
    "AuthorizationError": "one decision for all calls: see test_access.py",
    "AccountSuspendedException": "an account that may not send is paused, whoever paused it",
}
SNS_LIMITS = (
    "SubscriptionLimitExceeded",
    "FilterPolicyLimitExceeded",
    "ReplayLimitExceeded",
    "TopicLimitExceeded",
)
SNS_OTHERS = ("TagLimitExceeded", "StaleTag", "TagPolicy", "ConcurrentAccess", "EndpointDisabled")
SNS_OTHERS += ("PlatformApplicationDisabled", "ValidationException")
SNS_OTHERS += ("ParameterValueInvalid", "KMSDisabled", "KMSInvalidState", "KMSNotFound", "KMSOptInRequired")
SNS_OTHERS += ("KMSThrottling", "KMSAccessDenied")
NEVER |= dict.fromkeys((*SNS_LIMITS, *SNS_OTHERS), "what it is about is not offered")
NEVER_OF: dict[tuple[str, str], str] = {
    ("sesv2.GetAccount", "BadRequestException"): "it has no input",
    ("sesv2.PutAccountSendingAttributes", "BadRequestException"): "a boolean is true or false",
    ("sesv2.GetMessageInsights", "BadRequestException"): "an id that is none is not found",
    ("ses.CreateConfigurationSet", "LimitExceeded"): "their number is not limited",
    ("ses.CreateTemplate", "LimitExceeded"): "10,000 of them are a test of their own",
    ("sesv2.CreateEmailIdentityPolicy", "LimitExceededException"): "see test_a_21st_policy_is_too_many",
    ("sesv2.SendEmail", "LimitExceededException"): "a quota that is used up is TooManyRequestsException",
    ("sns.ConfirmSubscription", "NotFound"): "a token that is none is InvalidParameter",
    ("sns.DeleteTopic", "NotFound"): "no error, as in SNS",
    ("sesv2.SendBulkEmail", "TooManyRequestsException"): "a result, not an error",
    ("sesv2.SendBulkEmail", "MailFromDomainNotVerifiedException"): "a result, not an error",
    ("ses.SendBulkTemplatedEmail", "MailFromDomainNotVerifiedException"): "a result, not an error",
    ("sesv2.SendBulkEmail", "LimitExceededException"): "a result, not an error",
    ("sesv2.SendBulkEmail", "SendingPausedException"): "a result, not an error",
    ("sesv2.SendBulkEmail", "MessageRejected"): "a result, not an error",
    ("ses.SendBulkTemplatedEmail", "MessageRejected"): "a result, not an error",
    ("ses.SendBulkTemplatedEmail", "ConfigurationSetDoesNotExist"): "a result, not an error",
    ("ses.SendBulkTemplatedEmail", "ConfigurationSetSendingPausedException"): "a result, not an error",
    ("ses.SendBulkTemplatedEmail", "AccountSendingPausedException"): "a result, not an error",
    (
        "ses.PutConfigurationSetDeliveryOptions",
        "InvalidDeliveryOptions",
    ): "what is neither is ValidationError",
    ("sesv2.PutSuppressedDestination", "NotFoundException"): "of tenants",
    ("sesv2.ListSuppressedDestinations", "NotFoundException"): "of tenants",
    ("sesv2.CreateConfigurationSet", "NotFoundException"): "of pools of addresses",
}
