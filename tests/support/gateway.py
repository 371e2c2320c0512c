"""The program as a process between a client and a next hop, with a store that tests can set up."""

from __future__ import annotations

import json
import os
import random
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.app.recorder import Recorder

OWNER, DELEGATE, STRANGER = "111122223333", "222222222222", "333333333333"
REGION = "us-east-1"
LOOPBACK = "127.0.0.1"
# Linux gives outgoing connections ports from 32768 on (ip_local_port_range).
_PORTS = (10_000, 32_768)
_CHANCE = random.SystemRandom()  # that of the module is seeded by tests, alike in all processes


def arn(name: str, account: str = OWNER) -> str:
    return f"arn:aws:ses:{REGION}:{account}:identity/{name}"


def user_arn(name: str, account: str = DELEGATE) -> str:
    return f"arn:aws:iam::{account}:user/{name}"


def grant(principal: Any, resource: str, **extra: Any) -> dict[str, Any]:
    """A policy with one statement that allows sending."""
    statement = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": "ses:SendRawEmail",
        "Resource": resource,
        **extra,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


@dataclass(frozen=True)
class Login:
    username: str
    password: str


class CommandFailed(AssertionError):
    pass


class Gateway:
    """A relay in a directory of its own.  Commands run in this process, ``serve`` in another."""

    def __init__(self, directory: Path, recorder: Recorder, host: str = LOOPBACK, **settings: str) -> None:
        self.directory = directory
        self.recorder = recorder
        self.host = host
        self.port, self.tls_port, self.http_port, self.https_port = free_ports(4)
        self.process: subprocess.Popen[bytes] | None = None
        self.records: dict[str, str] = {}
        self.preface = b""  # what a connection from this machine must begin with
        self.source: tuple[str, int] | None = None  # where clients come from, if from elsewhere
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("RELAY_")},
            "RELAY_CONFIG": str(directory / "relay.toml"),
            "RELAY_RELAY__HOSTNAME": "relay.example",
            "RELAY_RELAY__WORKERS": "1",
            "RELAY_SMTP__LISTEN": f"{host}:{self.port}",
            "RELAY_SMTP__LISTEN_TLS": f"{host}:{self.tls_port}",
            "RELAY_HTTP__LISTEN": f"{host}:{self.http_port}",
            "RELAY_DELIVERY__SMARTHOST": recorder.address,
            "RELAY_DELIVERY__SMARTHOST_TLS": "none",
            **settings,
        }

    # ------------------------------------------------------------ commands

    def run(self, *arguments: str, stdin: str | None = None) -> dict[str, Any] | list[Any]:
        """A relay command with --json; what it printed, or CommandFailed."""
        code, out, err = self.invoke(*arguments, "--json", stdin=stdin)
        if code != 0:
            raise CommandFailed(f"relay {' '.join(arguments)}: exit {code}\n{err}")
        return json.loads(out) if out.strip() else {}

    def invoke(self, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
        """A relay command as it stands: exit code, standard output, standard error."""
        from click.testing import CliRunner

        from relay.cli import main

        result = CliRunner(env={**dict.fromkeys(_relay_variables()), **self.environment}).invoke(
            main, list(arguments), input=stdin, catch_exceptions=False
        )
        return result.exit_code, result.stdout, result.stderr

    def account(self, account_id: str, production: bool = True, quota: int = -1, rate: int = -1) -> None:
        """An account, without limits unless they are what the test is about."""
        limits = ("--max-24h-send", str(quota), "--max-send-rate", str(rate))
        named = ("account", "create", f"a{account_id}", "--id", account_id)
        self.run(*named, *limits, *["--production"] * production)

    def identity(self, name: str, account: str = OWNER, verified: bool = True) -> str:
        made = self.run("identity", "create", name, "--account", account, *["--verified"] * verified)
        assert isinstance(made, dict)
        for record in made["dns_records"]:
            if record["type"] == "TXT":
                self.records[record["name"]] = record["value"]
        return str(made["arn"])

    def login(self, user: str = "app", account: str = DELEGATE) -> Login:
        """A new user with a credential of its own."""
        self.run("user", "create", user, "--account", account)
        made = self.run("credential", "create", "--account", account, "--user", user)
        assert isinstance(made, dict)
        return Login(made["smtp_username"], made["smtp_password"])

    def policy(self, identity: str, document: dict[str, Any], name: str = "lend") -> None:
        self.run("policy", "put", name, "--identity", identity, "-", stdin=json.dumps(document))

    # ------------------------------------------------------------ the process

    def start(self, *under: str) -> None:
        """``relay serve``, as an argument of another program if one is given."""
        log = (self.directory / "serve.log").open("ab")
        self.process = subprocess.Popen(
            [*under, sys.executable, "-m", "relay", "serve"],
            env=self.environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        self.await_greeting()

    def await_greeting(self, seconds: float = 20) -> None:
        give_up_at = time.monotonic() + seconds
        while time.monotonic() < give_up_at:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            try:
                with socket.create_connection((self.host, self.port), 1) as sock:
                    sock.settimeout(2)
                    sock.sendall(self.preface)
                    if sock.recv(3) == b"220":
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"no greeting:\n{self.log()}")

    def kill(self) -> None:
        """kill -9 of every process of the gateway."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def log(self) -> str:
        path = self.directory / "serve.log"
        return path.read_text() if path.exists() else ""

    # ------------------------------------------------------------ sending

    def client(
        self, login: Login | None, implicit_tls: bool = False, *, at: tuple[str, int] | None = None
    ) -> smtplib.SMTP:
        """A connection under TLS, logged in if there is a login; ``at`` a balancer, if there is one."""
        context = ssl.create_default_context(cafile=str(self.directory / "relay.crt"))
        context.check_hostname = False  # the certificate is for relay.example
        host, port = at or (self.host, self.tls_port if implicit_tls else self.port)
        client: smtplib.SMTP
        if implicit_tls:
            client = smtplib.SMTP_SSL(host, port, context=context, timeout=20, source_address=self.source)
        else:
            client = smtplib.SMTP(host, port, timeout=20, source_address=self.source)
            client.starttls(context=context)
        client.ehlo("client.example")
        if login is not None:
            try:
                client.login(login.username, login.password)
            except smtplib.SMTPAuthenticationError:
                client.close()
                raise
        return client

    def send(
        self,
        login: Login,
        *,
        mail_from: str = "bounces@owner.example",
        rcpt: str | list[str] = "user@customer.example",
        headers: dict[str, str] | None = None,
        body: str = "Hello.\r\n",
        arns: str | None = None,
        implicit_tls: bool = False,
    ) -> tuple[int, str]:
        """One message in a session of its own; the reply to the dot.  ``arns`` fills all three fields."""
        fields = {"From": "alerts@owner.example", "To": "user@customer.example", "Subject": "Hello"}
        if arns:
            fields |= dict.fromkeys(("X-SES-SOURCE-ARN", "X-SES-FROM-ARN", "X-SES-RETURN-PATH-ARN"), arns)
        fields |= headers or {}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        with self.client(login, implicit_tls) as client:
            return transact(client, mail_from, [rcpt] if isinstance(rcpt, str) else rcpt, f"{head}\r\n{body}")


def transact(client: smtplib.SMTP, mail_from: str, rcpts: list[str], message: str) -> tuple[int, str]:
    """MAIL, RCPT, DATA on an open session; the first refusal or the reply to the dot."""
    code, text = client.mail(mail_from)
    if code != 250:
        return code, text.decode()
    for rcpt in rcpts:
        code, text = client.rcpt(rcpt)
    code, text = client.data(message.encode("latin-1"))
    return code, text.decode()


def free_ports(count: int) -> list[int]:
    """Below those of outgoing connections, one of which might take it before its use."""
    ports: set[int] = set()
    while len(ports) < count:
        port = _CHANCE.randrange(*_PORTS)
        with suppress(OSError), socket.create_server((LOOPBACK, port)):
            ports.add(port)
    return list(ports)


def _relay_variables() -> list[str]:
    return [name for name in os.environ if name.startswith("RELAY_")]
