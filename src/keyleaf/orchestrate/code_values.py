"""What a name or an attribute in an author's code stands for, found without running any of that code."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import inspect
import os
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, UnionType
from typing import Any

import msgspec

from keyleaf.orchestrate.impure_names import INPUT, METHODS, RANDOM, ImpureName, impure_name
from keyleaf.orchestrate.nondeterminism import is_engine


@dataclass(frozen=True)
class Known:
    """An object that exists; ``path`` is the name by which the code reaches it, if that goes through a module."""

    object: Any
    path: str = ""


@dataclass(frozen=True)
class Named:
    """Something of a module that is not imported yet, by its full name."""

    path: str


@dataclass(frozen=True)
class Instance:
    """Some object of a class."""

    type: type


@dataclass(frozen=True)
class Member:
    """An attribute of a class or of an object of it.

    Attributes:
        owner: the class.
        name: of the attribute.
        static: what the class or the object holds for it, descriptors as they are.
        bound: whether it is reached through an object.
        existing: whether that object existed before the code ran.
    """

    owner: type
    name: str
    static: Any
    bound: bool
    existing: bool = False


@dataclass(frozen=True)
class Pending:
    """A function further down in the module, which is not defined yet."""

    node: ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Unordered:
    """A set."""


Value = Known | Named | Instance | Member | Pending | Unordered

_ABSENT = object()


def is_a(value: object, kind: type | UnionType) -> bool:
    """``isinstance`` that asks the object nothing: proxies answer for others."""
    return issubclass(type(value), kind)


def attribute(base: Value | None, name: str) -> Value | None:
    """What ``base.name`` stands for; None if it cannot be told."""
    if isinstance(base, Named):
        return Named(f"{base.path}.{name}")
    if isinstance(base, Instance):
        return _member(base.type, name, inspect.getattr_static(base.type, name, _ABSENT), bound=True)
    if isinstance(base, Member):
        return None if _works(base.static) else attribute(Known(base.static), name)
    if not isinstance(base, Known):
        return None
    owner = base.object
    if is_a(owner, ModuleType):
        return module_attribute(owner, name)
    if is_a(owner, type):
        return _member(owner, name, inspect.getattr_static(owner, name, _ABSENT), bound=False)
    static = inspect.getattr_static(owner, name, _ABSENT)
    return _member(type(owner), name, static, bound=True, existing=True)


def module_attribute(module: ModuleType, name: str) -> Value:
    """What a module holds under a name; a submodule counts once it is imported."""
    full = vars(module).get("__name__")
    path = f"{full}.{name}"
    if name in vars(module):
        return Known(vars(module)[name], path)
    if path in sys.modules:
        return Known(sys.modules[path], path)
    return Named(path)


def imported(module: str, name: str = "") -> Value:
    """What ``import module`` or ``from module import name`` gives, without importing."""
    found = sys.modules.get(module)
    if not name:
        return Named(module) if found is None else Known(found)
    return Named(f"{module}.{name}") if found is None else module_attribute(found, name)


def builtin(name: str) -> Value | None:
    """A builtin by name."""
    found = vars(builtins).get(name, _ABSENT)
    return None if found is _ABSENT else Known(found, f"builtins.{name}")


def _member(owner: type, name: str, static: Any, *, bound: bool, existing: bool = False) -> Value | None:
    if static is _ABSENT:
        return None
    return Known(static) if is_a(static, type) else Member(owner, name, static, bound, existing)


def _works(static: object) -> bool:
    """Whether it is a method, property or other descriptor, not a plain value."""
    return callable(static) or hasattr(type(static), "__get__")


def impurity_of(value: Value | None) -> ImpureName | None:
    """The impure name that a value is; None if it is fine, or cannot be told."""
    if isinstance(value, Named):
        return impure_name(value.path)
    if isinstance(value, Member):
        return _impure_member(value)
    return _impure_object(value) if isinstance(value, Known) else None


def _impure_object(value: Known) -> ImpureName | None:
    held = value.object
    if is_a(held, ModuleType):
        return None
    a_class = is_a(held, type)
    if value.path:
        found = impure_name(value.path, is_class=a_class or not callable(held))
        if found is not None:
            return found if callable(held) else replace(found, called=False)
    if held is os.environ:
        return ImpureName("os.environ", INPUT)
    if is_a(held, MethodType | BuiltinFunctionType):
        return _impure_bound(held)
    if a_class:
        return _impure_class(held)
    return impure_name(_full_name(held), is_class=False) if is_a(held, FunctionType) else None


def _impure_class(held: type) -> ImpureName | None:
    names = (impure_name(_full_name(base), is_class=True) for base in held.__mro__ if base is not object)
    return next((name for name in names if name is not None), None)


def _impure_bound(held: Any) -> ImpureName | None:
    owner = held.__self__
    if owner is None or is_a(owner, ModuleType):
        module = "builtins" if owner is None else owner.__name__
        return impure_name(f"{held.__module__ or module}.{held.__name__}", is_class=False)
    if is_a(owner, type):
        return _impure_member(Member(owner, held.__name__, held, False))
    return _impure_member(Member(type(owner), held.__name__, held, True, True))


def _impure_member(member: Member) -> ImpureName | None:
    if not _works(member.static) or (member.name.startswith("__") and member.name.endswith("__")):
        return None
    for base in member.owner.__mro__:
        instead = METHODS.get(_public_name(base), {}).get(member.name)
        if instead:
            return ImpureName(f"{base.__name__}.{member.name}", instead)
        if base is random.Random:
            return ImpureName(f"random.{member.name}", RANDOM) if member.existing else None
        found = None if base is object else impure_name(_full_name(base), is_class=True)
        if found is not None:
            return ImpureName(f"{found.name}.{member.name}", found.instead)
        if member.name in vars(base):
            return None
    return None


def _full_name(held: Any) -> str:
    return f"{held.__module__}.{held.__qualname__}"


def _public_name(held: type) -> str:
    return _full_name(held).replace("pathlib._local.", "pathlib.").replace("_pydatetime.", "datetime.")


def unwrapped(function: Any) -> list[FunctionType]:
    """What ``functools.partial``, methods and decorators that say so wrap, layer by layer, innermost last."""
    layers: list[Any] = []
    while function is not None and all(function is not layer for layer in layers):
        layers.append(function)
        if is_a(function, MethodType):
            function = function.__func__
        elif is_a(function, functools.partial):
            function = function.func
        else:
            function = inspect.getattr_static(function, "__wrapped__", None)
    return [layer for layer in layers if is_a(layer, FunctionType)]


def same_package(function: FunctionType, module: str) -> bool:
    """Whether a function is defined in the top-level package of ``module``, and is an author's."""
    own = function.__globals__.get("__name__") or ""
    return own.partition(".")[0] == module.partition(".")[0] and not is_engine(own)


