"""ApplicationSet templates: fasttemplate (``{{path.basename}}``) and the subset of Go templates that people use.

Source: https://argo-cd.readthedocs.io/en/stable/operator-manual/applicationset/GoTemplate/ and
https://argo-cd.readthedocs.io/en/stable/operator-manual/applicationset/Template/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_FAST = re.compile(r"\{\{\s*([^{}]*?)\s*\}\}")
_ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_TOKEN = re.compile(r'\s*("(?:\\.|[^"\\])*"|`[^`]*`|[()|]|-?\d+(?:\.\d+)?\b|\$?[.\w][\w.\-]*|\$)')
_UNIT = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_TAKE_MISSING = frozenset({"default", "empty", "coalesce"})
_DEEPEST = 30


class TemplateError(Exception):
    """A template that cannot be evaluated here: ``str`` says why, and the source is then left unresolved."""


def fill_fast(template: str, parameters: Mapping[str, str]) -> str:
    """Replace ``{{name}}`` by flat parameters; a name that no generator gives stays as written."""
    return _FAST.sub(lambda match: parameters.get(match.group(1), match.group(0)), template)


def fill_go(template: str, parameters: Mapping[str, Any]) -> str:
    """Evaluate a Go template of expressions and pipelines.

    Raises:
        TemplateError: it uses a function or a control structure that is not evaluated here, or a missing key.
    """
    out: list[str] = []
    at = 0
    trim = False
    for match in _ACTION.finditer(template):
        before = template[at : match.start()]
        before = before.lstrip() if trim else before
        out.append(before.rstrip() if match.group(1) else before)
        trim = bool(match.group(3))
        at = match.end()
        expression = match.group(2)
        if not expression.startswith("/*"):
            out.append(as_text(_evaluate(expression, parameters)))
    rest = template[at:]
    out.append(rest.lstrip() if trim else rest)
    return "".join(out)


def fill(value: Any, one: Callable[[str], str], depth: int = 0) -> Any:
    """``value`` with every text in it, keys included, put through ``one``."""
    if depth > _DEEPEST * 4:
        raise TemplateError("it is nested too deeply")
    if isinstance(value, str):
        return one(value) if "{{" in value else value
    if isinstance(value, Mapping):
        return {one(key) if "{{" in key else key: fill(item, one, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, one, depth + 1) for item in value]
    return value


def as_text(value: Any) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(as_text(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{as_text(value[key])}" for key in sorted(value)) + "]"
    return str(value)


def _evaluate(expression: str, parameters: Mapping[str, Any]) -> Any:
    words: list[str] = []
    at = 0
    while at < len(expression.rstrip()):
        match = _TOKEN.match(expression, at)
        if match is None:
            raise TemplateError(f"{expression!r} is not understood")
        words.append(match.group(1))
        at = match.end()
    if not words:
        raise TemplateError("an empty action")
    value, rest = _pipeline(words, parameters, 0)
    if rest:
        raise TemplateError(f"{expression!r} is not understood")
    return value


def _pipeline(words: list[str], parameters: Mapping[str, Any], depth: int) -> tuple[Any, list[str]]:
    if depth > _DEEPEST:
        raise TemplateError("it is nested too deeply")
    value: Any = None
    piped = False
    while True:
        arguments: list[Any] = []
        function = ""
        while words and words[0] not in ("|", ")"):
            word, words = words[0], words[1:]
            if word == "(":
                inner, words = _pipeline(words, parameters, depth + 1)
                if not words or words[0] != ")":
                    raise TemplateError("a parenthesis is not closed")
                words = words[1:]
                arguments.append(inner)
            elif (
                not arguments
                and not function
                and re.fullmatch(r"[A-Za-z]\w*", word)
                and word not in ("true", "false", "nil")
            ):
                function = word
            else:
                arguments.append(
                    _operand(
                        word,
                        parameters,
                        missing=function in _TAKE_MISSING or (words[:1] == ["|"] and words[1:2] == ["default"]),
                    )
                )
        if piped:
            arguments.append(value)
        if function:
            value = _call(function, arguments)
        elif len(arguments) == 1:
            value = arguments[0]
        else:
            raise TemplateError("several values stand side by side")
        if not words or words[0] == ")":
            return value, words
        words, piped = words[1:], True


def _operand(word: str, parameters: Mapping[str, Any], *, missing: bool) -> Any:
    if word.startswith('"'):
        return re.sub(r"\\(.)", lambda match: _UNIT.get(match.group(1), match.group(1)), word[1:-1])
    if word.startswith("`"):
        return word[1:-1]
    if word in ("true", "false", "nil"):
        return {"true": True, "false": False, "nil": None}[word]
    if re.fullmatch(r"-?\d+", word) and len(word) < 20:
        return int(word)
    name = word.removeprefix("$")
    if not name.startswith(".") and name:
        raise TemplateError(f"{word!r} is not understood")
    value: Any = parameters
    for step in filter(None, name.split(".")):
        if not isinstance(value, Mapping) or step not in value:
            if missing:
                return None
            raise TemplateError(f"no generator gives {word}")
        value = value[step]
    return value


def _call(name: str, arguments: list[Any]) -> Any:
    function = _FUNCTIONS.get(name)
    if function is None:
        raise TemplateError(f"the function {name} is not evaluated here")
    try:
        return function(*arguments)
    except TemplateError:
        raise
    except Exception:
        raise TemplateError(f"{name} does not take these arguments") from None


def _index(value: Any, *steps: Any) -> Any:
    for step in steps:
        if isinstance(value, Mapping):
            value = value.get(as_text(step))
        elif isinstance(value, list | str) and isinstance(step, int) and 0 <= step < len(value):
            value = value[step]
        else:
            raise TemplateError("an index is out of range")
    return value


def _normalize(value: Any) -> str:
    return re.sub(r"[^-a-z0-9.]", "-", as_text(value).lower())[:253].strip("-.")


def _slugify(*arguments: Any) -> str:
    *options, value = arguments
    longest = options[0] if options and isinstance(options[0], int) else 50
    return re.sub(r"[^a-z0-9]+", "-", as_text(value).lower()).strip("-")[:longest].strip("-")


def _repeat(count: int, value: Any) -> str:
    if count * len(as_text(value)) > 10_000:
        raise TemplateError("repeat would make too much")
    return as_text(value) * count


def _printf(form: str, *values: Any) -> str:
    kinds = re.findall(r"%[-+0 #]*\d{0,3}(?:\.\d{1,3})?([sdvq%])", form)
    if len([kind for kind in kinds if kind != "%"]) != len(values) or form.count("%") != len(kinds) + kinds.count("%"):
        raise TemplateError("printf does not fit its values")
    made = form.replace("%v", "%s").replace("%q", '"%s"')
    return made % tuple(int(v) if isinstance(v, int) and not isinstance(v, bool) else as_text(v) for v in values)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "index": _index,
    "default": lambda other, value=None: value if value not in (None, "", 0, False, [], {}) else other,
    "empty": lambda value: value in (None, "", 0, False, [], {}),
    "coalesce": lambda *values: next((v for v in values if v not in (None, "", 0, False, [], {})), None),
    "ternary": lambda first, second, test: first if test else second,
    "lower": lambda value: as_text(value).lower(),
    "upper": lambda value: as_text(value).upper(),
    "title": lambda value: as_text(value).title(),
    "trim": lambda value: as_text(value).strip(),
    "trimPrefix": lambda prefix, value: as_text(value).removeprefix(prefix),
    "trimSuffix": lambda suffix, value: as_text(value).removesuffix(suffix),
    "trimAll": lambda characters, value: as_text(value).strip(characters),
    "replace": lambda old, new, value: as_text(value).replace(old, new),
    "trunc": lambda count, value: as_text(value)[:count] if count >= 0 else as_text(value)[count:],
    "splitList": lambda separator, value: as_text(value).split(separator),
    "join": lambda separator, values: separator.join(as_text(value) for value in values),
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
    "quote": lambda value: '"' + as_text(value).replace("\\", "\\\\").replace('"', '\\"') + '"',
    "squote": lambda value: f"'{as_text(value)}'",
    "toString": as_text,
    "int": lambda value: int(value),
    "add": lambda *values: sum(values),
    "base": lambda value: as_text(value).rstrip("/").rpartition("/")[2],
    "dir": lambda value: as_text(value).rpartition("/")[0] or ".",
    "repeat": _repeat,
    "printf": _printf,
    "normalize": _normalize,
    "slugify": _slugify,
    "eq": lambda first, *others: first in others,
    "ne": lambda first, second: first != second,
    "not": lambda value: not value,
    "and": lambda *values: next((v for v in values if not v), values[-1]),
    "or": lambda *values: next((v for v in values if v), values[-1]),
    "hasPrefix": lambda prefix, value: as_text(value).startswith(prefix),
    "hasSuffix": lambda suffix, value: as_text(value).endswith(suffix),
    "contains": lambda part, value: part in as_text(value),
}
