"""YAML and JSON to plain Python, with the line of every value, whatever is thrown at it.

Values follow YAML 1.1 as Kubernetes reads it, with two exceptions that Kubernetes makes too: timestamps and
base-60 numbers stay text. Source: https://pkg.go.dev/sigs.k8s.io/yaml
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location

MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 100
MAX_NODES = 500_000
_MARKER = re.compile(rb"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATES = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_BOOLEANS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_TEXT = _TAG + "str"
_IMPLICIT: dict[str, list[tuple[str, re.Pattern[str]]]] = dict(yaml.SafeLoader.yaml_implicit_resolvers)
_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Place = tuple[int, int]
Step = str | int


class _Loader(_BASE):  # type: ignore[misc]
    """PyYAML's loader without resolvers by path, which nothing here uses and which take a third of the time."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        if kind is yaml.ScalarNode:
            if implicit[0]:
                for tag, pattern in _IMPLICIT.get(value[:1], ()):
                    if pattern.match(value):
                        return tag
            return _TEXT
        return _TAG + ("seq" if kind is yaml.SequenceNode else "map")

    def descend_resolver(self, current_node: Any, current_index: Any) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass


class _LiteralLoader(_Loader):
    """Takes every scalar as text."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        return _TEXT if kind is yaml.ScalarNode else super().resolve(kind, value, implicit)


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: ``value`` is plain Python, ``where`` its first line; ``locate`` finds any part of it."""

    value: Any
    node: yaml.Node
    file: str
    text: str
    to_file: Callable[[int, int], Place]
    where: Location

    def locate(self, *path: Step) -> Location:
        """Where ``path`` stands; where its nearest existing ancestor does if it is absent."""
        node = self._descend(path, exact=False)
        return self._location(node.start_mark) if node is not None else self.where

    def locate_key(self, *path: Step) -> Location:
        """Where the key that ends ``path`` stands; as ``locate`` if it is absent."""
        parent = self._descend(path[:-1], exact=True) if path else None
        if isinstance(parent, yaml.MappingNode):
            for key, _ in parent.value:
                if isinstance(key, yaml.ScalarNode) and key.value == path[-1]:
                    return self._location(key.start_mark)
        return self.locate(*path)

    def find_scalar(self, text: str) -> Location | None:
        """Where a value that reads ``text`` stands, the first one; None if there is none."""
        pending, seen = [self.node], set()
        while pending:
            node = pending.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.ScalarNode):
                if node.value == text:
                    return self._location(node.start_mark)
            elif isinstance(node, yaml.SequenceNode):
                pending.extend(reversed(node.value))
            elif isinstance(node, yaml.MappingNode):
                pending.extend(value for _, value in reversed(node.value))
        return None

    def embedded(self, *path: Step) -> tuple[Sequence[Document], Sequence[Finding]]:
        """Read the text at ``path`` as YAML of its own; lines still count in the file that holds it.

        Its scalars stay text as written: what reads such YAML reads it into text fields, and a version made of
        digits would be no number.
        """
        node = self._descend(path, exact=True)
        if not isinstance(node, yaml.ScalarNode):
            return (), ()
        return _parse(
            str(node.value).encode("utf-8", "surrogatepass"), self.file, self._inner_places(node), literal=True
        )

    def _inner_places(self, node: yaml.ScalarNode) -> Callable[[int, int], Place]:
        start: Place = (node.start_mark.line, node.start_mark.column)
        if node.style != "|":
            # Quoted and folded text has no line for each of its own: the value's first line is the honest answer.
            line = start[0] + (node.style == ">")
            return lambda _line, _column: self.to_file(line, start[1] if node.style != ">" else 0)
        raw = _BREAK.split(self.text)
        inner = _BREAK.split(node.value)
        first = start[0] + 1
        indents = [
            len(raw[first + i]) - len(line) for i, line in enumerate(inner) if line.strip() and first + i < len(raw)
        ]
        indent = max(0, min(indents, default=0))
        return lambda line, column: self.to_file(first + line, indent + column)

    def _descend(self, path: Sequence[Step], *, exact: bool) -> yaml.Node | None:
        node: yaml.Node = self.node
        for step in path:
            child = _child(node, step)
            if child is None:
                return None if exact else node
            node = child
        return node

    def _location(self, mark: Any) -> Location:
        line, column = self.to_file(mark.line, mark.column)
        return Location(self.file, line + 1, column + 1)


