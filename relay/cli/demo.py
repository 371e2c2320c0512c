"""``relay demo``: the whole story on this machine, in seconds, leaving nothing behind."""

from __future__ import annotations

import io
import json
import os
import queue
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click

from relay.app.recorder import Arrived, Recorder
from relay.cli import main
from relay.signing.verification import is_validly_signed

_OWNER, _DELEGATE = "111122223333", "222222222222"
_DOMAIN = "owner.example"
_START_SECONDS = 10.0
_ARRIVAL_SECONDS = 10.0

_POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "LendAlerts",
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{_DELEGATE}:user/app"},
            "Action": "ses:SendRawEmail",
            "Resource": f"arn:aws:ses:us-east-1:{_OWNER}:identity/{_DOMAIN}",
            "Condition": {
                "StringLike": {
                    "ses:FromAddress": f"alerts@{_DOMAIN}",
                    "ses:FeedbackAddress": f"*@{_DOMAIN}",
                }
            },
        }
    ],
}


@click.command(name="demo")
@click.option("--keep", is_flag=True, help="Leave the gateway running until Ctrl-C.")
def command(keep: bool) -> None:
    """Run the gateway on sample mail: granted, refused, bounced, and the bounce posted to a webhook."""
    directory = Path(tempfile.mkdtemp(prefix="relay-demo-"))
    recorder = Recorder(refused=frozenset({"nobody@customer.example", "gone@customer.example"}))
    try:
        _Story(directory, recorder).tell(keep)
    finally:
        recorder.close()
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Login:
    username: str
    password: str


