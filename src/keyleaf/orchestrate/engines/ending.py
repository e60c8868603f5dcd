"""What is recorded of the end of an instance, on any engine."""

from __future__ import annotations

from keyleaf.orchestrate.attempt import seal_error
from keyleaf.orchestrate.driver import Finished, output_purpose
from keyleaf.orchestrate.engines.base import EngineContext, Start
from keyleaf.orchestrate.envelope import Envelope, Kind, pack
from keyleaf.orchestrate.errors import InstanceCancelled
from keyleaf.orchestrate.payload import to_json


def end_of(context: EngineContext, instance: str, start: Start, finished: Finished, now: float) -> tuple[bool, str]:
    """Whether it ended with a value, and the packed envelope. A value that cannot be kept is an error.

    Args:
        now: seconds since 1970.
    """
    purpose = output_purpose(instance)
    error = finished.error
    if error is None:
        try:
            sealed = context.codec.seal(to_json(finished.value, f"{instance}: the result"), purpose)
            return True, pack(Envelope("value", start.name, 0, start.created, now, context.worker, sealed))
        except Exception as refused:
            error = refused
    kind: Kind = "cancelled" if isinstance(error, InstanceCancelled) else "error"
    sealed = seal_error(context.codec, context.guard, error, purpose)
    return False, pack(Envelope(kind, start.name, 0, start.created, now, context.worker, sealed))
