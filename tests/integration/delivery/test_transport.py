"""One connection to a next hop, over real sockets: opened, used again, broken, closed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trustme

from relay.delivery import transport
from relay.delivery.dialogue import Ended, Transaction
from relay.delivery.route import Destination, TLSMode
from relay.delivery.transport import Connection, NoConnection, TimeLimits, dial
from relay.outcome.outcome import Failure, Phase, Reply
from tests.support.scripted_peer import STALL, ScriptedPeer

LIMITS = TimeLimits(connect=2, command=2, data=2, dot=2)
SHORT = TimeLimits(connect=0.2, command=0.2, data=0.2, dot=0.2)
HEAD = b"From: a@owner.example\r\n\r\n"
SECONDS = 10.0
Body = tuple[bytes, ...] | AsyncIterator[bytes]


@asynccontextmanager
async def connected(
    peer: ScriptedPeer, tls: TLSMode = TLSMode.NONE, limits: TimeLimits = LIMITS, **destination: str
) -> AsyncIterator[Connection]:
    connection = await dial(destination_of(peer.port, tls, **destination), "relay.example", limits)
    try:
        yield connection
    finally:
        connection.close()


def destination_of(port: int, tls: TLSMode = TLSMode.NONE, **fields: str) -> Destination:
    return Destination(fields.pop("host", "127.0.0.1"), port, tls, **fields)


async def refused(port: int, tls: TLSMode = TLSMode.NONE, limits: TimeLimits = LIMITS) -> NoConnection:
    with pytest.raises(NoConnection) as caught:
        await dial(destination_of(port, tls), "relay.example", limits)
    return caught.value


async def send(connection: Connection, *to: str, body: Body = (b"Hello.\r\n",)) -> list[Ended | None]:
    transaction = Transaction("r@owner.example", to or ("a@x.example",), 100, connection.offer)
    await connection.send(transaction, HEAD, body)
    return transaction.results


async def pieces(*octets: bytes) -> AsyncIterator[bytes]:
    for piece in octets:
        yield piece


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not holds():
            await asyncio.sleep(0.005)


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A server on the loopback interface for what no scripted reply can say; its port."""

    sessions = set()  # the loop itself holds its tasks only weakly

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sessions.add(asyncio.current_task())
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(session, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def server_context(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


# ---------------------------------------------------------------- opening


async def test_offer_is_what_the_next_hop_said():
    async with ScriptedPeer(offers=("PIPELINING", "SIZE 1000")).running() as peer, connected(peer) as one:
        assert (one.offer.pipelining, one.offer.size, one.offer.eight_bit_mime) == (True, True, False)
        assert (one.host, one.tls) == (f"127.0.0.1[127.0.0.1]:{peer.port}", None)
        assert peer.commands == ["EHLO relay.example"]


async def test_offer_in_plaintext_is_forgotten_under_tls():
    """What was said before the handshake may be anybody's."""
    seen: list[bytes] = []
    context = server_context(trustme.CA())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        await reader.readline()
        writer.write(b"250-peer\r\n250-8BITMIME\r\n250-PIPELINING\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 Go\r\n")
        await writer.drain()
        await writer.start_tls(context)
        seen.append(await reader.readline())
        writer.write(b"250-peer\r\n250 SIZE 5\r\n")
        await reader.read()

    async with listening(serve) as port:
        one = await dial(destination_of(port, TLSMode.REQUIRE), "relay.example", LIMITS)
        assert (one.offer.pipelining, one.offer.size, one.offer.eight_bit_mime) == (False, True, False)
        assert one.tls == "TLSv1.3"
        assert seen == [b"EHLO relay.example\r\n"]
        one.close()


async def test_banner_that_does_not_come_is_given_up_on():
    async with ScriptedPeer(replies={"BANNER": STALL}).running() as peer:
        error = await refused(peer.port, limits=SHORT)
    assert error.phase is Phase.CONNECT
    assert isinstance(error.answer, Failure)


async def test_handshake_that_does_not_end_is_given_up_on():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        await reader.readline()
        writer.write(b"250-peer\r\n250 STARTTLS\r\n")
        await reader.readline()
        writer.write(b"220 Go\r\n")
        await reader.read()  # and no ServerHello

    async with listening(serve) as port:
        error = await refused(port, TLSMode.REQUIRE, SHORT)
    assert error.phase is Phase.TLS
    assert "not offered" not in str(error.answer)


@pytest.mark.parametrize("tls", [TLSMode.REQUIRE, TLSMode.VERIFY])
async def test_stripped_starttls_sends_nothing_more(tls: TLSMode):
    async with ScriptedPeer().running() as peer:
        error = await refused(peer.port, tls)
        assert error.answer == Failure("STARTTLS is required and not offered")
        assert peer.commands == ["EHLO relay.example"]


async def test_opportunistic_dials_again_in_plaintext_when_the_handshake_breaks():
    commands: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        commands.append(await reader.readline())
        writer.write(b"250-peer\r\n250 STARTTLS\r\n")
        commands.append(await reader.readline())
        writer.write(b"220 Go\r\n")
        await reader.read(1)
        writer.write(b"this is no TLS\r\n" * 4)

    async with listening(serve) as port:
        one = await dial(destination_of(port, TLSMode.OPPORTUNISTIC), "relay.example", LIMITS)
        assert one.tls is None
        assert commands == [b"EHLO relay.example\r\n", b"STARTTLS\r\n", b"EHLO relay.example\r\n"]
        one.close()


async def test_what_stands_behind_the_220_in_plaintext_is_no_reply_to_anything():
    """RFC 3207 section 4.2: whoever injected it must not speak inside the session."""
    peer = ScriptedPeer(
        offers=(),
        context=server_context(trustme.CA()),
        after_starttls=b"250-evil\r\n250-PIPELINING\r\n250 8BITMIME\r\n",
    )
    async with peer.running(), connected(peer, TLSMode.REQUIRE) as one:
        assert (one.offer.pipelining, one.offer.eight_bit_mime) == (False, False)
        assert await send(one) == [Ended(Reply(250, None, "Ok"), Phase.DOT)]


async def test_old_protocol_versions_are_refused(recwarn: pytest.WarningsRecorder):
    context = server_context(trustme.CA())
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    recwarn.clear()  # the standard library warns of what this test is about
    async with ScriptedPeer(context=context).running() as peer:
        assert (await refused(peer.port, TLSMode.REQUIRE)).phase is Phase.TLS


class _AtOnce(Destination):
    """Stands for port 465, which tests may not open."""

    __slots__ = ()
    implicit_tls = True  # type: ignore[assignment]


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    real = transport._context
    monkeypatch.setattr(
        transport, "_context", lambda tls, ca: context if tls is TLSMode.VERIFY else real(tls, ca)
    )
    return authority


@pytest.mark.parametrize("tls", [TLSMode.OPPORTUNISTIC, TLSMode.REQUIRE, TLSMode.VERIFY])
async def test_tls_from_the_first_octet(trusted: trustme.CA, tls: TLSMode):
    peer = ScriptedPeer(context=server_context(trusted), implicit_tls=True)
    async with peer.running():
        one = await dial(_AtOnce("localhost", peer.port, tls), "relay.example", LIMITS)
        assert one.tls == "TLSv1.3"
        assert await send(one) == [Ended(Reply(250, None, "Ok"), Phase.DOT)]
        assert "STARTTLS" not in peer.commands
        one.close()


async def test_tls_from_the_first_octet_never_falls_back():
    async with ScriptedPeer().running() as peer:
        where = _AtOnce("localhost", peer.port, TLSMode.OPPORTUNISTIC)
        with pytest.raises(NoConnection) as caught:
            await dial(where, "relay.example", LIMITS)
    assert caught.value.phase is Phase.TLS
    assert not any(command.startswith("EHLO") for command in peer.commands)


async def test_login_that_is_not_offered_is_no_session():
    async with ScriptedPeer().running() as peer:
        where = destination_of(peer.port, user="relay", password="secret")
        with pytest.raises(NoConnection) as caught:
            await dial(where, "relay.example", LIMITS)
    assert caught.value.phase is Phase.AUTH
    assert "secret" not in repr(where)
    assert "secret" not in str(caught.value)


# ---------------------------------------------------------------- what a stranger says before MAIL


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param({"BANNER": "554 5.7.1 no\xff\x00\x1b[2J"}, id="greeting"),
        pytest.param({"EHLO": "550 5.7.1 no\xff\x00\x1b[2J"}, id="ehlo"),
        pytest.param({"BANNER": "hello\xff\x00\x1b[2J"}, id="greeting-that-is-no-reply"),
    ],
)
async def test_words_of_a_refusal_are_printable_ascii(replies: dict[str, str]):
    """They go into the store, the log and the report: no database takes a NUL or half a character."""
    async with ScriptedPeer(replies=replies).running() as peer:
        answer = (await refused(peer.port)).answer
    text = answer.text if isinstance(answer, Reply) else answer.reason
    assert text.isascii()
    assert text.isprintable()


