"""What a file says that accounts are to have, as one flat table.  Pure, but for what loads a policy.

The file names accounts, and within each what it has: users with policies, topics with subscriptions,
configuration sets with destinations, identities with policies.  Every fault in it is told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from relay.control.ground import ControlError
from relay.outcome.events import TYPES

Values = Mapping[str, Any]


class Key(NamedTuple):
    """One thing: its kind, whose it is, its name, and what of it if it is a part."""

    kind: str
    account_id: str
    name: str
    part: str = ""

    def __str__(self) -> str:
        within = f" of {self.name}" if self.part else ""
        return f"{self.kind} {self.part or self.name}{within} ({self.account_id})"


Table = dict[Key, Values]

_ACCOUNT = {"id": str, "name": str, "production": bool, "max_24h_send": int, "max_send_rate": int}
_USER = {"name": str, "path": str, "tags": dict}
_IDENTITY = {"name": str, "verified": bool, "dkim": bool, "feedback_forwarding": bool}
_IDENTITY |= {"configuration_set": str, "bounce_topic": str, "complaint_topic": str, "delivery_topic": str}
_SET = {"name": str, "tls_policy": str, "sending": bool, "max_delivery_seconds": int}
_DESTINATION = {"name": str, "topic": str, "events": list, "enabled": bool}
_TOPIC = {"name": str, "signature_version": int}
_SUBSCRIPTION = {"protocol": str, "endpoint": str, "raw": bool}
_TOPICS = ("bounce_topic", "complaint_topic", "delivery_topic")


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads one file; ``load`` gives the text of a policy that stands in another."""

    region: str
    load: Callable[[str], str]
    faults: list[str]

    def accounts(self, document: Any) -> Iterator[tuple[Key, Values]]:
        for where, one in self._tables(document, "account", "", _ACCOUNT, _PARTS_OF_ACCOUNT):
            account_id = str(one.get("id", ""))
            values = {name: one[name] for name in _ACCOUNT if name in one and name != "id"}
            yield Key("account", account_id, account_id), values
            yield from self._users(account_id, where, one)
            yield from self._topics(account_id, where, one)
            yield from self._sets(account_id, where, one)
            yield from self._identities(account_id, where, one)

    def _users(self, account_id: str, where: str, of: Values) -> Iterator[tuple[Key, Values]]:
        for place, one in self._tables(of, "user", where, _USER, ("policies",)):
            yield Key("user", account_id, str(one.get("name", ""))), self._but(one, "name", "policies")
            yield from self._policies("user policy", account_id, place, one)

    def _topics(self, account_id: str, where: str, of: Values) -> Iterator[tuple[Key, Values]]:
        for place, one in self._tables(of, "topic", where, _TOPIC, ("open_to", "subscription")):
            name = str(one.get("name", ""))
            yield Key("topic", account_id, name), self._but(one, "name", "open_to", "subscription")
            for other in self._strings(one, "open_to", place):
                yield Key("consent", account_id, name, other), {}
            for _, told in self._tables(one, "subscription", place, _SUBSCRIPTION):
                part = f"{told.get('protocol', '')} {told.get('endpoint', '')}"
                yield Key("subscription", account_id, name, part), {"raw": told.get("raw", False)}

    def _sets(self, account_id: str, where: str, of: Values) -> Iterator[tuple[Key, Values]]:
        for place, one in self._tables(of, "configuration_set", where, _SET, ("destination",)):
            values = self._but(one, "name", "destination")
            if "tls_policy" in values:
                values["tls_policy"] = str(values["tls_policy"]).upper()
                self._one_of(f"{place}.tls_policy", values["tls_policy"], ("OPTIONAL", "REQUIRE"))
            yield Key("configuration set", account_id, str(one.get("name", ""))), values
            for inner, told in self._tables(one, "destination", place, _DESTINATION):
                events = sorted(self._events(told, inner))
                topic = self._topic(account_id, str(told.get("topic", "")))
                found = {"topic": topic, "events": events, "enabled": told.get("enabled", True)}
                yield (
                    Key("destination", account_id, str(one.get("name", "")), str(told.get("name", ""))),
                    found,
                )

    def _identities(self, account_id: str, where: str, of: Values) -> Iterator[tuple[Key, Values]]:
        for place, one in self._tables(of, "identity", where, _IDENTITY, ("policies",)):
            values = self._but(one, "name", "policies")
            for name in _TOPICS:
                if values.get(name):
                    values[name] = self._topic(account_id, str(values[name]))
            yield Key("identity", account_id, str(one.get("name", ""))), values
            yield from self._policies("identity policy", account_id, place, one)

    def _policies(self, kind: str, account_id: str, where: str, of: Values) -> Iterator[tuple[Key, Values]]:
        """A document as a table, or the name of a file that holds it."""
        given = of.get("policies", {})
        if not isinstance(given, dict):
            self.faults.append(f"{where}.policies: names with documents are expected")
            return
        for name, document in given.items():
            text = self.load(document) if isinstance(document, str) else orjson.dumps(document).decode()
            yield Key(kind, account_id, str(of.get("name", "")), name), {"document": canonical(text)}

    # ------------------------------------------------------------ parts of a file

    def _tables(
        self, of: Any, name: str, where: str, known: Mapping[str, type], parts: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The tables of one name, each with where it stands; faults are noted."""
        given = of.get(name, []) if isinstance(of, dict) else None
        path = f"{where}.{name}" if where else name
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            self.faults.append(f"{path}: a list of tables is expected")
            return
        for number, one in enumerate(given):
            place = f"{path}[{number}]"
            self._check(place, one, known, parts)
            yield place, one

    def _check(self, place: str, one: Values, known: Mapping[str, type], parts: tuple[str, ...]) -> None:
        first = next(iter(known))
        if not one.get(first):
            self.faults.append(f"{place}: {first} is missing")
        for name, value in one.items():
            if name not in known and name not in parts:
                self.faults.append(f"{place}.{name}: not known here")
            elif name in known and type(value) is not known[name]:
                self.faults.append(f"{place}.{name}: {_WORDS[known[name]]} is expected")

    def _strings(self, of: Values, name: str, where: str) -> list[str]:
        given = of.get(name, [])
        if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
            self.faults.append(f"{where}.{name}: a list of words is expected")
            return []
        return given

    def _events(self, of: Values, where: str) -> Iterator[str]:
        for word in self._strings(of, "events", where):
            name = word.upper().replace("-", "_")
            self._one_of(f"{where}.events", name, tuple(TYPES))
            yield name

    def _one_of(self, where: str, value: str, allowed: tuple[str, ...]) -> None:
        if value not in allowed:
            self.faults.append(f"{where}: {value} is none of {', '.join(allowed)}")

    def _topic(self, account_id: str, name: str) -> str:
        """A topic of the same account by its name, or any by its ARN."""
        return name if name.startswith("arn:") else f"arn:aws:sns:{self.region}:{account_id}:{name}"

    @staticmethod
    def _but(of: Values, *names: str) -> dict[str, Any]:
        return {name: value for name, value in of.items() if name not in names}


_PARTS_OF_ACCOUNT = ("user", "topic", "configuration_set", "identity")
_WORDS = {str: "text", bool: "true or false", int: "a number", list: "a list", dict: "a table"}


def read(document: Any, region: str, load: Callable[[str], str]) -> Table:
    """The table of a file; ControlError that lists everything that is wrong with it."""
    faults: list[str] = []
    table: Table = {}
    if isinstance(document, dict):
        faults += [f"{name}: not known here" for name in document if name != "account"]
    for key, values in _Reader(region, load, faults).accounts(document):
        if key in table:
            faults.append(f"{key} stands twice")
        table[key] = values
    if faults:
        raise ControlError("invalid_file", "\n".join(["nothing was changed:", *faults]))
    return table


def canonical(document: str) -> str:
    """A policy in one form, whatever its spaces; what is no JSON stays as it is and is refused later."""
    try:
        return orjson.dumps(orjson.loads(document), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        return document
