"""YAML with lines, whatever is thrown at it."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from keyleaf.core.location import Location
from keyleaf.tree.yamlsource import MAX_BYTES, parse

KEYS = st.text("abcdefghijklmnop", min_size=1, max_size=6)
LEAVES = st.one_of(st.integers(-(10**6), 10**6), st.booleans(), st.none(), st.text("abc xyz:#-'\"\n{}", max_size=12))
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=15
)


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[tuple[str | int, ...], object]]:
    """Every scalar with the way to it."""
    if isinstance(value, dict):
        return [found for key, item in value.items() for found in paths(item, (*path, key))]
    if isinstance(value, list):
        return [found for index, item in enumerate(value) for found in paths(item, (*path, index))]
    return [(path, value)]


@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=4), st.integers(0, 5), st.booleans())
def test_values_and_places_survive_any_layout(value: dict[str, object], blank: int, flow: bool) -> None:
    text = "#\n" * blank + yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    documents, findings = parse(text.encode(), "a.yaml")
    assert not findings
    assert documents[0].value == value
    lines = text.splitlines()
    for path, leaf in paths(value):
        where = documents[0].locate(*path)
        written = lines[where.line - 1][where.column - 1 :]
        if isinstance(leaf, int) and not isinstance(leaf, bool):
            assert written.startswith(str(leaf))


@given(
    st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), min_size=1, max_size=6, unique=True),
    st.integers(0, 4), st.integers(0, 3), st.integers(1, 4), st.booleans(),
)  # fmt: skip
def test_lines_inside_text_inside_text(names: list[str], above: int, blank: int, indent: int, crlf: bool) -> None:
    """A SecretProviderClass keeps YAML in a text in a list in a text: the line of each name is still exact."""
    pad = " " * indent
    inner = (
        "\n" * blank
        + "array:\n"
        + "".join(f"  - |\n    objectType: secret\n    objectName: {name}\n" for name in names)
    )
    outer = "# above\n" * above + "spec:\n" + f"{pad}objects: |\n"
    outer += "".join(f"{pad}{pad}{line}\n" if line else "\n" for line in inner.splitlines())
    content = outer.replace("\n", "\r\n") if crlf else outer
    document = parse(content.encode(), "c.yaml")[0][0]
    embedded, findings = document.embedded("spec", "objects")
    assert not findings
    lines = outer.splitlines()
    for index, name in enumerate(names):
        entry = embedded[0].embedded("array", index)[0][0]
        assert entry.value["objectName"] == name
        where = entry.locate("objectName")
        assert lines[where.line - 1][where.column - 1 :] == name


@pytest.mark.parametrize(
    "style", ["objects: >\n    array: [x]\n", 'objects: "array: [x]"\n', "objects: 'array: [x]'\n"]
)
def test_text_without_lines_of_its_own_points_at_its_first_line(style: str) -> None:
    document = parse(f"top: 1\n{style}".encode(), "c.yaml")[0][0]
    embedded, _ = document.embedded("objects")
    assert embedded[0].value == {"array": ["x"]}
    assert embedded[0].locate("array", 0).line in (2, 3)


@given(st.binary(max_size=300))
def test_junk_never_raises(junk: bytes) -> None:
    documents, findings = parse(junk, "junk.yaml")
    for document in documents:
        json.dumps(document.value, default=str)
    assert all(finding.where is not None and finding.where.line >= 1 for finding in findings)


@given(st.text("{}[]&*!|>%@`\"'#:-?,abc \n\t<\\", max_size=80))
def test_yaml_punctuation_never_raises(text: str) -> None:
    parse(text.encode(), "junk.yaml")


def test_one_bad_document_leaves_the_others() -> None:
    documents, findings = parse(b"a: 1\n---\nb: [1\n---\nc: 3\n", "m.yaml")
    assert [document.value for document in documents] == [{"a": 1}, {"c": 3}]
    assert documents[1].where == Location("m.yaml", 4, 1) or documents[1].where.line in (4, 5)
    assert documents[1].locate("c").line == 5
    assert [finding.code for finding in findings] == ["yaml-malformed"]
    assert findings[0].where is not None and findings[0].where.line in (3, 4)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: 1\nb: \x00\n", 2),
        (b"a: 1\nb:\n\t- x\n", 3),
        (b"a: 1\nb: \xff\xfe\n", 2),
        (b"a: 1\n b: 2\n", 2),
        (b"x: *nowhere\n", 1),
    ],
)
def test_malformed_documents_are_named_by_line(content: bytes, line: int) -> None:
    documents, findings = parse(content + b"---\nok: 1\n", "m.yaml")
    assert [document.value for document in documents] == [{"ok": 1}]
    assert [(finding.code, finding.where and finding.where.line) for finding in findings] == [("yaml-malformed", line)]


def test_alias_bombs_are_refused_before_they_are_built() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30))
    documents, findings = parse(f"ok: 1\n---\n{bomb}".encode(), "bomb.yaml")
    assert [document.value for document in documents] == [{"ok": 1}]
    assert [finding.code for finding in findings] == ["yaml-too-large"]


def test_what_refers_to_itself_is_refused() -> None:
    documents, findings = parse(b"a: &a\n  b: *a\n", "self.yaml")
    assert not documents
    assert [finding.code for finding in findings] == ["yaml-too-large"]


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, "{a: " * 500 + "1" + "}" * 500, "- " * 400 + "x"])
def test_deep_nesting_is_refused(text: str) -> None:
    documents, findings = parse(text.encode(), "deep.yaml")
    assert not documents
    assert [finding.code for finding in findings] == ["yaml-too-deep"]


def test_large_files_are_not_read() -> None:
    documents, findings = parse(b"a: 1\n" + b"#" * MAX_BYTES, "large.yaml")
    assert not documents
    assert [(finding.code, str(finding.where)) for finding in findings] == [("file-too-large", "large.yaml:1")]


def test_the_last_of_two_equal_keys_counts() -> None:
    documents, findings = parse(b"a: 1\nb: 2\na: 3\n", "d.yaml")
    assert documents[0].value == {"a": 3, "b": 2}
    assert documents[0].locate("a").line == 3
    assert [(finding.code, finding.where and finding.where.line) for finding in findings] == [("yaml-duplicate-key", 3)]


def test_merge_keys_give_what_is_not_said() -> None:
    documents, _ = parse(b"base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n", "m.yaml")
    assert documents[0].value["use"] == {"x": 1, "y": 3}
    assert documents[0].locate("use", "x").line == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-01-02", "2024-01-02"), ("12:30", "12:30"), ("yes", True), ("'yes'", "yes"), ("0644", 420), ("0x1f", 31),
        ("1.5", 1.5), ("~", None), ("1_000", 1000), ("!custom x", "x"), ("08", "08"),
    ],
)  # fmt: skip
def test_scalars_are_read_as_kubernetes_reads_them(text: str, value: object) -> None:
    assert parse(f"a: {text}".encode(), "s.yaml")[0][0].value == {"a": value}


def test_templates_are_no_errors() -> None:
    _, findings = parse(b"{{- if .Values.x }}\na: 1\n{{- end }}\n", "t.yaml")
    assert [(finding.code, finding.severity.name) for finding in findings] == [("yaml-template", "NOTE")]


def test_json_is_read_with_its_lines() -> None:
    documents, findings = parse(b'{\n\t"a": "\\ud83d\\ude00",\n\t"b": [1,\n\t\t2]\n}\n', "a.json")
    assert not findings
    assert documents[0].value == {"a": "\U0001f600", "b": [1, 2]}
    assert documents[0].locate("b", 1).line == 4


def test_utf16_is_read() -> None:
    assert parse("a: ä\n".encode("utf-16"), "u.yaml")[0][0].value == {"a": "ä"}
