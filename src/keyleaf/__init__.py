"""keyleaf: every app in the tree carries its own key, and only its own.

What authors of orchestrations write with is here; each name is imported when it is first used, so that ``import
keyleaf`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from keyleaf.client.reference import secret
    from keyleaf.core.secret import Secret, SecretEscape
    from keyleaf.orchestrate.attempt import ActivityInfo, activity_info
    from keyleaf.orchestrate.definitions import Queue, Rate, Retry, RetryBudget
    from keyleaf.orchestrate.errors import (
        ActivityFailed,
        EventTimeout,
        InstanceCancelled,
        OrchestrationFailed,
    )
    from keyleaf.orchestrate.just_in_time import with_secrets
    from keyleaf.orchestrate.words import (
        activity,
        compensating,
        first,
        gather,
        instance_id,
        now,
        orchestration,
        random,
        set_status,
        sleep,
        uuid,
        wait_for_event,
    )
    from keyleaf.orchestrate.worker import Worker

_HOMES = {
    "ActivityFailed": "keyleaf.orchestrate.errors",
    "ActivityInfo": "keyleaf.orchestrate.attempt",
    "EventTimeout": "keyleaf.orchestrate.errors",
    "InstanceCancelled": "keyleaf.orchestrate.errors",
    "OrchestrationFailed": "keyleaf.orchestrate.errors",
    "Queue": "keyleaf.orchestrate.definitions",
    "Rate": "keyleaf.orchestrate.definitions",
    "Retry": "keyleaf.orchestrate.definitions",
    "RetryBudget": "keyleaf.orchestrate.definitions",
    "Secret": "keyleaf.core.secret",
    "SecretEscape": "keyleaf.core.secret",
    "Worker": "keyleaf.orchestrate.worker",
    "activity": "keyleaf.orchestrate.words",
    "activity_info": "keyleaf.orchestrate.attempt",
    "compensating": "keyleaf.orchestrate.words",
    "first": "keyleaf.orchestrate.words",
    "gather": "keyleaf.orchestrate.words",
    "instance_id": "keyleaf.orchestrate.words",
    "now": "keyleaf.orchestrate.words",
    "orchestration": "keyleaf.orchestrate.words",
    "random": "keyleaf.orchestrate.words",
    "secret": "keyleaf.client.reference",
    "set_status": "keyleaf.orchestrate.words",
    "sleep": "keyleaf.orchestrate.words",
    "uuid": "keyleaf.orchestrate.words",
    "wait_for_event": "keyleaf.orchestrate.words",
    "with_secrets": "keyleaf.orchestrate.just_in_time",
}

__all__ = [
    "ActivityFailed",
    "ActivityInfo",
    "EventTimeout",
    "InstanceCancelled",
    "OrchestrationFailed",
    "Queue",
    "Rate",
    "Retry",
    "RetryBudget",
    "Secret",
    "SecretEscape",
    "Worker",
    "activity",
    "activity_info",
    "compensating",
    "first",
    "gather",
    "instance_id",
    "now",
    "orchestration",
    "random",
    "secret",
    "set_status",
    "sleep",
    "uuid",
    "wait_for_event",
    "with_secrets",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'keyleaf' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
