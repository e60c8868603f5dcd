"""Globs, ApplicationSet templates and Helm's values: exact where they are understood, calm where they are not."""

from __future__ import annotations

import contextlib
import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.tree.globs import matches
from keyleaf.tree.helmvalues import merge, set_value
from keyleaf.tree.templates import TemplateError, fill_fast, fill_go


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("*", "a/b/c", True),
        ("*.yaml", "deep/a.yaml", True),
        ("{a,b}.yaml", "b.yaml", True),
        ("{a,b{1,2}}.yaml", "b2.yaml", True),
        ("{a,b}.yaml", "c.yaml", False),
        ("[a-c]x", "bx", True),
        ("[!a-c]x", "bx", False),
        ("?x", "ax", True),
        ("?x", "x", False),
        (r"\*x", "*x", True),
        (r"\*x", "ax", False),
        ("a.b", "axb", False),
        ("{unclosed", "{unclosed", True),
        ("[", "[", True),
    ],
)
def test_globs(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [("apps/*", "apps/a", True), ("apps/*", "apps/a/b", False), ("apps/**", "apps/a/b", True), ("a?b", "a/b", False)],
)
def test_globs_with_a_separator(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text, separator="/") is fits


@given(st.text("ab*?/.", max_size=10), st.text("ab/.", max_size=10))
def test_simple_globs_mean_what_everybody_means(pattern: str, text: str) -> None:
    assert matches(pattern, text) is fnmatch.fnmatchcase(text, pattern)


@given(st.text(max_size=20), st.text(max_size=20), st.sampled_from(["", "/"]))
def test_any_glob_is_calm(pattern: str, text: str, separator: str) -> None:
    matches(pattern, text, separator=separator)


PARAMETERS = {
    "path": {"path": "apps/Web_One", "basename": "Web_One", "segments": ["apps", "Web_One"]},
    "n": 2,
    "on": True,
}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{{ .path.basename }}", "Web_One"),
        ("x-{{.path.basename|lower}}-y", "x-web_one-y"),
        ("{{ index .path.segments 1 | lower | replace \"_\" \"-\" }}", "web-one"),
        ("{{ default \"none\" .absent }}", "none"),
        ("{{ .absent | default `none` }}", "none"),
        ("{{ dig \"a\" \"b\" . }}", None),
        ("{{ normalize .path.basename }}", "web-one"),
        ("{{ printf \"%s-%d\" .path.basename .n }}", "Web_One-2"),
        ("{{ (index .path.segments 0) | upper }}", "APPS"),
        ("{{ ternary \"a\" \"b\" .on }}", "a"),
        ("{{ .path.basename | trunc 3 }}", "Web"),
        ("a {{- /* nothing */ -}} b", "ab"),
        ("{{ .path.segments }}", "[apps Web_One]"),
        ("{{ join \"-\" .path.segments }}", "apps-Web_One"),
        ("{{ $.n }}", "2"),
        ("{{ .absent }}", None),
        ("{{ if .on }}x{{ end }}", None),
        ("{{ range .path.segments }}x{{ end }}", None),
        ("{{ unknown .n }}", None),
        ("{{ index .path.segments 9 }}", None),
        ("{{ }}", None),
        ("{{ ( .n }}", None),
        ("plain", "plain"),
    ],
)  # fmt: skip
def test_go_templates(template: str, filled: str | None) -> None:
    if filled is None:
        with pytest.raises(TemplateError):
            fill_go(template, PARAMETERS)
    else:
        assert fill_go(template, PARAMETERS) == filled


@given(st.text('{}.|()"`$ pathlowerindex019-_\\', max_size=40))
def test_any_template_is_filled_or_refused(text: str) -> None:
    for template in (text, "{{" + text + "}}"):
        with contextlib.suppress(TemplateError):
            fill_go(template, PARAMETERS)
        fill_fast(template, {"path": "x"})


def test_templates_cannot_grow_without_bound() -> None:
    with pytest.raises(TemplateError):
        fill_go("{{ repeat 999999999 `x` }}", {})
    with pytest.raises(TemplateError):
        fill_go("{{" + "(" * 200 + "1" + ")" * 200 + "}}", {})


def test_fast_templates_leave_what_nobody_gives() -> None:
    assert fill_fast("{{path}}/{{ path.basename }}/{{absent}}", {"path": "a", "path.basename": "b"}) == "a/b/{{absent}}"


def test_values_merge_as_helm_merges() -> None:
    assert merge({"a": {"x": 1, "y": 2}, "b": [1]}, {"a": {"y": 3}, "b": [2], "c": 4}) == {
        "a": {"x": 1, "y": 3}, "b": [2], "c": 4,
    }  # fmt: skip
    assert merge({"a": 1, "b": 2}, {"a": None}) == {"b": 2}


@pytest.mark.parametrize(
    ("name", "value", "as_text", "made"),
    [
        ("a.b", "1", False, {"a": {"b": 1}}),
        ("a.b", "1", True, {"a": {"b": "1"}}),
        ("a[1].b", "x", False, {"a": [None, {"b": "x"}]}),
        (r"a\.b", "true", False, {"a.b": True}),
        ("a", "007", False, {"a": "007"}),
        ("", "x", False, {}),
        ("a[99999]", "x", False, {}),
    ],
)
def test_single_values_are_set_as_helm_sets_them(name: str, value: str, as_text: bool, made: dict[str, object]) -> None:
    assert set_value({}, name, value, as_text=as_text) == made


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_name_is_set_or_left(name: str, value: str) -> None:
    set_value({"a": [1], "b": {"c": 2}}, name, value, as_text=False)
