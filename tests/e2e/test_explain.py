"""Verdicts that explain themselves: ``explain``, ``message show``, and policies under test."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tests.support.gateway import DELEGATE, OWNER, Gateway, Login, arn, grant, user_arn

APP = {"AWS": user_arn("app")}
LANGUAGE = Path(__file__).parents[1] / "data" / "policies" / "language.jsonl"
_numbers = itertools.count(1)


@pytest.fixture
def lent(gateway: Gateway, app: Login) -> str:
    name = f"why{next(_numbers)}.example"
    gateway.identity(name)
    return name


@pytest.fixture
def explain(gateway: Gateway, lent: str, tmp_path: Path):
    """Explains a message from ``From`` in the lent domain's name."""

    def run(
        from_: str, *more: str, as_json: bool = True, user: str = user_arn("app"), source: str | None = None
    ):
        message = tmp_path / "message.eml"
        message.write_text(f"From: {from_}\nX-SES-SOURCE-ARN: {source or arn(lent)}\n\nx\n")
        arguments = [
            "explain",
            str(message),
            "--user",
            user,
            "--mail-from",
            f"b@{lent}",
            "--rcpt",
            "c@x.example",
        ]
        return gateway.run(*arguments, *more) if as_json else gateway.invoke(*arguments, *more)

    return run


class TestExplain:
    def test_each_condition_is_shown_with_both_values(self, gateway, lent, explain):
        condition = {
            "StringLike": {"ses:FromAddress": f"alerts*@{lent}"},
            "Bool": {"aws:SecureTransport": "true"},
        }
        gateway.policy(arn(lent), grant(APP, arn(lent), Sid="Alerts", Condition=condition))
        told = explain(f"ceo@{lent}")
        assert told["decision"] == "Denied"
        owner = next(question for question in told["questions"] if question["side"] == "owner")
        [statement] = owner["statements"]
        assert statement["sid"] == "Alerts"
        assert not statement["applies"]
        assert statement["conditions"] == [
            {
                "operator": "StringLike",
                "key": "ses:FromAddress",
                "policy_values": [f"alerts*@{lent}"],
                "request_value": f"ceo@{lent}",
                "holds": False,
            },
            {
                "operator": "Bool",
                "key": "aws:SecureTransport",
                "policy_values": ["true"],
                "request_value": "true",
                "holds": True,
            },
        ]

    def test_people_read_what_failed(self, gateway, lent, explain):
        gateway.policy(
            arn(lent), grant(APP, arn(lent), Condition={"StringEquals": {"ses:FromAddress": f"a@{lent}"}})
        )
        code, out, _ = explain(f"ceo@{lent}", as_json=False)
        assert code == 0
        assert f"fails: StringEquals ses:FromAddress: a@{lent} (request: ceo@{lent})" in out
        assert "The smallest grant that is missing" in out

    def test_suggested_grant_lets_the_message_through_and_no_other(self, gateway, app, lent, explain):
        told = explain(f"ceo@{lent}")
        [suggested] = told["suggestion"]["grants"]
        assert (suggested["side"], suggested["resource"]) == ("owner", arn(lent))
        gateway.policy(arn(lent), json.loads(suggested["document"]), "suggested")
        assert explain(f"ceo@{lent}")["decision"] == "Allowed"
        headers = {"From": f"ceo@{lent}"}
        assert gateway.send(app, mail_from=f"b@{lent}", headers=headers, arns=arn(lent))[0] == 250
        headers = {"From": f"cfo@{lent}"}
        assert gateway.send(app, mail_from=f"b@{lent}", headers=headers, arns=arn(lent))[0] == 554

    def test_nothing_is_suggested_where_a_deny_stands(self, gateway, lent, explain):
        gateway.policy(arn(lent), grant(APP, arn(lent)), "allow")
        gateway.policy(arn(lent), grant("*", arn(lent), Effect="Deny", Sid="Never"), "deny")
        told = explain(f"a@{lent}")
        assert told["suggestion"]["grants"] == []
        assert "statement Never of policy deny" in told["suggestion"]["obstacle"]

    def test_nothing_is_suggested_for_an_identity_that_is_not_there(self, explain):
        told = explain("a@nowhere.example", source=arn("nowhere.example"))
        assert told["suggestion"]["grants"] == []
        assert "names no identity here" in told["suggestion"]["obstacle"]

    def test_what_the_senders_own_side_lacks_is_suggested_for_the_user(self, gateway, lent, explain):
        name = f"bare{next(_numbers)}"
        gateway.login(name)
        gateway.run("user", "delete-policy", name, "--account", DELEGATE, "--policy-name", "AllowSending")
        gateway.policy(arn(lent), grant({"AWS": user_arn(name)}, arn(lent)))
        told = explain(f"a@{lent}", user=user_arn(name))
        [suggested] = told["suggestion"]["grants"]
        assert suggested["side"] == "sender"
        put = ["user", "put-policy", name, "-", "--account", DELEGATE, "--policy-name", "s"]
        gateway.run(*put, stdin=suggested["document"])
        assert explain(f"a@{lent}", user=user_arn(name))["decision"] == "Allowed"

    def test_instant_and_address_are_those_that_are_asked_for(self, gateway, lent, explain):
        condition = {
            "DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"},
            "IpAddress": {"aws:SourceIp": "192.0.2.0/24"},
        }
        gateway.policy(arn(lent), grant(APP, arn(lent), Condition=condition))
        good = ["--source-ip", "192.0.2.7", "--at", "2029-12-31T23:59:59Z"]
        assert explain(f"a@{lent}", *good)["decision"] == "Allowed"
        assert explain(f"a@{lent}", *good[:2], "--at", "2030-01-01T00:00:00Z")["decision"] == "Denied"
        assert explain(f"a@{lent}", "--source-ip", "198.51.100.1", *good[2:])["decision"] == "Denied"

    @pytest.mark.parametrize(
        ("arguments", "code", "word"),
        [
            (["--source-ip", "nowhere"], 2, "not an IP address"),
            (["--at", "tomorrow"], 2, "not an instant"),
            (["--user", user_arn("nobody")], 1, "no user"),
            (["--rcpt", "nobody"], 1, "nobody"),
        ],
    )
    def test_bad_circumstances_are_named(self, lent, explain, arguments, code, word):
        got, _, err = explain(f"a@{lent}", *arguments, as_json=False)
        assert (got, word in err) == (code, True), err

    def test_malformed_message_is_refused_as_by_smtp(self, explain, lent):
        code, _, err = explain(f"a@{lent}\nFrom: b@{lent}", as_json=False)
        assert code == 1
        assert "554 Transaction failed: Duplicate header 'From'." in err