# ---------------------------------------------------------------- transactions one after another


async def test_connection_is_used_again_and_left_with_quit():
    async with ScriptedPeer().running() as peer:
        async with connected(peer) as one:
            for _ in range(3):
                assert await send(one) == [Ended(Reply(250, None, "Ok"), Phase.DOT)]
            assert one.sent == 3
        await until(lambda: peer.commands[-1] == "QUIT")
        assert peer.sessions == 1
        assert "RSET" not in peer.commands
        assert len(peer.messages) == 3


@pytest.mark.parametrize("offers", [("PIPELINING",), ()], ids=["pipelined", "step-by-step"])
async def test_transaction_left_open_is_reset_before_the_next(offers: tuple[str, ...]):
    replies = {"MAIL": ["450 later", "250 Ok"], "DATA": ["503 no", "354 Go"]}
    if not offers:
        replies["DATA"] = ["354 Go"]
    async with ScriptedPeer(offers=offers, replies=replies).running() as peer, connected(peer) as one:
        assert await send(one) == [Ended(Reply(450, None, "later"), Phase.MAIL)]
        assert one.is_usable
        assert await send(one) == [Ended(Reply(250, None, "Ok"), Phase.DOT)]
        assert await send(one) == [Ended(Reply(250, None, "Ok"), Phase.DOT)]
        assert peer.commands.count("RSET") == 1
        assert peer.sessions == 1


