"""Mail by API: verdict and octets of SMTP, parameters over headers, what becomes of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from email import message_from_bytes, policy
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from relay.app.recorder import Arrived, Recorder
from tests.support.aws import EVERYTHING, Key, key_of
from tests.support.gateway import DELEGATE, Gateway, Login, arn, grant, transact, user_arn

DOMAIN = "owner.example"
SEED, COUNT = 18, 200
# What tells one message from another, however it came.
TRACE = (b"received", b"x-relay-id", b"dkim-signature", b"message-id", b"date", b"feedback-id")


@pytest.fixture(scope="module")
def delegate(gateway: Gateway, domain: str) -> Key:
    """May send as alerts… of owner.example to customer.example."""
    conditions = {
        "StringLike": {"ses:FromAddress": "alerts*@owner.example"},
        "ForAllValues:StringLike": {"ses:Recipients": "*@customer.example"},
    }
    actions = ["ses:SendRawEmail", "ses:SendEmail"]
    lent = grant({"AWS": user_arn("delegate")}, domain, Action=actions, Condition=conditions)
    key = key_of(gateway, "delegate", DELEGATE)
    gateway.policy(domain, lent)
    return key


@pytest.fixture(scope="module")
def v1(delegate: Key) -> Any:
    return delegate.client("ses")


@pytest.fixture(scope="module")
def v2(delegate: Key) -> Any:
    return delegate.client("sesv2")


def wait_until(holds: Callable[[], Any], seconds: float = 20) -> Any:
    give_up_at = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < give_up_at
        time.sleep(0.05)
    return found


# ---------------------------------------------------------------- R18


def generated(random: Random) -> tuple[str, str]:
    """(MAIL FROM, message): granted, refused and malformed ones, with fields of every kind."""
    mail_from = random.choice(
        ["alerts@owner.example", "alerts@owner.example", "bounces@owner.example", "alerts@else.example"]
    )
    from_ = random.choice(
        [
            "alerts@owner.example",
            "Alerts <alerts-1@owner.example>",
            '"A, B" <alerts@owner.example>',
            "ceo@owner.example",
            "alerts@other.example",
            "=?utf-8?q?J=C3=BCrg?= <alerts@owner.example>",
        ]
    )
    fields = [f"From: {from_}", "To: someone@customer.example", f"Subject: {random.randbytes(6).hex()}"]
    named = random.choice([arn(DOMAIN), arn(DOMAIN), arn("missing.example"), None])
    if named:
        fields.append(f"X-SES-SOURCE-ARN: {named}")
    optional = [
        "Message-ID: <own@client.example>",
        "Date: Wed, 25 Nov 2026 12:00:00 +0000",
        "Bcc: hidden@customer.example",
        "X-SES-MESSAGE-TAGS: a=b",
        "Sender: alerts@owner.example",
        "Return-Path: alerts@owner.example",
        "X-Long: " + "x" * random.choice([10, 800]),
        "X-Folded: one\r\n two",
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit",
    ]
    fields += random.sample(optional, random.randint(0, 5))
    if random.random() < 0.08:
        fields.append(
            random.choice(["Subject: twice", "No colon", "Bad Name: x", "X-SES-CONFIGURATION-SET: none"])
        )
    random.shuffle(fields)
    lines = [random.choice(["Hello.", "", ".", "..dots", "Grüße".encode().decode("latin-1"), "x" * 900])] * 3
    body = "\r\n".join(random.sample(lines, random.randint(0, 3)))
    return mail_from, "\r\n".join(fields) + "\r\n\r\n" + body + "\r\n" * random.randint(0, 3)


def by_smtp(client: Any, mail_from: str, rcpt: str, message: str) -> str:
    """ "ok", or the sentence of the refusal."""
    code, text = transact(client, mail_from, [rcpt], message)
    return "ok" if code == 250 else sentence(text)


def by_api(v1: Any, v2: Any, mail_from: str, rcpt: str, message: str, is_v1: bool) -> str:
    octets = message.encode("latin-1")
    try:
        if is_v1:
            v1.send_raw_email(RawMessage={"Data": octets}, Source=mail_from, Destinations=[rcpt])
        else:
            v2.send_email(
                FeedbackForwardingEmailAddress=mail_from,
                Destination={"ToAddresses": [rcpt]},
                Content={"Raw": {"Data": octets}},
            )
    except ClientError as error:
        return sentence(error.response["Error"]["Message"])
    return "ok"


def sentence(text: str) -> str:
    """SES's sentence of a refusal, as both have it."""
    first = text.split("\n")[0].split(" (")[0]
    for prefix in ("Message rejected: ", "Access denied: ", "Transaction failed: "):
        first = first.removeprefix(prefix)
    return first.encode("ascii", "replace").decode()  # SMTP's replies are ASCII


def without_trace(one: Arrived) -> bytes:
    head, _, body = one.data.partition(b"\r\n\r\n")
    fields = head.replace(b"\r\n\t", b"\0\t").replace(b"\r\n ", b"\0 ").split(b"\r\n")
    kept = [field for field in fields if field.split(b":")[0].lower() not in TRACE]
    return b"\r\n".join([*kept, b"", body])


