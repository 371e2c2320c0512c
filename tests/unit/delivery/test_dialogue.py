"""The client's side of SMTP: replies in, commands out, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.dialogue import (
    Ended,
    Next,
    NotSMTP,
    Offer,
    ReplyReader,
    Transaction,
    UncleanMessage,
    make_reply,
    stuff,
)
from relay.outcome.outcome import Failure, Phase, Reply

STEP_BY_STEP = Offer()
PIPELINING = Offer(pipelining=True)
OFFERS = pytest.mark.parametrize("offer", [STEP_BY_STEP, PIPELINING], ids=["step-by-step", "pipelined"])
A, B, C = "a@x.example", "b@x.example", "c@y.example"
OK, GO_ON = Reply(250, None, "Ok"), Reply(354, None, "Go on")
NO_USER = Reply(550, "5.1.1", "No such user")
LATER = Reply(451, "4.3.0", "Later")
LEAVING = Reply(421, "4.3.2", "Leaving")


# ---------------------------------------------------------------- replies


def read(*pieces: bytes) -> list[Reply]:
    reader = ReplyReader()
    return [reply for piece in pieces for reply in reader.feed(piece)]


@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        pytest.param(b"250 Ok\r\n", Reply(250, None, "Ok"), id="plain"),
        pytest.param(b"250 2.0.0 Ok\r\n", Reply(250, "2.0.0", "Ok"), id="enhanced"),
        pytest.param(b"250\r\n", Reply(250, None, ""), id="code-alone"),
        pytest.param(b"250 \r\n", Reply(250, None, ""), id="code-and-blank"),
        pytest.param(b"250 2.0.0\r\n", Reply(250, "2.0.0", ""), id="enhanced-alone"),
        pytest.param(b"250 2.0.0  Ok\r\n", Reply(250, "2.0.0", "Ok"), id="two-blanks"),
        pytest.param(b"250 Ok\n", Reply(250, None, "Ok"), id="bare-lf"),
        pytest.param(b"250-one\r\n250-two\r\n250 three\r\n", Reply(250, None, "one two three"), id="lines"),
        pytest.param(b"250-\r\n250 last\r\n", Reply(250, None, "last"), id="empty-line"),
        pytest.param(b"250-one\r\n250\r\n", Reply(250, None, "one"), id="last-line-code-alone"),
        pytest.param(
            b"550-5.1.1 No such user\r\n550 5.1.1 here\r\n",
            Reply(550, "5.1.1", "No such user here"),
            id="enhanced-on-each-line",
        ),
        pytest.param(
            b"550-5.1.1 No such user\r\n550 here\r\n",
            Reply(550, "5.1.1", "No such user here"),
            id="enhanced-on-the-first-line",
        ),
        pytest.param(b"550 5.1.1: no\r\n", Reply(550, None, "5.1.1: no"), id="no-blank-after-enhanced"),
        pytest.param(b"550 1.2.3 no\r\n", Reply(550, None, "1.2.3 no"), id="enhanced-of-no-class"),
        pytest.param(b"250 a\tb\r\n", Reply(250, None, "a b"), id="tab"),
        pytest.param(b"250 a\x00\x1b\x7fb\r\n", Reply(250, None, "a?b"), id="controls"),
        pytest.param("550 für dich\r\n".encode(), Reply(550, None, "f?r dich"), id="utf-8"),
        pytest.param(b"550 \xff\xfe\r\n", Reply(550, None, "?"), id="not-utf-8"),
        pytest.param(b"250 a\rb\r\n", Reply(250, None, "a?b"), id="bare-cr"),
    ],
)
def test_reply_is_read(octets: bytes, reply: Reply) -> None:
    assert read(octets) == [reply]


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n", id="http"),
        pytest.param(b"\r\n", id="empty-line"),
        pytest.param(b"25\r\n", id="two-digits"),
        pytest.param(b"2500 Ok\r\n", id="four-digits"),
        pytest.param(b"150 Ok\r\n", id="class-one"),
        pytest.param(b"650 Ok\r\n", id="class-six"),
        pytest.param(b"999 Ok\r\n", id="class-nine"),
        pytest.param(b"250:Ok\r\n", id="colon"),
        pytest.param(b"\x00\r\n", id="nul"),
        pytest.param(b" 250 Ok\r\n", id="blank-before"),
        pytest.param(b"250_Ok\r\n", id="no-separator"),
        pytest.param("２５０ Ok\r\n".encode(), id="wide-digits"),
        pytest.param(b"250-one\r\nhello\r\n", id="garbage-within"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\n", id="tls"),
        pytest.param(b"SSH-2.0-server\r\n", id="ssh"),
        pytest.param(b"250 " + b"x" * 5_000 + b"\r\n", id="long-line"),
        pytest.param(b"x" * 5_000, id="line-without-end"),
        pytest.param(b"250-more\r\n" * 101, id="reply-without-end"),
    ],
)
def test_what_is_no_reply_ends_the_session(octets: bytes) -> None:
    with pytest.raises(NotSMTP):
        read(octets)
    with pytest.raises(NotSMTP):
        read(*(octets[at : at + 1] for at in range(len(octets))))


def test_what_is_no_reply_is_quoted_in_printable_ascii() -> None:
    with pytest.raises(NotSMTP) as caught:
        read(b"\xff\x00\x1b[2Jhello\r\n")
    assert str(caught.value) == "not a reply: '?[2Jhello'"


REPLIES = b"220 hi\r\n250-one\r\n250-2.0.0 two\r\n250 three\r\n354 go on\r\n550 5.1.1 no\r\n"


@given(st.lists(st.integers(0, len(REPLIES)), max_size=20))
def test_replies_may_be_split_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(REPLIES)]
    pieces = [REPLIES[start:end] for start, end in zip(edges, edges[1:], strict=False)]
    assert (
        read(*pieces)
        == read(REPLIES)
        == [
            Reply(220, None, "hi"),
            Reply(250, "2.0.0", "one two three"),
            Reply(354, None, "go on"),
            Reply(550, "5.1.1", "no"),
        ]
    )


def test_unfinished_reply_waits_for_its_rest() -> None:
    reader = ReplyReader()
    assert list(reader.feed(b"250-one\r\n250 tw")) == []
    assert list(reader.feed(b"o\r\n250")) == [Reply(250, None, "one two")]
    assert list(reader.feed(b" more\r\n")) == [Reply(250, None, "more")]


def replies_before_garbage(*pieces: bytes) -> list[Reply]:
    reader, found = ReplyReader(), []
    with pytest.raises(NotSMTP):
        for piece in (*pieces, b""):
            for reply in reader.feed(piece):
                found.append(reply)
    return found


def test_reply_before_garbage_counts_however_the_octets_arrive() -> None:
    """A 250 to the dot is a delivery, whatever follows it; to lose it is to send the message twice."""
    octets = b"250 taken\r\ngarbage\r\n"
    split = replies_before_garbage(b"250 taken\r\n", b"garbage\r\n")
    assert split == [Reply(250, None, "taken")]
    assert replies_before_garbage(octets) == split


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_no_octets_do_more_than_end_the_session(octets: bytes, cuts: list[int]) -> None:
    reader = ReplyReader()
    edges = [0, *sorted(cuts), len(octets)]
    try:
        for start, end in zip(edges, edges[1:], strict=False):
            for reply in reader.feed(octets[start:end]):
                assert 200 <= reply.code < 600
                assert reply.text.isascii()
                assert reply.text == "" or reply.text.isprintable()
    except NotSMTP:
        pass


def test_enhanced_code_is_that_of_the_last_line_which_has_one() -> None:
    assert make_reply(550, ["5.7.1 a", "5.1.1 b", "c"]) == Reply(550, "5.1.1", "a b c")


# ---------------------------------------------------------------- a transaction


class Talk:
    """A transaction with a next hop that gives the replies of a script, in order."""

    def __init__(
        self,
        *recipients: str,
        offer: Offer = STEP_BY_STEP,
        reverse_path: str = "r@o.example",
        reset: bool = False,
    ) -> None:
        self.transaction = Transaction(reverse_path, recipients or (A,), 1234, offer)
        self.said = self.transaction.start(reset)
        self.step = Next.WAIT

    def hear(self, *replies: Reply) -> Talk:
        for reply in replies:
            self.step, octets = self.transaction.receive(reply)
            assert not octets or self.step is Next.WAIT
            self.said += octets
        return self

    @property
    def commands(self) -> list[str]:
        assert self.said.endswith(b"\r\n")
        return self.said.decode("ascii").split("\r\n")[:-1]

    @property
    def results(self) -> list[Ended | None]:
        return self.transaction.results


def test_pipelined_commands_go_in_one_write() -> None:
    talk = Talk(A, B, offer=PIPELINING)
    assert talk.commands == [
        "MAIL FROM:<r@o.example>",
        f"RCPT TO:<{A}>",
        f"RCPT TO:<{B}>",
        "DATA",
    ]
    assert talk.hear(OK, OK, OK).step is Next.WAIT
    assert talk.hear(GO_ON).step is Next.SEND_MESSAGE


def test_step_by_step_one_command_waits_for_each_reply() -> None:
    talk = Talk(A, B)
    assert talk.commands == ["MAIL FROM:<r@o.example>"]
    assert talk.hear(OK).commands[1:] == [f"RCPT TO:<{A}>"]
    assert talk.hear(OK).commands[2:] == [f"RCPT TO:<{B}>"]
    assert talk.hear(OK).commands[3:] == ["DATA"]
    assert talk.hear(GO_ON).step is Next.SEND_MESSAGE


@pytest.mark.parametrize(
    ("offer", "command"),
    [
        pytest.param(Offer(), "MAIL FROM:<r@o.example>", id="nothing"),
        pytest.param(Offer(size=True), "MAIL FROM:<r@o.example> SIZE=1234", id="size"),
        pytest.param(Offer(eight_bit_mime=True), "MAIL FROM:<r@o.example> BODY=8BITMIME", id="8bit"),
        pytest.param(
            Offer(eight_bit_mime=True, size=True),
            "MAIL FROM:<r@o.example> SIZE=1234 BODY=8BITMIME",
            id="both",
        ),
    ],
)
def test_mail_has_only_parameters_that_were_offered(offer: Offer, command: str) -> None:
    assert Talk(offer=offer).commands == [command]


def test_null_sender_is_an_empty_path() -> None:
    assert Talk(reverse_path="").commands == ["MAIL FROM:<>"]


@OFFERS
def test_open_transaction_is_reset_first(offer: Offer) -> None:
    talk = Talk(offer=offer, reset=True)
    assert talk.commands[0] == "RSET"
    talk.hear(OK, OK, OK, GO_ON)
    assert talk.step is Next.SEND_MESSAGE
    assert talk.commands[1:] == ["MAIL FROM:<r@o.example>", f"RCPT TO:<{A}>", "DATA"]


@OFFERS
def test_refused_reset_decides_nothing(offer: Offer) -> None:
    talk = Talk(offer=offer, reset=True).hear(Reply(500, None, "what"), OK, OK, GO_ON, OK)
    assert talk.results == [Ended(OK, Phase.DOT)]


@OFFERS
def test_reply_to_the_dot_is_that_of_every_recipient_taken(offer: Offer) -> None:
    talk = Talk(A, B, offer=offer).hear(OK, OK, OK, GO_ON, OK)
    assert talk.step is Next.DONE
    assert talk.results == [Ended(OK, Phase.DOT)] * 2
    assert not talk.transaction.must_reset
    assert not talk.transaction.is_closing


@OFFERS
def test_each_recipient_has_its_own_answer(offer: Offer) -> None:
    talk = Talk(A, B, C, offer=offer).hear(OK, NO_USER, OK, LATER, GO_ON, OK)
    assert talk.step is Next.DONE
    assert talk.results == [Ended(NO_USER, Phase.RCPT), Ended(OK, Phase.DOT), Ended(LATER, Phase.RCPT)]


@OFFERS
@pytest.mark.parametrize("answer", [NO_USER, LATER])
def test_refusal_of_the_message_does_not_touch_who_was_refused_before(offer: Offer, answer: Reply) -> None:
    talk = Talk(A, B, offer=offer).hear(OK, NO_USER, OK, GO_ON, answer)
    assert talk.results == [Ended(NO_USER, Phase.RCPT), Ended(answer, Phase.DOT)]


def test_refused_mail_ends_it_step_by_step() -> None:
    talk = Talk(A, B).hear(LATER)
    assert talk.step is Next.DONE
    assert talk.results == [Ended(LATER, Phase.MAIL)] * 2
    assert talk.commands == ["MAIL FROM:<r@o.example>"]
    assert talk.transaction.must_reset


def test_refused_mail_is_the_answer_whatever_follows_when_pipelined() -> None:
    bad = Reply(503, None, "Bad sequence")
    talk = Talk(A, B, offer=PIPELINING).hear(LATER, bad, bad)
    assert talk.step is Next.WAIT
    assert talk.hear(bad).step is Next.DONE
    assert talk.results == [Ended(LATER, Phase.MAIL)] * 2
    assert talk.transaction.must_reset


def test_no_data_is_said_step_by_step_if_nobody_is_left() -> None:
    talk = Talk(A, B).hear(OK, NO_USER, LATER)
    assert talk.step is Next.DONE
    assert "DATA" not in talk.commands
    assert talk.results == [Ended(NO_USER, Phase.RCPT), Ended(LATER, Phase.RCPT)]
    assert talk.transaction.must_reset


def test_lone_dot_goes_out_if_nobody_is_left_and_354_comes_all_the_same() -> None:
    """RFC 2920 section 3.1; the message itself must not go out to nobody."""
    talk = Talk(A, B, offer=PIPELINING).hear(OK, NO_USER, LATER, GO_ON)
    assert talk.step is Next.SEND_DOT
    assert talk.hear(Reply(554, None, "No valid recipients")).step is Next.DONE
    assert talk.results == [Ended(NO_USER, Phase.RCPT), Ended(LATER, Phase.RCPT)]


def test_taken_lone_dot_makes_nothing_delivered() -> None:
    talk = Talk(A, offer=PIPELINING).hear(OK, NO_USER, GO_ON, OK)
    assert talk.results == [Ended(NO_USER, Phase.RCPT)]


def test_lone_dot_follows_a_refused_mail_too() -> None:
    talk = Talk(A, offer=PIPELINING).hear(NO_USER, OK, GO_ON)
    assert talk.step is Next.SEND_DOT
    assert talk.hear(OK).results == [Ended(NO_USER, Phase.MAIL)]


@OFFERS
@pytest.mark.parametrize("answer", [LATER, Reply(554, None, "No"), Reply(250, None, "Ok")])
def test_anything_but_354_to_data_is_the_answer(offer: Offer, answer: Reply) -> None:
    talk = Talk(A, B, offer=offer).hear(OK, NO_USER, OK, answer)
    assert talk.step is Next.DONE
    assert talk.results == [Ended(NO_USER, Phase.RCPT), Ended(answer, Phase.DATA)]
    assert talk.transaction.must_reset


@OFFERS
@pytest.mark.parametrize("answer", [GO_ON, Reply(334, None, "what")])
def test_3yz_to_a_recipient_takes_nobody(offer: Offer, answer: Reply) -> None:
    talk = Talk(A, B, offer=offer).hear(OK, answer, OK, GO_ON, OK)
    assert talk.results == [Ended(answer, Phase.RCPT), Ended(OK, Phase.DOT)]


@OFFERS
@pytest.mark.parametrize(
    ("before", "phase"),
    [
        pytest.param([], Phase.MAIL, id="mail"),
        pytest.param([OK], Phase.RCPT, id="first-recipient"),
        pytest.param([OK, OK], Phase.RCPT, id="second-recipient"),
        pytest.param([OK, OK, OK], Phase.DATA, id="data"),
        pytest.param([OK, OK, OK, GO_ON], Phase.DOT, id="dot"),
    ],
)
def test_421_ends_it_for_everybody_without_an_answer(offer: Offer, before: list[Reply], phase: Phase) -> None:
    talk = Talk(A, B, offer=offer).hear(*before, LEAVING)
    assert talk.step is Next.DONE
    assert talk.results == [Ended(LEAVING, phase)] * 2
    assert talk.transaction.is_closing


@OFFERS
def test_421_leaves_answers_as_they_are(offer: Offer) -> None:
    talk = Talk(A, B, offer=offer).hear(OK, NO_USER, LEAVING)
    assert talk.results == [Ended(NO_USER, Phase.RCPT), Ended(LEAVING, Phase.RCPT)]


def test_421_to_the_reset_is_before_mail() -> None:
    assert Talk(reset=True).hear(LEAVING).results == [Ended(LEAVING, Phase.EHLO)]


@pytest.mark.parametrize(
    ("heard", "phase"),
    [([], Phase.MAIL), ([OK], Phase.RCPT), ([OK, OK], Phase.DATA), ([OK, OK, GO_ON], Phase.DOT)],
    ids=["mail", "rcpt", "data", "dot"],
)
@OFFERS
def test_broken_connection_ends_it_in_the_phase_that_waited(
    offer: Offer, heard: list[Reply], phase: Phase
) -> None:
    talk = Talk(offer=offer).hear(*heard)
    talk.transaction.fail(Failure("lost"))
    assert talk.results == [Ended(Failure("lost"), phase)]
    assert talk.transaction.is_closing


@OFFERS
def test_broken_connection_leaves_answers_as_they_are(offer: Offer) -> None:
    talk = Talk(A, B, offer=offer).hear(OK, NO_USER)
    talk.transaction.fail(Failure("lost"))
    assert talk.results == [Ended(NO_USER, Phase.RCPT), Ended(Failure("lost"), Phase.RCPT)]


@OFFERS
def test_reply_after_the_end_is_not_smtp(offer: Offer) -> None:
    talk = Talk(offer=offer).hear(OK, OK, GO_ON, OK)
    with pytest.raises(NotSMTP, match="a reply to nothing: 250 Ok"):
        talk.hear(OK)


@pytest.mark.parametrize(
    "address", ["a@x.example>\r\nRCPT TO:<b@x.example", "a@x.example\n", "a\r@x.example"]
)
def test_address_with_a_line_end_is_never_written(address: str) -> None:
    with pytest.raises(AssertionError):
        Talk(address, offer=PIPELINING)
    with pytest.raises(AssertionError):
        Talk(reverse_path=address)


ANY_REPLY = st.builds(
    Reply, st.sampled_from([250, 251, 354, 421, 450, 452, 550, 552, 554]), st.none(), st.just("")
)


@given(st.integers(1, 5), st.booleans(), st.booleans(), st.lists(ANY_REPLY, min_size=12, max_size=12))
def test_every_recipient_has_an_answer_at_the_end_and_2yz_only_to_the_dot(
    count: int, pipelining: bool, reset: bool, replies: list[Reply]
) -> None:
    talk = Talk(*[f"r{number}@x.example" for number in range(count)], offer=Offer(pipelining), reset=reset)
    for reply in replies:
        talk.hear(reply)
        if talk.step is Next.DONE:
            break
    assert talk.step is Next.DONE
    for result in talk.results:
        assert result is not None
        answer = result.answer
        assert isinstance(answer, Reply)
        assert answer.code >= 300 or result.phase in (Phase.DOT, Phase.DATA)


# ---------------------------------------------------------------- the message's octets


@pytest.mark.parametrize(
    ("octets", "stuffed"),
    [
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"Hello.\r\n", b"Hello.\r\n", id="no-dot-at-a-start"),
        pytest.param(b".\r\n", b"..\r\n", id="lone-dot"),
        pytest.param(b".hidden\r\n", b"..hidden\r\n", id="first-line"),
        pytest.param(b"\r\n.\r\n", b"\r\n..\r\n", id="after-an-empty-line"),
        pytest.param(b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n", id="end-of-data-inside"),
        pytest.param(b"a\r\n..\r\n", b"a\r\n...\r\n", id="two-dots"),
        pytest.param(b".\r\n.\r\n.\r\n", b"..\r\n..\r\n..\r\n", id="every-line"),
        pytest.param(b"a\r\n.", b"a\r\n..", id="dot-at-the-very-end"),
        pytest.param(b"a.b\r\n c.\r\n", b"a.b\r\n c.\r\n", id="dots-elsewhere"),
        pytest.param(b"\xff\x00\r\n.\xff", b"\xff\x00\r\n..\xff", id="any-octets"),
    ],
)
def test_dot_at_the_start_of_a_line_is_doubled(octets: bytes, stuffed: bytes) -> None:
    assert stuff(octets) == stuffed


def test_dot_in_the_middle_of_a_line_stays_single() -> None:
    assert stuff(b".rest of a line\r\n.next", at_line_start=False) == b".rest of a line\r\n..next"


@pytest.mark.parametrize(
    "octets", [b"a\nb", b"a\rb", b"\n", b"\r", b"a\r\r\nb", b"a\n\r\n", b"a\r\n.\n", b"a\r"]
)
def test_stray_cr_or_lf_never_leaves(octets: bytes) -> None:
    with pytest.raises(UncleanMessage):
        stuff(octets)


def unstuffed(octets: bytes) -> bytes:
    """What a server makes of it, line by line (RFC 5321 section 4.5.2)."""
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in octets.split(b"\r\n"))


LINES = st.lists(st.sampled_from([b"", b".", b"..", b".a", b"a.", b"abc", b" .x"]), max_size=8)


@given(LINES)
def test_server_reads_what_was_meant_and_no_end_of_data_before_the_end(lines: list[bytes]) -> None:
    octets = b"".join(line + b"\r\n" for line in lines)
    sent = stuff(octets)
    assert unstuffed(sent) == octets
    assert b"\r\n.\r\n" not in b"\r\n" + sent


@given(LINES, st.data())
def test_pieces_give_the_octets_of_the_whole(lines: list[bytes], data: st.DataObject) -> None:
    octets = b"".join(line + b"\r\n" for line in lines)
    inside = {at for at in range(len(octets) + 1) if octets[at - 1 : at + 1] != b"\r\n"}
    cuts = data.draw(st.lists(st.sampled_from(sorted(inside)), max_size=4, unique=True))
    edges = sorted({0, *cuts, len(octets)})
    sent, at_line_start = b"", True
    for start, end in zip(edges, edges[1:], strict=False):
        sent += stuff(octets[start:end], at_line_start)
        at_line_start = octets[:end].endswith(b"\r\n")
    assert sent == stuff(octets)