class _Story:
    """The steps, each printed as it happens."""

    def __init__(self, directory: Path, recorder: Recorder) -> None:
        self._directory = directory
        self._recorder = recorder
        self._port, self._tls_port, self._http_port = _free_ports(3)
        for name in [name for name in os.environ if name.startswith("RELAY_")]:
            del os.environ[name]
        # The commands and the gateway find their settings here.
        os.environ |= {
            "RELAY_CONFIG": str(directory / "relay.toml"),
            "RELAY_RELAY__HOSTNAME": "relay.example",
            "RELAY_RELAY__WORKERS": "1",
            "RELAY_SMTP__LISTEN": f"127.0.0.1:{self._port}",
            "RELAY_SMTP__LISTEN_TLS": f"127.0.0.1:{self._tls_port}",
            "RELAY_HTTP__LISTEN": f"127.0.0.1:{self._http_port}",
            "RELAY_DELIVERY__SMARTHOST": recorder.address,
            "RELAY_DELIVERY__SMARTHOST_TLS": "none",
            "RELAY_WEBHOOKS__ALLOW": "127.0.0.1/32",
        }

    def tell(self, keep: bool) -> None:
        _title("An owner lends a domain, a delegate borrows it")
        login, records = self._prepare()
        with self._gateway():
            self._granted(login, records)
            self._refused(login)
            self._bounced(login)
            self._posted(login)
            self._try_by_hand(login, keep)

    def _prepare(self) -> tuple[_Login, dict[str, str]]:
        """Owner, domain, delegate and policy, with the commands anyone would use."""
        self._relay("init", str(self._directory))
        self._relay("account", "create", "owner", "--id", _OWNER, "--production")
        identity = self._relay("identity", "create", _DOMAIN, "--account", _OWNER, "--verified")
        self._relay("account", "create", "delegate", "--id", _DELEGATE, "--production")
        self._relay("user", "create", "app", "--account", _DELEGATE)
        policy = self._directory / "lend.json"
        policy.write_text(json.dumps(_POLICY, indent=2))
        self._relay("policy", "put", "lend", "--identity", identity["arn"], str(policy))
        credential = self._relay("credential", "create", "--account", _DELEGATE, "--user", "app")
        records = {row["name"]: row["value"] for row in identity["dns_records"] if row["type"] == "TXT"}
        return _Login(credential["smtp_username"], credential["smtp_password"]), records

    def _relay(self, *arguments: str) -> dict[str, Any]:
        shown = [Path(text).name if text.startswith("/") else text for text in arguments]
        click.secho("$ relay " + " ".join(shown), bold=True)
        said, complaints = io.StringIO(), io.StringIO()
        try:
            # In this process: a start of the interpreter for each would take longer than all they do.
            with redirect_stdout(said), redirect_stderr(complaints):
                main([*arguments, "--json"], standalone_mode=False)
        except (SystemExit, click.ClickException) as error:
            reason = complaints.getvalue() or str(error)
            raise click.ClickException(f"relay {arguments[0]} failed:\n{reason}") from None
        return json.loads(said.getvalue()) if said.getvalue().startswith("{") else {}

    @contextmanager
    def _gateway(self) -> Iterator[None]:
        log = (self._directory / "relay.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "relay", "serve"],
            cwd=self._directory,
            stderr=log,
            stdout=log,
        )
        try:
            self._await_greeting(process)
            click.secho(f"$ relay serve      # port {self._port}", bold=True)
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            log.close()

    def _await_greeting(self, process: subprocess.Popen[bytes]) -> None:
        give_up_at = time.monotonic() + _START_SECONDS
        while time.monotonic() < give_up_at and process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self._port), 1) as sock:
                    if sock.recv(3) == b"220":
                        return
            except OSError:
                time.sleep(0.05)
        log = (self._directory / "relay.log").read_text()
        raise click.ClickException(f"the gateway did not start:\n{log}")

    # ------------------------------------------------------------ the four messages

    def _granted(self, login: _Login, records: dict[str, str]) -> None:
        _title("1. What the policy grants is signed with the owner's key and forwarded")
        self._send(login, f"Acme Alerts <alerts@{_DOMAIN}>", "user@customer.example", show=True)
        arrived = self._recorder.wait_for("user@customer.example", _ARRIVAL_SECONDS)
        click.echo("\nWhat arrived at the next hop:\n")
        _indent(arrived.data.decode("ascii", "replace"))
        verdict = "pass" if is_validly_signed(arrived.data, records) else "FAIL"
        click.secho(f"DKIM check by dkimpy, d={_DOMAIN}: {verdict}", bold=True)
        if verdict == "FAIL":
            raise click.ClickException("the signature does not verify")

    def _refused(self, login: _Login) -> None:
        _title("2. What it does not grant is refused, with the reason")
        reply = self._send(login, f"The Boss <ceo@{_DOMAIN}>", "user@customer.example")
        if not reply.startswith("554"):
            raise click.ClickException(f"it was not refused: {reply}")
        _indent(reply)
        reference = reply.split("relay message show ")[-1].rstrip(")")
        self._relay("message", "show", reference)

    def _bounced(self, login: _Login) -> None:
        _title("3. What cannot be delivered comes back to the Return-Path")
        self._send(login, f"alerts@{_DOMAIN}", "nobody@customer.example")
        report = self._recorder.wait_for(f"bounces@{_DOMAIN}", _ARRIVAL_SECONDS)
        _show_report(report)

    def _posted(self, login: _Login) -> None:
        _title("4. Once the delegate has a destination for bounces, they are posted there")
        topic = self._relay("topic", "create", "bounces", "--account", _DELEGATE)["arn"]
        of_delegate = ("--account", _DELEGATE)
        with _Hook() as hook:
            self._relay("topic", "subscribe", topic, "--protocol", "webhook", hook.url)
            self._relay("configuration-set", "create", "alerts", *of_delegate)
            told = ("--topic", topic, "--events", "bounce")
            self._relay("configuration-set", "destination", "alerts", "hook", *of_delegate, *told)
            self._send(login, f"alerts@{_DOMAIN}", "gone@customer.example", configuration_set="alerts")
            posted = hook.wait_for("Bounce", _ARRIVAL_SECONDS)
        click.echo("\nWhat the webhook got:\n")
        _indent(json.dumps(posted, indent=2))

    def _send(
        self, login: _Login, from_: str, to: str, show: bool = False, configuration_set: str | None = None
    ) -> str:
        """Send one message over STARTTLS; the last reply, lines and all."""
        arn = f"arn:aws:ses:us-east-1:{_OWNER}:identity/{_DOMAIN}"
        carried = f"X-SES-CONFIGURATION-SET: {configuration_set}\r\n" if configuration_set else ""
        message = (
            f"From: {from_}\r\nTo: {to}\r\nSubject: Hello from the relay\r\n"
            f"X-SES-SOURCE-ARN: {arn}\r\nX-SES-FROM-ARN: {arn}\r\nX-SES-RETURN-PATH-ARN: {arn}\r\n"
            f"{carried}\r\nThis was sent in the name of a domain that somebody else owns.\r\n"
        )
        context = ssl.create_default_context(cafile=str(self._directory / "relay.crt"))
        with _Dialogue("127.0.0.1", self._port, timeout=10) as client:
            client.shown = show
            client.ehlo("app.example")
            client._host = "relay.example"  # type: ignore[attr-defined]  # the name that its certificate must have
            client.starttls(context=context)
            client.ehlo("app.example")
            client.login(login.username, login.password)
            client.shown = True
            client.mail(f"bounces@{_DOMAIN}")
            client.rcpt(to)
            code, text = client.data(message)
            client.shown = False
        return "\n".join(_reply_lines(code, text))

    def _try_by_hand(self, login: _Login, keep: bool) -> None:
        _title("Try it by hand")
        arn = f"arn:aws:ses:us-east-1:{_OWNER}:identity/{_DOMAIN}"
        click.echo(
            f"  swaks --server 127.0.0.1:{self._port} --tls --auth PLAIN \\\n"
            f"    --auth-user {login.username} --auth-password {login.password} \\\n"
            f"    --from bounces@{_DOMAIN} --to user@customer.example \\\n"
            f"    --h-From 'Acme Alerts <alerts@{_DOMAIN}>' --add-header 'X-SES-SOURCE-ARN: {arn}'\n"
        )
        if not keep:
            click.echo("(relay demo --keep leaves the gateway running for that.)")
            return
        click.echo(f"Running; settings and log are in {self._directory}. Ctrl-C stops and removes all of it.")
        try:
            signal.pause()
        except KeyboardInterrupt:
            click.echo("\nstopping")


