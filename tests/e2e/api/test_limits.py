"""Too much, too large, too often: the service's error, and nothing is lost or held up."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore import xform_name
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from relay.api.operations import OPERATIONS
from relay.app.recorder import Recorder
from tests.e2e.conftest import running
from tests.support.aws import EVERYTHING, Key, key_of
from tests.support.gateway import DELEGATE, REGION, Gateway, arn, grant, user_arn

MANY_POLICIES = 20


def post(key: Key, path: str, body: bytes, of: str = "application/json") -> tuple[int, bytes, str]:
    """A signed request by hand: status, body, error code of the header."""
    request = AWSRequest("POST", f"{key.endpoint}{path}", {"Content-Type": of}, body)
    SigV4Auth(Credentials(key.access_key_id, key.secret_access_key), "ses", REGION).add_auth(request)
    sent = urllib.request.Request(request.url, body, dict(request.headers), method="POST")
    try:
        with urllib.request.urlopen(sent, timeout=60) as answer:
            return answer.status, answer.read(), ""
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers.get("x-amzn-ErrorType", "")


def raw(size: int, subject: str) -> bytes:
    head = f"From: a@owner.example\r\nTo: {subject}@customer.example\r\nSubject: {subject}\r\n\r\n".encode()
    line = b"the quick brown fox jumps over the lazy dog and carries a letter\r\n"
    return head + line * (size // len(line))


@pytest.mark.parametrize("size", [300_000, 12_000_000])
def test_large_message_arrives_as_it_was_sent(admin: Key, recorder: Recorder, size: int) -> None:
    octets = raw(size, f"large{size}")
    admin.client("sesv2").send_email(Content={"Raw": {"Data": octets}})
    arrived = recorder.wait_for(f"large{size}@customer.example", 60)
    assert arrived.data.endswith(octets.partition(b"\r\n\r\n")[2])
    octets = raw(min(size, 7_000_000), f"form{size}").replace(b"\r\n", b"\n")
    admin.client("ses").send_raw_email(RawMessage={"Data": octets})
    arrived = recorder.wait_for(f"form{size}@customer.example", 60)
    assert arrived.data.endswith(octets.partition(b"\n\n")[2].replace(b"\n", b"\r\n"))


def test_large_attachment_arrives_as_it_was_sent(admin: Key, recorder: Recorder) -> None:
    content = bytes(range(256)) * 8_000
    attached = {"FileName": "a.bin", "RawContent": content, "ContentType": "application/octet-stream"}
    body = {"Subject": {"Data": "x"}, "Body": {"Text": {"Data": "x"}}, "Attachments": [attached]}
    to = {"ToAddresses": ["attached@customer.example"]}
    admin.client("sesv2").send_email(
        FromEmailAddress="a@owner.example", Destination=to, Content={"Simple": body}
    )
    data = recorder.wait_for("attached@customer.example", 60).data
    assert base64.encodebytes(content).replace(b"\n", b"\r\n") in data


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],  # no whole group
        lambda text: text[:100_000] + "=" + text[100_001:],
        lambda text: text[:200_000] + "\u00fc" + text[200_001:],
        lambda text: text[:200_000] + "\\n" + text[200_000:],
        lambda text: text + "====",
    ],
    ids=["cut", "padding", "letter", "line", "more"],
)
def test_long_value_that_is_no_base64_is_refused(admin: Key, damage: Any) -> None:
    text = damage(base64.b64encode(raw(400_000, "damaged")).decode())
    body = b'{"Content": {"Raw": {"Data": "%s"}}}' % text.encode()
    status, _, code = post(admin, "/v2/email/outbound-emails", body)
    assert (status, code) == (400, "SerializationException")


@pytest.mark.parametrize(
    ("path", "size", "code"),
    [("/v2/email/outbound-emails", 58_000_000, b"longer than"), ("/", 18_000_000, b"RequestEntityTooLarge")],
)
def test_body_over_the_limit_is_refused_in_the_services_form(
    gateway: Gateway, path: str, size: int, code: bytes
) -> None:
    """As soon as it says how long it is; nobody waits for its end."""
    import socket

    with socket.create_connection(("127.0.0.1", gateway.http_port), 10) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        answer = b""
        while piece := sock.recv(4096):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 413")
    assert code in answer


def test_message_over_the_limit_is_refused(admin: Key) -> None:
    with pytest.raises(ClientError, match=r"Message is too long"):
        admin.client("sesv2").send_email(Content={"Raw": {"Data": raw(41_950_000, "over")}})


def test_a_21st_policy_is_too_many(admin: Key, gateway: Gateway) -> None:
    v2 = admin.client("sesv2")
    gateway.identity("many.example")
    document = json.dumps(grant({"AWS": user_arn("x", "111122223333")}, arn("many.example")))
    gateway.run("user", "create", "x", "--account", "111122223333")
    for number in range(MANY_POLICIES):
        named = {"EmailIdentity": "many.example", "PolicyName": f"p{number}", "Policy": document}
        v2.create_email_identity_policy(**named)
    with pytest.raises(ClientError, match="LimitExceededException"):
        v2.create_email_identity_policy(**{**named, "PolicyName": "more"})
    assert len(v2.get_email_identity_policies(EmailIdentity="many.example")["Policies"]) == MANY_POLICIES


def test_lists_come_in_pages_each_item_once(admin: Key) -> None:
    """A token serves the account that it was given to, and nobody else."""
    v1, v2 = admin.client("ses"), admin.client("sesv2")
    for number in range(5):
        v2.create_configuration_set(ConfigurationSetName=f"page{number}")
        v2.put_suppressed_destination(EmailAddress=f"page{number}@gone.example", Reason="BOUNCE")
        v2.create_email_identity(EmailIdentity=f"page{number}.example")
    pages = {
        "ConfigurationSets": lambda **more: v2.list_configuration_sets(PageSize=2, **more),
        "EmailIdentities": lambda **more: v2.list_email_identities(PageSize=2, **more),
        "SuppressedDestinationSummaries": lambda **more: v2.list_suppressed_destinations(PageSize=2, **more),
        "Identities": lambda **more: v1.list_identities(MaxItems=2, **more),
    }
    for member, ask in pages.items():
        found, token = [], {}
        for _ in range(20):
            answer = ask(**token)
            assert len(answer[member]) <= 2
            found += [json.dumps(one, default=str) for one in answer[member]]
            if not answer.get("NextToken"):
                break
            token = {"NextToken": answer["NextToken"]}
        assert len(found) == len(set(found)) >= 5
        assert sum("page" in one for one in found) == 5


def test_what_the_owner_may_not_is_denied_in_the_services_words(gateway: Gateway, domain: str) -> None:
    """A user may send, and nothing else, until a policy says so; other accounts are managed by nobody."""
    plain, other = key_of(gateway, "plain"), key_of(gateway, "other", DELEGATE, EVERYTHING)
    for call in (
        lambda: plain.client("sesv2").get_account(),
        lambda: plain.client("ses").list_identities(),
        lambda: plain.client("sns").list_topics(),
        lambda: other.client("sesv2").get_email_identity(EmailIdentity=arn("owner.example")),
        lambda: other.client("sesv2").delete_email_identity(EmailIdentity=arn("owner.example")),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 403
        assert "is not authorized to perform" in response["Error"]["Message"]
    with pytest.raises(ClientError, match="does not exist"):
        other.client("sesv2").get_email_identity(EmailIdentity="owner.example")


# ---------------------------------------------------------------- calls a second


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> Any:
    """A gateway that takes one management call a second."""
    yield from running(tmp_path_factory.mktemp("slow"), recorder, RELAY_API__CALLS_PER_SECOND="1")


def test_management_calls_are_throttled_and_sending_is_not(slow: Gateway) -> None:
    key = key_of(slow, "admin", policy=EVERYTHING)
    slow.identity("owner.example")
    for service, code in (
        ("sesv2", "TooManyRequestsException"),
        ("ses", "Throttling"),
        ("sns", "Throttling"),
    ):
        client = key.client(service)
        for known, name in OPERATIONS:
            if known == service and OPERATIONS[known, name].action is not None:
                throttled(client, name, code)
    v2 = key.client("sesv2")
    for _ in range(10):
        v2.send_email(Content={"Raw": {"Data": raw(100, "fast")}})


def throttled(client: Any, name: str, code: str) -> None:
    """Calls with a name for every required member, until one is too many."""
    shape = client.meta.service_model.operation_model(name).input_shape
    members = shape.members.items() if shape is not None else ()
    given = {one: "x" for one, member in members if member.serialization.get("location") == "uri"}
    answers = []
    for _ in range(20):
        try:
            getattr(client, xform_name(name))(**given)
        except ClientError as error:
            answers.append(error.response["Error"]["Code"])
            if answers[-1] == code:
                return
    pytest.fail(f"{name}: {answers}")


def test_many_calls_at_once_all_succeed(admin: Key) -> None:
    """Things that are made in one millisecond have keys of their own."""
    v2 = admin.client("sesv2")
    with ThreadPoolExecutor(20) as pool:
        names = [f"atonce{number}" for number in range(300)]
        list(pool.map(lambda name: v2.create_configuration_set(ConfigurationSetName=name), names))
    assert v2.get_configuration_set(ConfigurationSetName="atonce299")
