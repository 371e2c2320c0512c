"""AUTH PLAIN (RFC 4616) and AUTH LOGIN: octets in, a user name and password out.  No I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Generator
from dataclasses import dataclass, field

MECHANISMS = ("PLAIN", "LOGIN")
_USERNAME, _PASSWORD = "VXNlcm5hbWU6", "UGFzc3dvcmQ6"  # "Username:", "Password:"


class SASLError(Exception):
    """The exchange cannot go on: not base64, or the client cancelled."""


class Cancelled(SASLError):
    """The client said ``*`` (RFC 4954 section 4)."""


@dataclass(frozen=True, slots=True)
class Login:
    """What the client said; ``is_foreign`` if it wants to act as somebody else, which nobody may."""

    username: str
    password: bytes = field(repr=False)
    is_foreign: bool = False


# Yields challenges in base64, is sent the client's lines, and returns the login.
Exchange = Generator[str, bytes, Login]


def exchange(mechanism: str, initial: bytes | None) -> Exchange:
    """The dialogue of a mechanism; ``initial`` is the initial response (RFC 4954), if there was one."""
    return _plain(initial) if mechanism == "PLAIN" else _login(initial)


def _plain(initial: bytes | None) -> Exchange:
    response = (yield "") if initial is None else initial
    parts = _decoded(response).split(b"\0")
    if len(parts) != 3:
        raise SASLError
    authorization, username, password = parts
    return Login(_name(username), password, is_foreign=authorization not in (b"", username))


def _login(initial: bytes | None) -> Exchange:
    username = _name(_decoded((yield _USERNAME) if initial is None else initial))
    password = _decoded((yield _PASSWORD))
    return Login(username, password)


def _decoded(response: bytes) -> bytes:
    if response == b"*":
        raise Cancelled
    if response == b"=":  # RFC 4954 section 4: an empty initial response
        return b""
    try:
        return base64.b64decode(response, validate=True)
    except binascii.Error:
        raise SASLError from None


def _name(octets: bytes) -> str:
    return octets.decode("ascii", "replace")
