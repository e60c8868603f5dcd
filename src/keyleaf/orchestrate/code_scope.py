"""The names that a piece of code sees, as the interpreter would look them up."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from keyleaf.orchestrate.code_values import (
    Instance,
    Known,
    Member,
    Pending,
    Unordered,
    Value,
    attribute,
    builtin,
    imported,
    instance_of,
    is_a,
)


@dataclass(frozen=True)
class Annotated:
    """A parameter or variable that is only said to be of a type."""

    annotation: ast.expr


Bound = ast.expr | ast.alias | ast.ImportFrom | Annotated | Value | None
"""What a local name is bound to: where that is one expression or import, this; None where it cannot be told."""

_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_PATH_STEPS = frozenset({"joinpath", "with_name", "with_stem", "with_suffix", "relative_to", "absolute"})
_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)


class Scope:
    """Names of a function and of what is around it.

    Args:
        file: of the code.
        module_names: globals of its module.
        closure: its free variables.
        module: syntax tree of the module, for what is further down and not defined yet.
    """

    def __init__(
        self,
        file: str,
        module_names: Mapping[str, Any],
        closure: Mapping[str, Value | None],
        module: ast.Module | None,
    ) -> None:
        self.file = file
        self._module_names = module_names
        self._closure = closure
        self._module = module
        self._inner: list[Mapping[str, Bound]] = []
        self._asked: set[ast.expr] = set()

    def of_module(self) -> Scope:
        """The names of the module alone."""
        return Scope(self.file, self._module_names, {}, self._module)

    @contextmanager
    def inside(self, names: Mapping[str, Bound]) -> Iterator[None]:
        """Look names up in ``names`` first."""
        self._inner.append(names)
        try:
            yield
        finally:
            self._inner.pop()

    def value(self, node: ast.expr) -> Value | None:
        """What an expression stands for; None if it cannot be told."""
        if node in self._asked:  # a = a.b
            return None
        self._asked.add(node)
        try:
            value = self._value(node)
        finally:
            self._asked.discard(node)
        return Unordered() if _is_set(value) else value

    def _value(self, node: ast.expr) -> Value | None:
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.Attribute):
            base = self.value(node.value)
            return base if node.attr == "parent" and _is_path(base) else attribute(base, node.attr)
        if isinstance(node, ast.Call):
            return self._called(node)
        if isinstance(node, ast.Set | ast.SetComp):
            return None if _numbers(node) else Unordered()
        if isinstance(node, ast.BinOp):
            left = self.value(node.left)
            if isinstance(left, Unordered) and isinstance(node.op, _SET_OPERATORS):
                return left
            return left if isinstance(node.op, ast.Div) and _is_path(left) else None
        if isinstance(node, ast.NamedExpr):
            return self.value(node.value)
        return None

    def attribute(self, base: Value | None, name: str) -> Value | None:
        """What an attribute stands for."""
        return attribute(base, name)

    def imported_from(self, node: ast.ImportFrom, name: str) -> Value | None:
        """What ``from … import name`` gives."""
        module = node.module or ""
        if node.level:
            package = str(self._module_names.get("__package__") or "").split(".")
            base = package[: len(package) - node.level + 1]
            module = ".".join([*base, *([module] if module else [])])
        return imported(module, name) if module else None

    def builtin_name(self, node: ast.expr) -> str:
        """The name of the builtin that an expression is; empty for anything else."""
        found = self.value(node) if isinstance(node, ast.Name) else None
        if not isinstance(found, Known) or not isinstance(node, ast.Name):
            return ""
        return node.id if found == builtin(node.id) else ""

    def _name(self, name: str) -> Value | None:
        for names in reversed(self._inner):
            if name in names:
                return self._bound(names[name], name)
        if name in self._closure:
            return self._closure[name]
        if name in self._module_names:
            return Known(self._module_names[name])
        return self._further_down(name) or builtin(name)

    def _bound(self, bound: Bound, name: str) -> Value | None:
        if isinstance(bound, ast.alias):
            return imported(bound.name if bound.asname else bound.name.partition(".")[0])
        if isinstance(bound, ast.ImportFrom):
            original = next(alias.name for alias in bound.names if (alias.asname or alias.name) == name)
            return self.imported_from(bound, original)
        if isinstance(bound, Annotated):
            return self._annotated(bound.annotation)
        return self.value(bound) if isinstance(bound, ast.expr) else bound

    def _annotated(self, node: ast.expr) -> Value | None:
        while isinstance(node, ast.BinOp | ast.Subscript):  # Path | None, set[str]
            node = node.left if isinstance(node, ast.BinOp) else node.value
        return instance_of(self.value(node)) if isinstance(node, ast.Name | ast.Attribute) else None

    def _called(self, node: ast.Call) -> Value | None:
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value)
            if isinstance(base, Unordered):
                return base if node.func.attr in _SET_METHODS else None
            if node.func.attr in _PATH_STEPS and _is_path(base):
                return base
        return instance_of(self.value(node.func))

    def _further_down(self, name: str) -> Value | None:
        """What the module will hold under a name once all of it has run."""
        for statement in self._module.body if self._module is not None else []:
            if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name == name:
                return None if statement.decorator_list else Pending(statement)
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for alias in statement.names:
                    if name == (alias.asname or alias.name.partition(".")[0]):
                        return self._bound(alias if isinstance(statement, ast.Import) else statement, name)
        return None


def bindings(node: ast.AST) -> tuple[dict[str, Bound], set[str]]:
    """The names that a function, lambda, class or comprehension binds itself, and those that it declares global."""
    collector = _Bindings()
    collector.collect(node)
    names = {name: bound[0] if len(bound) == 1 else None for name, bound in collector.names.items()}
    for name in collector.outer | collector.globals:
        names.pop(name, None)
    return names, collector.globals


class _Bindings(ast.NodeVisitor):
    """Collects what is bound directly in a body, not in the functions and classes inside it."""

    def __init__(self) -> None:
        self.names: dict[str, list[Bound]] = {}
        self.globals: set[str] = set()
        self.outer: set[str] = set()

    def collect(self, node: ast.AST) -> None:
        """Begin with the node whose own names are wanted."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = node.args
            for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
                self._bind(each.arg, Annotated(each.annotation) if each.annotation is not None else None)
            for rest in (arguments.vararg, arguments.kwarg):
                if rest is not None:
                    self._bind(rest.arg, None)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for statement in node.body:
                self.visit(statement)
        elif isinstance(node, ast.Lambda):
            self.visit(node.body)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            for generator in node.generators:
                self.visit(generator.target)

    def _bind(self, name: str, bound: Bound) -> None:
        self.names.setdefault(name, []).append(bound)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load):
            self._bind(node.id, None)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._bind(target.id, node.value)
            else:
                self.visit(target)
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._bind(node.target.id, node.value or Annotated(node.annotation))
        if node.value is not None:
            self.visit(node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self._bind(node.target.id, node.value)
        self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name.partition(".")[0], alias)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._bind(alias.asname or alias.name, node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.name:
            self._bind(node.name, None)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._capture(node, node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._capture(node, node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._capture(node, node.rest)

    def _capture(self, node: ast.AST, name: str | None) -> None:
        if name:
            self._bind(name, None)
        self.generic_visit(node)

    def visit_Global(self, node: ast.Global) -> None:
        self.globals.update(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.outer.update(node.names)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._bind(node.name, None)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._bind(node.name, None)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind(node.name, None)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """Its names are its own."""

    def _visit_comprehension(self, node: ast.AST) -> None:
        for each in ast.walk(node):
            if isinstance(each, ast.NamedExpr):  # binds around the comprehension
                self._bind(each.target.id, None)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _visit_comprehension


def _is_path(value: Value | None) -> bool:
    if isinstance(value, Instance):
        return issubclass(value.type, PurePath)
    return isinstance(value, Known) and is_a(value.object, PurePath)


def _is_set(value: Value | None) -> bool:
    """Whether a value is a set that exists, of anything but numbers."""
    held = value.object if isinstance(value, Known) else value.static if isinstance(value, Member) else None
    return type(held) in (set, frozenset) and not all(type(each) in (int, float, bool) for each in set(held or ()))


def _numbers(node: ast.Set | ast.SetComp) -> bool:
    """Whether a set holds numbers alone, whose hashes are the same in every process."""
    constants = node.elts if isinstance(node, ast.Set) else []
    return bool(constants) and all(
        isinstance(each, ast.Constant) and isinstance(each.value, int | float) for each in constants
    )
