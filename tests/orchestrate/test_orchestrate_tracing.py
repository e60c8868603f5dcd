"""OpenTelemetry spans tell who ran what, when, with which version of a secret, and never a value."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from test_orchestrate_engines import until, waits_for

from client.simulated_vault import SimulatedVault
from conftest import PAYMENTS
from keyleaf import Retry, Secret, activity, activity_info, gather, orchestration, secret
from keyleaf.orchestrate.definitions import Registry

pytestmark = pytest.mark.asyncio

VALUE = "s3cr3t-canary-value"
ARGUMENT = "argument-canary"
EXPORTER = InMemorySpanExporter()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Everything that this process traces. There is one provider a process."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    provider: Any = trace.get_tracer_provider()
    processor = SimpleSpanProcessor(EXPORTER)
    provider.add_span_processor(processor)
    EXPORTER.clear()
    yield EXPORTER
    provider._active_span_processor._span_processors = tuple(
        each for each in provider._active_span_processor._span_processors if each is not processor
    )


def shop() -> Registry:
    """An orchestration whose activities succeed, fail and use secrets."""
    registry = Registry()

    @activity(registry=registry, secrets={"key": secret("payments/portal")}, retry=Retry(max_attempts=3, first=0.0))
    async def charge(card: str, key: Secret) -> str:
        if activity_info().attempt == 1:
            raise ConnectionError(f"{card} with {key.reveal()} was refused")
        return f"charged {card}"

    @activity(registry=registry)
    def note(text: str) -> str:
        raise LookupError(text)

    @orchestration(registry=registry)
    async def sell(card: str) -> str:
        charged, failed = await gather(charge(card), note(card), return_exceptions=True)
        return f"{charged} {type(failed).__name__}"

    @orchestration(registry=registry)
    async def fails(card: str) -> None:
        await note(card)

    return registry


def named(spans: Sequence[ReadableSpan], name: str) -> list[ReadableSpan]:
    """Spans of one name in order."""
    return sorted((span for span in spans if span.name == name), key=lambda span: span.start_time or 0)


def require_no_values(spans: Sequence[ReadableSpan]) -> None:
    """Neither a secret nor an argument is anywhere in them, nor in base64."""
    for span in spans:
        text = f"{span.to_json()} {span.status.description} {[event.attributes for event in span.events]}"
        for value in (VALUE, ARGUMENT):
            assert value not in text
            assert base64.b64encode(value.encode()).decode()[:-4] not in text


async def test_spans_of_an_instance(
    orchestrator: str, make_worker: Any, spans: InMemorySpanExporter, vault: SimulatedVault
) -> None:
    async with make_worker(orchestrator, registry=shop()) as worker:
        assert await worker.run("sell", ARGUMENT, instance="sell-1", timeout=20) == f"charged {ARGUMENT} ActivityFailed"
    finished = spans.get_finished_spans()
    require_no_values(finished)
    first, second = named(finished, "activity charge")
    for number, span in enumerate((first, second), 1):
        assert span.attributes is not None
        assert span.attributes["keyleaf.instance"] == "sell-1"
        assert span.attributes["keyleaf.orchestration"] == "sell"
        assert span.attributes["keyleaf.attempt"] == number
        (version,) = span.attributes["keyleaf.secrets"]  # type: ignore[misc]
        assert version.startswith("payments/portal@")
    assert first.attributes is not None
    assert second.attributes is not None
    assert (first.status.status_code, first.attributes["error.type"]) == (trace.StatusCode.ERROR, "ConnectionError")
    assert (second.status.status_code, second.attributes["keyleaf.outcome"]) == (trace.StatusCode.UNSET, "ok")
    assert not first.events, "no exception is recorded: its text might hold anything"
    reads = named(finished, "secret payments/portal")
    assert [read.parent and read.parent.span_id for read in reads] == [
        span.context and span.context.span_id for span in (first, second)
    ]
    asked = [each.headers["x-ms-client-request-id"] for each in vault.requests if each.name == "portal"]
    assert [read.attributes and read.attributes["keyleaf.secret_request_id"] for read in reads] == asked
    if orchestrator.startswith("durabletask"):
        return  # activities and orchestrations meet only in the backend there
    (whole,) = named(finished, "orchestration sell")
    assert whole.context is not None
    children = [span for span in finished if span.parent is not None and span.parent.span_id == whole.context.span_id]
    assert sorted(span.name for span in children) == ["activity charge", "activity charge", "activity note"]
    assert {span.context and span.context.trace_id for span in children} == {whole.context.trace_id}


@pytest.mark.parametrize("orchestrator", ["sqlite"], indirect=True)
async def test_failures_and_waits_are_marked(
    orchestrator: str, make_worker: Any, spans: InMemorySpanExporter, vault: SimulatedVault
) -> None:
    vault.change(PAYMENTS, "portal", enabled=False)
    async with make_worker(orchestrator, registry=shop()) as worker:
        with pytest.raises(Exception, match=ARGUMENT):
            await worker.run("fails", ARGUMENT, timeout=20)
        await worker.start("sell", ARGUMENT, instance="sell-2")
        await until(worker, "sell-2", waits_for("secret"))
        vault.put(PAYMENTS, "portal", VALUE)
        await worker.result("sell-2", 20)
    finished = spans.get_finished_spans()
    require_no_values(finished)
    (failed,) = named(finished, "orchestration fails")
    assert failed.attributes is not None
    assert (failed.status.status_code, failed.attributes["error.type"]) == (trace.StatusCode.ERROR, "ActivityFailed")
    blocked = named(finished, "activity charge")[0]
    assert blocked.attributes is not None
    assert (blocked.attributes["keyleaf.outcome"], blocked.attributes["keyleaf.attempt"]) == ("blocked", 1)
    read = named(finished, "secret payments/portal")[0]
    assert read.attributes is not None
    assert (read.status.status_code, read.attributes["error.type"]) == (trace.StatusCode.ERROR, "disabled")
