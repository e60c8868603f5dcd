"""``keyleaf up``: an embedded Azure, identities, access, and every application of a tree, in one foreground command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from keyleaf.cli import azure_options as o
from keyleaf.cli.up_asked import Asked
from keyleaf.cli.up_server import EmbeddedServer

_INTERRUPTED = 130


def up(
    path: o.TreePath,
    once: Annotated[
        bool, typer.Option("--once", help="Converge, prove it, print the result, stop everything; exit code 0 or 1.")
    ] = False,
    state: o.State = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Management port; 0 takes last time's or a free one.")
    ] = 0,
    as_json: o.Json = False,
    no_seed: Annotated[bool, typer.Option("--no-seed", help="Leave missing secrets missing.")] = False,
    revision: o.Revision = "",
    bind: o.BindTo = "",
) -> None:
    """Run a tree: start an embedded Azure, apply what Git declares, run the children, and follow every change."""
    directory = (state or Path(os.environ.get("KEYLEAF_STATE") or ".keyleaf")).absolute()
    asked = Asked(path, directory, once, port, as_json, not no_seed, revision, bind, time.monotonic())
    os.umask(0o077)
    code = asyncio.run(_until_stopped(asked))
    if code:
        raise typer.Exit(code)


async def _until_stopped(asked: Asked) -> int:
    """Do the work until it ends or somebody asks to stop; either way everything that was started ends."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = asyncio.create_task(_work(asked))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if work.done():
        return work.result()
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work
    return _INTERRUPTED if asked.once else 0


async def _work(asked: Asked) -> int:
    # The server takes as long to start as everything below takes to import: it goes first. It locks the state
    # directory itself, so that one too many does no harm before the lock below tells.
    server = await EmbeddedServer.start(asked.state, asked.port)
    try:
        from keyleaf.cli.up_session import UpSession
        from keyleaf.store.state import StateDirectory, StateLock

        StateDirectory.open(asked.state)
        with StateLock.hold(asked.state / "up.lock"):
            return await UpSession(asked).run(server)
    finally:
        await server.stop()
