"""The client's side of a transaction, octet by octet and without I/O."""

from __future__ import annotations

import pytest

from relay.delivery.dialogue import (
    Next,
    NotSMTP,
    Offer,
    ReplyReader,
    Transaction,
    UncleanMessage,
    stuff,
)
from relay.outcome.outcome import Failure, Phase, Reply

OK, GO = Reply(250, None, "Ok"), Reply(354, None, "Go")
WHOLE = b"250-first\r\n250-2.1.0 second\r\n250 third\r\n354 go\r\n550 5.1.1 no\r\n220\r\n"
REPLIES = [
    Reply(250, "2.1.0", "first second third"),
    Reply(354, None, "go"),
    Reply(550, "5.1.1", "no"),
    Reply(220, None, ""),
]


class TestReader:
    @pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
    def test_replies_are_the_same_however_they_are_split(self, size):
        reader = ReplyReader()
        pieces = [WHOLE[start : start + size] for start in range(0, len(WHOLE), size)]
        assert [reply for piece in pieces for reply in reader.feed(piece)] == REPLIES

    @pytest.mark.parametrize(
        "line", [b"hello\r\n", b"25\r\n", b"999 x\r\n", b"250:x\r\n", b"\r\n", b"\x00\r\n"]
    )
    def test_what_is_no_reply_is_refused(self, line):
        with pytest.raises(NotSMTP):
            list(ReplyReader().feed(line))

    def test_replies_before_nonsense_count(self):
        reader, got = ReplyReader(), []
        with pytest.raises(NotSMTP):
            for reply in reader.feed(b"250 Ok\r\nnonsense\r\n"):
                got.append(reply)
        assert got == [OK]

    @pytest.mark.parametrize("data", [b"2" * 10_000, b"250-x\r\n" * 200, b"250 " + b"x" * 9000 + b"\r\n"])
    def test_reply_without_end_is_refused(self, data):
        with pytest.raises(NotSMTP):
            list(ReplyReader().feed(data))

    def test_control_characters_are_shown_as_question_marks(self):
        [reply] = ReplyReader().feed(b"550 a\x1b[31m\xff\r\n")
        assert reply.text == "a?[31m?"


def run(transaction: Transaction, *replies: Reply, reset: bool = False) -> list[tuple[Next, bytes]]:
    """What it sends first, then what it does after each reply."""
    return [(Next.WAIT, transaction.start(reset)), *(transaction.receive(reply) for reply in replies)]


class TestTransaction:
    def test_pipelined_commands_go_in_one_write(self):
        transaction = Transaction(
            "a@x", ["b@y", "c@z"], 10, Offer(pipelining=True, size=True, eight_bit_mime=True)
        )
        assert run(transaction) == [
            (
                Next.WAIT,
                b"MAIL FROM:<a@x> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<b@y>\r\nRCPT TO:<c@z>\r\nDATA\r\n",
            )
        ]

    def test_without_pipelining_each_waits_for_its_reply(self):
        transaction = Transaction("", ["b@y"], 10, Offer())
        assert run(transaction, OK, OK, GO, OK) == [
            (Next.WAIT, b"MAIL FROM:<>\r\n"),
            (Next.WAIT, b"RCPT TO:<b@y>\r\n"),
            (Next.WAIT, b"DATA\r\n"),
            (Next.SEND_MESSAGE, b""),
            (Next.DONE, b""),
        ]
        assert [one.phase for one in transaction.results] == [Phase.DOT]

    def test_open_transaction_of_before_is_reset_first(self):
        transaction = Transaction("a@x", ["b@y"], 10, Offer(pipelining=True))
        assert transaction.start(True).startswith(b"RSET\r\nMAIL FROM")

    def test_354_with_nobody_left_is_answered_with_a_lone_dot(self):
        transaction = Transaction("a@x", ["b@y"], 10, Offer(pipelining=True))
        no = Reply(550, None, "no")
        assert run(transaction, OK, no, GO)[-1] == (Next.SEND_DOT, b"")
        assert transaction.receive(Reply(554, None, "no recipients")) == (Next.DONE, b"")
        assert transaction.results[0].answer == no

    def test_421_ends_it_for_all_without_an_answer(self):
        transaction = Transaction("a@x", ["b@y", "c@z"], 10, Offer(pipelining=True))
        bye = Reply(421, "4.3.2", "bye")
        run(transaction, OK, Reply(550, None, "no"), bye)
        assert [one.answer.code for one in transaction.results] == [550, 421]
        assert transaction.is_closing

    def test_failure_keeps_what_was_answered(self):
        transaction = Transaction("a@x", ["b@y", "c@z"], 10, Offer(pipelining=True))
        run(transaction, OK, Reply(550, None, "no"))
        transaction.fail(Failure("broken"))
        assert [type(one.answer) for one in transaction.results] == [Reply, Failure]
        assert transaction.results[1].phase is Phase.RCPT

    def test_reply_to_nothing_is_no_smtp(self):
        transaction = Transaction("a@x", ["b@y"], 10, Offer())
        run(transaction, OK, OK, GO, OK)
        with pytest.raises(NotSMTP):
            transaction.receive(OK)

    @pytest.mark.parametrize("address", ["a@x>\r\nRCPT TO:<evil@x", "a\n@x"])
    def test_line_end_in_an_address_never_becomes_a_command(self, address):
        with pytest.raises(AssertionError):
            Transaction("a@x", [address], 10, Offer(pipelining=True))


class TestStuffing:
    @pytest.mark.parametrize(
        ("octets", "expected"),
        [
            (b"", b""),
            (b"a\r\n", b"a\r\n"),
            (b".\r\n", b"..\r\n"),
            (b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n"),
            (b"\r\n.\r\n", b"\r\n..\r\n"),
        ],
    )
    def test_dot_at_the_start_of_a_line_is_doubled(self, octets, expected):
        assert stuff(octets) == expected

    def test_piece_that_begins_within_a_line_is_left_alone(self):
        assert stuff(b".x\r\n.y", at_line_start=False) == b".x\r\n..y"

    @pytest.mark.parametrize("octets", [b"a\nb", b"a\rb", b"a\r", b"\n", b"\r\r\n"])
    def test_stray_line_end_is_never_written(self, octets):
        with pytest.raises(UncleanMessage):
            stuff(octets)
