"""Programs written for SES set everything up and send, with nothing changed but the endpoint.

From the identity they create to the message that arrives, signed with its key.  DNS is a real BIND; what an
owner publishes there is what it was told to, or the public half of a key of its own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from relay.app.recorder import Recorder
from tests.e2e.conftest import running
from tests.support.aws import EVERYTHING, Key, key_of
from tests.support.bind import Bind, txt
from tests.support.dkim_verifier import verifies
from tests.support.gateway import DELEGATE, OWNER, Gateway, arn, grant, user_arn
from tests.support.peers import absent, require
from tests.support.receiver import Receiver, verify_sns

ZONES = ("boto.example", "cli.example", "ses.example", "anymail.example", "node.example")


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    with closing(Bind(tmp_path_factory.mktemp("bind"), {zone: [] for zone in ZONES})) as one:
        yield one


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder, bind: Bind) -> Iterator[Gateway]:
    """Looks at DNS every second, and posts to this machine."""
    settings = {
        "RELAY_DNS__SERVERS": bind.address,
        "RELAY_VERIFICATION__PENDING_SECONDS": "1",
        "RELAY_API__CALLS_PER_SECOND": "0",
        "RELAY_WEBHOOKS__ALLOW": "127.0.0.1/32",
        "RELAY_HTTP__PUBLIC_URL": "http://127.0.0.1:1",
    }
    yield from running(tmp_path_factory.mktemp("relay"), recorder, **settings)


@pytest.fixture(scope="module")
def admin(gateway: Gateway) -> Key:
    return key_of(gateway, "admin", policy=EVERYTHING)


def wait_until(holds: Callable[[], Any], seconds: float = 30) -> Any:
    give_up_at = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    return found


def published(gateway: Gateway, bind: Bind, domain: str) -> dict[str, str]:
    """The records that the owner is told to publish, now in DNS."""
    shown = gateway.run("identity", "show", domain, "--account", OWNER)
    assert isinstance(shown, dict)
    records = {one["name"]: one["value"] for one in shown["dns_records"] if one["type"] == "TXT"}
    bind.publish(domain, *(txt(name, value) for name, value in records.items()))
    return records


def is_ready(key: Key, domain: str) -> bool:
    shown = key.client("sesv2").get_email_identity(EmailIdentity=domain)
    return shown["VerifiedForSendingStatus"] and shown["DkimAttributes"]["Status"] == "SUCCESS"


def arrived_signed(recorder: Recorder, rcpt: str, records: dict[str, str]) -> bytes:
    data = recorder.wait_for(rcpt, 20).data
    assert verifies(data, records)
    return data


# ---------------------------------------------------------------- boto3


def own_key() -> tuple[str, str]:
    """(private key as SES takes it, TXT record)."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(private).decode(), f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"


def set_up(owner: Key, delegate: Key, private: str, endpoint: str) -> None:
    """What the two would have in a script; it may be run again."""
    v1, v2, mine, sns = (
        owner.client("ses"),
        owner.client("sesv2"),
        delegate.client("sesv2"),
        delegate.client("sns"),
    )
    known = {one["IdentityName"] for one in v2.list_email_identities()["EmailIdentities"]}
    if "boto.example" not in known:
        attributes = {"DomainSigningSelector": "own", "DomainSigningPrivateKey": private}
        v2.create_email_identity(EmailIdentity="boto.example", DkimSigningAttributes=attributes)
        return  # pending: the rest comes when it is verified
    lent = grant({"AWS": user_arn("app")}, arn("boto.example"))
    v1.put_identity_policy(Identity="boto.example", PolicyName="lend", Policy=json.dumps(lent))
    v2.put_email_identity_dkim_attributes(EmailIdentity="boto.example", SigningEnabled=True)
    v2.put_email_identity_feedback_attributes(EmailIdentity="boto.example", EmailForwardingEnabled=False)
    topic = sns.create_topic(Name="told")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=endpoint)
    destination = {
        "ConfigurationSetName": "mail",
        "EventDestinationName": "told",
        "EventDestination": {
            "Enabled": True,
            "MatchingEventTypes": ["BOUNCE"],
            "SnsDestination": {"TopicArn": topic},
        },
    }
    if "mail" not in mine.list_configuration_sets()["ConfigurationSets"]:
        mine.create_configuration_set(ConfigurationSetName="mail", Tags=[{"Key": "team", "Value": "app"}])
        mine.create_configuration_set_event_destination(**destination)
    mine.update_configuration_set_event_destination(**destination)
    mine.put_configuration_set_delivery_options(ConfigurationSetName="mail", TlsPolicy="OPTIONAL")
    template = {"TemplateName": "hello", "TemplateContent": {"Subject": "Hello {{name}}", "Text": "x"}}
    try:
        mine.create_email_template(**template)
    except ClientError as error:
        if error.response["Error"]["Code"] != "AlreadyExistsException":
            raise
        mine.update_email_template(**template)