async def test_421_while_nothing_is_under_way_ends_the_session():
    """A next hop that leaves between two messages: the second must not be lost in the old session."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        await reader.readline()
        writer.write(b"250 peer\r\n")
        await writer.drain()
        await go_on.wait()
        writer.write(b"421 4.3.2 closing\r\n")
        await reader.read()

    go_on = asyncio.Event()
    async with listening(serve) as port:
        one = await dial(destination_of(port), "relay.example", LIMITS)
        assert one.is_usable
        go_on.set()
        await until(lambda: not one.is_usable)
        one.close()


async def test_close_while_nothing_is_under_way_ends_the_session():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        await reader.readline()
        writer.write(b"250 peer\r\n")

    async with listening(serve) as port:
        one = await dial(destination_of(port), "relay.example", LIMITS)
        await until(lambda: not one.is_usable)
        assert isinstance((await send(one))[0].answer, Failure)  # type: ignore[union-attr]


async def test_421_in_a_transaction_ends_the_session():
    async with ScriptedPeer(replies={"RCPT": "421 4.3.2 closing"}).running() as peer, connected(peer) as one:
        assert await send(one) == [Ended(Reply(421, "4.3.2", "closing"), Phase.RCPT)]
        assert not one.is_usable


async def test_reply_before_garbage_counts():
    """The message was taken: to defer it would send it twice."""
    replies = {"DOT": "250 2.0.0 taken\nwhat is this"}
    async with ScriptedPeer(replies=replies).running() as peer, connected(peer) as one:
        assert await send(one) == [Ended(Reply(250, "2.0.0", "taken"), Phase.DOT)]
        await until(lambda: not one.is_usable)


# ---------------------------------------------------------------- the octets of a message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param((b"a\r\n", b"b\r\n"), id="at-line-ends"),
        pytest.param((b"a\r", b"\nb\r\n"), id="between-cr-and-lf"),
        pytest.param((b"a\r\n", b".\r\n", b".b\r\n"), id="before-dots"),
        pytest.param((b"a", b".b\r\n"), id="dot-within-a-line"),
        pytest.param((b"a\r", b"\n.", b"\r\n"), id="lone-dot-in-pieces"),
        pytest.param((b"a\r\n", b"\r", b"\n", b".c\r\n"), id="a-cr-alone"),
        pytest.param((b"a\r\n", b"", b".\r\n", b""), id="empty-pieces"),
        pytest.param((), id="no-body"),
        pytest.param((b"",), id="empty-body"),
    ],
)
async def test_octets_arrive_the_same_from_memory_and_from_the_store(body: tuple[bytes, ...]):
    async with ScriptedPeer().running() as peer, connected(peer) as one:
        await send(one, body=body)
        await send(one, body=pieces(*body))
        whole, streamed = (_unstuffed(message) for message in peer.messages)
        assert whole == streamed == HEAD + b"".join(body)


async def test_missing_line_end_at_the_end_is_added_to_end_the_data():
    async with ScriptedPeer().running() as peer, connected(peer) as one:
        await send(one, body=(b"no line end",))
        await send(one, body=pieces(b"no line ", b"end"))
        assert peer.messages == [HEAD + b"no line end\r\n"] * 2


def _unstuffed(message: bytes) -> bytes:
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in message.split(b"\r\n"))


@pytest.mark.parametrize(
    "body",
    [(b"a\nb\r\n",), (b"a\r", b"b\r\n"), (b"a\r\n", b"\n"), (b"a\r",)],
    ids=["lf", "cr", "lf-piece", "end"],
)
async def test_stray_line_end_from_the_store_never_ends_the_data(body: tuple[bytes, ...]):
    async with ScriptedPeer().running() as peer, connected(peer) as one:
        [ended] = await send(one, body=pieces(*body))
        assert ended is not None
        assert isinstance(ended.answer, Failure)
        assert ended.phase is Phase.DOT
        assert not one.is_usable
    assert peer.messages == []


async def test_store_that_fails_in_the_middle_ends_the_session_and_says_so():
    async def broken() -> AsyncIterator[bytes]:
        yield b"first\r\n"
        raise LookupError("the rest is gone")

    async with ScriptedPeer().running() as peer, connected(peer) as one:
        with pytest.raises(LookupError):
            await send(one, body=broken())
        assert not one.is_usable
    assert peer.messages == []


async def test_cancelled_attempt_leaves_no_half_message_behind():
    async def endless() -> AsyncIterator[bytes]:
        yield b"first\r\n"
        started.set()
        await asyncio.Event().wait()

    started = asyncio.Event()
    async with ScriptedPeer().running() as peer, connected(peer) as one:
        attempt = asyncio.ensure_future(send(one, body=endless()))
        await asyncio.wait_for(started.wait(), SECONDS)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert not one.is_usable
    assert peer.messages == []


# ---------------------------------------------------------------- a next hop that stops


async def _refuses_to_read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes commands up to DATA, then reads nothing more."""
    writer.write(b"220 peer\r\n")
    for reply in (b"250 peer", b"250 Ok", b"250 Ok", b"354 Go"):
        await reader.readline()
        writer.write(reply + b"\r\n")
    await writer.drain()
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


