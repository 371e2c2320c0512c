"""Large bodies: their long base64 is taken out and decoded piece by piece, so that nobody waits for it.

What is decoded at once holds up everybody else of the process: a JSON or form reader, and base64 of tens
of megabytes.  So the values that may be long, a raw message and attachments, are cut out of the body
first; the rest is small and read as ever.  A value that is not plain base64 stays where it was.
"""

from __future__ import annotations

import asyncio
import binascii
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LARGE_BYTES = 256 * 1024
_PIECE_BYTES = 128 * 1024  # a multiple of 4
_LONG_BYTES = 64 * 1024
_OVERLAP_BYTES = 256

# In a JSON text no string holds an unescaped quotation mark, so this is where such a member begins.
_begins_in_json = re.compile(rb'"(?:Raw"\s*:\s*\{\s*"Data|RawContent)"\s*:\s*"').search
_begins_in_form = re.compile(rb"(?:\A|&)RawMessage\.Data=").search
_QUOTED = ((b"%2B", b"+"), (b"%2F", b"/"), (b"%3D", b"="), (b"%2b", b"+"), (b"%2f", b"/"), (b"%3d", b"="))

Octets = bytes | bytearray
Begins = Callable[[Octets, int, int], re.Match[bytes] | None]


class Decoded(str):
    """What stands in the place of a value that was taken out, and the octets it was."""

    octets: Octets


@dataclass(frozen=True, slots=True)
class Slimmed:
    """A body without its long values, and these by the words in their places."""

    body: bytes
    taken: dict[str, Decoded]

    def restored(self, value: dict[str, Any]) -> dict[str, Any]:
        """What was read from ``body``, with what was taken out."""
        return {name: self._restored(one) for name, one in value.items()}

    def _restored(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.taken.get(value, value)
        if isinstance(value, dict):
            return self.restored(value)
        return [self._restored(one) for one in value] if isinstance(value, list) else value


async def slimmed_json(body: Octets) -> Slimmed:
    return await _slimmed(body, _begins_in_json, b'"', bytes)


async def slimmed_form(body: Octets) -> Slimmed:
    return await _slimmed(body, _begins_in_form, b"&", _unquoted)


async def _slimmed(body: Octets, begins: Begins, mark: bytes, unquote: Callable[[Octets], bytes]) -> Slimmed:
    kept: list[Octets] = []
    taken: dict[str, Decoded] = {}
    copied = searched = 0
    while searched < len(body):
        # The longest beginning fits into the overlap, unless somebody pads it: then it is not taken out.
        found = begins(body, searched, searched + _PIECE_BYTES + _OVERLAP_BYTES)
        if found is None:
            searched += _PIECE_BYTES
            await asyncio.sleep(0)
            continue
        start = searched = found.end()
        if body.find(mark, start, start + _LONG_BYTES) >= 0:
            continue
        value = await _decoded(body, start, mark, unquote)
        if value is None:
            continue
        octets, searched = value
        word = Decoded(uuid.uuid4().hex)
        word.octets = octets
        taken[word] = word
        kept += [body[copied:start], word.encode()]
        copied = searched
    kept.append(body[copied:])
    return Slimmed(b"".join(kept), taken)


async def _decoded(
    body: Octets, start: int, mark: bytes, unquote: Callable[[Octets], bytes]
) -> tuple[Octets, int] | None:
    """The octets and where the value ends; None if it is not base64 as everybody writes it."""
    found = bytearray()
    rest = b""
    while True:
        end = body.find(mark, start, start + _PIECE_BYTES)
        is_last = end >= 0 or start + _PIECE_BYTES >= len(body)
        stop = end if end >= 0 else min(_unsplit(body, start + _PIECE_BYTES), len(body))
        piece = rest + unquote(body[start:stop])
        whole = len(piece) if is_last else len(piece) // 4 * 4
        rest = piece[whole:]
        if not is_last and b"=" in piece[:whole]:
            return None
        try:
            found += binascii.a2b_base64(piece[:whole], strict_mode=True)
        except binascii.Error:
            return None
        if is_last:
            return found, stop
        start = stop
        await asyncio.sleep(0)


def _unsplit(body: Octets, stop: int) -> int:
    """Where to cut so that no ``%2B`` is cut in two."""
    return (
        stop - 1 if body[stop - 1 : stop] == b"%" else stop - 2 if body[stop - 2 : stop - 1] == b"%" else stop
    )


def _unquoted(piece: Octets) -> bytes:
    """As clients write base64 in a form; what else is quoted is no base64 then."""
    for quoted, octet in _QUOTED:
        piece = piece.replace(quoted, octet)
    return bytes(piece)
