"""Wildcards, ARNs and variables, held against matchers too simple to be wrong."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.authorization.matching import (
    ANY_ONE,
    ANY_RUN,
    Variable,
    any_arn_like,
    any_like,
    arn_segments,
    has_variables,
    is_arn,
    parse_template,
    resolve,
)

# A pattern taken apart for the oracle: characters, with None for "any one" and ... for "any run".
Marks = tuple[Any, ...]

_texts = st.text("ab:/$.\n", max_size=12)
_patterns = st.text("ab:*?$.\n", max_size=10)


def _oracle(marks: Marks, text: str) -> bool:
    @cache
    def matches(mark: int, at: int) -> bool:
        if mark == len(marks):
            return at == len(text)
        if marks[mark] is ...:
            return matches(mark + 1, at) or (at < len(text) and matches(mark, at + 1))
        return at < len(text) and marks[mark] in (None, text[at]) and matches(mark + 1, at + 1)

    return matches(0, 0)


def _marks(pattern: str) -> Marks:
    return tuple({"*": ..., "?": None}.get(character, character) for character in pattern)


def _like(pattern: str, text: str) -> bool | None:
    return any_like([parse_template(pattern, variables=False, wildcards=True)])(text, {})


# ---------------------------------------------------------------- wildcards


@settings(max_examples=300, deadline=None)
@given(_patterns, _texts)
@example("*ab*ab", "ab")
@example("ab*ba", "aba")
@example("a**b", "ab")
@example("*?*?*", "a")
@example("**", "")
def test_a_text_is_like_a_pattern_as_the_oracle_says(pattern: str, text: str) -> None:
    assert _like(pattern, text) is _oracle(_marks(pattern), text)


@settings(max_examples=100, deadline=None)
@given(st.lists(_patterns, max_size=4), _texts)
def test_a_text_is_like_one_of_several_patterns_as_the_oracle_says(patterns: list[str], text: str) -> None:
    match = any_like([parse_template(one, variables=False, wildcards=True) for one in patterns])
    assert match(text, {}) is any(_oracle(_marks(one), text) for one in patterns)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["*{}", "{}*"]), st.lists(st.text("ab", min_size=1, max_size=6), max_size=60), _texts)
@example("*{}", [format(number, "05b").translate({48: "a", 49: "b"}) for number in range(31)], "abbbbb")
@example("{}*", [format(number, "05b").translate({48: "a", 49: "b"}) for number in range(31)], "bbbbb")
def test_long_lists_of_ends_and_beginnings_match_as_one_by_one(
    form: str, texts: list[str], text: str
) -> None:
    """Of a length that many have they are looked up at once."""
    patterns = [form.format(one) for one in texts]
    match = any_like([parse_template(one, variables=False, wildcards=True) for one in patterns])
    assert match(text, {}) is any(_like(one, text) for one in patterns)


@pytest.mark.parametrize("form", ["*{}", "{}*"])
@pytest.mark.parametrize("count", [1, 15, 16, 40])
def test_each_of_a_long_list_is_found_and_nothing_shorter(form: str, count: int) -> None:
    texts = [f"@c{number:03}.example" for number in range(count)]
    match = any_like([parse_template(form.format(one), variables=False, wildcards=True) for one in texts])
    for one in texts:
        assert match(one, {})
        assert match(form.format(one).replace("*", "anything"), {})
        assert not match(one[1:], {})
        assert not match(one[:-1], {})
    assert not match("", {})


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_text_is_like_itself_with_anything_starred(text: str, more: str) -> None:
    plain = text.replace("*", "").replace("?", "")
    assert _like(plain, plain)
    assert _like(f"{plain}*", plain + more)
    assert _like(f"*{plain}", more + plain)
    assert _like("?" * len(text), text)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("*a" * 200, "a" * 400),
        ("*a" * 200 + "b", "a" * 1000),
        ("?a" * 300, "ba" * 300),
        ("*?a?a" * 100, "a" * 1000),
        ("*" * 1000 + "x", "a" * 1000),
    ],
    ids=["many-stars", "many-stars-miss", "many-question-marks", "both", "stars-alone"],
)
def test_hostile_patterns_match_as_the_oracle_says(pattern: str, text: str) -> None:
    assert _like(pattern, text) is _run(_marks(pattern), text)


def _run(marks: Marks, text: str) -> bool:
    """The oracle without recursion: which ends are reachable after each mark."""
    ends = {0}
    for mark in marks:
        if mark is ...:
            ends = set(range(min(ends), len(text) + 1)) if ends else set()
        else:
            ends = {at + 1 for at in ends if at < len(text) and mark in (None, text[at])}
    return len(text) in ends


# ---------------------------------------------------------------- ARNs

_segments = st.lists(st.text("ab*?", max_size=3), min_size=1, max_size=8)
_values = st.lists(st.text("ab/", max_size=3), min_size=4, max_size=8).map(lambda s: "arn:" + ":".join(s))


def _arn_oracle(pattern: str, arn: str) -> bool | None:
    parts, wanted = arn.split(":", 5), pattern.split(":", 5)
    if len(parts) < 6 or parts[0] != "arn":
        return None
    if len(wanted) < 6:
        return None
    return all(_oracle(_marks(want), part) for want, part in zip(wanted, parts, strict=True))


@settings(max_examples=200, deadline=None)
@given(_segments.map(":".join), _values)
@example("*:*:*:*:*:*", "arn:a:b:c:d:e:f/g")
@example("arn:*:f", "arn:a:b:c:d:f")
@example("arn:a:b:c:d:", "arn:a:b:c:d:")
@example("arn:a:b:c:d:*b", "arn:a:b:c:d:a:b")
def test_an_arn_is_like_a_pattern_as_the_oracle_says(pattern: str, arn: str) -> None:
    match = any_arn_like([parse_template(pattern, variables=False, wildcards=True)])
    assert match(arn, {}) is _arn_oracle(pattern, arn)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arn:aws:ses:us-east-1:111111111111:identity/a", True),
        ("arn:aws:s3:::b", True),
        ("arn:::::", True),
        ("arn:aws:ses:us-east-1:111111111111:a:b:c", True),
        ("arn:aws:ses:us-east-1:111111111111", False),
        ("ARN:aws:ses:us-east-1:111111111111:x", False),
        ("xarn:aws:ses:us-east-1:111111111111:x", False),
        ("example.com", False),
        ("", False),
    ],
)
def test_an_arn_has_six_parts(text: str, expected: bool) -> None:
    assert is_arn(text) is expected


@pytest.mark.parametrize(
    ("pattern", "last"),
    [
        pytest.param("arn:aws:ses:r:1:identity/x", ("identity/x",), id="plain"),
        pytest.param("arn:aws:ses:r:1:a:b*", ("a:b", ANY_RUN), id="colons-in-the-last"),
        pytest.param("arn:aws:ses:r:1:${k}", (Variable("k"),), id="variable-in-the-last"),
        pytest.param("arn:aws:ses:r:1:${k, 'a:b'}:c", (Variable("k", "a:b"), ":c"), id="colon-in-a-default"),
        pytest.param("arn:aws:ses:r:1:", (), id="empty-last"),
        pytest.param("arn:aws:s?s:*:${*}:x", ("x",), id="wildcards-and-escapes-anywhere"),
    ],
)
def test_the_last_of_six_segments_takes_everything(pattern: str, last: tuple[Any, ...]) -> None:
    segments = arn_segments(parse_template(pattern, variables=True, wildcards=True))
    assert segments is not None
    assert len(segments) == 6
    assert segments[-1] == last


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "*",
        "arn:aws:ses:r:1",
        "arn:aws:ses:*",
        "arn:aws:ses:${k}:1:x",
        "${k}:aws:ses:r:1:x",
        "${k, 'a:b:c:d:e:f'}",
    ],
)
def test_fewer_segments_or_a_variable_before_the_last_is_no_pattern(pattern: str) -> None:
    assert arn_segments(parse_template(pattern, variables=True, wildcards=True)) is None


# ---------------------------------------------------------------- variables


@pytest.mark.parametrize(
    ("text", "template"),
    [
        pytest.param("", (), id="empty"),
        pytest.param("a", ("a",), id="plain"),
        pytest.param("a*b?", ("a", ANY_RUN, "b", ANY_ONE), id="wildcards"),
        pytest.param("a${*}b", ("a*b",), id="escape-joins-its-neighbours"),
        pytest.param("${*}${?}${$}", ("*?$",), id="escapes"),
        pytest.param("${AWS:UserName}", (Variable("aws:username"),), id="key-in-small-letters"),
        pytest.param("${k, 'A b'}", (Variable("k", "A b"),), id="default"),
        pytest.param("x${k}*${l}", ("x", Variable("k"), ANY_RUN, Variable("l")), id="several"),
        pytest.param("${$}{k}", ("${k}",), id="escaped-dollar-is-no-start"),
        pytest.param("$${k}", ("$", Variable("k")), id="dollar-in-front"),
        pytest.param("${k", ("${k",), id="unclosed"),
        pytest.param("a}${", ("a}${",), id="unclosed-behind"),
        pytest.param("{k}", ("{k}",), id="no-dollar"),
    ],
)
def test_a_text_is_parsed_into_its_parts(text: str, template: tuple[Any, ...]) -> None:
    assert parse_template(text, variables=True, wildcards=True) == template


@pytest.mark.parametrize("text", ["${k,'x'}", "${k, ''}", "${k, x}", "${}", "${k, 'a'b'}"])
def test_a_default_in_another_form_never_has_a_value(text: str) -> None:
    template = parse_template(text, variables=True, wildcards=True)
    assert has_variables(template)
    assert resolve(template, {"k": "v"}) is None


def test_without_variables_a_text_stands_as_it_is() -> None:
    assert parse_template("${k}${*}", variables=False, wildcards=False) == ("${k}${*}",)
    assert parse_template("${*}", variables=False, wildcards=True) == ("${", ANY_RUN, "}")


@pytest.mark.parametrize(
    ("value", "resolved"),
    [
        pytest.param("v", ("v",), id="text"),
        pytest.param("*", ("*",), id="star-stays-text"),
        pytest.param("${l}", ("${l}",), id="variable-stays-text"),
        pytest.param("", None, id="empty"),
        pytest.param(("v",), None, id="several"),
        pytest.param((), None, id="none-of-several"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_a_variable_takes_a_single_value_that_is_not_empty(value: Any, resolved: Any) -> None:
    context = {"l": "never"} if value is None else {"k": value, "l": "never"}
    assert resolve(parse_template("${k}", variables=True, wildcards=True), context) == resolved
    default = resolve(parse_template("${k, 'd'}", variables=True, wildcards=True), context)
    assert default == (resolved or ("d",))


_VALUES = {"k": "a*b", "l": "", "m": ("a",), "n": "${k}"}
# Each piece of a text with the marks it stands for; None if it has no value.
_PIECES: dict[str, Marks | None] = {
    "a": ("a",),
    "b": ("b",),
    "*": (...,),
    "?": (None,),
    "$": ("$",),
    "${*}": ("*",),
    "${?}": ("?",),
    "${$}": ("$",),
    "${k}": ("a", "*", "b"),
    "${K}": ("a", "*", "b"),
    "${n}": ("$", "{", "k", "}"),
    "${l}": None,
    "${l, 'a?'}": ("a", "?"),
    "${m}": None,
    "${o}": None,
    "${o, '*'}": ("*",),
}


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(_PIECES)), max_size=5), st.text("ab*?${k}", max_size=7))
@example(["${k}"], "a*b")
@example(["${k}"], "axb")
@example(["*", "${o, '*'}"], "x*")
def test_a_text_with_variables_matches_as_the_oracle_says(pieces: list[str], text: str) -> None:
    match = any_like([parse_template("".join(pieces), variables=True, wildcards=True)])
    marks = [_PIECES[piece] for piece in pieces]
    expected = None if None in marks else _oracle(tuple(one for piece in marks for one in piece or ()), text)
    assert match(text, _VALUES) is expected


def test_one_pattern_that_matches_outweighs_one_without_value() -> None:
    match = any_like([parse_template(text, variables=True, wildcards=True) for text in ("${o}", "a*")])
    assert match("ab", {}) is True
    assert match("b", {}) is None
