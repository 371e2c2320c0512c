"""The gateway as AWS's clients see it: an administrator of an account, and boto3 clients with its key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config

from tests.support.gateway import OWNER, REGION, Gateway

# Whatever the API offers; sending is in every new user's own policy.
EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["ses:*", "sns:*"], "Resource": "*"}],
}
# What a client refuses by itself never reaches us.
_CONFIG = Config(
    parameter_validation=False,
    retries={"total_max_attempts": 1, "mode": "standard"},
    connect_timeout=5,
    read_timeout=60,
    max_pool_connections=20,
    proxies={},
)


@dataclass(frozen=True)
class Key:
    """An access key of a user."""

    endpoint: str
    access_key_id: str
    secret_access_key: str
    smtp_password: str

    def client(self, service: str, **more: Any) -> Any:
        """A boto3 client of one service."""
        return boto3.session.Session().client(
            service,
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=_CONFIG,
            **more,
        )

    @property
    def environment(self) -> dict[str, str]:
        """What AWS's own programs read."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }


def key_of(gateway: Gateway, user: str, account: str = OWNER, policy: dict[str, Any] | None = None) -> Key:
    """A new user with a key; ``policy`` stands beside the one that lets it send."""
    gateway.run("user", "create", user, "--account", account)
    if policy is not None:
        named = ("--policy-name", "More", "-")
        gateway.run("user", "put-policy", user, "--account", account, *named, stdin=json.dumps(policy))
    made = gateway.run("credential", "create", "--account", account, "--user", user)
    assert isinstance(made, dict)
    endpoint = f"http://127.0.0.1:{gateway.http_port}"
    return Key(endpoint, made["access_key_id"], made["secret_access_key"], made["smtp_password"])
