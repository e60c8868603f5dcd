"""OpenTelemetry spans of instances and activities: names, numbers and versions, never a value.

Attribute names follow https://opentelemetry.io/docs/specs/semconv/general/naming/ under ``keyleaf.``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace

from keyleaf.client.reading import Reading
from keyleaf.client.reference import SecretReference
from keyleaf.client.unavailable import SecretUnavailable
from keyleaf.orchestrate.envelope import AttemptNote

if TYPE_CHECKING:
    from keyleaf.orchestrate.activity_call import ActivityCall

_TRACER = trace.get_tracer("keyleaf.orchestrate")


@contextmanager
def _span(name: str, attributes: Mapping[str, str | int]) -> Iterator[trace.Span]:
    """A span that becomes the current one; nothing at all where nobody has set up tracing."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        yield trace.INVALID_SPAN
        return
    with _TRACER.start_as_current_span(
        name, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as span:
        yield span


@contextmanager
def activity_span(call: ActivityCall) -> Iterator[trace.Span]:
    """The span of one attempt."""
    attributes: dict[str, str | int] = {
        "keyleaf.instance": call.instance,
        "keyleaf.orchestration": call.orchestration,
        "keyleaf.activity": call.activity,
        "keyleaf.attempt": call.attempt,
    }
    with _span(f"activity {call.activity}", attributes) as span:
        yield span


@contextmanager
def orchestration_span(name: str, instance: str) -> Iterator[trace.Span]:
    """The span of one run of an instance on one worker."""
    with _span(f"orchestration {name}", {"keyleaf.instance": instance, "keyleaf.orchestration": name}) as span:
        yield span


def mark_failed(span: trace.Span, error_type: str) -> None:
    """Mark a span as failed: the type of the error only, whose text might hold anything."""
    span.set_status(trace.StatusCode.ERROR, error_type)
    span.set_attribute("error.type", error_type)


def mark_attempts(span: trace.Span, notes: Iterable[AttemptNote]) -> None:
    """Say which secrets were read in which version, and how the attempt ended."""
    kept = list(notes)
    uses = [use for note in kept for use in note.secrets]
    if uses:
        span.set_attribute("keyleaf.secrets", [f"{use.name}@{use.version}" for use in uses])
        span.set_attribute("keyleaf.secret_request_ids", [use.request_id for use in uses])
    if kept:
        last = kept[-1]
        span.set_attribute("keyleaf.outcome", last.outcome)
        if last.outcome == "failed":
            mark_failed(span, last.error)


@contextmanager
def secret_span(reference: SecretReference) -> Iterator[trace.Span]:
    """The span of one wait for a secret, which may share a request with others."""
    with _span(f"secret {reference.label}", {"keyleaf.secret": reference.label}) as span:
        try:
            yield span
        except SecretUnavailable as unavailable:
            mark_failed(span, unavailable.reason)
            raise


def mark_reading(span: trace.Span, reading: Reading) -> None:
    """Say which version was read, by which request."""
    span.set_attribute("keyleaf.secret_version", reading.version)
    span.set_attribute("keyleaf.secret_request_id", reading.request_id)
    span.set_attribute("keyleaf.secret_request_shared_by", reading.shared)