def state(gateway: Gateway, delegate: Key) -> dict[str, Any]:
    """Everything that the script makes, as commands and API show it."""
    mine = delegate.client("sesv2")
    told = f"arn:aws:sns:us-east-1:{DELEGATE}:told"
    shown = {
        "identity": gateway.run("identity", "show", "boto.example", "--account", OWNER),
        "set": mine.get_configuration_set(ConfigurationSetName="mail"),
        "destinations": mine.get_configuration_set_event_destinations(ConfigurationSetName="mail"),
        "template": mine.get_email_template(TemplateName="hello"),
        "topic": delegate.client("sns").list_subscriptions_by_topic(TopicArn=told),
        "policies": gateway.run("policy", "list", "--identity", arn("boto.example")),
    }
    for one in shown.values():
        if isinstance(one, dict):
            one.pop("ResponseMetadata", None)
    return shown


async def test_boto3_from_an_identity_to_the_signed_message_and_its_notification(
    gateway: Gateway, bind: Bind, admin: Key, recorder: Recorder
) -> None:
    """Owner and delegate by API alone, with a key of the owner's; the script again changes nothing."""
    delegate = key_of(gateway, "app", DELEGATE, EVERYTHING)
    private, record = own_key()
    async with Receiver().running() as receiver:

        def script() -> None:
            set_up(admin, delegate, private, receiver.url)

        await asyncio.to_thread(script)
        records = {"own._domainkey.boto.example": record}
        bind.publish("boto.example", *(txt(name, value) for name, value in records.items()))
        await asyncio.to_thread(wait_until, lambda: is_ready(admin, "boto.example"))
        await asyncio.to_thread(script)
        [handshake] = await receiver.wait(1)
        token, topic = handshake.json()["Token"], handshake.json()["TopicArn"]
        sns, v2 = delegate.client("sns"), delegate.client("sesv2")
        confirmed = await asyncio.to_thread(sns.confirm_subscription, TopicArn=topic, Token=token)
        assert confirmed["SubscriptionArn"].startswith(topic)

        before = await asyncio.to_thread(state, gateway, delegate)
        await asyncio.to_thread(script)
        assert await asyncio.to_thread(state, gateway, delegate) == before

        message = (
            "From: Alerts <alerts@boto.example>\r\nTo: x@customer.example\r\nSubject: Hello\r\n\r\nHello.\r\n"
        )
        to = {"ToAddresses": ["boto@customer.example", "nobody@customer.example"]}
        sent = await asyncio.to_thread(
            lambda: v2.send_email(
                FromEmailAddressIdentityArn=arn("boto.example"),
                Destination=to,
                Content={"Raw": {"Data": message.encode()}},
                ConfigurationSetName="mail",
                EmailTags=[{"Name": "kind", "Value": "test"}],
            )
        )
        await asyncio.to_thread(arrived_signed, recorder, "boto@customer.example", records)
        while "mail" not in (event := (await receiver.wait(2, 20))[-1].message()):
            await asyncio.sleep(0.1)
        assert event["eventType"] == "Bounce"
        assert event["mail"]["messageId"] == sent["MessageId"]
        assert event["mail"]["tags"]["kind"] == ["test"]
        assert event["bounce"]["bouncedRecipients"][0]["emailAddress"] == "nobody@customer.example"
        posted = receiver.got[-1].json()
        certificate = posted["SigningCertURL"].replace("http://127.0.0.1:1", admin.endpoint)
        verify_sns(posted, await asyncio.to_thread(fetch, certificate))
        await asyncio.to_thread(sns.unsubscribe, SubscriptionArn=confirmed["SubscriptionArn"])


