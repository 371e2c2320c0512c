"""Long lists in pages: the token says after which item to go on, and is signed, so that nobody makes one."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from relay.api.values import APIError, Caller

_MAC_BYTES = 12
# SES: of every list.
_LONGEST = 1000


def page_size(given: Mapping[str, Any], member: str, default: int) -> int:
    """How many items a call asks for at once."""
    size = given.get(member, default)
    if not 1 <= size <= _LONGEST:
        raise APIError("InvalidParameterValue", f"{member} is from 1 to {_LONGEST}.")
    return int(size)


def page(caller: Caller, names: Sequence[str], token: str | None, size: int) -> tuple[list[str], str | None]:
    """At most ``size`` of the names that follow the token's, in their order, and the token for the rest."""
    ordered = sorted(names)
    if token:
        after = opened(caller, token)
        ordered = [name for name in ordered if name > after]
    chosen = ordered[:size]
    return chosen, sealed(caller, chosen[-1]) if len(ordered) > size and chosen else None


def _key(caller: Caller) -> bytes:
    """One account's tokens are of no use to another."""
    return caller.ground.secrets.derive("page") + caller.account_id.encode()


def sealed(caller: Caller, name: str) -> str:
    """The token to go on after ``name``."""
    mac = hmac.digest(_key(caller), name.encode(), "sha256")[:_MAC_BYTES]
    return base64.urlsafe_b64encode(mac + name.encode()).decode()


def opened(caller: Caller, token: str, fault: str = "InvalidParameterValue") -> str:
    """The name in a token; APIError if we did not make it."""
    try:
        octets = base64.b64decode(token, altchars=b"-_", validate=True)
    except ValueError:
        octets = b""
    mac, name = octets[:_MAC_BYTES], octets[_MAC_BYTES:]
    if not hmac.compare_digest(mac, hmac.digest(_key(caller), name, "sha256")[:_MAC_BYTES]):
        raise APIError(fault, "NextToken is not one that this relay gave.")
    return name.decode()
