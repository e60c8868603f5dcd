"""An embedded server in this process, for as long as a block lasts."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keyleaf.server import ServerSettings, serve


@contextmanager
def running_server(state: Path) -> Iterator[Path]:
    """Serve ``state``; the environment, which signing in changes, is as before afterwards."""
    ready, done = threading.Event(), threading.Event()

    async def run() -> None:
        async with serve(state, ServerSettings()):
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=lambda: asyncio.run(run()), name="server")
    thread.start()
    before = dict(os.environ)
    try:
        assert ready.wait(30), "the server did not start"
        yield state
    finally:
        os.environ.clear()
        os.environ.update(before)
        done.set()
        thread.join(30)
