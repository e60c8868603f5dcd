"""docs/findings.md lists exactly the findings that the code can emit."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = ("plan", "tree", "runtime")
CODE = re.compile(r"[a-z]+(-[a-z]+)+\Z")


def emitted(source: str) -> Iterator[str]:
    """Codes in a module: the ``code`` of each Finding, or first argument of a local helper that makes one."""
    module = ast.parse(source)
    helpers = {"Finding", "finding"} | {
        node.name
        for node in ast.walk(module)
        if isinstance(node, ast.FunctionDef)
        and node.args.args
        and any(argument.arg == "code" for argument in (*node.args.args, *node.args.kwonlyargs))
    }
    tables = {
        target.id: node.value
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in helpers:
            continue
        named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        for argument in (named or node.args)[:1]:
            if isinstance(argument, ast.Subscript) and isinstance(argument.value, ast.Name):
                values: list[ast.AST] = [*tables[argument.value.id].values]
            else:
                values = [argument]
            for value in values:
                for text in ast.walk(value):
                    if isinstance(text, ast.Constant) and isinstance(text.value, str) and CODE.match(text.value):
                        yield text.value


def test_the_page_lists_exactly_what_the_code_emits() -> None:
    code: set[str] = set()
    for room in ROOMS:
        for file in sorted((ROOT / "src/keyleaf" / room).rglob("*.py")):
            code |= set(emitted(file.read_text("utf-8")))
    page = (ROOT / "docs/findings.md").read_text("utf-8")
    listed = re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == code


def test_the_search_sees_each_way_to_write_a_code() -> None:
    source = """
TABLE = {"a": "from-table"}
def helper(code, message): return Finding(code, 1, message)
Finding("plain-one", 2, "not this-one")
Finding(code="named-one", severity=1)
helper("helped-one", "x")
Finding(TABLE[x], 1, "y")
Other("not-this")
"""
    assert set(emitted(source)) == {"plain-one", "named-one", "helped-one", "from-table"}
