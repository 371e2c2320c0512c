"""Templates: SES's documented examples, what is an error, what strangers' templates may cost."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.submission.template import MissingAttribute, TemplateError, compiled, parse_data

DATA: dict[str, Any] = {
    "contact": {"firstName": "Anaya", "city": "Bengaluru"},
    "subscription": [{"interest": "Sports"}, {"interest": "Travel"}],
    "vip": True,
    "none": [],
    "html": "<b>&",
    "n": 3,
}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Hello {{contact.firstName}}!", "Hello Anaya!"),
        ("{{#each subscription}}<li>{{interest}}</li>{{/each}}", "<li>Sports</li><li>Travel</li>"),
        ("{{#if vip}}yes{{else}}no{{/if}}", "yes"),
        ("{{#if absent}}yes{{else}}no{{/if}}", "no"),
        ("{{#unless none}}nothing{{/unless}}", "nothing"),
        ("{{#with contact}}{{city}}{{/with}}", "Bengaluru"),
        ("{{#each subscription}}{{@index}}{{#unless @last}},{{/unless}}{{/each}}", "0,1"),
        ('{{#* inline "hi"}}Hi {{contact.city}}{{/inline}}{{> hi}}, {{> hi}}', "Hi Bengaluru, Hi Bengaluru"),
        ("{{html}}{{{html}}}", "<b>&<b>&"),  # nothing is escaped, as in SES
        ("{{n}} \\{{n}}", "3 {{n}}"),
    ],
)
def test_template_is_rendered_as_ses_documents_it(source: str, text: str) -> None:
    assert compiled(source)(DATA) == text


@pytest.mark.parametrize(
    "source", ["{{name}}", "{{contact.lastName}}", "{{#each subscription}}{{x}}{{/each}}"]
)
def test_gap_without_a_value_is_named(source: str) -> None:
    with pytest.raises(MissingAttribute, match="Attribute '[a-zA-Z.]+' is not present in the rendering data"):
        compiled(source)(DATA)


@pytest.mark.parametrize(
    "source", ["{{", "{{#if a}}", "{{/if}}", "{{#each a}}{{/if}}", "{{> nobody}}", "{{log 'x'}}"]
)
def test_what_is_no_template_is_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        compiled(source)(DATA)


@pytest.mark.parametrize("text", ["", "[]", "1", "{", "nul"])
def test_data_are_a_json_object(text: str) -> None:
    with pytest.raises(TemplateError):
        parse_data(text)


NESTED = "{{#each a}}" * 4 + "{{#each ../../../../a}}{{/each}}" + "{{/each}}" * 4


@pytest.mark.parametrize(
    ("source", "data"),
    [
        (NESTED.replace("{{#each a}}", "{{#each @root.a}}"), {"a": [0] * 1000}),
        ("{{#each a}}{{@root.b}}{{/each}}", {"a": [0] * 20_000, "b": "x" * 200_000}),
        ("{{#each a}}" + "x" * 100_000 + "{{/each}}", {"a": [0] * 100_000}),
        ("{{#each a}}{{@root.a}}{{/each}}", {"a": [0] * 50_000}),
        ('{{#*inline "a"}}{{> a}}{{> a}}{{/inline}}{{> a}}', {}),
        ('{{#*inline "a"}}{{!-- {{/inline}} --}}{{> a}}{{> a}}{{/inline}}{{> a}}', {}),
        ('{{#> a}}x{{/a}}{{#*inline "a"}}{{/inline}}', {}),
        ("{{#if a}}" * 5_000 + "{{/if}}" * 5_000, {"a": 1}),
        ("{{x " + "(" * 5_000 + ")" * 5_000 + "}}", {}),
    ],
    ids=["loops", "value", "text", "list", "recursion", "hidden", "block", "depth", "parentheses"],
)
def test_bomb_is_refused_soon(source: str, data: dict[str, Any]) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError):
        compiled(source)(data)
    assert time.process_time() - started < 5


def test_data_nested_without_end_are_refused() -> None:
    with pytest.raises(TemplateError):
        compiled("x")(parse_data('{"a":' * 900 + "1" + "}" * 900))


_PIECES = """{{ }} {{{ #if /if #each /each else a . ../ @index ~ ( ) " #*inline /inline > |x| = [0] as
    \\ !-- -- ^ & {{{{raw}}}} 1""".split()  # noqa: SIM905
_PIECES += [" "]


@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join))
def test_any_text_is_rendered_or_refused(source: str) -> None:
    try:
        assert isinstance(compiled(source)({"a": [{"a": 1}, None], "x": {"a": "b"}}), str)
    except TemplateError:
        pass
