"""The README's commands, run as they stand: from nothing to a lent identity, then swaks."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import Gateway, Login, arn
from tests.support.peers import require

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLES = re.findall(r"<!-- swaks: ([a-z-]+) -->\n```sh\n(.*?)\n```\n\n```\n(.*?)\n```\n", README, re.DOTALL)


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Login]]:
    """A gateway set up by the README's commands, and the credential that they printed."""
    directory = tmp_path_factory.mktemp("documented")
    recorder = Recorder(refused=frozenset())
    gateway = Gateway(directory, recorder)
    gateway.environment["RELAY_RELAY__HOSTNAME"] = "relay.example.com"
    found = re.search(r"<!-- set-up -->\n```sh\n(.*?)relay serve\n```", README, re.DOTALL)
    assert found is not None
    script = found[1].replace("/etc/relay", str(directory)).replace("mail.example.com:25", recorder.address)
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=directory,
        env={**gateway.environment, "PATH": f"{_scripts()}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    printed = dict(re.findall(r"^(smtp_\w+) +(\S+)$", done.stdout, re.MULTILINE))
    gateway.start()
    yield gateway, Login(printed["smtp_username"], printed["smtp_password"])
    gateway.stop()
    recorder.close()


def _scripts() -> Path:
    import sys

    return Path(sys.executable).parent


def run_swaks(gateway: Gateway, login: Login, command: str) -> str:
    """The command with this gateway's ports; what swaks printed."""
    require("swaks")
    for documented, port in (("587", gateway.port), ("465", gateway.tls_port)):
        command = command.replace(f"relay.example.com:{documented}", f"127.0.0.1:{port}")
    done = subprocess.run(
        ["sh", "-eu", "-c", command],
        env={
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "SMTP_USERNAME": login.username,
            "SMTP_PASSWORD": login.password,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout + done.stderr


def masked(line: str) -> str:
    """Without what differs from one run to the next."""
    line = re.sub(r"\b0100[0-9a-f]{12}(-[0-9a-f]+){6}\b", "ID", line)
    return re.sub(r"\b[0-9A-HJKMNP-TV-Z]{8}\b", "REFERENCE", line)


@pytest.mark.parametrize(("name", "command", "shown"), EXAMPLES, ids=[name for name, *_ in EXAMPLES])
def test_readme_shows_what_swaks_prints(documented, name, command, shown):
    printed = [masked(line) for line in run_swaks(*documented, command).splitlines()]
    expected = [masked(line) for line in shown.splitlines()]
    assert expected
    assert [line for line in expected if line not in printed] == [], "\n".join(printed)


def test_readme_has_an_example_for_each_outcome():
    assert {name for name, *_ in EXAMPLES} == {"granted", "refused", "unnamed", "wrong-password"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", ["--tls", "--tlsc"])
def test_swaks_sends_over_both_kinds_of_tls_with_both_mechanisms(documented, mechanism, tls):
    gateway, login = documented
    rcpt = f"{mechanism.lower()}{tls}@customer.example"
    port = 587 if tls == "--tls" else 465
    printed = run_swaks(
        gateway,
        login,
        f"swaks --server relay.example.com:{port} {tls} --auth {mechanism}"
        ' --auth-user "$SMTP_USERNAME" --auth-password "$SMTP_PASSWORD"'
        f" --from bounces@owner.example --to {rcpt} --h-From alerts@owner.example"
        f" --add-header 'X-SES-SOURCE-ARN: {arn('owner.example')}'",
    )
    assert re.search(r"<~ +250 Ok 0100", printed), printed
    assert gateway.recorder.wait_for(rcpt, 15).reverse_path == "bounces@owner.example"


def test_swaks_pipelines(documented):
    gateway, login = documented
    printed = run_swaks(
        gateway,
        login,
        'swaks --pipeline --server relay.example.com:465 --tlsc --auth PLAIN --auth-user "$SMTP_USERNAME"'
        ' --auth-password "$SMTP_PASSWORD" --from bounces@owner.example'
        " --to a@customer.example,b@customer.example"
        f" --h-From alerts@owner.example --add-header 'X-SES-SOURCE-ARN: {arn('owner.example')}'",
    )
    assert re.search(r"<~ +250 Ok 0100", printed), printed