class TestMessageShow:
    def test_refusal_is_judged_again_by_what_stands_now(self, gateway, app, lent):
        headers = {"From": f"a@{lent}"}
        _, text = gateway.send(app, mail_from=f"a@{lent}", headers=headers, arns=arn(lent))
        reference = text.split("relay message show ")[1].rstrip(")")
        assert gateway.run("message", "show", reference)["explained"]["decision"] == "Denied"
        gateway.policy(arn(lent), grant(APP, arn(lent)))
        shown = gateway.run("message", "show", reference)
        assert shown["explained"]["decision"] == "Allowed"
        assert "By the policies as they are now" in gateway.invoke("message", "show", reference)[1]

    def test_accepted_message_names_the_statement_that_allowed_it(self, gateway, app, lent):
        gateway.policy(arn(lent), grant(APP, arn(lent), Sid="Lend"))
        headers = {"From": f"a@{lent}"}
        _, text = gateway.send(app, mail_from=f"a@{lent}", headers=headers, arns=arn(lent))
        shown = gateway.run("message", "show", text.split()[-1])
        assert [(one["role"], one["sid"]) for one in shown["record"]["grants"]] == [
            ("From", "Lend"),
            ("Return-Path", "Lend"),
        ]
        assert "statement Lend" in gateway.invoke("message", "show", text.split()[-1])[1]


