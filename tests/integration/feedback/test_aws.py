"""``sns`` and ``sqs`` against moto's server in a process of its own."""

from __future__ import annotations

import builtins
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from relay.control import topics
from relay.control.ground import ControlError
from tests.integration.feedback.conftest import World
from tests.integration.feedback.test_poster import certificate
from tests.support.gateway import free_ports
from tests.support.receiver import verify_sns

AWS_ACCOUNT = "123456789012"  # moto's
BODY = '{"eventType":"Bounce","n":1}'


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """Its URL."""
    [port] = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _await(url)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _await(url: str) -> None:
    give_up_at = time.monotonic() + 30
    while True:
        try:
            client("sqs", url).list_queues()
        except (EndpointConnectionError, ClientError):
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        else:
            return


def client(service: str, url: str) -> Any:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
    return boto3.client(service, region_name="us-east-1", endpoint_url=url, **keys)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")


def queue(url: str, name: str) -> tuple[Any, str]:
    sqs = client("sqs", url)
    return sqs, sqs.create_queue(QueueName=name)["QueueUrl"]


def read(sqs: Any, queue_url: str) -> str:
    found = sqs.receive_message(QueueUrl=queue_url, WaitTimeSeconds=5)
    [one] = found["Messages"]
    sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=one["ReceiptHandle"])
    return str(one["Body"])


async def test_queue_gets_what_sns_would_send_it_and_raw_the_event_alone(world: World, moto: str):
    sqs, url = queue(moto, f"q{world.store.is_sqlite:d}")
    arn = f"arn:aws:sqs:us-east-1:{AWS_ACCOUNT}:q{world.store.is_sqlite:d}"
    one = world.subscribe("sqs", arn)
    world.put(one, body=BODY)
    async with world.posting(aws_endpoint_url=moto, timeout_seconds=10):
        await world.all_are("done", 30)
    document = json.loads(read(sqs, url))
    assert document["Message"] == BODY
    verify_sns(document, certificate(world, document["SigningCertURL"]))
    topics.unsubscribe(world.ground, one)
    world.put(world.subscribe("sqs", arn, raw=True), body=BODY)
    async with world.posting():
        await world.all_are("done", 30)
    assert read(sqs, url) == BODY


async def test_topic_at_aws_is_published_to(world: World, moto: str):
    name = f"t{world.store.is_sqlite:d}"
    sns = client("sns", moto)
    topic_arn = sns.create_topic(Name=name)["TopicArn"]
    sqs, url = queue(moto, f"of-{name}")
    sns.subscribe(
        TopicArn=topic_arn, Protocol="sqs", Endpoint=f"arn:aws:sqs:us-east-1:{AWS_ACCOUNT}:of-{name}"
    )
    world.put(world.subscribe("sns", topic_arn), body=BODY)
    async with world.posting(aws_endpoint_url=moto, timeout_seconds=10):
        await world.all_are("done", 30)
    document = json.loads(read(sqs, url))
    assert (document["Message"], document["Subject"]) == (BODY, "Amazon SES Email Event Notification")


async def test_what_aws_refuses_is_tried_again(world: World, moto: str):
    arn = world.subscribe("sns", f"arn:aws:sns:us-east-1:{AWS_ACCOUNT}:nowhere")
    world.put(arn)
    async with world.posting(aws_endpoint_url=moto, timeout_seconds=10):
        await world.until(lambda: world.row(arn).failing_since is not None, 30)
    assert "NotFound" in world.row(arn).last_error
    assert set(world.states().values()) == {"queued"}


async def test_without_boto3_the_way_to_get_it_is_told(world: World, monkeypatch: pytest.MonkeyPatch):
    arn = world.subscribe("sns", f"arn:aws:sns:us-east-1:{AWS_ACCOUNT}:t")
    world.put(arn)
    known = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.partition(".")[0] == "boto3":
            raise ImportError(name)
        return known(name, *arguments)

    monkeypatch.setattr("relay.control.endpoints.find_spec", lambda _: None)
    with pytest.raises(ControlError, match=r"pip install 'relay\[aws\]'"):
        world.subscribe("sns", f"arn:aws:sns:us-east-1:{AWS_ACCOUNT}:u")
    monkeypatch.setattr(builtins, "__import__", without)
    async with world.posting():
        await world.until(lambda: world.row(arn).failing_since is not None)
    assert "pip install 'relay[aws]'" in world.row(arn).last_error
