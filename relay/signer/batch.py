"""The signer of one event loop: who needs a signature waits for others that need one.

Eight RSA signatures at a time cost less than three made singly, if there is a library for it
(``multibuffer``).  Eight are made as soon as eight messages wait; fewer, when the loop brought no more in
its last turns.  A loop that has nothing else to do makes these in less than 0.1 ms, so nobody waits for a
message that may not come.  Without the library nobody waits at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from relay import metrics
from relay.maillog import Log
from relay.signer.multibuffer import LANES, Lane, MultiBuffer, lane_of
from relay.signing.dkim import SigningKey, Unsigned, signature_of, unsigned
from relay.submission.headers import HeaderBlock

# Eight at a time take 0.75 ms, one by itself 0.3 ms.
_PAYS_FROM = 3
# What came in the same moment is read within so many turns.
_QUIET_TURNS = 4

# What is made is None if everybody has to sign for himself.
_Waiting = tuple[Lane, Unsigned, asyncio.Future[bytes | None]]


class Signer:
    """DKIM-Signature fields for the messages of one event loop."""

    def __init__(self, library: MultiBuffer | None, log: Log) -> None:
        self._library = library
        self._log = log
        self._lanes: WeakKeyDictionary[SigningKey, Lane | None] = WeakKeyDictionary()
        self._waiting: list[_Waiting] = []
        self._looked_at = 0  # so many waited at the end of the loop's last turn
        self._quiet_turns = 0
        self._is_looking = False

    async def sign(
        self, headers: HeaderBlock, body_digest: bytes, keys: Sequence[SigningKey], at: int
    ) -> bytes:
        """The fields with their CRLFs, one for each key, as ``unsigned`` says; SigningError as there."""
        return b"".join(
            [one.complete(await self._signature(one)) for one in unsigned(headers, body_digest, keys, at)]
        )

    async def _signature(self, one: Unsigned) -> bytes:
        lane = self._lane(one.key) if self._library is not None else None
        if lane is None:
            return _singly(one)
        made: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((lane, one, made))
        if len(self._waiting) == LANES:
            self._sign_waiting()
        else:
            self._look_later()
        return await made or _singly(one)

    def _lane(self, key: SigningKey) -> Lane | None:
        try:
            return self._lanes[key]
        except KeyError:
            lane = self._lanes[key] = lane_of(key.private_key)
            return lane

    def _look_later(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            asyncio.get_running_loop().call_soon(self._look)

    def _look(self) -> None:
        """At the end of a turn: sign for those who wait, unless more are coming."""
        self._is_looking = False
        has_grown, self._looked_at = len(self._waiting) > self._looked_at, len(self._waiting)
        self._quiet_turns = 0 if has_grown else self._quiet_turns + 1
        if self._quiet_turns >= _QUIET_TURNS:
            self._sign_waiting()
        elif self._waiting:
            self._look_later()

    def _sign_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._looked_at = self._quiet_turns = 0
        signatures: Sequence[bytes | None] = [None] * len(waiting)
        try:
            signatures = self._together(waiting) or signatures
        finally:
            for (_, _, made), signature in zip(waiting, signatures, strict=True):
                if not made.done():  # else its client has gone
                    made.set_result(signature)

    def _together(self, waiting: Sequence[_Waiting]) -> Sequence[bytes] | None:
        if self._library is None or len(waiting) < _PAYS_FROM:
            return None
        made = self._library.sign([(lane, one.digest) for lane, one, _ in waiting])
        if made is None:
            self._give_up_library()
        else:
            metrics.SIGNED_TOGETHER.inc(len(made))
        return made

    def _give_up_library(self) -> None:
        """Whatever it was, memory or processor: OpenSSL signs from now on, one at a time."""
        self._library = None
        self._log(
            "signing-slower",
            level="error",
            error="libcrypto_mb made a wrong signature; nothing was sent with it, and it is not used again "
            "until the next start: check this machine's memory and processor",
        )


def _singly(one: Unsigned) -> bytes:
    metrics.SIGNED_SINGLY.inc()
    return signature_of(one)
