"""The resolver against BIND, and against name servers that fail: found, absent and unavailable stay apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import dns.rcode
import pytest

from relay.resolver import MX, Absent, Found, Resolver, Unavailable
from tests.support.bind import Bind, txt
from tests.support.lying_dns import LyingDNS, fails, garbage, loop, of_another_question, silent

ZONE = [
    "@ IN MX 20 mx2",
    "@ IN MX 10 MX1",
    "null IN MX 0 .",
    "mx1 IN A 192.0.2.1",
    "mx1 IN AAAA 2001:db8::1",
    "mx2 IN A 192.0.2.2",
    "alias IN CNAME mx1",
    txt("long.owner.example", "x" * 300),
    'two IN TXT "one"',
    'two IN TXT "another"',
]
REVERSE = ["1 IN PTR mx1.owner.example."]


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bind]:
    zones = {"owner.example": ZONE, "2.0.192.in-addr.arpa": REVERSE}
    with closing(Bind(tmp_path_factory.mktemp("bind"), zones)) as one:
        yield one


@pytest.fixture
async def resolver(bind: Bind) -> Resolver:
    return Resolver([bind.address])


async def test_mail_exchangers(resolver):
    answer = await resolver.mx("owner.example")
    assert isinstance(answer, Found)
    assert sorted(answer.records) == [MX(10, "mx1.owner.example"), MX(20, "mx2.owner.example")]


async def test_null_mx_has_an_empty_host(resolver):
    assert await resolver.mx("null.owner.example") == Found((MX(0, ""),))


@pytest.mark.parametrize("host", ["mx1.owner.example", "MX1.Owner.Example", "alias.owner.example"])
async def test_addresses_ipv6_first_through_aliases(resolver, host):
    assert await resolver.addresses(host) == Found(("2001:db8::1", "192.0.2.1"))


async def test_only_ipv4(resolver):
    assert await resolver.addresses("mx2.owner.example") == Found(("192.0.2.2",))


async def test_strings_of_a_text_are_joined_and_texts_are_not(resolver):
    assert await resolver.txt("long.owner.example") == Found(("x" * 300,))
    answer = await resolver.txt("two.owner.example")
    assert isinstance(answer, Found)
    assert sorted(answer.records) == ["another", "one"]


async def test_names_of_an_address(resolver):
    assert await resolver.names("192.0.2.1") == Found(("mx1.owner.example",))


async def test_absent_name_and_absent_type(resolver):
    assert await resolver.txt("nothing.owner.example") == Absent(no_such_name=True)
    assert await resolver.txt("mx1.owner.example") == Absent()
    assert await resolver.addresses("nothing.owner.example") == Absent(no_such_name=True)


async def test_server_that_is_not_responsible_is_no_answer(resolver):
    assert isinstance(await resolver.txt("elsewhere.test"), Unavailable)


@pytest.mark.parametrize(
    "answer",
    [
        silent,
        fails(dns.rcode.SERVFAIL),
        fails(dns.rcode.REFUSED),
        fails(dns.rcode.NOTIMP),
        garbage,
        of_another_question,
        loop,
    ],
    ids=["silent", "servfail", "refused", "notimp", "garbage", "other question", "loop"],
)
async def test_fault_is_unavailable_and_ends_in_time(answer):
    with closing(LyingDNS(answer)) as server:
        found = await asyncio.wait_for(Resolver([server.address], 0.5).txt("a.loop.example"), 20)
        assert isinstance(found, Unavailable)
        assert "a.loop.example" in found.reason


async def test_equal_questions_under_way_are_asked_once():
    with closing(LyingDNS(fails(dns.rcode.SERVFAIL))) as server:
        resolver = Resolver([server.address], 0.5)
        alone = await resolver.txt("one.example")
        asked = server.questions
        together = await asyncio.gather(*[resolver.txt("two.example") for _ in range(10)])
        assert isinstance(alone, Unavailable)
        assert len(set(map(type, together))) == 1
        assert server.questions <= asked * 2 + 2


async def test_answers_are_kept_for_their_time_to_live(tmp_path):
    with closing(Bind(tmp_path, {"owner.example": ["a 600 IN TXT kept"]})) as bind:
        resolver = Resolver([bind.address], 1)
        assert await resolver.txt("a.owner.example") == Found(("kept",))
        bind.publish("owner.example", "a 600 IN TXT changed")
        assert await resolver.txt("a.owner.example") == Found(("kept",))
        assert await Resolver([bind.address], 1).txt("a.owner.example") == Found(("changed",))