class _Hook:
    """A receiver of webhooks on this machine, as an application would have one."""

    def __init__(self) -> None:
        posted = self._posted = queue.SimpleQueue[bytes]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.put(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass  # the story is told here, request lines are not part of it

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/bounces"

    def __enter__(self) -> _Hook:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, event_type: str, seconds: float) -> dict[str, Any]:
        """The first event of that type; what else is posted before is passed over."""
        give_up_at = time.monotonic() + seconds
        while True:
            try:
                body = self._posted.get(timeout=max(give_up_at - time.monotonic(), 0.0))
            except queue.Empty:
                raise click.ClickException("nothing was posted to the webhook") from None
            if body.startswith(b"{") and json.loads(body).get("eventType") == event_type:
                found: dict[str, Any] = json.loads(body)
                return found


class _Dialogue(smtplib.SMTP):
    """A client that shows what both sides say; never what AUTH says."""

    shown = False

    def putcmd(self, cmd: str, args: str = "") -> None:
        if self.shown:
            secret = cmd.upper().startswith("AUTH")
            click.echo(f"  C: {cmd} {'(user and password)' if secret else args}".rstrip())
        super().putcmd(cmd, args)

    def getreply(self) -> tuple[int, bytes]:
        code, text = super().getreply()
        if self.shown:
            for line in _reply_lines(code, text):
                click.echo(f"  S: {line}")
        return code, text


def _reply_lines(code: int, text: bytes) -> list[str]:
    """A reply as it was on the wire."""
    *first, last = text.decode("ascii", "replace").splitlines() or [""]
    return [*(f"{code}-{line}" for line in first), f"{code} {last}"]


def _show_report(report: Arrived) -> None:
    sender = report.reverse_path or "<>"
    click.echo(f"\nThe bounce, from {sender} to {', '.join(report.recipients)}:\n")
    _indent(report.data.decode("ascii", "replace"))


def _title(text: str) -> None:
    click.secho(f"\n{text}\n", fg="green", bold=True)


def _indent(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"  | {line}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