def _child(node: yaml.Node, step: Step) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        found: yaml.Node | None = None
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == str(step):
                found = value
            elif key.tag == _MERGE and found is None:
                merged = value.value if isinstance(value, yaml.SequenceNode) else (value,)
                found = next((c for one in merged if (c := _child(one, step)) is not None), None)
        return found
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and 0 <= step < len(node.value):
        child: yaml.Node = node.value[step]
        return child
    return None


def parse(content: bytes, file: str) -> tuple[Sequence[Document], Sequence[Finding]]:
    """The documents of one file, and what is wrong in it.

    A bad document is a finding and the others are still read. Empty documents are left out. Nothing here raises.
    """
    if len(content) > MAX_BYTES:
        return (), (
            _finding(
                "file-too-large",
                f"{file} has {len(content) / 1e6:.1f} MB and is not read",
                Location(file, 1),
                f"files over {MAX_BYTES // 1024 // 1024} MB are no manifests",
                "split the file, or exclude it with directory.exclude",
            ),
        )
    if file.endswith(".json"):
        content = _SURROGATES.sub(_joined_surrogates, content)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    return _parse(content.removeprefix(b"\xef\xbb\xbf"), file, lambda line, column: (line, column))


def _joined_surrogates(match: re.Match[bytes]) -> bytes:
    """JSON writes what lies beyond 16 bits as two escapes; YAML has no such pairs."""
    return str(json.loads(b'"' + match.group() + b'"')).encode()


def _parse(
    content: bytes, file: str, to_file: Callable[[int, int], Place], *, literal: bool = False
) -> tuple[Sequence[Document], Sequence[Finding]]:
    findings: list[Finding] = []
    try:
        text = content.decode()
        documents = list(_documents(text, file, to_file, findings, literal))
        return documents, findings
    except (yaml.YAMLError, UnicodeDecodeError, _Refused, RecursionError, ValueError):
        findings.clear()
    documents = []
    for line, piece in _pieces(content):

        def place(inner: int, column: int, line: int = line) -> Place:
            return to_file(line + inner, column)

        try:
            documents.extend(_documents(piece.decode(), file, place, findings, literal))
        except (yaml.YAMLError, UnicodeDecodeError, _Refused, RecursionError, ValueError) as error:
            findings.append(_problem(error, piece, file, place))
    return documents, findings


def _pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The documents as bytes, each with its first line: ``---`` at a line's start always parts documents."""
    starts = [0, *(match.start() for match in _MARKER.finditer(content) if match.start())]
    line = 0
    for start, end in zip(starts, [*starts[1:], len(content)], strict=True):
        yield line, content[start:end]
        line += content.count(b"\n", start, end)


