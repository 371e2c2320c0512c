"""Which addresses may be dialled, and what an URL is; the wire is in tests/integration/feedback."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from relay.httpc import EVERYWHERE, Target, is_public, may_dial, parse_url

PUBLIC = ["8.8.8.8", "198.41.0.4", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1", "::ffff:8.8.8.8"]
NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "2001::1",
    "2001:db8::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "4000::1",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_may_be_dialled(address: str) -> None:
    assert is_public(ip_address(address))
    assert may_dial(ip_address(address), ())


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_other_address_may_not_be_dialled_unless_allowed(address: str) -> None:
    assert not is_public(ip_address(address))
    assert not may_dial(ip_address(address), ())
    assert may_dial(ip_address(address), EVERYWHERE)


def test_allowed_network_counts_in_each_way_to_write_its_addresses() -> None:
    allowed = (ip_network("127.0.0.1/32"),)
    for same in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"):
        assert may_dial(ip_address(same), allowed)
    for other in ("127.0.0.2", "::1", "10.0.0.1"):
        assert not may_dial(ip_address(other), allowed)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("https://x.example", Target("https", "x.example", 443, "/")),
        ("http://X.example:8080/a/b?c=d", Target("http", "x.example", 8080, "/a/b?c=d")),
        ("https://[2001:db8::1]:8443/", Target("https", "2001:db8::1", 8443, "/")),
    ],
)
def test_url_is_taken_apart(text: str, target: Target) -> None:
    assert parse_url(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x.example",
        "ftp://x.example/",
        "https:///path",
        "https://u:p@x.example/",
        "https://x.example/#f",
        "https://x.example:0/",
        "https://x.example:99999/",
        "https://x.example/a b",
        "https://x.example\\@evil.example/",
        "https://x.example/\r\nHost: y",
        "https://münchen.example/",
        "https://[::1/",
    ],
)
def test_what_is_no_url_is_none(text: str) -> None:
    assert parse_url(text) is None


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("https://x.example/", "x.example"),
        ("https://x.example:443/", "x.example"),
        ("http://x.example:443/", "x.example:443"),
        ("http://[2001:db8::1]/", "[2001:db8::1]"),
    ],
)
def test_host_field_names_the_port_only_if_it_is_another(text: str, authority: str) -> None:
    target = parse_url(text)
    assert target is not None
    assert target.authority == authority
