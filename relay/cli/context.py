"""What every command needs: the settings file, the store behind it, and how it reports trouble."""

from __future__ import annotations

import functools
import getpass
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from relay.cli.output import fail

if TYPE_CHECKING:
    from relay.control.ground import Ground

_FILE_NAME = "relay.toml"
# Where the unit keeps it, and where a first try in the present directory does.
_USUAL_PLACES = (Path(_FILE_NAME), Path("/etc/relay") / _FILE_NAME)

Command = TypeVar("Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="RELAY_CONFIG",
    help="The settings file (or RELAY_CONFIG); else ./relay.toml or /etc/relay/relay.toml.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def settings_path(config: Path | None) -> Path:
    """The settings file to use."""
    if config is not None:
        return config
    return next((place for place in _USUAL_PLACES if place.exists()), _USUAL_PLACES[0])


def on_store(function: Command) -> Command:
    """A command on the store: takes --config and --json, is called with ``ground`` and ``as_json``."""

    @config_option
    @json_option
    @functools.wraps(function)
    def command(*, config: Path | None, as_json: bool, **values: Any) -> None:
        with open_ground(config) as ground:
            function(ground, as_json=as_json, **values)

    return command  # type: ignore[return-value]


@contextmanager
def open_ground(config: Path | None) -> Iterator[Ground]:
    """The store that the settings name, for one command."""
    from relay.app.ground import opened

    with reporting(), opened(settings_path(config), actor()) as ground:
        yield ground


@contextmanager
def reporting() -> Iterator[None]:
    """Whatever keeps us from the store, or a refusal, ends the command with its reason."""
    from relay.app.serve import UNUSABLE
    from relay.control.ground import ControlError

    os.umask(0o077)
    try:
        yield
    except ControlError as error:
        fail(error.code, error.text)
    except UNUSABLE as error:
        fail("unusable", str(error))


def reasons(_ctx: click.Context, _param: click.Parameter, value: str | None) -> frozenset[str] | None:
    """Of an option: ``bounce``, ``complaint``, both with a comma between, or ``none``; None if not given."""
    if value is None:
        return None
    given = frozenset(value.upper().split(","))
    if given == {"NONE"}:
        return frozenset()
    if not given <= {"BOUNCE", "COMPLAINT"}:
        raise click.BadParameter(f"{value!r} is not bounce, complaint, bounce,complaint or none")
    return given


def reasons_or_account(ctx: click.Context, param: click.Parameter, value: str) -> frozenset[str] | None:
    """The same, or None for ``account``."""
    return None if value.lower() == "account" else reasons(ctx, param, value)


def actor() -> str:
    """Who acts, for the audit: the person behind sudo if there is one."""
    behind = os.environ.get("SUDO_USER")
    return f"cli:{behind} as {getpass.getuser()}" if behind else f"cli:{getpass.getuser()}"


def read_file(name: str) -> str:
    """A document from a file, or from standard input for ``-``; what is not UTF-8 is shown as it is."""
    try:
        octets = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from error
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        fail("not_utf8", f"{name}: octet {error.start + 1} is not UTF-8")
