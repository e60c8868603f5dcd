"""What an orchestration awaits: activities, timers, events, sub-orchestrations, and combinations of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

if TYPE_CHECKING:
    from keyleaf.orchestrate.driver import Driver

T = TypeVar("T")

LeafKind = Literal["activity", "timer", "event", "child"]


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with a value or an error, at a recorded time (seconds since 1970)."""

    at: float
    value: Any = None
    error: BaseException | None = None


class Task(Generic[T]):
    """Something that was started and can be awaited, once or often. Made by calling, never directly."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._outcome: Outcome | None = None
        self._waiters: list[Callable[[Task[Any]], None]] = []

    @property
    def driver(self) -> Driver:
        """The run that the task belongs to."""
        return self._driver

    @property
    def settled(self) -> bool:
        """Whether it has ended. For the engine: an orchestration that asks would not be deterministic."""
        return self._outcome is not None

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        assert self._outcome is not None
        return self._outcome

    def settle(self, outcome: Outcome) -> None:
        """End it. The first call counts."""
        if self._outcome is not None:
            return
        self._outcome = outcome
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter(self)

    def tell(self, waiter: Callable[[Task[Any]], None]) -> None:
        """Call ``waiter`` when this ends; at once if it has."""
        if self._outcome is not None:
            waiter(self)
        else:
            self._waiters.append(waiter)

    def take(self) -> T:
        """The value, or the error raised. Moves the orchestration's time to when it was recorded."""
        outcome = self.outcome
        self._driver.saw(outcome)
        if outcome.error is not None:
            raise outcome.error.with_traceback(None)
        return cast(T, outcome.value)

    def __await__(self) -> Generator[Task[Any], None, T]:
        if self._outcome is None:
            yield self
        return self.take()

    def leaves(self) -> list[Leaf[Any]]:
        """The unsettled single tasks that this waits for."""
        return []


class Leaf(Task[T]):
    """One command to the engine.

    Attributes:
        kind: of command.
        index: place among the commands of the run, from 1: what makes replay match.
        name: of activity, event or orchestration; of a timer, what it is for.
        payload: sealed input, for activities and sub-orchestrations; sealed when it is first asked for.
        due: seconds since 1970, for timers.
        since: when it was started, in the orchestration's time.
        wanted: type of an event's value.
        abandoned: an event that lost a race and was not given to anybody: the next wait for it takes it over.
        shielded: started after a cancellation was delivered, so that what undoes things is not cancelled in turn.
    """

    def __init__(
        self,
        driver: Driver,
        kind: LeafKind,
        index: int,
        name: str,
        *,
        seals: Callable[[], str] | None = None,
        due: float = 0.0,
    ) -> None:
        super().__init__(driver)
        self.kind = kind
        self.index = index
        self.name = name
        self._seals = seals
        self.due = due
        self.since = driver.time
        self.shielded = driver.cancel_delivered
        self.wanted: Any = Any
        self.taken = False
        self.abandoned = False

    @functools.cached_property
    def payload(self) -> str:
        """See above: a replay does not ask."""
        return self._seals() if self._seals is not None else ""

    def take(self) -> T:
        self.taken = True
        return super().take()

    def leaves(self) -> list[Leaf[Any]]:
        return [] if self.settled else [self]


class Combined(Task[T]):
    """A task made of others."""

    def __init__(self, driver: Driver, children: Sequence[Task[Any]]) -> None:
        super().__init__(driver)
        self.children = tuple(children)

    def child_settled(self, child: Task[Any]) -> None:
        """Told by each child when it ends."""
        raise NotImplementedError

    def leaves(self) -> list[Leaf[Any]]:
        return [] if self.settled else [leaf for child in self.children for leaf in child.leaves()]


class All(Combined[list[Any]]):
    """Ends when every child has ended: so nothing that was started is left unseen when something is undone."""

    def __init__(self, driver: Driver, children: Sequence[Task[Any]], *, return_exceptions: bool) -> None:
        super().__init__(driver, children)
        self._return_exceptions = return_exceptions
        self._left = len(self.children)
        if not self.children:
            self.settle(Outcome(driver.time, []))
        for child in self.children:
            child.tell(self.child_settled)

    def child_settled(self, child: Task[Any]) -> None:
        self._left -= 1
        if self._left:
            return
        at = max(each.outcome.at for each in self.children)
        errors = [each.outcome.error for each in self.children if each.outcome.error is not None]
        if errors and not self._return_exceptions:
            self.settle(Outcome(at, error=errors[0]))
        else:
            self.settle(Outcome(at, [each.outcome.error or each.outcome.value for each in self.children]))

    def take(self) -> list[Any]:
        for child in self.children:
            _mark_taken(child)
        return super().take()


class First(Combined[Task[Any]]):
    """Ends with the child that ended first. Which one that was is recorded by the engine.

    Attributes:
        index: place among the commands of the run.
    """

    def __init__(self, driver: Driver, index: int, children: Sequence[Task[Any]]) -> None:
        super().__init__(driver, children)
        self.index = index
        self.candidate: int | None = None
        self._chosen: int | None = None

    def watch(self) -> None:
        """Begin to look at the children. Of those that have ended already, the earliest came first."""
        for child in sorted(self.children, key=lambda each: each.outcome.at if each.settled else math.inf):
            child.tell(self.child_settled)

    def child_settled(self, child: Task[Any]) -> None:
        if self.candidate is None:
            self.candidate = self.children.index(child)
            self._driver.port.candidate(self)
        self._finish()

    def choose(self, position: int) -> None:
        """The engine has recorded that this child came first."""
        self._chosen = position
        self._finish()

    def _finish(self) -> None:
        if self._chosen is not None and self.children[self._chosen].settled:
            winner = self.children[self._chosen]
            for child in self.children:
                if isinstance(child, Leaf) and child is not winner:
                    child.abandoned = True
            self.settle(Outcome(winner.outcome.at, winner))

    def leaves(self) -> list[Leaf[Any]]:
        if self._chosen is not None:
            return self.children[self._chosen].leaves()
        return super().leaves()


class EventWait(Combined[T]):
    """An external event with a time limit."""

    def __init__(self, driver: Driver, race: First, event: Leaf[T], error: BaseException) -> None:
        super().__init__(driver, [race])
        self._event = event
        self._error = error
        race.tell(self.child_settled)

    def child_settled(self, child: Task[Any]) -> None:
        outcome = child.outcome
        if outcome.value is self._event:
            self.settle(self._event.outcome)
        elif outcome.value.outcome.error is not None:
            self.settle(outcome.value.outcome)
        else:
            self.settle(Outcome(outcome.at, error=self._error))

    def take(self) -> T:
        if self._event.settled and self.outcome is self._event.outcome:
            self._event.taken = True
        return super().take()


def _mark_taken(task: Task[Any]) -> None:
    if isinstance(task, Leaf):
        task.taken = True
    elif isinstance(task, Combined) and not isinstance(task, First):
        for child in task.children:
            _mark_taken(child)
