"""PROXY headers: those of load balancers are read, anything else is refused, byte by byte."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.accept.proxy_protocol import LONGEST, ProxyError, ProxyHeader, parse
from tests.support.proxy import SIGNATURE, addresses, tlv, v2

V4, V6 = addresses("192.0.2.7", "198.51.100.1"), addresses("2001:db8::7", "2001:db8::1")
CHECKSUM, SSL = tlv(0x03, bytes(4)), tlv(0x20, b"\x01" + bytes(4) + tlv(0x21, b"TLSv1.3"))

WHOLE = [
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 40000 587\r\n", "192.0.2.7", id="v1 IPv4"),
    pytest.param(b"PROXY TCP6 2001:DB8::7 2001:db8::1 40000 587\r\n", "2001:db8::7", id="v1 IPv6"),
    pytest.param(b"PROXY TCP6 ::1 ::ffff:192.0.2.1 0 65535\r\n", "::1", id="v1 least and greatest"),
    pytest.param(b"PROXY UNKNOWN\r\n", None, id="v1 UNKNOWN"),
    pytest.param(b"PROXY UNKNOWN ff:: ff:: 1 1\r\n", None, id="v1 UNKNOWN with addresses to ignore"),
    pytest.param(v2(0x21, 0x11, V4), "192.0.2.7", id="v2 IPv4"),
    pytest.param(v2(0x21, 0x21, V6), "2001:db8::7", id="v2 IPv6"),
    pytest.param(v2(0x21, 0x11, V4 + CHECKSUM + SSL), "192.0.2.7", id="v2 with parameters"),
    pytest.param(v2(0x21, 0x11, V4 + tlv(0x04, b"")), "192.0.2.7", id="v2 with an empty parameter"),
    pytest.param(v2(0x21, 0x11, V4 + tlv(0xEA, bytes(LONGEST - 31))), "192.0.2.7", id="v2 at its longest"),
    pytest.param(v2(0x20, 0x00, b""), None, id="v2 LOCAL"),
    pytest.param(v2(0x20, 0x11, V4), None, id="v2 LOCAL with addresses to ignore"),
    pytest.param(v2(0x21, 0x00, b"anything"), None, id="v2 of no family"),
]

BAD = [
    pytest.param(b"EHLO client.example\r\n", "begin", id="SMTP"),
    pytest.param(b"\x16\x03\x01", "begin", id="TLS"),
    pytest.param(b"proxy TCP4 192.0.2.7 192.0.2.1 1 2\r\n", "begin", id="lower case"),
    pytest.param(b"PROXY\tTCP4", "begin", id="tab"),
    pytest.param(SIGNATURE[:-1] + b"\r", "begin", id="v2 signature"),
    pytest.param(b"PROXY TCP4 " + b"1" * 100, "107", id="v1 too long"),
    pytest.param(b"PROXY UNKNOWN " + b"1" * 92 + b"\r\n", "107", id="v1 too long by its line end"),
    pytest.param(b"PROXY UDP4 192.0.2.7 192.0.2.1 1 2\r\n", "neither", id="v1 family"),
    pytest.param(b"PROXY \r\n", "neither", id="v1 nothing"),
    pytest.param(b"PROXY TCP4\r\n", "two addresses", id="v1 no addresses"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 1\r\n", "two addresses", id="v1 one port"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2 \r\n", "two addresses", id="v1 space at the end"),
    pytest.param(b"PROXY TCP4  192.0.2.7 192.0.2.1 1\r\n", "port", id="v1 two spaces"),
    pytest.param(b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n", "address", id="v1 IPv6 as TCP4"),
    pytest.param(b"PROXY TCP6 192.0.2.7 192.0.2.1 1 2\r\n", "address", id="v1 IPv4 as TCP6"),
    pytest.param(b"PROXY TCP4 192.0.2.7 2001:db8::1 1 2\r\n", "address", id="v1 mixed"),
    pytest.param(b"PROXY TCP4 192.0.2.07 192.0.2.1 1 2\r\n", "address", id="v1 leading zero"),
    pytest.param(b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "zone", id="v1 zone"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 65536\r\n", "port", id="v1 port"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 01 2\r\n", "port", id="v1 port with a zero"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2x\r\n", "port", id="v1 port and more"),
    pytest.param(b"PROXY TCP4 192.0.2.7 192.0.2.1 1 \xc2\xb2\r\n", "ASCII", id="v1 not ASCII"),
    pytest.param(v2(0x11, 0x11, V4), "LOCAL", id="v2 version"),
    pytest.param(v2(0x22, 0x11, V4), "LOCAL", id="v2 command"),
    pytest.param(v2(0x21, 0x12, V4), "TCP", id="v2 UDP"),
    pytest.param(v2(0x21, 0x31, bytes(216)), "TCP", id="v2 Unix socket"),
    pytest.param(v2(0x21, 0x11, V4[:-1]), "too short", id="v2 IPv4 too short"),
    pytest.param(v2(0x21, 0x21, V4), "too short", id="v2 IPv6 too short"),
    pytest.param(v2(0x21, 0x11, V4 + b"\x04"), "parameter", id="v2 type alone"),
    pytest.param(v2(0x21, 0x11, V4 + b"\x04\x00"), "parameter", id="v2 half a length"),
    pytest.param(v2(0x21, 0x11, V4 + b"\x04\x00\x05abcd"), "parameter", id="v2 parameter too short"),
    pytest.param(v2(0x21, 0x11, V4 + tlv(4, bytes(LONGEST))), "longer", id="v2 too long"),
    pytest.param(v2(0x21, 0x11, b"")[:14] + b"\xff\xff", "longer", id="v2 too long by what it says"),
    pytest.param(v2(0x20, 0x00, b"")[:14] + b"\xff\xff", "longer", id="v2 LOCAL too long"),
]


@pytest.mark.parametrize(("header", "client"), WHOLE)
def test_header_names_the_client(header, client):
    assert parse(header) == ProxyHeader(len(header), client)


@pytest.mark.parametrize(("header", "client"), WHOLE)
def test_header_ends_where_it_ends(header, client):
    for behind in (b"\x16\x03\x01", b"EHLO x\r\n", header):
        assert parse(header + behind) == ProxyHeader(len(header), client)


@pytest.mark.parametrize(("header", "client"), WHOLE)
def test_header_that_comes_byte_by_byte_is_awaited(header, client):
    assert all(parse(header[:end]) is None for end in range(len(header)))


@pytest.mark.parametrize(("data", "words"), BAD)
def test_what_is_no_header_is_refused_with_the_reason(data, words):
    with pytest.raises(ProxyError, match=words):
        parse(data)


def test_header_of_a_line_without_end_is_refused_while_it_comes():
    with pytest.raises(ProxyError):
        parse(b"PROXY UNKNOWN " + b"x" * 93)


@given(
    st.one_of(st.binary(max_size=300), st.binary(max_size=300).map(lambda rest: SIGNATURE + b"\x21" + rest))
)
@example(b"PROXY ")
def test_any_octets_are_a_header_a_beginning_or_an_error(data):
    """Nothing else is raised; a header lies within what came, is bounded, and names an address."""
    try:
        header = parse(data)
    except ProxyError:
        return
    if header is not None:
        assert header.length <= min(len(data), LONGEST)
        assert header.client is None or ipaddress.ip_address(header.client)
        assert parse(data[: header.length]) == header


@given(
    st.text(alphabet="PROXYTCUNKW46 .:0123456789af\r\n", max_size=120).map(
        lambda text: b"PROXY " + text.encode()
    )
)
def test_any_line_is_a_header_a_beginning_or_an_error(data):
    try:
        header = parse(data)
    except ProxyError:
        return
    if header is not None:
        assert data[header.length - 2 : header.length] == b"\r\n"
        assert b"\r\n" not in data[: header.length - 2]


@given(st.ip_addresses(v=4), st.integers(0, 65535))
def test_both_versions_say_the_same(address, port):
    line = f"PROXY TCP4 {address} 192.0.2.1 {port} 587\r\n".encode()
    packed = address.packed + bytes(4) + struct.pack("!HH", port, 587)
    assert parse(line).client == parse(v2(0x21, 0x11, packed)).client == str(address)
