"""Errors of the orchestrate room.

KeyleafError
├── InputError
│   ├── DefinitionError          an activity or orchestration cannot be used as it was declared
│   ├── CallError                an activity, orchestration or event was called with something unusable
│   │   ├── PayloadTooLarge      more bytes than an engine should keep
│   │   └── UnknownOrchestration no such orchestration, activity or version is registered
│   ├── InstanceInUse            the instance id belongs to another run
│   └── InstanceNotFound         no instance has this id
├── ActivityFailed               an activity failed for good; raised where its result is awaited
├── OrchestrationFailed          a sub-orchestration, or the instance that was waited for, failed
├── InstanceCancelled            somebody cancelled the instance; raised where it waits
├── NotAnException               code raised SystemExit or the like, which would end the worker
├── EventTimeout                 an external event did not come in time (also a TimeoutError)
└── EngineUnreachable            the engine's database or scheduler does not answer
"""

from __future__ import annotations

from keyleaf.client.tracebacks import message, type_name
from keyleaf.core.errors import InputError, KeyleafError, RemoteError


class DefinitionError(InputError):
    """An activity or orchestration cannot be used as it was declared."""


class CallError(InputError):
    """An activity, orchestration or event was called with something unusable."""


class PayloadTooLarge(CallError):
    """A payload has more bytes than an engine should keep."""


class UnknownOrchestration(CallError):
    """No orchestration or activity of this name, or no such version of it, is registered."""


class InstanceInUse(InputError):
    """The instance id belongs to another run."""


class InstanceNotFound(InputError):
    """No instance has this id."""


class ActivityFailed(KeyleafError):
    """An activity failed for good.

    Attributes:
        activity: its name.
        error_type: qualified name of the exception that its last attempt raised.
        attempts: how often it was tried.
        details: the scrubbed traceback, for people.
    """

    def __init__(self, activity: str, error_type: str, message: str, *, attempts: int = 1, details: str = "") -> None:
        super().__init__(f"activity {activity} failed: {error_type}: {message}")
        self.activity = activity
        self.error_type = error_type
        self.attempts = attempts
        self.details = details


class OrchestrationFailed(KeyleafError):
    """An orchestration ended with an error.

    Attributes:
        instance: its id.
        error_type: qualified name of the exception.
        details: the scrubbed traceback, for people.
    """

    def __init__(self, instance: str, error_type: str, message: str, *, details: str = "") -> None:
        super().__init__(f"{instance} failed: {error_type}: {message}")
        self.instance = instance
        self.error_type = error_type
        self.details = details


class InstanceCancelled(KeyleafError):
    """Somebody cancelled the instance. What has to be undone can be undone before it is raised on."""


class NotAnException(KeyleafError):
    """Code of an activity or orchestration raised SystemExit or the like, which would end the worker."""

    def __init__(self, raised: BaseException) -> None:
        super().__init__(f"{type_name(raised)} was raised: {message(raised)}", hint="raise an Exception")


def is_interpreters(error: BaseException) -> bool:
    """Whether Python itself may have thrown it: a key pressed, a coroutine closed. It carries nothing then."""
    return isinstance(error, KeyboardInterrupt | GeneratorExit) and not error.args


class EventTimeout(KeyleafError, TimeoutError):
    """An external event did not come in time."""

    def __init__(self, event: str, seconds: float) -> None:
        super().__init__(f"event {event} did not come within {seconds:g} s")
        self.event = event


class EngineUnreachable(RemoteError):
    """The engine's database or scheduler does not answer."""
