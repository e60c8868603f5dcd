"""Says what is not deterministic in an orchestration: where it is declared, while it runs, and where it awaits.

An orchestration is run again from its start (replayed) whenever a worker takes it up. It takes the same way only if
everything that it sees is recorded; so the world is for activities, and time and random numbers are keyleaf's.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any

from keyleaf.orchestrate.audit_hook import orchestrating
from keyleaf.orchestrate.impure_names import ACTIVITY, FIRST, GATHER, impure_name
from keyleaf.orchestrate.nondeterminism import NondeterminismError, is_engine, place_in_code
from keyleaf.orchestrate.purity import Impurity, impurities
from keyleaf.orchestrate.tasks import Task

__all__ = [
    "Impurity",
    "NondeterminismError",
    "foreign_awaitable",
    "impurities",
    "orchestrating",
    "require_deterministic",
]

_WRAPPERS = frozenset({"async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"})
"""Awaitables of the interpreter that hold the code that runs, and do not say so."""


def require_deterministic(function: Callable[..., Any]) -> None:
    """Look at an orchestration when it is declared.

    Raises:
        NondeterminismError: it does what only an activity may do; the message has one line for each place.
    """
    found = impurities(function)
    if not found:
        return
    name = getattr(function, "__qualname__", "") or repr(function)
    lines = "".join(dict.fromkeys(f"\n  {each}" for each in found))
    raise NondeterminismError(f"orchestration {name} does what only an activity may do:{lines}", where=found[0].where)


def foreign_awaitable(yielded: object, coroutine: Any) -> NondeterminismError:
    """The error for awaiting what keyleaf did not make.

    Args:
        yielded: what the orchestration handed to its driver.
        coroutine: the orchestration, still waiting.
    """
    chain = list(_waiting(coroutine))
    author = next((_module(frame) for frame, _ in chain if not is_engine(_module(frame))), "").partition(".")[0]
    innermost = max((place for place, (frame, _) in enumerate(chain) if _package(frame) == author), default=None)
    if innermost is None:
        return NondeterminismError(f"an orchestration awaited {_kind(yielded)}", hint=f"await it in {ACTIVITY}")
    frame, code = chain[innermost]
    where = place_in_code(code.co_filename, frame.f_lineno or 0)
    what, instead = _called(chain[innermost + 1 :], yielded)
    hint = f"await it in {instead}" if instead == ACTIVITY else f"use {instead}"
    return NondeterminismError(f"{code.co_qualname} awaited {what}", hint=hint, where=where)


def _called(inner: list[tuple[FrameType, CodeType]], yielded: object) -> tuple[str, str]:
    """What was awaited, as authors write it, and what to use instead."""
    if isinstance(yielded, Task):
        return f"a task of {yielded.driver.instance}", "tasks that this instance has started itself"
    if not inner:
        return _kind(yielded), _instead_of(yielded)
    frame, code = inner[0]
    full = f"{_module(frame)}.{code.co_qualname}"
    known = impure_name(full, is_class=False)
    return (f"{known.name}()", known.instead) if known is not None else (f"{full}()", ACTIVITY)


def _kind(yielded: object) -> str:
    kind = type(yielded)
    if yielded is None:
        return "a bare yield"
    if kind.__name__ == "_GatheringFuture":
        return "asyncio.gather()"
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__.lstrip('_')}."
    name = f"{module}{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _instead_of(yielded: object) -> str:
    name = type(yielded).__name__
    return GATHER if name in ("_GatheringFuture", "Task") else f"{GATHER} or {FIRST}" if name == "Future" else ACTIVITY


def _waiting(awaited: Any) -> Iterator[tuple[FrameType, CodeType]]:
    """The code that waits, outermost first."""
    while awaited is not None:
        if isinstance(awaited, CoroutineType):
            frame, code, inner = awaited.cr_frame, awaited.cr_code, awaited.cr_await
        elif isinstance(awaited, GeneratorType):
            frame, code, inner = awaited.gi_frame, awaited.gi_code, awaited.gi_yieldfrom
        elif isinstance(awaited, AsyncGeneratorType):
            frame, code, inner = awaited.ag_frame, awaited.ag_code, awaited.ag_await
        elif type(awaited).__name__ in _WRAPPERS:
            kinds = (CoroutineType, GeneratorType, AsyncGeneratorType)
            held = [each for each in gc.get_referents(awaited) if isinstance(each, kinds)]
            awaited = held[0] if held else None
            continue
        else:
            return
        if frame is not None:
            yield frame, code
        awaited = inner


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__") or "")


def _package(frame: FrameType) -> str:
    return "" if is_engine(_module(frame)) else _module(frame).partition(".")[0]