class TestPolicyTest:
    def test_every_line_of_the_table_is_decided_as_expected(self, gateway):
        code, out, err = gateway.invoke("policy", "test", str(LANGUAGE))
        assert code == 0, err
        cases = [json.loads(line) for line in LANGUAGE.read_text().splitlines()]
        assert [json.loads(line) for line in out.splitlines()] == [
            {"id": case["id"], "decision": case["expected"]} for case in cases
        ]

    def test_difference_ends_with_1_and_is_named(self, gateway):
        case = json.loads(LANGUAGE.read_text().splitlines()[0])
        other = "Allow" if case["expected"] != "Allow" else "ImplicitDeny"
        code, out, err = gateway.invoke("policy", "test", "-", stdin=json.dumps({**case, "expected": other}))
        assert code == 1
        assert json.loads(out) == {"id": case["id"], "decision": case["expected"]}
        assert f"expected {other}" in err

    def test_document_that_cannot_be_read_allows_nothing(self, gateway):
        case = {
            "id": 1,
            "policies": [{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resorce": "*"}}],
            "request": {
                "principal_arn": user_arn("app"),
                "action": "ses:SendRawEmail",
                "resource": arn("x.example"),
            },
        }
        code, out, err = gateway.invoke("policy", "test", "-", stdin=json.dumps(case))
        assert (code, json.loads(out)["decision"]) == (0, "ImplicitDeny")
        assert "unknown element 'Resorce'" in err

    @pytest.mark.parametrize(
        "line",
        ["nonsense", "[]", "{}", '{"policies": [], "request": {}}', '{"policies": {}, "request": {}}'],
    )
    def test_line_that_is_no_case_is_a_usage_error(self, gateway, line):
        code, _, err = gateway.invoke("policy", "test", "-", stdin=line)
        assert code == 2
        assert "line 1" in err


class TestCheck:
    def test_errors_end_with_1(self, gateway):
        document = json.dumps(grant(APP, arn("other.example")))
        code, out, _ = gateway.invoke(
            "policy", "check", "-", "--identity", arn("owner.example"), "--json", stdin=document
        )
        assert code == 1
        assert [error["pointer"] for error in json.loads(out)["errors"]] == ["/Statement/0/Resource"]

    def test_warnings_do_not(self, gateway):
        document = json.dumps(grant("*", arn("owner.example")))
        code, out, _ = gateway.invoke(
            "policy", "check", "-", "--identity", arn("owner.example"), stdin=document
        )
        assert code == 0
        assert "warning: " in out
        assert "it can be stored" in out


class TestBothSides:
    def test_who_may_send_as_an_identity(self, gateway, lent):
        address = f"billing@{lent}"
        gateway.identity(address)
        gateway.policy(arn(lent), grant(APP, arn(lent), Sid="All"))
        gateway.policy(arn(address), grant({"AWS": DELEGATE}, arn(address), Effect="Deny", Sid="None"))
        rows = gateway.run("policy", "who", "--identity", arn(address))
        assert [(row["identity"], row["sid"], row["effect"], row["principals"]) for row in rows] == [
            (arn(address), "None", "Deny", [DELEGATE]),
            (arn(lent), "All", "Allow", [user_arn("app")]),
        ]
        assert len(gateway.run("policy", "who", "--identity", arn(lent))) == 1

    def test_what_a_principal_may_send_as(self, gateway, lent):
        condition = {"StringLike": {"ses:FromAddress": f"*@{lent}"}}
        gateway.policy(arn(lent), grant({"AWS": DELEGATE}, arn(lent), Condition=condition))
        rows = gateway.run("policy", "grants", "--principal", user_arn("app"))
        [row] = [row for row in rows if row["identity"] == arn(lent)]
        assert row["conditions"] == [f"ses:FromAddress StringLike *@{lent}"]
        others = gateway.run("policy", "grants", "--principal", user_arn("app", OWNER))
        assert all(row["identity"] != arn(lent) for row in others)

    def test_nonsense_is_no_principal(self, gateway):
        code, _, err = gateway.invoke("policy", "grants", "--principal", "somebody")
        assert (code, "is no principal" in err) == (1, True)
