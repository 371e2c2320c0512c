"""``relay explain``: what would be decided about a message, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import click

from relay.cli.context import on_store
from relay.cli.output import show_json

if TYPE_CHECKING:
    from relay.authorization.suggest import Suggestion
    from relay.authorization.trace import ConditionTrace, Question, StatementTrace
    from relay.control.explanation import Explanation
    from relay.control.ground import Ground


@click.command(name="explain")
@click.argument("message", metavar="MESSAGE.eml", type=click.File("rb"))
@click.option("--user", metavar="ARN", help="The user that would be logged in.")
@click.option("--service", metavar="NAME", help="Instead of a user: a service, with --account.")
@click.option("--account", "account_id", metavar="ID", help="The account of the service's credential.")
@click.option("--source-arn", metavar="ARN", help="The resource that the service acts for.")
@click.option("--mail-from", required=True, metavar="ADDRESS", help="The envelope's sender.")
@click.option("--rcpt", "recipients", multiple=True, required=True, metavar="ADDRESS", help="A recipient.")
@click.option("--source-ip", default="127.0.0.1", show_default=True, help="The client's address.")
@click.option("--at", metavar="INSTANT", help="Such as 2026-12-31T23:59:00Z. [default: now]")
@click.option("--no-tls", is_flag=True, help="As if the session were not under TLS.")
@on_store
def command(
    ground: Ground,
    as_json: bool,
    message: BinaryIO,
    user: str | None,
    service: str | None,
    account_id: str | None,
    source_arn: str | None,
    mail_from: str,
    recipients: tuple[str, ...],
    source_ip: str,
    at: str | None,
    no_tls: bool,
) -> None:
    """Decide on a message that is not sent: each policy asked, each condition, and the grant that lacks."""
    from relay.control import explanation

    if (user is None) == (service is None):
        raise click.UsageError("Name either --user or --service.")
    if user is not None:
        principal = explanation.user_principal(ground, user)
    else:
        if account_id is None:
            raise click.UsageError("--service needs --account.")
        principal = explanation.service_principal(ground, account_id, service or "", source_arn)
    around = explanation.Circumstances(
        mail_from, recipients, _address(source_ip), not no_tls, _instant(at) if at else None
    )
    send = explanation.send_of_file(message.read(), principal, around)
    show(explanation.explain(ground, send), as_json)


def _address(text: str) -> str:
    from relay.authorization.operators import read_network

    if "/" in text or read_network(text) is None:
        raise click.UsageError(f"{text!r} is not an IP address.")
    return text


def _instant(text: str) -> int:
    from relay.authorization.operators import read_instant

    seconds = read_instant(text)
    if seconds is None:
        raise click.UsageError(f"{text!r} is not an instant, such as 2026-12-31T23:59:00Z.")
    return int(seconds * 1_000_000)


def show(found: Explanation, as_json: bool) -> None:
    """The decision, the questions behind it, and what would help."""
    if as_json:
        show_json(found.as_record())
        return
    for line in lines(found):
        click.echo(line)


def lines(found: Explanation) -> Iterator[str]:
    """An explanation as people read it."""
    record = found.as_record()
    if record["decision"] == "Allowed":
        yield f"Allowed: {record['identity']}"
        yield (
            f"  signed by {record['signed_by']}" if record["signed_by"] else f"  {record['unsigned_because']}"
        )
    else:
        yield f"Denied ({record['reason']}): {record['text']}"
        if record["explanation"]:
            yield f"  {record['explanation']}"
    for question in found.questions:
        yield from _question(question)
    yield from _suggestion(found.suggestion)


def _question(question: Question) -> Iterator[str]:
    whose = "The sender's own policies" if question.side == "sender" else "The owner's policies"
    yield ""
    yield f"{whose}, {question.request.action} on {question.resource}: {question.verdict.effect}"
    for statement in question.statements():
        yield from _statement(statement, question)
    if not question.policies:
        yield "  no policies"


def _statement(one: StatementTrace, question: Question) -> Iterator[str]:
    statement = one.statement
    effect = "Allow" if statement.is_allow else "Deny"
    name = f"{one.policy} #{statement.number}" + (f" {statement.sid}" if statement.sid else "")
    verdict = question.verdict
    decided = (verdict.policy, verdict.statement) == (one.policy, statement.number)
    applies = "applies" if one.applies else "does not apply"
    yield f"  {'*' if decided else ' '} {name}: {effect} {applies}"
    for part, matches in (("principal", one.principal), ("action", one.action), ("resource", one.resource)):
        if not matches:
            yield f"      {part} does not match"
    for condition in one.conditions:
        yield f"      {_condition(condition)}"


def _condition(one: ConditionTrace) -> str:
    condition = one.condition
    have = ", ".join(one.have) if isinstance(one.have, tuple) else one.have
    mark = "holds" if one.holds else "fails"
    wanted = " | ".join(condition.values)
    return f"{mark}: {condition.operator.text} {condition.key}: {wanted} (request: {have or 'absent'})"


def _suggestion(suggestion: Suggestion) -> Iterator[str]:
    for grant in suggestion.grants:
        where = "the user's own policies" if grant.side == "sender" else f"identity {grant.resource}"
        yield ""
        yield f"The smallest grant that is missing, for {where}:"
        yield grant.document
    if suggestion.obstacle:
        yield ""
        yield f"No grant is suggested: {suggestion.obstacle}"
