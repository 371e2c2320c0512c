from __future__ import annotations

import pytest

from relay.submission.principal import is_within, parse_network


@pytest.mark.parametrize(
    ("network", "address", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("192.0.2.0/24", "::ffff:192.0.2.7", True),
        ("::/0", "::ffff:192.0.2.7", False),
        ("0.0.0.0/0", "2001:db8::1", False),
    ],
)
def test_address_within_a_network(network, address, expected):
    assert is_within(address, [parse_network(network)]) is expected


def test_one_of_several_networks_is_enough_and_none_is_nowhere():
    networks = [parse_network("192.0.2.0/24"), parse_network("2001:db8::/32")]
    assert is_within("2001:db8::1", networks)
    assert not is_within("2001:db8::1", [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("192.0.2.7/24", "the network is 192.0.2.0/24"),
        ("2001:db8::1/32", "the network is 2001:db8::/32"),
        ("192.0.2.0/33", "no network"),
        ("office", "no network"),
        ("", "no network"),
    ],
)
def test_what_is_no_network_is_said(text, words):
    with pytest.raises(ValueError, match=words):
        parse_network(text)
