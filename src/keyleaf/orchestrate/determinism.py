"""Says what is not deterministic in an orchestration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from keyleaf.core.errors import InputError


class NondeterminismError(InputError):
    """An orchestration does what only an activity may do, or took another way than the one recorded."""


def require_deterministic(function: Callable[..., Any]) -> None:
    """Raises NondeterminismError for what an orchestration must not do."""


@contextmanager
def orchestrating(name: str) -> Iterator[None]:
    """While the code of an orchestration is being stepped on this thread."""
    yield


def foreign_awaitable(yielded: object, coroutine: Any) -> NondeterminismError:
    """The error for awaiting something that is not keyleaf's."""
    return NondeterminismError(f"an orchestration awaited {type(yielded).__qualname__}", hint="await it in an activity")
