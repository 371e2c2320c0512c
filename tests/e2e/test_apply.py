"""``relay apply``: a file under version control, its plan, and mail by what it lends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay.app.recorder import Recorder
from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, grant, user_arn

FILE = f"""
[[account]]
id = "{OWNER}"
[[account.identity]]
name = "applied.example"
verified = true
policies.lend = "lend.json"

[[account]]
id = "{DELEGATE}"
[[account.user]]
name = "applied"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lent = grant({"AWS": user_arn("applied")}, arn("applied.example"))
    (tmp_path / "lend.json").write_text(json.dumps(lent))
    (tmp_path / "accounts.toml").write_text(FILE)
    return tmp_path / "accounts.toml"


def test_plan_is_shown_then_done_and_mail_goes_by_it(
    gateway: Gateway, recorder: Recorder, file: Path
) -> None:
    code, planned, _ = gateway.invoke("apply", str(file), "--dry-run")
    assert code == 0
    assert planned.splitlines() == [
        f"+ user applied ({DELEGATE})",
        f"+ identity applied.example ({OWNER})",
        f"+ identity policy lend of applied.example ({OWNER})",
    ]
    assert gateway.invoke("identity", "show", "applied.example", "--account", OWNER)[0] == 1
    assert gateway.invoke("apply", str(file)) == (0, planned, "")
    assert gateway.invoke("apply", str(file)) == (0, "nothing to do\n", "")
    made = gateway.run("credential", "create", "--account", DELEGATE, "--user", "applied")
    assert isinstance(made, dict)
    headers = {"From": "a@applied.example"}
    login = Login(made["smtp_username"], made["smtp_password"])
    code, text = gateway.send(
        login, mail_from="a@applied.example", rcpt="applied@customer.example", headers=headers,
        arns=arn("applied.example"),
    )  # fmt: skip
    assert code == 250, text
    recorder.wait_for("applied@customer.example", 20)


def test_file_with_faults_changes_nothing(gateway: Gateway, file: Path) -> None:
    file.write_text(FILE + '[[account.identity]]\nnam = "x.example"\n')
    code, out, err = gateway.invoke("apply", str(file))
    assert (code, out) == (1, "")
    assert "account[1].identity[0].nam: not known here" in err
    file.write_text("[[account]")
    assert "neither TOML nor JSON" in gateway.invoke("apply", str(file))[2]
    file.write_text(FILE.replace("lend.json", "missing.json"))
    assert gateway.invoke("apply", str(file))[0] == 2


def test_step_that_fails_is_told_and_ends_with_1(gateway: Gateway, file: Path) -> None:
    file.write_text(FILE.replace("verified = true\n", "").replace("applied.example", "pending.example"))
    document = grant({"AWS": user_arn("applied")}, arn("pending.example"))
    (file.parent / "lend.json").write_text(json.dumps(document))
    code, out, err = gateway.invoke("apply", str(file), "--json")
    assert code == 1
    told = json.loads(out)
    assert "is not verified" in told[-1]["error"]
    assert not any("error" in one for one in told[:-1])
    assert err == ""
