"""Looks at an orchestration without running it: what in its code would not repeat itself at replay.

The source is read as a syntax tree, names are looked up as the function would (its own, its closure, its module,
builtins), and plain functions of the same top-level package are followed. Without source, names in the bytecode are
looked at instead. What cannot be told is let pass: the running look (``audit_hook``) sees most of it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from keyleaf.core.location import Location
from keyleaf.orchestrate.code_scope import Scope, bindings
from keyleaf.orchestrate.code_source import body_of, without_source
from keyleaf.orchestrate.code_values import (
    Instance,
    Known,
    Pending,
    Unordered,
    Value,
    default_factories,
    followed,
    impurity_of,
    is_a,
    same_package,
    unwrapped,
)
from keyleaf.orchestrate.impure_names import LOCAL, SORTED
from keyleaf.orchestrate.nondeterminism import place_in_code

_ORDERED_BY = frozenset({"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "reversed", "dict"})
"""Builtins whose result has the order of what they are given."""

_ORDER_DOES_NOT_MATTER = frozenset({"sorted", "set", "frozenset", "sum", "min", "max", "any", "all", "len"})

Body = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.Module


@dataclass(frozen=True)
class Impurity:
    """Something that an orchestration must not do.

    Attributes:
        what: as authors write it, ``time.time()``.
        where: file and line.
        function: in which it is, by qualified name.
        instead: what to use.
    """

    what: str
    where: Location
    function: str
    instead: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} in {self.function}: use {self.instead}"


def impurities(function: Callable[..., Any]) -> list[Impurity]:
    """What in a function, and in the functions of its package that it uses, would not repeat itself at replay.

    Never raises for code that it cannot read; it then says nothing about it.
    """
    layers = unwrapped(function)
    if not layers:
        return []
    module = layers[-1].__globals__.get("__name__") or ""
    look = _Look(module)
    for layer in layers:
        look.enqueue(layer, None)
    return look.all()


class _Look:
    """What is still to be looked at, and what was found."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._seen: set[object] = set()
        self._left: list[Callable[[], list[Impurity]]] = []

    def all(self) -> list[Impurity]:
        """Look until nothing is left."""
        found: set[Impurity] = set()
        while self._left:
            found.update(self._left.pop()())
        return sorted(found, key=lambda each: (each.where, each.what))

    def enqueue(self, function: FunctionType, owner: type | None) -> None:
        """Look at a function too, if it is of the author's package and was not looked at."""
        key = (function.__code__, owner)
        if key not in self._seen and same_package(function, self._module):
            self._seen.add(key)
            self._left.append(lambda: self._function(function, owner))

    def enqueue_node(self, pending: Pending, scope: Scope) -> None:
        """Look at a function that is not defined yet."""
        if pending.node not in self._seen:
            self._seen.add(pending.node)
            self._left.append(lambda: self._pending(pending, scope))

    def _pending(self, pending: Pending, scope: Scope) -> list[Impurity]:
        with suppress(RecursionError):
            return _Reading(self, scope.of_module(), pending.node, pending.node.name).found()
        return []  # there is no bytecode yet

    def _function(self, function: FunctionType, owner: type | None) -> list[Impurity]:
        code = function.__code__
        module, node = body_of(function)
        scope = Scope(code.co_filename, function.__globals__, _closure(function), module)
        if node is not None:
            with suppress(RecursionError):  # an expression nested deeper than Python's own stack
                return _Reading(self, scope, node, function.__qualname__, owner).found()
        return _Reading(self, scope, without_source(code), function.__qualname__).found()


def _closure(function: FunctionType) -> Mapping[str, Value | None]:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    return {name: _content(cell) for name, cell in cells.items()}


def _content(cell: Any) -> Value | None:
    try:
        return Known(cell.cell_contents)
    except ValueError:  # not filled yet
        return None