def test_r18_smtp_and_api_give_the_same_verdict_and_the_same_octets(
    gateway: Gateway, recorder: Recorder, delegate: Key, v1: Any, v2: Any
) -> None:
    random = Random(SEED)
    login = Login(delegate.access_key_id, delegate.smtp_password)
    client = gateway.client(login)
    verdicts, delivered = [], []
    for number in range(COUNT):
        mail_from, message = generated(random)
        names = [f"{way}{number}@customer.example" for way in ("smtp", "http")]
        client.rset()
        smtp = by_smtp(client, mail_from, names[0], message)
        http = by_api(v1, v2, mail_from, names[1], message, is_v1=number % 2 == 0)
        assert smtp == http, message
        verdicts.append(smtp)
        if smtp == "ok":
            delivered.append(names)
    client.quit()
    assert 40 < verdicts.count("ok") < 160  # both happened often
    assert len(set(verdicts)) >= 5
    for first, second in delivered:
        one, other = recorder.wait_for(first, 20), recorder.wait_for(second, 20)
        assert one.reverse_path == other.reverse_path
        assert without_trace(one) == without_trace(other)


# ---------------------------------------------------------------- R5


RAW = (
    "From: alerts@owner.example\r\nTo: someone@customer.example\r\nSubject: Hello\r\n"
    "X-SES-SOURCE-ARN: {arn}\r\nX-SES-MESSAGE-TAGS: of=header\r\n{more}\r\nHello.\r\n"
)
MISSING = arn("missing.example")


@pytest.mark.parametrize(
    ("in_header", "in_parameter", "is_sent"),
    [(MISSING, arn(DOMAIN), True), (arn(DOMAIN), MISSING, False), (arn(DOMAIN), None, True)],
)
def test_r05_arn_in_a_parameter_beats_that_in_the_header(
    v1: Any, v2: Any, in_header: str, in_parameter: str | None, is_sent: bool
) -> None:
    octets = RAW.format(arn=in_header, more="").encode()
    named1 = {} if in_parameter is None else {"SourceArn": in_parameter, "FromArn": in_parameter}
    named2 = {} if in_parameter is None else {"FromEmailAddressIdentityArn": in_parameter}
    for send in (
        lambda: v1.send_raw_email(RawMessage={"Data": octets}, **named1),
        lambda: v2.send_email(Content={"Raw": {"Data": octets}}, **named2),
    ):
        if is_sent:
            assert send()["MessageId"]
            continue
        with pytest.raises(ClientError, match="not verified"):
            send()


def test_r05_configuration_set_and_recipients_in_parameters_beat_the_header(
    gateway: Gateway, recorder: Recorder, v1: Any
) -> None:
    gateway.run("configuration-set", "create", "mine", "--account", DELEGATE)
    octets = RAW.format(arn=arn(DOMAIN), more="X-SES-CONFIGURATION-SET: none\r\n").encode()
    with pytest.raises(ClientError, match="Configuration set <none> does not exist"):
        v1.send_raw_email(RawMessage={"Data": octets})
    to = ["r05@customer.example"]
    sent = v1.send_raw_email(RawMessage={"Data": octets}, ConfigurationSetName="mine", Destinations=to)
    arrived = recorder.wait_for("r05@customer.example", 20)
    assert arrived.recipients == ("r05@customer.example",)
    assert b"X-SES" not in arrived.data
    assert gateway.run("message", "show", sent["MessageId"])["configuration_set"] == "mine"


def test_tags_of_a_call_replace_those_of_the_header(v1: Any, v2: Any, admin: Key, gateway: Gateway) -> None:
    octets = RAW.format(arn=arn(DOMAIN), more="").encode()
    of_header = v1.send_raw_email(RawMessage={"Data": octets})["MessageId"]
    tags = [{"Name": "of", "Value": "call"}]
    first = v1.send_raw_email(RawMessage={"Data": octets}, Tags=tags)["MessageId"]
    second = v2.send_email(Content={"Raw": {"Data": octets}}, EmailTags=tags)["MessageId"]
    for sent, expected in (
        (of_header, [["of", "header"]]),
        (first, [["of", "call"]]),
        (second, [["of", "call"]]),
    ):
        assert gateway.run("message", "show", sent)["record"]["tags"] == expected


def test_lines_that_end_in_lf_are_taken_and_mixed_ones_are_not(recorder: Recorder, v2: Any) -> None:
    octets = RAW.format(arn=arn(DOMAIN), more="").encode().replace(b"\r\n", b"\n")
    to = {"ToAddresses": ["lf@customer.example"]}
    v2.send_email(Destination=to, Content={"Raw": {"Data": octets}})
    data = recorder.wait_for("lf@customer.example", 20).data
    assert b"\n" not in data.replace(b"\r\n", b"")
    for mixed in (octets + b"x\r\ny\n", octets.replace(b"\n", b"\r\n") + b"x\ny\r\n"):
        with pytest.raises(ClientError):
            v2.send_email(Destination=to, Content={"Raw": {"Data": mixed}})


# ---------------------------------------------------------------- simple and templated forms


