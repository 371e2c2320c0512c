"""Where mail goes: one smart host for all of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class TLSMode(StrEnum):
    """How much TLS to the next hop; ``REQUIRE`` and ``VERIFY`` never fall back to plaintext."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"
    REQUIRE = "require"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class Destination:
    """A next hop.  TLS begins at once on port 465 (RFC 8314), elsewhere by STARTTLS."""

    host: str
    port: int
    tls: TLSMode = TLSMode.OPPORTUNISTIC
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def implicit_tls(self) -> bool:
        return self.port == 465

    @property
    def may_be_plaintext(self) -> bool:
        """Opportunistic: plaintext beats no mail.  A password never goes out in it unless told so."""
        return self.tls is TLSMode.NONE or (self.tls is TLSMode.OPPORTUNISTIC and not self.user)