def followed(value: Value | None) -> list[tuple[FunctionType, type | None]]:
    """The plain functions that using a value runs, each with the class of its first argument if that is known."""
    if isinstance(value, Known):
        held = value.object
        if is_a(held, type):
            return _constructors(held)
        if is_a(held, MethodType):
            owner = held.__self__
            return _plain(held.__func__, owner if is_a(owner, type) else type(owner))
        return _plain(held, None)
    if isinstance(value, Member):
        static = value.static
        if is_a(static, property):
            return _plain(static.fget, value.owner) if value.bound else []
        if is_a(static, functools.cached_property):
            return _plain(static.func, value.owner) if value.bound else []
        if is_a(static, classmethod):
            return _plain(static.__func__, None)
        if is_a(static, staticmethod):
            return _plain(static.__func__, None)
        return _plain(static, value.owner if value.bound else None)
    return []


def _constructors(held: type) -> list[tuple[FunctionType, type | None]]:
    names = ("__new__", "__init__", "__post_init__")
    found = [inspect.getattr_static(held, name, None) for name in names]
    return [each for static in found for each in _plain(static, held)]


def default_factories(value: Value | None) -> list[tuple[str, int, Any]]:
    """What makes the fields of a dataclass or msgspec Struct that a call does not give: name, position and factory."""
    if not isinstance(value, Known) or not is_a(value.object, type):
        return []
    held = value.object
    fields = inspect.getattr_static(held, "__dataclass_fields__", None)
    if is_a(fields, dict):
        inits = sorted((field for field in fields.values() if field.init), key=lambda field: bool(field.kw_only))
        return [
            (field.name, place, field.default_factory)
            for place, field in enumerate(inits)
            if field.default_factory is not dataclasses.MISSING
        ]
    if issubclass(held, msgspec.Struct):
        names, defaults = held.__struct_fields__, held.__struct_defaults__
        places = range(len(names) - len(defaults), len(names))
        return [
            (names[place], place, default.factory)
            for place, default in zip(places, defaults, strict=True)
            if type(default).__name__ == "Factory"
        ]
    return []


def _plain(held: Any, owner: type | None) -> list[tuple[FunctionType, type | None]]:
    if not is_a(held, FunctionType):
        return []
    marks: Mapping[str, Any] = vars(held)
    if "__keyleaf_activity__" in marks or "__keyleaf_orchestration__" in marks:
        return []
    return [(layer, owner) for layer in unwrapped(held)]


def instance_of(value: Value | None) -> Value | None:
    """What calling a value gives, if it is a class."""
    if isinstance(value, Known) and is_a(value.object, type):
        return Unordered() if issubclass(value.object, set | frozenset) else Instance(value.object)
    return None