def fetch(url: str) -> str:
    import urllib.request

    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


# ---------------------------------------------------------------- AWS CLI


def test_aws_cli(gateway: Gateway, bind: Bind, admin: Key, recorder: Recorder, tmp_path: Path) -> None:
    aws = shutil.which("aws", path=str(Path(sys.executable).parent))
    if aws is None:
        absent("the AWS CLI is not installed (pip install awscli, in the extra test)")

    def run(*arguments: str) -> Any:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **admin.environment}
        command = [str(aws), *arguments, "--output", "json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    assert run("sts", "get-caller-identity")["Account"] == OWNER
    made = run("sesv2", "create-email-identity", "--email-identity", "cli.example")
    assert made["DkimAttributes"]["Status"] == "PENDING"
    records = published(gateway, bind, "cli.example")
    assert f"{made['DkimAttributes']['Tokens'][0]}._domainkey.cli.example" in records
    wait_until(lambda: is_ready(admin, "cli.example"))
    document = json.dumps(grant({"AWS": DELEGATE}, arn("cli.example")))
    named = ("--email-identity", "cli.example", "--policy-name", "lend")
    run("sesv2", "create-email-identity-policy", *named, "--policy", document)
    shown = run("ses", "get-identity-policies", "--identity", "cli.example", "--policy-names", "lend")
    assert json.loads(shown["Policies"]["lend"]) == json.loads(document)
    content = "Simple={Subject={Data=Hello},Body={Text={Data=Hello}}}"
    to = "ToAddresses=cli@customer.example"
    sending = ("--from-email-address", "alerts@cli.example", "--destination", to, "--content", content)
    sent = run("sesv2", "send-email", *sending)
    assert b"Subject: Hello" in arrived_signed(recorder, "cli@customer.example", records)
    assert run("sesv2", "get-message-insights", "--message-id", sent["MessageId"])["Insights"]
    file = tmp_path / "raw.json"
    raw = "From: a@cli.example\nTo: cli-raw@customer.example\nSubject: Raw\n\nHello.\n"
    file.write_text(json.dumps({"Data": raw}))
    run("ses", "send-raw-email", "--raw-message", f"file://{file}")
    arrived_signed(recorder, "cli-raw@customer.example", records)


# ---------------------------------------------------------------- Django, Node


DJANGO = """
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=[], USE_TZ=True, **{settings!r})
django.setup()
from django.core.mail import EmailMultiAlternatives
mail = EmailMultiAlternatives("Grüße", "Text", "Alerts <alerts@{domain}>", ["{rcpt}"])
mail.attach_alternative("<p>HTML", "text/html")
mail.attach("a.txt", "attached", "text/plain")
assert mail.send() == 1
"""


def django_settings(backend: str, key: Key) -> dict[str, Any]:
    if backend == "anymail":
        client = {
            "aws_access_key_id": key.access_key_id,
            "aws_secret_access_key": key.secret_access_key,
            "region_name": "us-east-1",
            "endpoint_url": key.endpoint,
        }
        return {
            "EMAIL_BACKEND": "anymail.backends.amazon_ses.EmailBackend",
            "ANYMAIL": {"AMAZON_SES_CLIENT_PARAMS": client},
        }
    return {
        "EMAIL_BACKEND": "django_ses.SESBackend",
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret_access_key,
        "AWS_SES_REGION_NAME": "us-east-1",
        "AWS_SES_REGION_ENDPOINT_URL": key.endpoint,
        "USE_SES_V2": backend == "django-ses v2",
    }


@pytest.mark.parametrize(
    ("backend", "domain"),
    [("django-ses v1", "ses.example"), ("django-ses v2", "ses.example"), ("anymail", "anymail.example")],
)
def test_django_backend(
    gateway: Gateway, bind: Bind, admin: Key, recorder: Recorder, backend: str, domain: str
) -> None:
    rcpt = f"{backend.replace(' ', '-')}@customer.example"
    v1 = admin.client("ses")
    v1.verify_domain_dkim(Domain=domain)
    records = published(gateway, bind, domain)
    wait_until(lambda: is_ready(admin, domain))
    program = DJANGO.format(settings=django_settings(backend, admin), domain=domain, rcpt=rcpt)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    data = arrived_signed(recorder, rcpt, records)
    assert b"attached" in data or base64.b64encode(b"attached") in data


NODE = """
const nodemailer = require("nodemailer");
const { SESv2Client, SendEmailCommand } = require("@aws-sdk/client-sesv2");
const sesClient = new SESv2Client({ region: "us-east-1", endpoint: process.env.AWS_ENDPOINT_URL });
const transport = nodemailer.createTransport({ SES: { sesClient, SendEmailCommand } });
transport
  .sendMail({
    from: "Alerts <alerts@node.example>",
    to: ["node@customer.example"],
    bcc: ["node-bcc@customer.example"],
    subject: "Grüße",
    text: "Text",
    attachments: [{ filename: "a.txt", content: "attached" }],
  })
  .then((info) => console.log(info.messageId))
  .catch((error) => { console.error(error); process.exit(1); });
"""


def test_nodemailer(gateway: Gateway, bind: Bind, admin: Key, recorder: Recorder, tmp_path: Path) -> None:
    node, modules = require("node"), os.environ.get("NODE_PATH", "")
    if not any((Path(folder) / "nodemailer").is_dir() for folder in modules.split(os.pathsep)):
        absent(
            "NODE_PATH names no folder with nodemailer and @aws-sdk/client-sesv2"
            " (npm install --prefix FOLDER nodemailer @aws-sdk/client-sesv2)"
        )
    admin.client("sesv2").create_email_identity(EmailIdentity="node.example")
    records = published(gateway, bind, "node.example")
    wait_until(lambda: is_ready(admin, "node.example"))
    environment = {"PATH": os.environ["PATH"], "NODE_PATH": modules, **admin.environment}
    done = subprocess.run(
        [node, "-e", NODE], env=environment, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    data = arrived_signed(recorder, "node@customer.example", records)
    assert b"Bcc" not in data
    assert recorder.wait_for("node-bcc@customer.example", 20)


# ---------------------------------------------------------------- the README's examples


def documented(name: str, language: str, endpoint: str) -> str:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    found = re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```\n<!-- /{name} -->", readme, re.DOTALL)
    assert found is not None
    return found[1].replace("https://relay.example.com", endpoint)


def test_examples_of_the_readme(gateway: Gateway, admin: Key, recorder: Recorder, tmp_path: Path) -> None:
    """The owner's policy by the AWS CLI, then the delegate's mail by boto3."""
    gateway.identity("owner.example")
    delegate = key_of(gateway, "documented", DELEGATE)
    actions = ["ses:SendRawEmail", "ses:SendEmail"]
    document = grant({"AWS": user_arn("documented")}, arn("owner.example"), Action=actions)
    (tmp_path / "lend.json").write_text(json.dumps(document))
    scripts = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for key, command in (
        (admin, ["sh", "-eu", "-c", documented("aws", "sh", admin.endpoint)]),
        (delegate, [sys.executable, "-c", documented("boto3", "python", admin.endpoint)]),
    ):
        environment = {**key.environment, "PATH": scripts, "HOME": str(tmp_path)}
        del environment["AWS_ENDPOINT_URL"]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
    assert b"Subject: Hello" in recorder.wait_for("user@customer.example", 20).data
