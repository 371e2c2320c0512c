"""Addresses: what is plain is taken as written, everything else is refused with its reason."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.submission.address import AddressError, Mailbox, parse_domain, parse_mailbox

_LABEL_63 = "a" * 63
_DOMAIN_253 = ".".join([_LABEL_63, _LABEL_63, _LABEL_63, "a" * 61])


@pytest.mark.parametrize(
    ("text", "local", "domain"),
    [
        pytest.param("user@example.com", "user", "example.com", id="plain"),
        pytest.param("User@Example.COM", "User", "example.com", id="domain-loses-case-local-keeps-it"),
        pytest.param("a+b.c=d@x.example", "a+b.c=d", "x.example", id="tagged"),
        pytest.param("!#$%&'*+/=?^_`{|}~-@x.example", "!#$%&'*+/=?^_`{|}~-", "x.example", id="all-of-atext"),
        pytest.param("root@localhost", "root", "localhost", id="one-label"),
        pytest.param("a@xn--bcher-kva.example", "a", "xn--bcher-kva.example", id="a-label"),
        pytest.param("a@bücher.example", "a", "xn--bcher-kva.example", id="u-label"),
        pytest.param("a@straße.example", "a", "xn--strae-oqa.example", id="u-label-not-mapped-to-ss"),
        pytest.param(
            "a@BüCHER.Example", "a", "xn--bcher-kva.example", id="ascii-letters-of-u-label-lose-case"
        ),
        pytest.param("a@r3---sn.example", "a", "r3---sn.example", id="hyphens-inside"),
        pytest.param("a@1.2.3.x4", "a", "1.2.3.x4", id="digits-but-for-the-last-label"),
        pytest.param("a" * 64 + "@b.example", "a" * 64, "b.example", id="longest-local-part"),
        pytest.param(f"a@{_LABEL_63}.example", "a", f"{_LABEL_63}.example", id="longest-label"),
        pytest.param("a@" + _DOMAIN_253[-252:], "a", _DOMAIN_253[-252:], id="longest-address"),
    ],
)
def test_plain_addresses_are_taken_as_written(text: str, local: str, domain: str) -> None:
    assert parse_mailbox(text) == Mailbox(local, domain)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "Missing final '@domain'", id="empty"),
        pytest.param("user", "Missing final '@domain'", id="no-at"),
        pytest.param("John Smith", "Local address contains control or whitespace", id="a-name-only"),
        pytest.param("user@", "Missing domain", id="nothing-after-at"),
        pytest.param("@example.com", "Missing local name", id="nothing-before-at"),
        pytest.param(
            "us er@example.com", "Local address contains control or whitespace", id="blank-in-local"
        ),
        pytest.param(
            "user\x00@example.com", "Local address contains control or whitespace", id="nul-in-local"
        ),
        pytest.param(
            " user@example.com", "Local address contains control or whitespace", id="blank-in-front"
        ),
        pytest.param("user@example.com ", "Domain contains control or whitespace", id="blank-behind"),
        pytest.param("user@example.com\n", "Domain contains control or whitespace", id="newline-behind"),
        pytest.param("user@exam\tple.com", "Domain contains control or whitespace", id="tab-in-domain"),
        pytest.param('"user"@example.com', "Quoted local address is not supported", id="quoted"),
        pytest.param("@a.example:user@b.example", "Local address contains illegal character", id="route"),
        pytest.param("a@b@example.com", "Local address contains illegal character", id="two-ats"),
        pytest.param("user(x)@example.com", "Local address contains illegal character", id="comment"),
        pytest.param("<user@example.com", "Local address contains illegal character", id="bracket-in-front"),
        pytest.param("user@example.com>", "Domain contains illegal character", id="bracket-behind"),
        pytest.param("a,b@example.com", "Local address contains illegal character", id="comma"),
        pytest.param("a\\b@example.com", "Local address contains illegal character", id="backslash"),
        pytest.param("jösé@example.com", "Local address contains non-ASCII characters", id="eight-bit-local"),
        pytest.param(".a@example.com", "Local address starts with dot", id="dot-in-front"),
        pytest.param("a.@example.com", "Local address ends with dot", id="dot-before-at"),
        pytest.param("a..b@example.com", "Local address contains dot-dot", id="two-dots"),
        pytest.param("a@.example.com", "Domain starts with dot", id="domain-dot-in-front"),
        pytest.param("a@example.com.", "Domain ends with dot", id="domain-dot-behind"),
        pytest.param("a@example..com", "Domain contains dot-dot", id="domain-two-dots"),
        pytest.param("a@[192.0.2.1]", "Domain literal is not supported", id="literal"),
        pytest.param("a@192.0.2.1", "Domain ends in a number", id="ipv4-without-brackets"),
        pytest.param("a@ex_ample.com", "Domain contains illegal character", id="underscore"),
        pytest.param("a@-x.example", "Domain label starts or ends with hyphen", id="hyphen-in-front"),
        pytest.param("a@x-.example", "Domain label starts or ends with hyphen", id="hyphen-behind"),
        pytest.param("a" * 65 + "@b.example", "Local address is longer than 64 octets", id="long-local"),
        pytest.param(f"a@a{_LABEL_63}.example", "Domain label is longer than 63 octets", id="long-label"),
        pytest.param(f"a@a.{_DOMAIN_253}", "Domain is longer than 253 octets", id="long-domain"),
        pytest.param(f"a@{_DOMAIN_253}", "Address is longer than 254 octets", id="long-address"),
        # str.lower makes an ASCII "k" of it: the name would be another than the one written.
        pytest.param(
            "a@\u212aelvin.example", "Domain is not a valid internationalized name", id="kelvin-sign"
        ),
        pytest.param(
            "a@\uff45xample.com", "Domain is not a valid internationalized name", id="fullwidth-letter"
        ),
        pytest.param(
            "a@b\u3002example", "Domain is not a valid internationalized name", id="ideographic-stop"
        ),
        pytest.param("a@\ud800.example", "Domain is not a valid internationalized name", id="lone-surrogate"),
        pytest.param("a@ü.1", "Domain is not a valid internationalized name", id="u-label-before-a-number"),
        pytest.param(
            "a@ü[.example", "Domain is not a valid internationalized name", id="u-label-with-bracket"
        ),
    ],
)
def test_r08_whatever_is_not_plain_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_mailbox(text)
    assert caught.value.reason == reason


def test_mailboxes_are_equal_but_for_case_of_the_domain() -> None:
    assert parse_mailbox("a@EXAMPLE.com") == parse_mailbox("a@example.COM")
    assert parse_mailbox("A@example.com") != parse_mailbox("a@example.com")


@pytest.mark.parametrize(
    ("text", "domain"),
    [("Example.COM", "example.com"), ("bücher.example", "xn--bcher-kva.example"), (_DOMAIN_253, _DOMAIN_253)],
)
def test_domains_become_lower_case_a_labels(text: str, domain: str) -> None:
    assert parse_domain(text) == domain


@pytest.mark.parametrize("text", ["", ".", "a b", "a@b", "x" + _DOMAIN_253, "ü" * 300, "1.2.3.4", "a\n"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_domain(text)


_SIGNIFICANT = st.text(st.sampled_from('aZ9+-_.@<>()[]"\\,;: \t\r\n\x00üＫ。'), max_size=40)


@given(st.one_of(st.text(max_size=300), _SIGNIFICANT))
@example("a@" + "1" * 64)
def test_r46_the_parser_raises_its_own_error_only_and_reads_as_others_do(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except AddressError:
        return
    # An independent reader (the standard library's) sees the same address and nothing around it.
    assert email.utils.parseaddr(str(mailbox)) == ("", str(mailbox))
    assert str(mailbox).isascii()
    assert mailbox.domain == mailbox.domain.lower()
    assert parse_mailbox(str(mailbox)) == mailbox


@given(_SIGNIFICANT)
def test_r46_the_domain_parser_raises_its_own_error_only(text: str) -> None:
    try:
        domain = parse_domain(text)
    except AddressError:
        return
    assert parse_domain(domain) == domain
