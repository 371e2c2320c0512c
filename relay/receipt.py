"""One message as it arrives, for SMTP and HTTP alike.

A ``Receipt`` checks, counts and hashes the octets as they come, and puts aside what is too much for memory;
``finish`` hands the whole submission to the accept path and gives its answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from relay import metrics
from relay.queue.spool import CHUNK_BYTES, Spool
from relay.queue.values import Lease, StoreUnavailable
from relay.signing.dkim import SigningError, SimpleBodyHash
from relay.signing.rewrite import is_loop
from relay.submission.answer import Answer, Reason, Refused
from relay.submission.envelope import Envelope
from relay.submission.headers import HeaderBlock, HeaderError, LineCheck, parse_headers
from relay.submission.principal import Principal
from relay.submission.submission import Body, Client, Parameters, Submission

# A header block past this is an attack, not a letter; the store keeps it in one row.
_MOST_HEADER_BYTES = 256 * 1024


class Limits(Protocol):
    """What the operator fixed for a message."""

    @property
    def hostname(self) -> str: ...

    @property
    def max_recipients(self) -> int: ...

    @property
    def max_message_bytes(self) -> int: ...


class AcceptPath(Protocol):
    """What a receipt asks of the accept path; ``arriving_bytes`` is what all receipts hold in memory."""

    arriving_bytes: int

    @property
    def settings(self) -> Limits: ...

    @property
    def spool(self) -> Spool: ...

    @property
    def lease(self) -> Lease: ...

    @property
    def next_id(self) -> Callable[[], int]: ...

    async def accept(self, submission: Submission) -> Answer: ...
    def refused(self, principal: Principal, client: Client, refused: Refused) -> Refused: ...
    def failed(self, principal: Principal, message_id: int, error: Exception) -> Refused: ...


class Receipt:
    """One message as it arrives: its octets are checked, counted, hashed and, if many, put aside."""

    def __init__(
        self,
        path: AcceptPath,
        principal: Principal,
        client: Client,
        envelope: Envelope,
        parameters: Parameters,
    ) -> None:
        self._path = path
        self._principal = principal
        self._client = client
        self._envelope = envelope
        self._parameters = parameters
        self._id = path.next_id()
        self._fault: Refused | None = None
        self._head = b""
        self._header: bytes | None = None
        self._lines = LineCheck()
        self._hash = SimpleBodyHash()
        self._size_bytes = 0
        self._body_bytes = 0
        self._parts: list[bytes] = []
        self._parts_bytes = 0
        self._chunks_stored = 0
        self._held_bytes = 0

    async def write(self, piece: bytes) -> None:
        """Take the next octets; what is wrong with them is remembered until ``finish``."""
        self._size_bytes += len(piece)
        if self._fault is None and self._size_bytes > self._path.settings.max_message_bytes:
            self._fail(Refused(Reason.TOO_LARGE, "Message is too long."))
        if self._fault is not None:
            return
        self._hold(len(piece))
        if self._header is None:
            rest = self._take_header(piece)
            if rest is None:
                return
            piece = rest
        await self._take_body(piece)

    def _hold(self, size_bytes: int) -> None:
        """So much more of the message is in memory, or less."""
        self._held_bytes += size_bytes
        self._path.arriving_bytes += size_bytes

    def _fail(self, refused: Refused) -> None:
        self._fault = refused
        self._parts.clear()
        self._hold(-self._held_bytes)

    def _take_header(self, piece: bytes) -> bytes | None:
        """Collect the header block; what follows its blank line is given back."""
        searched = max(len(self._head) - 3, 0)
        self._head += piece
        if self._head.startswith(b"\r\n"):
            self._fail(Refused(Reason.SYNTAX, "Missing required header 'From'."))
            return None
        end = self._head.find(b"\r\n\r\n", searched)
        if end < 0:
            if len(self._head) > _MOST_HEADER_BYTES:
                self._fail(Refused(Reason.SYNTAX, "Header is too long."))
            return None
        self._header, rest = self._head[: end + 2], self._head[end + 4 :]
        self._head = b""
        return rest

    async def _take_body(self, piece: bytes) -> None:
        fault = self._lines.feed(piece)
        if fault:
            self._fail(Refused(Reason.SYNTAX, fault))
            return
        self._hash.update(piece)
        self._body_bytes += len(piece)
        self._parts.append(piece)
        self._parts_bytes += len(piece)
        while self._parts_bytes > CHUNK_BYTES and self._fault is None:
            await self._spill()

    async def _spill(self) -> None:
        """Put one chunk into the store, so that a large body is never whole in memory."""
        joined = b"".join(self._parts)
        chunk, rest = joined[:CHUNK_BYTES], joined[CHUNK_BYTES:]
        self._parts, self._parts_bytes = ([rest] if rest else []), len(rest)
        await self._store(chunk)
        if self._fault is None:
            self._hold(-len(chunk))

    async def _store(self, chunk: bytes) -> None:
        path = self._path
        try:
            await path.spool.store_chunk(self._id, self._chunks_stored, chunk, path.lease)
            self._chunks_stored += 1
        except StoreUnavailable as error:
            self._fail(path.failed(self._principal, self._id, error))

    async def finish(self) -> Answer:
        """The answer to the whole message; never raises for trouble with the store or a key."""
        started = time.perf_counter()
        answer: Answer
        try:
            answer = await self._answer()
        except (StoreUnavailable, SigningError, TimeoutError) as error:
            answer = self._path.failed(self._principal, self._id, error)
        finally:
            self._hold(-self._held_bytes)
        if isinstance(answer, Refused):
            metrics.REFUSED.labels(answer.reason.value).inc()
            self.abandon()
        metrics.ACCEPT_SECONDS.observe(time.perf_counter() - started)
        return answer

    async def _answer(self) -> Answer:
        fault = self._fault or self._envelope_fault() or self._ending_fault()
        if fault is not None:
            return self._path.refused(self._principal, self._client, fault)
        try:
            headers = parse_headers(self._header or b"")
        except HeaderError as error:
            return self._refused(Refused(Reason.SYNTAX, error.reason))
        if is_loop(headers, self._path.settings.hostname):
            return self._refused(Refused(Reason.LOOP, "Too many hops: this message loops"))
        body = await self._finish_body()
        if self._fault is not None:
            return self._fault
        return await self._path.accept(self._submission(headers, body))

    def _refused(self, refused: Refused) -> Refused:
        return self._path.refused(self._principal, self._client, refused)

    def _envelope_fault(self) -> Refused | None:
        limit = self._path.settings.max_recipients
        if len(self._envelope.recipients) > limit:
            return Refused(Reason.TOO_MANY_RECIPIENTS, f"Recipient count exceeds {limit}.")
        return None

    def _ending_fault(self) -> Refused | None:
        """A message without a blank line is all header (RFC 5322 section 3.5: the body is optional)."""
        if self._header is None:
            self._header, self._head = self._head, b""
        if not self._header:
            return Refused(Reason.SYNTAX, "Missing required header 'From'.")
        fault = self._lines.end()
        return Refused(Reason.SYNTAX, fault) if fault else None

    async def _finish_body(self) -> Body:
        digest = self._hash.digest()
        if not self._chunks_stored:
            return Body(self._body_bytes, digest, (b"".join(self._parts),) if self._parts_bytes else ())
        if self._parts_bytes:
            await self._store(b"".join(self._parts))
            self._parts, self._parts_bytes = [], 0
        return Body(self._body_bytes, digest, None)

    def _submission(self, headers: HeaderBlock, body: Body) -> Submission:
        return Submission(
            id=self._id,
            received_at=time.time_ns() // 1000,
            principal=self._principal,
            client=self._client,
            envelope=self._envelope,
            headers=headers,
            body=body,
            parameters=self._parameters,
        )

    def abandon(self) -> None:
        """The message will not come: what was put aside is dropped."""
        self._parts.clear()
        self._hold(-self._held_bytes)
        if self._chunks_stored:
            self._chunks_stored = 0
            self._path.spool.discard(self._id)
