"""The condition operators: what each compares, and what it says of a key that is not there.

    Condition holds = AND over operators and keys; per key OR over the policy's values (plain operator)
                      or NOR (negated operator)

Where a comparison has no meaning (a wrong type, a variable without value) the reading is taken that sends
no mail: a plain operator does not hold, a negated one holds in a Deny and not in an Allow.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from operator import eq, ge, gt, le, lt
from typing import Any

from relay.authorization.matching import (
    Context,
    Match,
    Template,
    any_arn_like,
    any_like,
    has_variables,
    parse_template,
    with_variables,
)

Test = Callable[[Context], bool]

ALL_VALUES, ANY_VALUE = "ForAllValues", "ForAnyValue"
_IF_EXISTS = "IfExists"


@dataclass(frozen=True, slots=True)
class Operator:
    """``ForAnyValue:StringNotLikeIfExists``, taken apart: ``base`` is ``StringLike``."""

    text: str
    base: str
    negated: bool = False
    if_exists: bool = False
    over: str | None = None

    @property
    def family(self) -> str:
        """``String``, ``Numeric``, ``Date``, ``Bool``, ``Binary``, ``Ip``, ``Arn`` or ``Null``."""
        return next(name for name in _FAMILIES if self.base.startswith(name))

    @property
    def takes_variables(self) -> bool:
        return self.family in ("String", "Arn")


_FAMILIES = ("String", "Numeric", "Date", "Bool", "Binary", "Ip", "Arn", "Null")
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def parse_operator(text: str) -> Operator | None:
    """The operator, or None if there is none of that name; letter case counts."""
    over, colon, name = text.rpartition(":")
    if colon and over not in (ALL_VALUES, ANY_VALUE):
        return None
    if text == "Null":
        return Operator(text, text)
    if_exists = name.endswith(_IF_EXISTS)
    name = name.removesuffix(_IF_EXISTS)
    base = _NEGATED.get(name, name)
    if base not in _MATCHERS:
        return None
    return Operator(text, base, negated=name in _NEGATED, if_exists=if_exists, over=over or None)


def compile_test(
    operator: Operator, key: str, values: Sequence[str], *, is_allow: bool, variables: bool
) -> Test:
    """The condition on one key, in lower case, as a function of the context."""
    if operator.base == "Null":
        return _null(key, values)
    match = _MATCHERS[operator.base](values, variables)
    holding = _holding(operator.negated, is_allow)
    if operator.over is None:
        return _single(key, match, holding, when_absent=operator.negated or operator.if_exists)
    return _of_set(key, match, holding, is_all=operator.over == ALL_VALUES)


def _holding(negated: bool, is_allow: bool) -> tuple[bool | None, ...]:
    """The answers of a match with which the condition holds."""
    if not negated:
        return (True,)
    return (False,) if is_allow else (False, None)


def _single(key: str, match: Match, holding: tuple[bool | None, ...], *, when_absent: bool) -> Test:
    def test(context: Context) -> bool:
        have = context.get(key)
        if have is None:
            return when_absent
        # A plain operator on a multi-valued key does not hold, negated or not; see the open points.
        return isinstance(have, str) and match(have, context) in holding

    return test


def _of_set(key: str, match: Match, holding: tuple[bool | None, ...], *, is_all: bool) -> Test:
    def test(context: Context) -> bool:
        for have in _set_of(context.get(key)):
            if (match(have, context) in holding) is not is_all:
                return not is_all
        return is_all

    return test


def _set_of(have: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """A single value counts as a set of one."""
    if have is None:
        return ()
    return (have,) if isinstance(have, str) else have


def cost(operator: Operator, values: Sequence[str]) -> int:
    """A rank by which the cheapest condition of a statement is tested first; all must hold anyway."""
    is_variable = operator.takes_variables and any("${" in value for value in values)
    return (
        _COSTS.get(operator.family, 2) + 4 * (operator.over is not None) + 2 * is_variable + len(values) // 8
    )


_COSTS = {"Null": 0, "String": 1}


def _null(key: str, values: Sequence[str]) -> Test:
    wanted = frozenset(values)

    def test(context: Context) -> bool:
        have = context.get(key)
        return ("true" if have is None or have == () else "false") in wanted

    return test


# ---------------------------------------------------------------- text


def _templates(values: Sequence[str], variables: bool, *, wildcards: bool) -> list[Template]:
    return [parse_template(value, variables=variables, wildcards=wildcards) for value in values]


def _string_like(values: Sequence[str], variables: bool) -> Match:
    return any_like(_templates(values, variables, wildcards=True))


def _string_equals(values: Sequence[str], variables: bool) -> Match:
    return _equal(values, variables, lambda text: text)


def _string_equals_ignore_case(values: Sequence[str], variables: bool) -> Match:
    return _equal(values, variables, str.lower)


def _equal(values: Sequence[str], variables: bool, fold: Callable[[str], str]) -> Match:
    templates = _templates(values, variables, wildcards=False)
    fixed = frozenset(fold(_text(template)) for template in templates if not has_variables(template))

    def build(template: Template) -> Callable[[str], bool]:
        wanted = fold(_text(template))
        return lambda have: fold(have) == wanted

    return with_variables(lambda have, _: fold(have) in fixed, list(filter(has_variables, templates)), build)


def _text(template: Template) -> str:
    return "".join(part for part in template if isinstance(part, str))


def _arn_like(values: Sequence[str], variables: bool) -> Match:
    return any_arn_like(_templates(values, variables, wildcards=True))


# ---------------------------------------------------------------- numbers, dates, addresses


def _compared(
    read: Callable[[str], Any], compare: Callable[[Any, Any], bool]
) -> Callable[[Sequence[str], bool], Match]:
    """A matcher that reads both sides; what cannot be read has no meaning."""

    def matcher(values: Sequence[str], _variables: bool) -> Match:
        wanted = [read(value) for value in values]
        known = [want for want in wanted if want is not None]
        otherwise = None if len(known) < len(wanted) else False

        def match(have: str, _context: Context) -> bool | None:
            value = read(have)
            if value is None:
                return None
            for want in known:
                if compare(value, want):
                    return True
            return otherwise

        return match

    return matcher


_is_number = re.compile(r"-?[0-9]+(?:\.[0-9]+)?").fullmatch


@lru_cache(maxsize=1024)
def read_number(text: str) -> Decimal | None:
    """``-?digits[.digits]``, exactly; anything else is no number."""
    return Decimal(text) if _is_number(text) else None


_is_date = re.compile(
    r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})"
    r"(?:T([0-9]{2}):([0-9]{2})(?::([0-9]{2})(\.[0-9]+)?)?(?:Z|([+-])([0-9]{2}):([0-9]{2})))?)?)?"
).fullmatch
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def read_instant(text: str) -> Decimal | None:
    """Seconds since 1970, from the W3C profile of ISO 8601 or from epoch seconds.

    Missing parts are the first instant.  Four digits are a year.
    """
    found = _is_date(text)
    if found is None:
        return read_number(text)
    year, month, day, hour, minute, second, fraction, sign, off_hours, off_minutes = found.groups()
    offset = timedelta(hours=int(off_hours or 0), minutes=int(off_minutes or 0))
    try:
        zone = timezone(-offset if sign == "-" else offset)
        at = datetime(
            int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0)
        ).replace(tzinfo=zone)
        since = at - _EPOCH
    except (ValueError, OverflowError):
        return None
    return Decimal(since.days * 86_400 + since.seconds) + Decimal(fraction or 0)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@lru_cache(maxsize=4096)
def read_network(text: str) -> Network | None:
    """A CIDR block, or the block of one address; host bits are tolerated."""
    if "%" in text:
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    mapped = network.network_address.ipv4_mapped if network.version == 6 else None
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network((mapped, network.prefixlen - _MAPPED_BITS))  # as clients are reduced


# ::ffff:0:0/96 (RFC 4291 section 2.5.5.2)
_MAPPED_BITS = 96


@lru_cache(maxsize=4096)
def _read_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _ip_address(values: Sequence[str], _variables: bool) -> Match:
    networks = [read_network(value) for value in values]
    known = [network for network in networks if network is not None]
    otherwise = None if len(known) < len(networks) else False

    def match(have: str, _context: Context) -> bool | None:
        address = _read_address(have)
        if address is None:
            return None
        for network in known:
            if address in network:  # another family is outside every block
                return True
        return otherwise

    return match


_BOOLS = {"true": True, "false": False}


def _octets(text: str) -> frozenset[bytes]:
    """What a text of a request may stand for: JSON has no octets, so base64 is taken too."""
    try:
        return frozenset((text.encode(), base64.b64decode(text, validate=True)))
    except ValueError:  # not base64, or not ASCII
        return frozenset((text.encode(),))


def _binary_equals(values: Sequence[str], _variables: bool) -> Match:
    wanted = set()
    for value in values:
        try:
            wanted.add(base64.b64decode(value, validate=True))
        except ValueError:
            continue
    return lambda have, _: not wanted.isdisjoint(_octets(have))


_MATCHERS: dict[str, Callable[[Sequence[str], bool], Match]] = {
    "StringEquals": _string_equals,
    "StringEqualsIgnoreCase": _string_equals_ignore_case,
    "StringLike": _string_like,
    "NumericEquals": _compared(read_number, eq),
    "NumericLessThan": _compared(read_number, lt),
    "NumericLessThanEquals": _compared(read_number, le),
    "NumericGreaterThan": _compared(read_number, gt),
    "NumericGreaterThanEquals": _compared(read_number, ge),
    "DateEquals": _compared(read_instant, eq),
    "DateLessThan": _compared(read_instant, lt),
    "DateLessThanEquals": _compared(read_instant, le),
    "DateGreaterThan": _compared(read_instant, gt),
    "DateGreaterThanEquals": _compared(read_instant, ge),
    "Bool": _compared(_BOOLS.get, eq),
    "BinaryEquals": _binary_equals,
    "IpAddress": _ip_address,
    "ArnEquals": _arn_like,
    "ArnLike": _arn_like,
}