class _Reading(ast.NodeVisitor):
    """Reads the body of one function."""

    def __init__(self, look: _Look, scope: Scope, body: Body, function: str, owner: type | None = None) -> None:
        self._look = look
        self._scope = scope
        self._body = body
        self._function = function
        self._owner = owner
        self._found: list[Impurity] = []
        self._globals: set[str] = set()
        self._unordered_is_fine: set[ast.AST] = set()

    def found(self) -> list[Impurity]:
        """Read it all."""
        if isinstance(self._body, ast.Module):
            names = (node for node in ast.walk(self._body) if isinstance(node, ast.Name))
            self._globals = {name.id for name in names if isinstance(name.ctx, ast.Store)}
            self.generic_visit(self._body)
        else:
            self._inside(self._body, self._owner)
        return self._found

    def _report(self, node: ast.expr | ast.stmt, what: str, instead: str) -> None:
        where = place_in_code(self._scope.file, node.lineno, node.col_offset + 1)
        self._found.append(Impurity(what, where, self._function, instead))

    # Functions, classes and comprehensions: their own names.

    def _inside(self, node: Body, owner: type | None = None) -> None:
        """Read a function's body with its own names; ``owner`` is the class of its first argument."""
        assert not isinstance(node, ast.Module)
        names, written = bindings(node)
        arguments = [*node.args.posonlyargs, *node.args.args]
        if owner is not None and arguments and names.get(arguments[0].arg) is None:
            names[arguments[0].arg] = Instance(owner)
        outer, self._globals = self._globals, written
        with self._scope.inside(names):
            for each in node.body if isinstance(node.body, list) else [node.body]:
                self.visit(each)
        self._globals = outer

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        for each in [*node.args.defaults, *node.args.kw_defaults, *getattr(node, "decorator_list", [])]:
            if each is not None:
                self.visit(each)
        if not isinstance(node, ast.Lambda):
            self._written(node, node.name)
        self._inside(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._visit_function(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._written(node, node.name)
        for each in [*node.bases, *node.keywords, *node.decorator_list]:
            self.visit(each)
        names, written = bindings(node)
        outer, self._globals = self._globals, written
        with self._scope.inside(names):
            for statement in node.body:
                self.visit(statement)
        self._globals = outer

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        order_matters = not isinstance(node, ast.SetComp) and node not in self._unordered_is_fine
        self.visit(node.generators[0].iter)
        with self._scope.inside(bindings(node)[0]):
            for position, each in enumerate(node.generators):
                if order_matters:
                    self._iterated(each.iter)
                if position:
                    self.visit(each.iter)
                for condition in each.ifs:
                    self.visit(condition)
            parts = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            for part in parts:
                self.visit(part)

    def visit_ListComp(self, node: ast.ListComp) -> None:
        self._visit_comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> None:
        self._visit_comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> None:
        self._visit_comprehension(node)

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._visit_comprehension(node)

    # Names and attributes.

    def visit_Name(self, node: ast.Name) -> bool:
        if not isinstance(node.ctx, ast.Load):
            self._written(node, node.id)
            return False
        return self._used(node, None)

    def visit_Attribute(self, node: ast.Attribute) -> bool:
        return bool(self.visit(node.value)) or (isinstance(node.ctx, ast.Load) and self._used(node, None))

    def visit_Call(self, node: ast.Call) -> bool:
        if isinstance(node.func, ast.Name):
            reported = self._used(node.func, node)
        elif isinstance(node.func, ast.Attribute):
            reported = bool(self.visit(node.func.value)) or self._used(node.func, node)
        else:
            reported = bool(self.visit(node.func))
        self._order_of_arguments(node)
        for each in [*node.args, *node.keywords]:
            self.visit(each)
        return reported

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._written(node, alias.asname or alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._written(node, alias.asname or alias.name)

    def _written(self, node: ast.expr | ast.stmt, name: str) -> None:
        if name in self._globals:
            self._report(node, f"a write to the global {name}", LOCAL)

    def _used(self, node: ast.Name | ast.Attribute, call: ast.Call | None) -> bool:
        """Report a use and follow it; whether it was reported."""
        return self._judge(node, self._scope.value(node), call)

    def _judge(self, node: ast.expr | ast.stmt, value: Value | None, call: ast.Call | None) -> bool:
        name = impurity_of(value)
        if name is not None:
            if name.called and (call is None or (name.at_most is not None and _arguments(call) > name.at_most)):
                return False
            self._report(node, f"{name.name}()" if call is not None else name.name, name.instead)
            return True
        if isinstance(value, Pending):
            self._look.enqueue_node(value, self._scope)
        elif call is not None or not (isinstance(value, Known) and is_a(value.object, type)):
            if call is not None:
                self._fields_left_out(call, value)
            for function, owner in followed(value):
                self._look.enqueue(function, owner)
        return False

    def _fields_left_out(self, call: ast.Call, value: Value | None) -> None:
        """Look at what makes the fields that the call of a class does not give."""
        given = {each.arg for each in call.keywords}
        if None in given or any(isinstance(each, ast.Starred) for each in call.args):
            return
        for field, place, factory in default_factories(value):
            if place >= len(call.args) and field not in given:
                name = impurity_of(Known(factory))
                if name is not None:
                    self._report(call, f"{name.name}() for the field {field}", name.instead)
                for function, owner in followed(Known(factory)):
                    self._look.enqueue(function, owner)

    # Sets: their order is that of hashes, which differ from process to process.

    def visit_For(self, node: ast.For) -> None:
        self._iterated(node.iter)
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        if isinstance(node.ctx, ast.Load) and node not in self._unordered_is_fine:
            self._iterated(node.value)
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        self._unordered_is_fine.update(node.elts)
        self.generic_visit(node)

    def visit_YieldFrom(self, node: ast.YieldFrom) -> None:
        self._iterated(node.value)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            self._iterated(node.value)
        self.generic_visit(node)

    def visit_With(self, node: ast.With) -> None:
        self._entered(node, ("__enter__", "__exit__"))

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        self._entered(node, ("__aenter__", "__aexit__"))

    def _entered(self, node: ast.With | ast.AsyncWith, methods: tuple[str, str]) -> None:
        for item in node.items:
            value = self._scope.value(item.context_expr)
            for method in methods:
                for function, owner in followed(self._scope.attribute(value, method)):
                    self._look.enqueue(function, owner)
        self.generic_visit(node)

    def _order_of_arguments(self, call: ast.Call) -> None:
        name = self._scope.builtin_name(call.func)
        if name in _ORDER_DOES_NOT_MATTER:
            self._unordered_is_fine.update(call.args)
        elif name in _ORDERED_BY or (isinstance(call.func, ast.Attribute) and call.func.attr == "join"):
            for each in call.args:
                self._iterated(each)
        elif isinstance(call.func, ast.Attribute) and call.func.attr == "pop" and not call.args:
            self._iterated(call.func.value, "taking any element of a set")

    def _iterated(self, node: ast.expr, what: str = "iteration over a set") -> None:
        if isinstance(self._scope.value(node), Unordered):
            self._report(node, what, SORTED)


def _arguments(call: ast.Call) -> int:
    given = [*call.args, *(each.value for each in call.keywords)]
    return sum(not (isinstance(each, ast.Constant) and each.value is None) for each in given)
