"""What an ABAC condition says about one request, and the conditions that keyleaf itself writes.

An attribute that the request does not carry makes its comparison *unknown*, and unknown denies unless another branch
of an OR allows: so a name condition on ``readMetadata`` turns a list call into a 403, as in Azure, and no negation of
an absent attribute ever grants.
Rules: https://learn.microsoft.com/azure/role-based-access-control/conditions-format and
https://learn.microsoft.com/azure/key-vault/general/rbac-abac
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from keyleaf.access.condition_parser import read_condition
from keyleaf.access.condition_syntax import (
    ActionMatches,
    And,
    Attribute,
    Compare,
    Condition,
    Exists,
    Guid,
    Literal,
    Not,
    Operand,
    Or,
    SubOperationMatches,
    Value,
    write_condition,
)
from keyleaf.access.roles import action_matches
from keyleaf.core.errors import InputError
from keyleaf.core.names import check_secret_name, check_vault_name

VAULT_NAME: Final = "@Resource[Microsoft.KeyVault/vaults:name]"
SECRET_NAME: Final = "@Resource[Microsoft.KeyVault/vaults/secrets:name]"  # noqa: S105 (an attribute's name)
REQUEST_SECRET_NAME: Final = "@Request[Microsoft.KeyVault/vaults/secrets:name]"  # noqa: S105
CONDITION_VERSION: Final = "2.0"

_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")


@dataclass(frozen=True, slots=True)
class Verdict:
    """``allowed``, and where it is not, the clause that was not met (text of the condition, or why it is unusable)."""

    allowed: bool
    clause: str = ""


def check_condition(text: str, version: str | None) -> Condition:
    """The tree of a condition that somebody wants to write on an assignment.

    Raises:
        InputError: wrong version, or it does not parse (with the position).
    """
    if version != CONDITION_VERSION:
        raise InputError(f"conditionVersion {version!r} is not supported", hint=f"write {CONDITION_VERSION!r}")
    return _cached(text)


def evaluate_condition(text: str, action: str, attributes: Mapping[str, str], suboperation: str = "") -> Verdict:
    """What the condition says about one request; one that cannot be read denies."""
    try:
        condition = _cached(text)
    except InputError as error:
        return Verdict(False, error.message)
    request = _Request(action, suboperation, {name.lower(): value for name, value in attributes.items()})
    if _truth(condition, request) is True:
        return Verdict(True)
    return Verdict(False, write_condition(_failing(condition, request)))


def secret_names_condition(names: Iterable[str], vault: str | None = None) -> str:
    """A condition that leaves of a wide assignment only these secrets, of this vault if one is named.

    It covers both data actions of "Key Vault Secrets User": ``getSecret`` and ``readMetadata``; list calls, which name
    no secret, are denied by it. Other actions it leaves alone. Names are compared with their case, as Azure does.

    Raises:
        InputError: no name at all, or one that Key Vault would not take, or more than 8 KB of them.
    """
    wanted = sorted({check_secret_name(name) for name in names})
    if not wanted:
        raise InputError("a condition on secret names needs a name")
    of_secret = Attribute("Resource", "Microsoft.KeyVault/vaults/secrets:name")
    compare: Condition = (
        Compare(of_secret, "StringEquals", Literal((wanted[0],)))
        if len(wanted) == 1
        else Compare(of_secret, "StringEquals", Literal(tuple(wanted), braces=True), "ForAnyOfAnyValues")
    )
    if vault is not None:
        of_vault = Attribute("Resource", "Microsoft.KeyVault/vaults:name")
        compare = And((Compare(of_vault, "StringEquals", Literal((check_vault_name(vault),))), compare))
    other = And(
        tuple(
            Not(ActionMatches(f"Microsoft.KeyVault/vaults/secrets/{name}/action"))
            for name in ("getSecret", "readMetadata")
        )
    )
    text = f"({write_condition(Or((other, compare)))})"
    read_condition(text)
    return text


_cached = lru_cache(maxsize=4096)(read_condition)


@dataclass(frozen=True, slots=True)
class _Request:
    action: str
    suboperation: str
    attributes: Mapping[str, str]


def _truth(condition: Condition, request: _Request) -> bool | None:
    match condition:
        case ActionMatches(pattern):
            return action_matches(pattern, request.action)
        case SubOperationMatches(pattern):
            return bool(request.suboperation) and action_matches(pattern, request.suboperation)
        case Exists(attribute):
            return attribute.key in request.attributes
        case Compare():
            return _compare(condition, request)
        case Not(operand):
            inner = _truth(operand, request)
            return None if inner is None else not inner
        case And(operands):
            return _all([_truth(operand, request) for operand in operands])
        case Or(operands):
            return _any([_truth(operand, request) for operand in operands])


def _all(values: list[bool | None]) -> bool | None:
    return False if False in values else None if None in values else True


def _any(values: list[bool | None]) -> bool | None:
    return True if True in values else None if None in values else False


def _compare(condition: Compare, request: _Request) -> bool | None:
    left, right = _values(condition.left, request), _values(condition.right, request)
    if not left or not right:
        return None
    test = _TESTS[condition.operator]
    table = [[test(one, other) for other in right] for one in left]
    over_right = _all if condition.quantifier.endswith("OfAllValues") else _any
    over_left = _all if condition.quantifier.startswith("ForAllOf") else _any
    return over_left([over_right(row) for row in table])


def _values(operand: Operand, request: _Request) -> tuple[Value, ...]:
    if isinstance(operand, Literal):
        return operand.values
    value = request.attributes.get(operand.key)
    return () if value is None else (value,)


def _failing(condition: Condition, request: _Request) -> Condition:
    """The innermost clause that a reader would have to satisfy."""
    if isinstance(condition, And):
        return _failing(next(o for o in condition.operands if _truth(o, request) is not True), request)
    if isinstance(condition, Or):
        asks = [o for o in condition.operands if not _only_actions(o)]
        return _failing(asks[-1], request) if len(asks) == 1 else condition
    return condition


def _only_actions(condition: Condition) -> bool:
    match condition:
        case ActionMatches() | SubOperationMatches():
            return True
        case Not(operand):
            return _only_actions(operand)
        case And(operands) | Or(operands):
            return all(_only_actions(operand) for operand in operands)
        case _:
            return False


_Test = Callable[[Value, Value], bool | None]


def _texts(test: Callable[[str, str], bool], *, fold: bool, negate: bool) -> _Test:
    def run(left: Value, right: Value) -> bool | None:
        if not isinstance(left, str) or not isinstance(right, str):
            return None
        if fold:
            left, right = left.lower(), right.lower()
        return test(left, right) is not negate

    return run


def _ordered(convert: Callable[[Value], float | str | bool | None], name: str) -> _Test:
    def run(left: Value, right: Value) -> bool | None:
        one, other = convert(left), convert(right)
        if one is None or other is None:
            return None
        match name:
            case "Equals":
                return one == other
            case "NotEquals":
                return one != other
            case "LessThan":
                return one < other  # type: ignore[operator]
            case "LessThanEquals":
                return one <= other  # type: ignore[operator]
            case "GreaterThan":
                return one > other  # type: ignore[operator]
            case _:
                return one >= other  # type: ignore[operator]

    return run


def _number(value: Value) -> int | None:
    if isinstance(value, str):
        return int(value) if _NUMBER.match(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _boolean(value: Value) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _guid(value: Value) -> str | None:
    return value.text.lower() if isinstance(value, Guid) else value.lower() if isinstance(value, str) else None


def _moment(value: Value) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value.strip()))
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _like(pattern: str, text: str) -> bool:
    """``*`` any text, ``?`` one character, a backslash before either takes it as it is; at worst quadratic."""
    pieces = re.findall(r"\\[*?]|.", pattern, re.DOTALL)
    parts = ["many" if piece == "*" else "one" if piece == "?" else piece[-1] for piece in pieces]
    at = part = resume = 0
    star = -1
    while at < len(text):
        if part < len(parts) and parts[part] in ("one", text[at]):
            at, part = at + 1, part + 1
        elif part < len(parts) and parts[part] == "many":
            star, resume, part = part, at, part + 1
        elif star >= 0:
            resume += 1
            at, part = resume, star + 1
        else:
            return False
    return all(rest == "many" for rest in parts[part:])


_STRING_TESTS: Final[Mapping[str, Callable[[str, str], bool]]] = {
    "Equals": lambda text, value: text == value,
    "StartsWith": lambda text, value: text.startswith(value),
    "EndsWith": lambda text, value: text.endswith(value),
    "Contains": lambda text, value: value in text,
    "Like": lambda text, pattern: _like(pattern, text),
}
_TESTS: Final[Mapping[str, _Test]] = {
    **{
        f"String{'Not' if negate else ''}{name}{'IgnoreCase' if fold else ''}": _texts(test, fold=fold, negate=negate)
        for name, test in _STRING_TESTS.items()
        for fold in (False, True)
        for negate in (False, True)
    },
    **{
        f"{kind}{name}": _ordered(convert, name)
        for kind, convert in (("Numeric", _number), ("DateTime", _moment))
        for name in ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
    },
    **{
        f"{kind}{name}": _ordered(convert, name)
        for kind, convert in (("Bool", _boolean), ("Guid", _guid))
        for name in ("Equals", "NotEquals")
    },
}
