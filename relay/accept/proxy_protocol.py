"""The PROXY protocol, versions 1 and 2: octets in, the client's address out.  No I/O.

A load balancer says with it whose connection it passes on; it stands before everything else, TLS included.
The grammar is haproxy.org's proxy-protocol.txt, read strictly: what is neither a header of TCP over IPv4 or
IPv6, nor one that names nobody, is an error.  aiosmtpd's parser is not used: it takes ports followed by other
text and parameters that run past their end, waits for 64 KB of them, and fails on a line cut short.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_SIGNATURE = b"PROXY "
_V1_LONGEST = 107  # section 2.1, with CRLF
_V2_HEAD = 16
# Section 2 has senders stay within 536 octets; certificates' names in parameters may ask for more.
LONGEST = 2048
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED = 0x00
# Family and transport: octets of one address, and of all four fields.
_ADDRESSES = {0x11: (4, 12), 0x21: (16, 36)}
_is_port = re.compile(r"0|[1-9][0-9]{0,4}").fullmatch
_ADDRESS_OF = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}


class ProxyError(Exception):
    """What came is no PROXY header; the text says why."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """``client`` is the address that the connection came from, or None if it is the sender's own
    (a health check, or a protocol it cannot express); ``length`` is how many octets the header has.
    """

    length: int
    client: str | None


def parse(data: bytes) -> ProxyHeader | None:
    """The header that ``data`` begins with, None while it is not whole; ProxyError if it never can be."""
    if data[:12] == _V2_SIGNATURE[: len(data)]:
        return _parse_v2(data)
    if data[:6] == _V1_SIGNATURE[: len(data)]:
        return _parse_v1(data)
    raise ProxyError("it does not begin with a PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_LONGEST)
    if end < 0:
        if len(data) >= _V1_LONGEST:
            raise ProxyError("version 1: no line end within 107 octets")
        return None
    try:
        _, protocol, *fields = data[:end].decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyError("version 1: not ASCII") from None
    if protocol == "UNKNOWN":  # section 2.1: what follows it is to be ignored
        return ProxyHeader(end + 2, None)
    return ProxyHeader(end + 2, _v1_client(protocol, fields))


def _v1_client(protocol: str, fields: list[str]) -> str:
    spelled = _ADDRESS_OF.get(protocol)
    if spelled is None:
        raise ProxyError("version 1: neither TCP4, TCP6 nor UNKNOWN")
    if len(fields) != 4:
        raise ProxyError("version 1: not two addresses and two ports")
    source, destination, *ports = fields
    if "%" in source + destination:  # a zone is of no other machine's concern
        raise ProxyError("version 1: an address has a zone")
    if not all(_is_port(port) and int(port) <= 65535 for port in ports):
        raise ProxyError("version 1: a port is not a number up to 65535")
    try:
        spelled(destination)
        return str(spelled(source))
    except ValueError:
        raise ProxyError(f"version 1: an address is not one of {protocol}") from None


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_HEAD:
        return None
    command, family = data[12], data[13]
    length = _V2_HEAD + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        raise ProxyError("version 2: neither LOCAL nor PROXY")
    if length > LONGEST:
        raise ProxyError(f"version 2: longer than {LONGEST} octets")
    if command == _PROXY and family not in (_UNSPECIFIED, *_ADDRESSES):
        raise ProxyError("version 2: neither TCP over IPv4 nor over IPv6")
    if len(data) < length:
        return None
    if command == _LOCAL or family == _UNSPECIFIED:  # section 2.2: the rest is to be ignored
        return ProxyHeader(length, None)
    return ProxyHeader(length, _v2_client(data[_V2_HEAD:length], *_ADDRESSES[family]))


def _v2_client(rest: bytes, address_bytes: int, fields_bytes: int) -> str:
    if len(rest) < fields_bytes:
        raise ProxyError("version 2: too short for its addresses")
    at = fields_bytes
    while at < len(rest):  # a parameter: its type, its length in two octets, as many octets
        at += 3 + int.from_bytes(rest[at + 1 : at + 3], "big")
    if at != len(rest):
        raise ProxyError("version 2: a parameter runs past the end")
    return str(ipaddress.ip_address(rest[:address_bytes]))
