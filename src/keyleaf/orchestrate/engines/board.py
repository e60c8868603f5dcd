"""Keeps what running instances wait for where others can see it, and listens for what others ask of them.

Rules:
    - A wait shorter than half a second is never written: an instance that does not wait costs nothing.
    - What others ask (cancel, suspend, terminate) is looked for once a second, more seldom with many instances, so
      that looking takes at most about 5 % of a core.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import msgspec
import sqlalchemy as sa
from dbos import DBOS

from keyleaf.orchestrate.engines.base import FAN_OUT
from keyleaf.orchestrate.engines.dbos_control import DbosControl
from keyleaf.orchestrate.engines.dbos_store import (
    BLOCKED,
    CONTROL,
    DATABASE_FAILED,
    PROGRESS,
    REASON,
    STATUS,
    WAITING,
    reason_of,
)
from keyleaf.orchestrate.outcomes import Message
from keyleaf.orchestrate.running import Running

LOG = logging.getLogger("keyleaf.orchestrate")

_QUIET = 0.5
_SECONDS_AN_INSTANCE = 0.001
_CHUNK = 500
_SHOWN = 20


class Board:
    """The board of one worker. Used on one event loop."""

    def __init__(self, database: sa.Engine, control: DbosControl, running: dict[str, Running]) -> None:
        self._database = database
        self._control = control
        self._running = running
        self._dirty: dict[str, tuple[float, Running]] = {}
        self._written: dict[str, dict[str, Any]] = {}
        self._jobs: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Start to write and to listen."""
        loop = asyncio.get_running_loop()
        self._jobs = [loop.create_task(self._write_forever()), loop.create_task(self._listen_forever())]

    async def end(self) -> None:
        """Stop."""
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def changed(self, running: Running) -> None:
        """Something to be shown has changed."""
        self._dirty.setdefault(running.instance, (time.monotonic(), running))

    async def settle(self, running: Running) -> None:
        """The instance ends: keep its custom status, forget what it waited for."""
        self._dirty.pop(running.instance, None)
        written = self._written.pop(running.instance, {})
        if running.status and written.get(STATUS) != running.status:
            try:
                await asyncio.to_thread(self._update, running.instance, {STATUS: running.status})
            except DATABASE_FAILED as error:
                LOG.warning("the last status of %s could not be written: %s", running.instance, reason_of(error))

    def _update(self, instance: str, attributes: dict[str, Any]) -> None:
        self._control.update(instance, attributes)

    async def _write_forever(self) -> None:
        while True:
            await asyncio.sleep(_QUIET)
            now = time.monotonic()
            for instance, (since, running) in list(self._dirty.items()):
                if now - since < _QUIET:
                    continue
                self._dirty.pop(instance, None)
                shown = self._shown(running)
                before = self._written.get(instance, {})
                changes = {key: value for key, value in shown.items() if before.get(key, type(value)()) != value}
                if not changes or instance not in self._running:
                    continue
                self._written[instance] = shown
                try:
                    await asyncio.to_thread(self._update, instance, changes)
                except DATABASE_FAILED as error:
                    LOG.warning("what %s waits for could not be written: %s", instance, reason_of(error))
                    self._written.pop(instance, None)
                    self.changed(running)

    def _shown(self, running: Running) -> dict[str, Any]:
        waiting = sorted(running.waiting.values(), key=lambda each: each.since)[:_SHOWN]
        blocked = list(running.blocked.values())[:_SHOWN]
        return {
            STATUS: running.status,
            WAITING: msgspec.to_builtins(waiting),
            BLOCKED: msgspec.to_builtins(blocked),
            PROGRESS: {name: list(each) for name, each in running.progress.items() if each[1] >= FAN_OUT},
        }

    async def _listen_forever(self) -> None:
        while True:
            await asyncio.sleep(max(1.0, len(self._running) * _SECONDS_AN_INSTANCE))
            names = [name for name, running in self._running.items() if not running.stopped]
            for begin in range(0, len(names), _CHUNK):
                try:
                    await self._listen(names[begin : begin + _CHUNK])
                except DATABASE_FAILED as error:
                    LOG.warning("the engine's database does not answer: %s", reason_of(error))

    async def _listen(self, names: list[str]) -> None:
        found = await asyncio.to_thread(
            lambda: self._control.states(names),
        )
        for instance, status, attributes in found:
            running = self._running.get(instance)
            if running is None:
                continue
            if status == "CANCELLED":
                running.stop()
            elif attributes.get(CONTROL) == "cancel" and not running.cancelled:
                await self.cancel(running, attributes.get(REASON, ""))

    async def cancel(self, running: Running, reason: str) -> None:
        """Cancel an instance of this process, and wake its waits for events."""
        running.cancel(reason)
        for waiting in tuple(running.waiting.values()):
            if waiting.kind == "event":
                message = Message(waiting.name, time.time(), cancel=running.cancelled)
                text = msgspec.json.encode(message).decode()
                await DBOS.send_async(running.instance, text, topic=waiting.name)