LARGE = b"x" * 998 + b"\r\n"


async def test_next_hop_that_stops_reading_defers():
    async with listening(_refuses_to_read) as port:
        one = await dial(destination_of(port), "relay.example", replace(LIMITS, data=0.3))
        body = pieces(*[LARGE * 250] * 400)
        [ended] = await asyncio.wait_for(send(one, body=body), SECONDS)
        assert ended == Ended(Failure("timed out waiting for the next hop"), Phase.DOT)
        assert not one.is_usable
        one.close()


@pytest.mark.parametrize("in_memory", [True, False], ids=["from-memory", "from-the-store"])
async def test_connection_given_up_on_is_gone_though_nobody_reads(in_memory: bool):
    """Otherwise what waits to be written keeps socket and message for as long as the other side likes."""
    async with listening(_refuses_to_read) as port:
        one = await dial(destination_of(port), "relay.example", replace(LIMITS, data=0.3, dot=0.3))
        parts = [LARGE * 250] * 64
        await asyncio.wait_for(send(one, body=tuple(parts) if in_memory else pieces(*parts)), SECONDS)
        async with asyncio.timeout(2):
            while not one._wire.is_lost:
                await asyncio.sleep(0.01)


async def test_next_hop_that_closes_in_the_data_defers():
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        for reply in (b"250 peer", b"250 Ok", b"250 Ok", b"354 Go"):
            await reader.readline()
            writer.write(reply + b"\r\n")
        await reader.readexactly(100_000)
        writer.transport.abort()

    async with listening(serve) as port:
        one = await dial(destination_of(port), "relay.example", LIMITS)
        [ended] = await asyncio.wait_for(send(one, body=pieces(*[LARGE * 250] * 100)), SECONDS)
        assert ended is not None
        assert isinstance(ended.answer, Failure)
        assert ended.phase is Phase.DOT
        assert not one.is_usable


async def test_refusal_in_the_middle_of_the_data_is_the_answer():
    """A next hop may say why before it closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        for reply in (b"250 peer", b"250 Ok", b"250 Ok", b"354 Go"):
            await reader.readline()
            writer.write(reply + b"\r\n")
        await reader.readexactly(1_000)
        writer.write(b"552 5.3.4 too large\r\n")
        while await reader.read(65_536):
            pass

    async with listening(serve) as port:
        one = await dial(destination_of(port), "relay.example", LIMITS)
        results = await asyncio.wait_for(send(one, body=pieces(*[LARGE * 250] * 10)), SECONDS)
        assert results == [Ended(Reply(552, "5.3.4", "too large"), Phase.DOT)]
        one.close()
