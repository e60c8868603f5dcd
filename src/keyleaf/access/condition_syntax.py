"""The syntax tree of an ABAC condition, version 2.0, and how it is written.

Rule: https://learn.microsoft.com/azure/role-based-access-control/conditions-format
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from keyleaf.core.errors import InputError

_STRING: Final = ("Equals", "NotEquals", "StartsWith", "NotStartsWith", "EndsWith", "NotEndsWith")
_STRING_MORE: Final = ("Contains", "NotContains", "Like", "NotLike")
_ORDER: Final = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")

OPERATORS: Final = frozenset(
    [f"String{name}{case}" for name in (*_STRING, *_STRING_MORE) for case in ("", "IgnoreCase")]
    + [f"{kind}{name}" for kind in ("Numeric", "DateTime") for name in _ORDER]
    + [f"{kind}{name}" for kind in ("Bool", "Guid") for name in ("Equals", "NotEquals")]
)
QUANTIFIERS: Final = frozenset(["ForAnyOfAnyValues", "ForAllOfAnyValues", "ForAnyOfAllValues", "ForAllOfAllValues"])
SOURCES: Final = frozenset(["Resource", "Request", "Principal", "Environment"])


@dataclass(frozen=True, slots=True)
class Attribute:
    """``@Source[path]``; names are compared without regard to case."""

    source: str
    path: str

    @property
    def key(self) -> str:
        """The form in which attributes are looked up."""
        return f"@{self.source}[{self.path}]".lower()


@dataclass(frozen=True, slots=True)
class Guid:
    """A GUID written bare, without quotes."""

    text: str


Value = str | int | bool | Guid


@dataclass(frozen=True, slots=True)
class Literal:
    """One value, or a set of values in braces."""

    values: tuple[Value, ...]
    braces: bool = False


Operand = Attribute | Literal


@dataclass(frozen=True, slots=True)
class ActionMatches:
    """True when the action fits the pattern."""

    pattern: str


@dataclass(frozen=True, slots=True)
class SubOperationMatches:
    """True when the suboperation fits the pattern; Key Vault has none."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Exists:
    """True when the request carries the attribute."""

    attribute: Attribute


@dataclass(frozen=True, slots=True)
class Compare:
    """``left [quantifier:]operator right``."""

    left: Operand
    operator: str
    right: Operand
    quantifier: str = ""


@dataclass(frozen=True, slots=True)
class Not:
    operand: Condition


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Condition, ...]


Condition = ActionMatches | SubOperationMatches | Exists | Compare | Not | And | Or


def write_condition(condition: Condition) -> str:
    """The condition as text that parses back to the same tree.

    Raises:
        InputError: a string that the language cannot write: one that ends in a backslash.
    """
    match condition:
        case ActionMatches(pattern):
            return f"ActionMatches{{{_quote(pattern)}}}"
        case SubOperationMatches(pattern):
            return f"SubOperationMatches{{{_quote(pattern)}}}"
        case Exists(attribute):
            return f"Exists {_operand(attribute)}"
        case Compare(left, operator, right, quantifier):
            name = f"{quantifier}:{operator}" if quantifier else operator
            return f"{_operand(left)} {name} {_operand(right)}"
        case Not(operand):
            return f"!({write_condition(operand)})"
        case And(operands):
            return " AND ".join(_grouped(operand) for operand in operands)
        case Or(operands):
            return " OR ".join(_grouped(operand) for operand in operands)


def _grouped(condition: Condition) -> str:
    text = write_condition(condition)
    return f"({text})" if isinstance(condition, (And, Or)) else text


def _operand(operand: Operand) -> str:
    if isinstance(operand, Attribute):
        return f"@{operand.source}[{operand.path}]"
    text = ", ".join(_value(value) for value in operand.values)
    return f"{{{text}}}" if operand.braces else text


def _value(value: Value) -> str:
    if isinstance(value, Guid):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quote(value)


def _quote(text: str) -> str:
    if text.endswith("\\"):
        raise InputError("a condition cannot hold a text that ends in a backslash")
    return "'" + text.replace("'", "\\'") + "'"
