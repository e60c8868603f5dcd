"""A build with a fault: it answers first and logs later. The harness has to catch it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from keyleaf.cli import main
from keyleaf.server.pipeline import Pipeline

LATE_SECONDS = 0.05


def break_pipeline() -> None:
    """Let answers go before their records are durable."""
    settle: Any = Pipeline._settle
    later: set[asyncio.Task[None]] = set()

    async def settle_later(pipeline: Pipeline, request: Any, outcome: Any) -> None:
        await asyncio.sleep(LATE_SECONDS)
        with contextlib.suppress(Exception):
            await settle(pipeline, request, outcome)

    async def answer_first(pipeline: Pipeline, request: Any, outcome: Any) -> Any:
        task = asyncio.create_task(settle_later(pipeline, request, outcome))
        later.add(task)
        task.add_done_callback(later.discard)
        return outcome.answer

    Pipeline._settle = answer_first  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    break_pipeline()
    main()
