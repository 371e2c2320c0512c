"""DNS from a zone that a test writes down; what it does not name does not exist."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from relay.resolver import MX, Absent, Answer, Found, Unavailable


@dataclass
class Zone:
    """``mail`` maps a domain to its MX records, ``hosts`` a name to its addresses; an answer stands for
    itself."""

    mail: dict[str, list[tuple[int, str]] | Answer[MX]] = field(default_factory=dict)
    hosts: dict[str, list[str] | Answer[str]] = field(default_factory=dict)
    texts: dict[str, list[str] | Answer[str]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    async def mx(self, domain: str) -> Answer[MX]:
        self.asked[f"MX {domain}"] += 1
        found = self.mail.get(domain)
        if isinstance(found, list):
            return Found(tuple(MX(*record) for record in found))
        return found or Absent(no_such_name=domain not in self.hosts)

    async def addresses(self, host: str) -> Answer[str]:
        return _answer(self.hosts.get(host))

    async def txt(self, name: str) -> Answer[str]:
        self.asked[f"TXT {name}"] += 1
        return _answer(self.texts.get(name))

    async def names(self, address: str) -> Answer[str]:
        return Unavailable("no reverse zone")


def _answer(found: list[str] | Answer[str] | None) -> Answer[str]:
    if isinstance(found, list):
        return Found(tuple(found)) if found else Absent()
    return found or Absent(no_such_name=True)
