"""Configuration sets: made, listed, changed, removed."""

from __future__ import annotations

import re
from typing import Any

from relay.control import accounts
from relay.control.ground import ControlError, Ground, new_id, now
from relay.store import configuration_sets
from relay.store.configuration_sets import ConfigurationSetRow as ConfigurationSetRow  # the commands show it
from relay.store.suppression import write_reasons

# SES API v2, ConfigurationSetName.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


def create(ground: Ground, account_id: str, name: str, tls_policy: str = "OPTIONAL") -> ConfigurationSetRow:
    """A new set; mail names it in X-SES-CONFIGURATION-SET."""
    accounts.get(ground, account_id)
    if not _NAME(name):
        raise ControlError(
            "invalid_name", f"{name!r}: a configuration set's name has 1 to 64 of A-Z, a-z, 0-9, - and _"
        )
    row = ConfigurationSetRow(new_id(), account_id, name, True, now(), tls_policy)
    with ground.write() as write:
        if configuration_sets.find(write.connection, account_id, name):
            raise ControlError("already_exists", f"account {account_id} has a set {name} already")
        configuration_sets.add(write, row)
    return row


def show(ground: Ground, account_id: str, name: str) -> ConfigurationSetRow:
    with ground.store.read() as connection:
        row = configuration_sets.find(connection, account_id, name)
    return _present(row, account_id, name)


def every(ground: Ground, account_id: str | None) -> list[ConfigurationSetRow]:
    with ground.store.read() as connection:
        return configuration_sets.every(connection, account_id)


def update(
    ground: Ground,
    account_id: str,
    name: str,
    tls_policy: str | None = None,
    sending_enabled: bool | None = None,
) -> ConfigurationSetRow:
    """Change what is not None; it holds for mail accepted from then on."""
    given: dict[str, tuple[str, Any]] = {
        "tls_policy": ("PutConfigurationSetDeliveryOptions", tls_policy),
        "sending_enabled": ("PutConfigurationSetSendingOptions", sending_enabled),
    }
    if all(value is None for _, value in given.values()):
        raise ControlError("nothing_to_do", "name what to change, such as --tls-policy require")
    with ground.write() as write:
        row = _present(configuration_sets.find(write.connection, account_id, name), account_id, name)
        for column, (action, value) in given.items():
            if value is not None:
                configuration_sets.change(write, row, action, **{column: value})
    return show(ground, account_id, name)


def suppress(
    ground: Ground, account_id: str, name: str, reasons: frozenset[str] | None
) -> ConfigurationSetRow:
    """For which reasons mail of the set is not sent to an address on the account's suppression list, and
    gets one on it; None leaves both to the account."""
    written = None if reasons is None else write_reasons(reasons)
    with ground.write() as write:
        row = _present(configuration_sets.find(write.connection, account_id, name), account_id, name)
        action = "PutConfigurationSetSuppressionOptions"
        configuration_sets.change(write, row, action, suppressed_reasons=written)
    return show(ground, account_id, name)


def delete(ground: Ground, account_id: str, name: str) -> ConfigurationSetRow:
    """Remove the set; mail that names it is refused from then on."""
    with ground.write() as write:
        row = _present(configuration_sets.find(write.connection, account_id, name), account_id, name)
        identities = configuration_sets.default_of(write.connection, account_id, name)
        if identities:
            raise ControlError("in_use", f"{name} is the default set of {', '.join(identities)}")
        configuration_sets.remove(write, row)
    return row


def _present(row: ConfigurationSetRow | None, account_id: str, name: str) -> ConfigurationSetRow:
    if row is None:
        raise ControlError(
            "not_found",
            f"account {account_id} has no configuration set {name}; see `relay configuration-set list`",
        )
    return row