def test_simple_form_arrives_as_it_was_said(recorder: Recorder, v2: Any) -> None:
    v2.send_email(
        FromEmailAddress="Alerts ü <alerts@owner.example>",
        FromEmailAddressIdentityArn=arn(DOMAIN),
        Destination={
            "ToAddresses": ["Bob <simple@customer.example>"],
            "BccAddresses": ["bcc@customer.example"],
        },
        ReplyToAddresses=["help@owner.example"],
        Content={
            "Simple": {
                "Subject": {"Data": "Grüße"},
                "Body": {"Text": {"Data": "Text ü"}, "Html": {"Data": "<p>HTML ü"}},
                "Headers": [{"Name": "List-Unsubscribe", "Value": "<https://owner.example/u>"}],
                "Attachments": [
                    {"FileName": "a.txt", "RawContent": b"\x00\x01" * 1000, "ContentType": "image/png"}
                ],
            }
        },
    )
    arrived = recorder.wait_for("simple@customer.example", 20)
    assert set(arrived.recipients) == {"simple@customer.example", "bcc@customer.example"}
    mail = message_from_bytes(arrived.data, policy=policy.default)
    assert (mail["Subject"], mail["Reply-To"]) == ("Grüße", "help@owner.example")
    assert mail["From"] == "Alerts ü <alerts@owner.example>"
    assert mail["List-Unsubscribe"] == "<https://owner.example/u>"
    assert mail["Bcc"] is None
    assert b"bcc@" not in arrived.data
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert (text.get_content().strip(), html.get_content().strip()) == ("Text ü", "<p>HTML ü")
    [attached] = list(mail.iter_attachments())
    assert attached.get_content() == b"\x00\x01" * 1000


def test_bulk_fills_the_template_for_each(recorder: Recorder, admin: Key) -> None:
    v2 = admin.client("sesv2")
    content = {"Subject": "For {{name}}", "Text": "Dear {{name}}, {{greeting}}"}
    v2.create_email_template(TemplateName="greet", TemplateContent=content)
    answer = v2.send_bulk_email(
        FromEmailAddress="alerts@owner.example",
        DefaultContent={"Template": {"TemplateName": "greet", "TemplateData": '{"greeting": "hello"}'}},
        BulkEmailEntries=[
            {
                "Destination": {"ToAddresses": [f"bulk-{name}@customer.example"]},
                "ReplacementEmailContent": {"ReplacementTemplate": {"ReplacementTemplateData": data}},
            }
            for name, data in (("ann", '{"name": "Ann"}'), ("bob", "{}"), ("cat", '{"name": "Cat"}'))
        ],
    )
    results = answer["BulkEmailEntryResults"]
    assert [one["Status"] for one in results] == ["SUCCESS", "INVALID_PARAMETER", "SUCCESS"]
    assert results[1]["Error"] == "Attribute 'name' is not present in the rendering data."
    for name in ("ann", "cat"):
        data = recorder.wait_for(f"bulk-{name}@customer.example", 20).data
        assert f"Subject: For {name.title()}".encode() in data
        assert f"Dear {name.title()}, hello".encode() in data


# ---------------------------------------------------------------- what became of it


def test_insights_tell_what_became_of_a_message(gateway: Gateway, domain: str, admin: Key) -> None:
    other = key_of(gateway, "curious", DELEGATE, EVERYTHING).client("sesv2")
    mine = admin.client("sesv2")
    to = ["insight@customer.example", "nobody@customer.example"]
    sent = mine.send_email(
        FromEmailAddress="alerts@owner.example",
        Destination={"ToAddresses": to},
        Content={"Simple": {"Subject": {"Data": "Hello"}, "Body": {"Text": {"Data": "Hello"}}}},
        EmailTags=[{"Name": "kind", "Value": "test"}],
    )["MessageId"]

    def settled() -> Any:
        told = mine.get_message_insights(MessageId=sent)
        types = [[event["Type"] for event in one["Events"]] for one in told["Insights"]]
        return told if types == [["SEND", "DELIVERY"], ["SEND", "BOUNCE"]] else None

    told = wait_until(settled)
    assert told["EmailTags"] == [{"Name": "kind", "Value": "test"}]
    assert [one["Destination"] for one in told["Insights"]] == to
    bounce = told["Insights"][1]["Events"][1]["Details"]["Bounce"]
    assert "no such user here" in bounce["DiagnosticCode"]
    with pytest.raises(ClientError, match="does not exist"):
        other.get_message_insights(MessageId=sent)


def test_statistics_count_what_was_sent(admin: Key, gateway: Gateway) -> None:
    client = admin.client("ses")

    def attempts() -> int:
        points = client.get_send_statistics()["SendDataPoints"]
        return sum(point["DeliveryAttempts"] for point in points)

    before = attempts()
    client.send_email(
        Source="alerts@owner.example",
        Destination={"ToAddresses": ["counted@customer.example"]},
        Message={"Subject": {"Data": "Hello"}, "Body": {"Text": {"Data": "Hello"}}},
    )
    assert attempts() == before + 1
    assert client.get_send_quota()["SentLast24Hours"] >= 1