class _Refused(Exception):
    """A document that is well-formed and still not read."""

    def __init__(self, code: str, message: str, mark: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.mark = mark


def _refused(code: str, message: str, mark: Any) -> _Refused:
    return _Refused(code, message, mark)


def _documents(
    text: str, file: str, to_file: Callable[[int, int], Place], findings: list[Finding], literal: bool
) -> Iterator[Document]:
    many = "&" in text and "*" in text
    for node in _compose(text, _LiteralLoader if literal else _Loader):
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            continue
        if many:
            _check_size(node)
        duplicates: list[tuple[str, Any]] = []
        value = _construct(node, 0, {} if many else None, duplicates)
        line, column = to_file(node.start_mark.line, node.start_mark.column)
        for key, mark in duplicates:
            at = to_file(mark.line, mark.column)
            findings.append(
                _finding(
                    "yaml-duplicate-key",
                    f"the key {key!r} stands twice in one mapping",
                    Location(file, at[0] + 1, at[1] + 1),
                    "the last one counts, and whoever wrote the first does not know",
                    "remove one of them",
                    Severity.WARNING,
                )
            )
        yield Document(value, node, file, text, to_file, Location(file, line + 1, column + 1))


def _compose(text: str, make: Callable[[str], Any]) -> Iterator[Any]:
    loader = make(text)
    try:
        while loader.check_node():
            yield loader.get_node()
    finally:
        loader.dispose()


def _check_size(root: yaml.Node) -> None:
    """Refuse what aliases would blow up, and what refers to itself, before anything is built."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    stack: list[tuple[yaml.Node, bool]] = [(root, False)]
    while stack:
        node, done = stack.pop()
        if done:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes.get(id(child), 0) for child in _children(node))
            if sizes[id(node)] > MAX_NODES:
                raise _refused(
                    "yaml-too-large", f"its aliases stand for more than {MAX_NODES:,} values", node.start_mark
                )
        elif id(node) in open_nodes:
            raise _refused("yaml-too-large", "an alias refers to what it is part of", node.start_mark)
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            stack.append((node, True))
            for child in _children(node):
                if id(child) in open_nodes:
                    raise _refused("yaml-too-large", "an alias refers to what it is part of", child.start_mark)
                stack.append((child, False))


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        yield from node.value
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value


def _construct(node: Any, depth: int, memory: dict[int, Any] | None, duplicates: list[tuple[str, Any]]) -> Any:
    if type(node) is yaml.ScalarNode:
        return node.value if node.tag == _TEXT else _scalar(node)
    if depth > MAX_DEPTH:
        raise _refused("yaml-too-deep", f"values stand more than {MAX_DEPTH} levels deep", node.start_mark)
    if memory is not None and id(node) in memory:
        return memory[id(node)]
    result: Any
    if type(node) is yaml.SequenceNode:
        result = [_construct(item, depth + 1, memory, duplicates) for item in node.value]
    else:
        result = _mapping(node, depth, memory, duplicates)
    if memory is not None:
        memory[id(node)] = result
    return result


def _mapping(node: Any, depth: int, memory: dict[int, Any] | None, duplicates: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    merged: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if key_node.tag == _MERGE:
            value = _construct(value_node, depth + 1, memory, duplicates)
            for one in reversed(value if isinstance(value, list) else [value]):
                merged.update(one if isinstance(one, dict) else {})
            continue
        # Keys of objects are text; what YAML takes for a number or a boolean keeps the form in which it is written.
        key = key_node.value if type(key_node) is yaml.ScalarNode else str(_construct(key_node, depth + 1, None, []))
        if key in result:
            duplicates.append((key, key_node.start_mark))
        result[key] = _construct(value_node, depth + 1, memory, duplicates)
    return {**merged, **result} if merged else result


def _scalar(node: Any) -> Any:
    text, tag = node.value, node.tag.removeprefix(_TAG)
    try:
        if tag == "null":
            return None
        if tag == "bool":
            return _BOOLEANS.get(text.lower(), text)
        if tag == "int":
            return _integer(text)
        if tag == "float":
            return _float(text)
    except ValueError:
        return text
    return text


def _integer(text: str) -> int | str:
    plain = text.replace("_", "")
    if ":" in plain or len(plain) > 100:
        return text
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    if digits.startswith("0") and len(digits) > 1 and digits[1] not in "xXbBoO":
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def _float(text: str) -> float | str:
    plain = text.replace("_", "").lower()
    if ":" in plain:
        return text
    if plain.endswith(".inf"):
        return float("-inf" if plain.startswith("-") else "inf")
    return float("nan") if plain == ".nan" else float(plain)


def _problem(error: Exception, piece: bytes, file: str, to_file: Callable[[int, int], Place]) -> Finding:
    def at(line: int, column: int = 0) -> Location:
        placed = to_file(line, column)
        return Location(file, placed[0] + 1, placed[1] + 1)

    if isinstance(error, _Refused):
        return _unread(error.code, error.message, at(error.mark.line, error.mark.column))
    if isinstance(error, RecursionError):
        return _unread("yaml-too-deep", f"values stand more than {MAX_DEPTH} levels deep", at(0))
    where, message = at(0), "it cannot be parsed"
    if isinstance(error, UnicodeDecodeError):
        where, message = at(piece.count(b"\n", 0, error.start)), "it is not UTF-8"
    elif isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = at(mark.line, mark.column) if mark else where
        message = str(error.problem or error.context or message)
        if "nesting" in message:
            return _unread("yaml-too-deep", f"values stand more than {MAX_DEPTH} levels deep", where)
    elif isinstance(error, yaml.reader.ReaderError):
        control = _CONTROL.search(piece)
        where, message = at(piece.count(b"\n", 0, control.start() if control else 0)), "it holds a control character"
    if _TEMPLATE.search(piece.decode("utf-8", "replace")):
        return _finding(
            "yaml-template",
            "this is a template, and no YAML until something fills it in",
            where,
            message,
            "render it with Helm or an ApplicationSet, or exclude the file",
            Severity.NOTE,
        )
    return _unread("yaml-malformed", message, where)


def _unread(code: str, message: str, where: Location) -> Finding:
    return _finding(code, f"the document is not read: {message}", where, "", "mend the document")


def _finding(
    code: str, message: str, where: Location, cause: str, fix: str, severity: Severity = Severity.ERROR
) -> Finding:
    return Finding(code, severity, message, "", where, cause, fix)
