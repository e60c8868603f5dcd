"""Ways out through what an activity raises."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any

from hostile.ways import way
from keyleaf import Secret


class Reveals(Exception):
    """Its text is the value, whatever it was made with."""

    def __init__(self, value: str) -> None:
        super().__init__("nothing to see")
        self._value = value

    def __str__(self) -> str:
        return f"signed in with {self._value}"


class TurnsCoat(Reveals):
    """Says something harmless, then the value."""

    said = 0

    def __str__(self) -> str:
        self.said += 1
        return self._value if self.said % 2 == 0 else "nothing to see"


class Stutters(Exception):
    """Cannot be turned into text, and its repr reveals."""

    def __str__(self) -> str:
        raise RuntimeError(self.args[0])


class Carries(Exception):
    """Has the value as an attribute."""

    def __init__(self, value: str) -> None:
        super().__init__("refused")
        self.password = value


class Exits(Exception):
    """Ends the program of whoever looks at it."""

    def __str__(self) -> str:
        raise SystemExit(self.args[0])

    __repr__ = __str__


class LeavesEverything(BaseException):
    """Not an Exception."""


def _raises(make: Any) -> Any:
    def run(value: str, secret: Secret) -> None:
        raise make(value)

    return run


def _raises_async(make: Any) -> Any:
    async def run(value: str, secret: Secret) -> None:
        await asyncio.sleep(0)
        raise make(value)

    return run


ERRORS: dict[str, Any] = {
    "ValueError": ValueError,
    "ValueError in a longer text": lambda value: ValueError(f"401 for {value}, try again"),
    "KeyError": KeyError,
    "two arguments": lambda value: ValueError("refused", value),
    "a tuple": lambda value: ValueError(("refused", [value])),
    "bytes": lambda value: ValueError(value.encode()),
    "OSError": lambda value: OSError(13, "refused", value),
    "UnicodeDecodeError": lambda value: UnicodeDecodeError(value, value.encode(), 0, 1, value),
    "SyntaxError": lambda value: SyntaxError("bad", ("file", 1, 1, value)),
    "base64": lambda value: ValueError(base64.b64encode(f"user:{value}".encode()).decode()),
    "hexadecimal": lambda value: ValueError(value.encode().hex()),
    "__str__": Reveals,
    "__str__ every second time": TurnsCoat,
    "__str__ that fails": Stutters,
    "__str__ that exits": Exits,
    "at the edge of what is kept": lambda value: ValueError("x" * 8120 + value + "y" * 2000),
    "ExceptionGroup": lambda value: ExceptionGroup("several", [ValueError(value), KeyError("harmless")]),
    "ExceptionGroup by name": lambda value: ExceptionGroup(value, [ValueError("harmless")]),
    "ExceptionGroup in one": lambda value: ExceptionGroup("a", [ExceptionGroup("b", [ValueError(value)])]),
    "the name of its type": lambda value: type(value, (Exception,), {})("refused"),
    "the module of its type": lambda value: type("Refused", (Exception,), {"__module__": value})("refused"),
}
LEAVE: dict[str, Any] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "BaseException": LeavesEverything,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseExceptionGroup": lambda value: BaseExceptionGroup("several", [LeavesEverything(value)]),
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
}
for _name, _make in (ERRORS | LEAVE).items():
    way("error", _name)(_raises(_make))
for _name, _make in LEAVE.items():
    way("error", f"{_name}, async")(_raises_async(_make))
way("error", "ValueError, async")(_raises_async(ValueError))
way("error", "in each of three attempts", attempts=3)(_raises(ValueError))
way("error", "the Secret as argument")(lambda value, secret: _throw(ValueError(secret)))


def _throw(error: BaseException) -> None:
    raise error


@way("error", "in its cause")
def _cause(value: str, secret: Secret) -> None:
    raise RuntimeError("refused") from ValueError(value)


@way("error", "in its context")
def _context(value: str, secret: Secret) -> None:
    try:
        raise ValueError(value)
    except ValueError:
        raise RuntimeError("refused")  # noqa: B904


@way("error", "in a hidden context", place="nowhere")
def _hidden(value: str, secret: Secret) -> None:
    try:
        raise ValueError(value)
    except ValueError:
        raise RuntimeError("refused") from None


@way("error", "in a note")
def _note(value: str, secret: Secret) -> None:
    error = RuntimeError("refused")
    error.add_note(f"it was {value}")
    raise error


@way("error", "in a note that is no text")
def _odd_note(value: str, secret: Secret) -> None:
    error = RuntimeError("refused")
    error.__notes__ = [[value]]  # type: ignore[list-item]
    raise error


@way("error", "in an attribute", place="nowhere")
def _attribute(value: str, secret: Secret) -> None:
    raise Carries(value)


@way("error", "assert")
def _assertion(value: str, secret: Secret) -> None:
    assert value == "something else", f"expected something else than {value}"


@way("error", "a time limit that fails with the value", timeout=0.3)
async def _time_limit(value: str, secret: Secret) -> None:
    try:
        await asyncio.sleep(30)
    finally:
        raise ValueError(value)


@way("error", "a time limit that is over meanwhile", timeout=0.3, place="nowhere")
def _time_limit_in_thread(value: str, secret: Secret) -> str:
    time.sleep(0.6)
    return value


@way("error", "a local variable in a deep call", place="nowhere")
def _deep(value: str, secret: Secret) -> None:
    def inner(password: str) -> float:
        token = password.encode()
        return len(token) / 0

    inner(value)


@way("error", "code that was compiled from it", place="nowhere", end="either")
def _compiled(value: str, secret: Secret) -> None:
    exec(compile(f"raise RuntimeError('refused')  # {value!r}", "<made>", "exec"))


@way("error", "a file name in the traceback")
def _file_name(value: str, secret: Secret) -> None:
    exec(compile("raise RuntimeError('refused')", value.replace("\0", ""), "exec"))


@way("error", "a function name in the traceback")
def _function_name(value: str, secret: Secret) -> None:
    def fails() -> None:
        raise RuntimeError("refused")

    fails.__code__ = fails.__code__.replace(co_name=value)
    fails()
