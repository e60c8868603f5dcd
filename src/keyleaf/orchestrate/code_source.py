"""The syntax tree of a function, from its source or, without one, what its bytecode still tells."""

from __future__ import annotations

import ast
import dis
import functools
import linecache
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_ROOTS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF"})
_STEPS = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_BETWEEN = frozenset({"PRECALL", "PUSH_NULL", "CACHE"})


@dataclass(frozen=True)
class _Parsed:
    """A module's tree, and where its functions are."""

    tree: ast.Module
    functions: Mapping[tuple[str, int], FunctionNode]
    lambdas: Sequence[ast.Lambda]


def body_of(function: FunctionType) -> tuple[ast.Module | None, FunctionNode | None]:
    """The tree of a function's module and the function's own node in it; None for what has no source."""
    code = function.__code__
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    parsed = _parsed("".join(lines)) if lines else None
    if parsed is None:
        return None, None
    if code.co_name == "<lambda>":
        covering = (node for node in parsed.lambdas if _covers(node, code))
        # The innermost one: a lambda in a lambda is covered by both.
        return parsed.tree, max(covering, key=lambda node: (node.lineno, node.col_offset), default=None)
    return parsed.tree, parsed.functions.get((code.co_name, code.co_firstlineno))


@functools.lru_cache(maxsize=32)
def _parsed(source: str) -> _Parsed | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an author is told of "\d" when the module is compiled
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # changed since it was loaded, or not Python
        return None
    functions: dict[tuple[str, int], FunctionNode] = {}
    lambdas: list[ast.Lambda] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            lambdas.append(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            functions[node.name, min([node.lineno, *(each.lineno for each in node.decorator_list)])] = node
    return _Parsed(tree, functions, lambdas)


def _covers(node: ast.Lambda, code: CodeType) -> bool:
    """Whether all that the code does stands in the body of the lambda."""
    first = (node.body.lineno, node.body.col_offset)
    last = (node.body.end_lineno or 0, node.body.end_col_offset or 0)
    places = [place for place in code.co_positions() if None not in place and place[2:] != (0, 0)]
    return bool(places) and all(
        first <= (line or 0, column or 0) and (end or 0, end_column or 0) <= last
        for line, end, column, end_column in places
    )


def without_source(code: CodeType) -> ast.Module:
    """The names and attributes that bytecode reads from outside the function, as one expression each.

    A call is seen only where it has no arguments.
    """
    return ast.Module([ast.Expr(each) for each in _chains(code)], [])


def _chains(code: CodeType) -> Iterator[ast.expr]:
    instructions = [each for each in dis.get_instructions(code) if each.opname not in _BETWEEN]
    chain: ast.expr | None = None
    line = code.co_firstlineno
    for each in instructions:
        line = (each.positions.lineno if each.positions else None) or line
        place = {"lineno": line, "col_offset": 0, "end_lineno": line, "end_col_offset": 0}
        if each.opname in _STEPS and chain is not None:
            chain = ast.Attribute(chain, str(each.argval), ast.Load(), **place)
            continue
        if each.opname == "CALL" and each.arg == 0 and chain is not None:
            chain = ast.Call(chain, [], [], **place)
        if chain is not None:
            yield chain
        chain = ast.Name(str(each.argval), ast.Load(), **place) if each.opname in _ROOTS else None
        if each.opname == "STORE_GLOBAL":
            yield ast.Name(str(each.argval), ast.Store(), **place)
    if chain is not None:
        yield chain
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _chains(constant)
