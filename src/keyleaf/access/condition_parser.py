"""Reads an ABAC condition, version 2.0.

Keywords and operators are taken in the case in which Azure documents them, so that what passes here passes there.
Rule: https://learn.microsoft.com/azure/role-based-access-control/conditions-format
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from keyleaf.access.condition_syntax import (
    OPERATORS,
    QUANTIFIERS,
    SOURCES,
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
)
from keyleaf.core.errors import InputError

MAXIMUM_LENGTH: Final = 8192
MAXIMUM_DEPTH: Final = 100

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
      | (?P<attribute>@(?P<source>[A-Za-z]+)\s*\[(?P<path>[^\]\[\r\n']+)\])
      | (?P<string>'(?:\\'|\\(?!')|[^'\\])*')
      | (?P<guid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?![0-9A-Za-z-]))
      | (?P<number>-?[0-9]{1,18}(?![0-9A-Za-z_]))
      | (?P<word>[A-Za-z]+(?::[A-Za-z]+)?)
      | (?P<symbol>&&|\|\||[!(){},])
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int
    attribute: Attribute | None = None


def read_condition(text: str) -> Condition:
    """The tree of a condition.

    Raises:
        InputError: it does not parse; the message gives the position, counted from 1.
    """
    if len(text) > MAXIMUM_LENGTH:
        raise InputError(f"the condition has {len(text)} characters", hint=f"Azure takes up to {MAXIMUM_LENGTH}")
    return _Parser(_tokens(text), len(text)).read()


def _fail(at: int, message: str) -> InputError:
    return InputError(f"condition, position {at + 1}: {message}")


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _fail(at, "a text without its closing quote" if text[at] == "'" else f"{text[at]!r} is not expected")
        kind = match.lastgroup or ""
        if match["attribute"] is not None:
            if match["source"] not in SOURCES:
                raise _fail(at, f"@{match['source']} is no source of attributes ({', '.join(sorted(SOURCES))})")
            found.append(_Token("attribute", match[0], at, Attribute(match["source"], match["path"].strip())))
        elif kind != "space":
            found.append(_Token(kind, match[0], at))
        at = match.end()
    return found


class _Parser:
    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = tokens
        self._end = _Token("end", "", end)
        self._next = 0
        self._depth = 0

    def read(self) -> Condition:
        condition = self._expression()
        if self._peek.kind != "end":
            raise self._unexpected("AND, OR or the end")
        return condition

    @property
    def _peek(self) -> _Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else self._end

    def _take(self) -> _Token:
        token = self._peek
        self._next += 1
        return token

    def _unexpected(self, wanted: str) -> InputError:
        token = self._peek
        return _fail(token.at, f"expected {wanted}, found {token.text[:40]!r}" if token.text else f"expected {wanted}")

    def _symbol(self, text: str) -> None:
        if self._peek.text != text or self._peek.kind != "symbol":
            raise self._unexpected(repr(text))
        self._next += 1

    def _expression(self) -> Condition:
        self._depth += 1
        if self._depth > MAXIMUM_DEPTH:
            raise _fail(self._peek.at, f"nested more than {MAXIMUM_DEPTH} deep")
        operands = [self._term()]
        joined = ""
        while (word := _join(self._peek)) is not None:
            if joined and word != joined:
                raise _fail(self._peek.at, "AND and OR side by side: group them with parentheses")
            joined = word
            self._take()
            operands.append(self._term())
        self._depth -= 1
        if not joined:
            return operands[0]
        return And(tuple(operands)) if joined == "AND" else Or(tuple(operands))

    def _term(self) -> Condition:
        negations = 0
        while self._peek.text in ("!", "NOT") and self._peek.kind in ("symbol", "word"):
            self._take()
            negations += 1
            if negations > MAXIMUM_DEPTH:
                raise _fail(self._peek.at, f"nested more than {MAXIMUM_DEPTH} deep")
        condition = self._primary()
        for _ in range(negations):
            condition = Not(condition)
        return condition

    def _primary(self) -> Condition:
        token = self._peek
        if token.kind == "symbol" and token.text == "(":
            self._take()
            inner = self._expression()
            self._symbol(")")
            return inner
        if token.kind == "word" and token.text in ("ActionMatches", "SubOperationMatches"):
            self._take()
            pattern = self._pattern()
            return ActionMatches(pattern) if token.text == "ActionMatches" else SubOperationMatches(pattern)
        if token.kind == "word" and token.text == "Exists":
            self._take()
            attribute = self._peek.attribute
            if attribute is None:
                raise self._unexpected("an attribute such as @Resource[…]")
            self._take()
            return Exists(attribute)
        return self._comparison()

    def _pattern(self) -> str:
        self._symbol("{")
        token = self._peek
        if token.kind != "string":
            raise self._unexpected("an action in quotes")
        self._take()
        self._symbol("}")
        return _unquote(token.text)

    def _comparison(self) -> Condition:
        left = self._operand()
        token = self._peek
        quantifier, _, operator = token.text.rpartition(":")
        if token.kind != "word" or operator not in OPERATORS or (quantifier and quantifier not in QUANTIFIERS):
            raise self._unexpected("an operator such as StringEquals")
        self._take()
        right = self._operand()
        if not quantifier and any(isinstance(o, Literal) and len(o.values) > 1 for o in (left, right)):
            raise _fail(token.at, f"{operator} compares one value: for a set write ForAnyOfAnyValues:{operator}")
        return Compare(left, operator, right, quantifier)

    def _operand(self) -> Operand:
        token = self._peek
        if token.attribute is not None:
            self._take()
            return token.attribute
        if token.kind == "symbol" and token.text == "{":
            self._take()
            values = [self._value()]
            while self._peek.text == "," and self._peek.kind == "symbol":
                self._take()
                values.append(self._value())
            self._symbol("}")
            return Literal(tuple(values), braces=True)
        return Literal((self._value(),))

    def _value(self) -> Value:
        token = self._peek
        value: Value
        if token.kind == "string":
            value = _unquote(token.text)
        elif token.kind == "guid":
            value = Guid(token.text)
        elif token.kind == "number":
            value = int(token.text)
        elif token.kind == "word" and token.text in ("true", "false"):
            value = token.text == "true"
        else:
            raise self._unexpected("an attribute, a value or a set of values")
        self._take()
        return value


def _join(token: _Token) -> str | None:
    if token.kind == "word" and token.text in ("AND", "OR"):
        return token.text
    if token.kind == "symbol" and token.text in ("&&", "||"):
        return "AND" if token.text == "&&" else "OR"
    return None


def _unquote(text: str) -> str:
    return text[1:-1].replace("\\'", "'")
