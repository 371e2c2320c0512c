"""The command line: one module per noun, loaded when it is named."""

from __future__ import annotations

from importlib import import_module

import click

from relay import __version__

_COMMANDS = {
    "init": "Set up a directory: settings, key file, certificate, store.",
    "serve": "Run the gateway.",
    "check": "What is wrong here, and how to mend it.",
    "migrate": "Bring the store's schema up to date.",
    "backup": "Write store and settings to a file, while the gateway runs.",
    "restore": "Put a backup into an empty store.",
    "demo": "Run the gateway on sample mail: granted, refused, bounced.",
    "apply": "Make accounts what a file says: users, identities, policies, sets, topics.",
    "account": "Accounts: who carries quota and usage.",
    "user": "IAM users and their own policies.",
    "credential": "Access keys and SMTP passwords.",
    "identity": "Domains and addresses that mail is sent from.",
    "configuration-set": "What an account fixes for the mail that names one: TLS, time, who is told.",
    "suppression": "Addresses that an account no longer sends to.",
    "topic": "Topics: who is told of bounces, complaints and other events.",
    "event": "What was told of events, what was not, and telling it again.",
    "policy": "Sending authorization policies: who may send as an identity.",
    "explain": "What would be decided about a message, and why.",
    "key": "Keys that encrypt the secrets in the store: add, rotate, remove.",
    "queue": "Mail that waits to be delivered.",
    "usage": "What each account sent in whose name: the bill.",
    "ledger": "What happened in an identity's name, sealed entry by entry.",
    "audit": "Who changed what.",
    "message": "Single messages, accepted or refused.",
}


class _Lazy(click.Group):
    """Imports a command's module when it is needed, so that each starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"relay.cli.{cmd_name.replace('-', '_')}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def main() -> None:
    """An SMTP gateway that lends identities: it decides by policy, signs, and forwards or refuses."""
