"""Queues and schedules of a registry, as DBOS keeps them in its store."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dbos import DBOS

from keyleaf.orchestrate.definitions import Queue, Registry
from keyleaf.orchestrate.engines.dbos_store import QUEUE
from keyleaf.orchestrate.errors import DefinitionError

POLL = 0.25
"""Seconds between two looks at a queue."""

_PREFIX = "keyleaf."


@dataclass(frozen=True)
class Scheduled:
    """What a schedule starts."""

    name: str
    version: str
    queue: str


def require_queues_agree(registry: Registry) -> None:
    """Raises DefinitionError for two queues of one name with different limits, and for a name that is taken."""
    queues: dict[str, Queue] = {}
    for versions in registry.orchestrations.values():
        for definition in versions.values():
            queue = definition.queue
            if queue is None:
                continue
            if queues.setdefault(queue.name, queue) != queue:
                raise DefinitionError(f"queue {queue.name} is declared twice with different limits")
            if queue.name == QUEUE:
                raise DefinitionError(f"the queue name {QUEUE} is keyleaf's own", hint="choose another name")


def declare(registry: Registry, cron: Any) -> None:
    """Write queues and schedules, and take away the schedules of orchestrations that have none any more.

    Args:
        cron: the DBOS workflow that a schedule starts, with a :class:`Scheduled` as its context.
    """
    DBOS.register_queue(QUEUE, polling_interval_sec=POLL, on_conflict="always_update")
    scheduled: set[str] = set()
    for name, versions in registry.orchestrations.items():
        definition = next(reversed(versions.values()))
        if definition.queue is not None:
            _declare_queue(definition.queue)
        if definition.cron:
            scheduled.add(_PREFIX + name)
            queue = definition.queue.name if definition.queue is not None else ""
            DBOS.apply_schedules(
                [
                    {
                        "schedule_name": _PREFIX + name,
                        "workflow_fn": cron,
                        "schedule": definition.cron,
                        "context": asdict(Scheduled(name, definition.version, queue)),
                    }
                ]
            )
    for schedule in DBOS.list_schedules():
        name = schedule["schedule_name"]
        if name.removeprefix(_PREFIX) in registry.orchestrations and name not in scheduled:
            DBOS.delete_schedule(name)


def _declare_queue(queue: Queue) -> None:
    limit = {"limit": queue.rate.count, "period": queue.rate.per} if queue.rate else None
    DBOS.register_queue(
        queue.name,
        global_concurrency=queue.concurrency,
        worker_concurrency=queue.worker_concurrency,
        limiter=limit,  # type: ignore[arg-type]
        polling_interval_sec=POLL,
        on_conflict="always_update",
    )
