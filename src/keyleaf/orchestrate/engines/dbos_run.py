"""Runs one instance on DBOS: the driver's commands become DBOS steps.

Rules:
    - Every command draws its DBOS step id when the orchestration gives it, so that a replay draws the same ones.
    - All attempts of an activity happen inside one step: waiting for a secret or a retry costs no write. After a crash
      the step begins again with attempt 1.
    - The first run of an instance has nothing recorded that could be replayed, so there nothing is looked up before an
      activity runs, and its result is written in one transaction, which fails unless this run still owns the instance.
      The result of an activity that ended after its instance was suspended or terminated is not kept in either case.
    - Which of several tasks came first is a step of its own.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
import types
from collections.abc import Coroutine, Generator
from typing import Any

import msgspec
from dbos import DBOS
from dbos import error as dbos_error

from keyleaf.orchestrate.activity_call import ActivityCall
from keyleaf.orchestrate.driver import Driver, Finished
from keyleaf.orchestrate.engines.base import EngineContext, Start, Waiting
from keyleaf.orchestrate.engines.dbos_store import record_step
from keyleaf.orchestrate.envelope import Envelope, pack, unpack
from keyleaf.orchestrate.outcomes import Message, event_outcome, outcome_of
from keyleaf.orchestrate.running import Running, Stopped
from keyleaf.orchestrate.tasks import First, Leaf, Task

FOREVER = 3.0e8
"""Seconds that a wait without a limit lasts at most: more than nine years."""

CHOICE = "keyleaf.first"
TIMER = "keyleaf.timer"


class DbosPort:
    """Carries out the commands of one run. Made inside a DBOS workflow."""

    replaying = False

    def __init__(
        self, context: EngineContext, start: Start, running: Running, children: Any, *, first_run: bool = False
    ) -> None:
        self._context = context
        self._start = start
        self._running = running
        self._children = children
        self._first_run = first_run
        self._jobs: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._candidates: dict[int, asyncio.Future[int]] = {}
        running.on_stop = self._stop

    def start(self, leaf: Leaf[Any]) -> None:
        """Begin a command."""
        if leaf.kind == "activity":
            self._running.called(leaf.name, ended=False)
            reservation = DBOS.reserve_step()
            expectation = self._expect(leaf.name)
            if self._first_run:
                recorded = self._activity_first(reservation.step_id, leaf, expectation)
            else:
                recorded = reservation.run_async({"name": leaf.name}, self._activity, leaf, expectation)
            self._spawn(self._settle_by(leaf, recorded, expectation))
        elif leaf.kind == "timer":
            reservation = DBOS.reserve_step()
            self._spawn(self._settle_by(leaf, reservation.run_async({"name": TIMER}, self._timer, leaf)))
        elif leaf.kind == "child":
            reservation = DBOS.reserve_step()
            name = f"keyleaf.child {leaf.name}"
            self._spawn(self._settle_by(leaf, reservation.run_async({"name": name}, self._child, leaf)))
        else:
            received = DBOS.recv_async(leaf.name, timeout_seconds=FOREVER)
            self._spawn_at_once(self._settle_by_message(leaf, received), received)

    def race(self, race: First) -> None:
        """Begin to record which task comes first."""
        self._candidates[race.index] = asyncio.get_running_loop().create_future()
        reservation = DBOS.reserve_step()
        self._spawn(self._choose(race, reservation.run_async({"name": CHOICE}, self._candidate, race.index)))
        race.watch()

    def candidate(self, race: First) -> None:
        """The first child of the race has ended."""
        future = self._candidates[race.index]
        if not future.done():
            future.set_result(race.candidate or 0)

    def status(self, text: str) -> None:
        """Show a custom status."""
        self._running.status = text
        self._running.changed(self._running)

    async def settled(self, task: Task[Any]) -> None:
        """Wait until the task has ended.

        Raises whatever the engine says of the run as a whole.
        """
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake(_: Task[Any]) -> None:
            if not woken.done():
                woken.set_result(None)

        task.tell(wake)
        await asyncio.wait({woken, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        if self._failure.done():
            self._failure.result()

    async def close(self) -> None:
        """End what still runs."""
        for job in self._jobs:
            job.cancel()
        if not self._failure.done():
            self._failure.cancel()
        elif not self._failure.cancelled():
            self._failure.exception()

    # Steps.

    async def _activity_first(self, step: int, leaf: Leaf[Any], expectation: Any) -> str:
        started = int(time.time() * 1000)
        text = await self._activity(leaf, expectation)
        await asyncio.to_thread(record_step, leaf.driver.instance, step, leaf.name, text, started)
        return text

    async def _activity(self, leaf: Leaf[Any], expectation: Any) -> str:
        driver = leaf.driver
        attempt = 1
        notes: list[Any] = []
        try:
            while True:
                call = ActivityCall(
                    driver.instance, driver.definition.name, leaf.name, leaf.index, leaf.payload, leaf.since, attempt
                )
                if self._running.cancelled and not leaf.shielded:
                    return pack(self._cancelled(leaf, tuple(notes)))
                attempted = self._context.runner.attempt(call, expectation=expectation)
                envelope = await self._attempted(asyncio.get_running_loop().create_task(attempted), leaf)
                notes.extend(envelope.notes)
                if envelope.kind == "value" or envelope.kind == "cancelled" or envelope.retry_in < 0:
                    return pack(
                        msgspec.structs.replace(
                            envelope, started=notes[0].started if notes else envelope.started, notes=tuple(notes)
                        )
                    )
                self._show(leaf, envelope)
                if await self._running.pause(envelope.retry_in, shielded=leaf.shielded):
                    return pack(self._cancelled(leaf, tuple(notes)))
                self._running.waited(leaf.index)
                if envelope.kind == "error":
                    attempt += 1
        except Stopped:
            raise dbos_error.DBOSWorkflowCancelledError(f"{driver.instance} was stopped") from None
        finally:
            if leaf.index in self._running.waiting:
                self._running.waited(leaf.index)

    async def _attempted(self, work: asyncio.Task[Envelope], leaf: Leaf[Any]) -> Envelope:
        """Wait for an attempt; a cancellation of the instance ends an ``async`` activity."""
        definition = self._context.registry.activities.get(leaf.name)
        if leaf.shielded or definition is None or not inspect.iscoroutinefunction(definition.function):
            return await work
        self._running.works.add(work)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._running.stopped:
                raise Stopped from None
            if work.cancelled() and self._running.cancelled:
                return self._cancelled(leaf, ())
            work.cancel()
            raise
        finally:
            self._running.works.discard(work)

    async def _timer(self, leaf: Leaf[Any]) -> str:
        clock = self._context.clock
        begun = clock.now()
        left = leaf.due - begun
        if left > 0:
            self._running.wait_for(Waiting("timer", leaf.name, leaf.since, leaf.due, index=leaf.index))
            try:
                if await self._running.pause(left, shielded=leaf.shielded):
                    return pack(self._cancelled(leaf, ()))
            except Stopped:
                raise dbos_error.DBOSWorkflowCancelledError(f"{leaf.driver.instance} was stopped") from None
            finally:
                self._running.waited(leaf.index)
        return pack(
            Envelope("value", leaf.name, leaf.index, leaf.since, max(leaf.due, leaf.since), self._context.worker)
        )

    async def _child(self, leaf: Leaf[Any]) -> str:
        instance = leaf.driver.child_instance(leaf.index)
        start = Start(
            leaf.name,
            self._context.registry.orchestration(leaf.name).version,
            self._context.clock.now(),
            leaf.payload,
            parent=leaf.driver.instance,
            tags=self._start.tags,
        )
        self._running.wait_for(Waiting("child", instance, leaf.since, index=leaf.index))
        try:
            return pack(await self._children(instance, start, leaf, self._running))
        finally:
            self._running.waited(leaf.index)

    async def _candidate(self, index: int) -> str:
        return str(await self._candidates[index])

    # Settling.

    async def _settle_by(self, leaf: Leaf[Any], recorded: Coroutine[Any, Any, str], expectation: Any = None) -> None:
        try:
            envelope = unpack(await recorded)
        finally:
            if expectation is not None:
                expectation.close()
        if leaf.kind == "activity":
            self._running.called(leaf.name, ended=True)
        leaf.settle(outcome_of(self._context.registry, self._context.codec, leaf, envelope, leaf.driver.instance))

    async def _settle_by_message(self, leaf: Leaf[Any], received: Coroutine[Any, Any, str | None]) -> None:
        self._running.wait_for(Waiting("event", leaf.name, leaf.since, index=leaf.index))
        try:
            text = await received
        finally:
            self._running.waited(leaf.index)
        message = (
            msgspec.json.decode(text, type=Message)
            if text
            else Message(leaf.name, leaf.since + FOREVER, cancel="nobody sent the event in nine years")
        )
        leaf.settle(event_outcome(self._context.codec, leaf, message))

    async def _choose(self, race: First, recorded: Coroutine[Any, Any, str]) -> None:
        race.choose(int(await recorded))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        job = asyncio.get_running_loop().create_task(work)
        self._jobs.add(job)
        job.add_done_callback(self._ended)

    def _spawn_at_once(self, work: Coroutine[Any, Any, None], inner: Coroutine[Any, Any, Any]) -> None:
        """Run up to the first wait now: what draws a DBOS step id must draw it in the order of the commands."""
        context = contextvars.copy_context()
        pending = context.run(work.send, None)

        async def rest() -> None:
            await _resumed(work, pending)

        job = asyncio.get_running_loop().create_task(rest(), context=context)
        self._jobs.add(job)
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if job.cancelled():
            return
        error = job.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    def _stop(self) -> None:
        if not self._failure.done():
            self._failure.set_exception(Stopped())

    def _expect(self, name: str) -> Any:
        definition = self._context.registry.activities.get(name)
        if definition is None or not definition.secrets or self._context.reader is None:
            return None
        return self._context.reader.expect(list(definition.secrets.values()))

    def _show(self, leaf: Leaf[Any], envelope: Envelope) -> None:
        until = envelope.ended + envelope.retry_in
        if envelope.blocked is not None:
            blocked = envelope.blocked
            detail = f"blocked on secret {blocked.secret}: {blocked.reason}"
            waiting = Waiting("secret", leaf.name, leaf.since, blocked.deadline, detail, leaf.index)
            self._running.wait_for(waiting, blocked)
        else:
            note = envelope.notes[-1]
            detail = f"attempt {note.number} failed: {note.error}"
            self._running.wait_for(Waiting("retry", leaf.name, leaf.since, until, detail, leaf.index))

    def _cancelled(self, leaf: Leaf[Any], notes: tuple[Any, ...]) -> Envelope:
        now = self._context.clock.now()
        return Envelope(
            "cancelled",
            leaf.name,
            leaf.index,
            leaf.since,
            now,
            self._context.worker,
            self._running.cancelled,
            notes=notes,
        )


async def run_to_end(driver: Driver, port: DbosPort) -> Finished:
    """Advance the driver until its code has ended."""
    try:
        while True:
            finished = driver.advance()
            if finished is not None:
                return finished
            assert driver.waiting is not None
            await port.settled(driver.waiting)
    finally:
        driver.close()
        await port.close()


@types.coroutine
def _resumed(work: Coroutine[Any, Any, None], pending: Any) -> Generator[Any, Any, None]:
    """Go on with a coroutine that has been run up to its first wait."""
    while True:
        try:
            value = yield pending
        except BaseException as error:
            try:
                pending = work.throw(error)
            except StopIteration:
                return
        else:
            try:
                pending = work.send(value)
            except StopIteration:
                return
