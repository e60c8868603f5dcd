"""``keyleaf serve``: the embedded Azure alone, in the foreground."""

from __future__ import annotations

import asyncio
import gc
import getpass
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from keyleaf.core.errors import InputError

STATE_HELP = "State directory; default $KEYLEAF_STATE or ./.keyleaf."
_PROVIDERS = ("file", "env", "passphrase")


def state_directory(given: Path | None) -> Path:
    """The state directory that the command line, the environment or the default names."""
    return given or Path(os.environ.get("KEYLEAF_STATE") or ".keyleaf")


def serve(
    state: Annotated[Path | None, typer.Option(help=STATE_HELP)] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Management port; 0 takes last time's or a free one.")
    ] = 0,
    database_url: Annotated[
        str, typer.Option(envvar="KEYLEAF_DATABASE_URL", help="postgresql://…; default SQLite in the state directory.")
    ] = "",
    vault_domain: Annotated[str, typer.Option(help="Also answer as <vault>.<domain>.")] = "",
    imds: Annotated[
        bool, typer.Option("--imds", help="Answer instance metadata requests of anybody on this host.")
    ] = False,
    root_key: Annotated[str, typer.Option(help="Where the root key comes from: file, env or passphrase.")] = "",
    constant: Annotated[bool, typer.Option("--constant", hidden=True)] = False,
) -> None:
    """Run the embedded Azure of a state directory until Ctrl-C."""
    if root_key and root_key not in _PROVIDERS:
        raise InputError(f"--root-key {root_key} is not a provider", hint="file, env or passphrase")
    from keyleaf.server import ServerSettings

    logging.basicConfig(level=logging.WARNING, format="keyleaf: %(message)s", stream=sys.stderr)
    provider = cast(Literal["file", "env", "passphrase"] | None, root_key or None)
    settings = ServerSettings(port, database_url, vault_domain, imds, provider, constant)
    os.umask(0o077)
    import uvloop

    # A thread that has committed must not wait long for the interpreter: the answers of a whole batch wait with it.
    sys.setswitchinterval(0.001)

    uvloop.run(_serve(state_directory(state), settings))


async def _serve(root: Path, settings: object) -> None:
    from keyleaf.server import ServerSettings
    from keyleaf.server import serve as running

    assert isinstance(settings, ServerSettings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    ask = getpass.getpass if sys.stdin.isatty() else None
    async with running(root, settings, ask=ask) as server:
        sys.stdout.write(f"ready: {server.endpoints.authority} (pid {os.getpid()}, state {root})\n")
        sys.stdout.flush()
        # What is there now stays: the collector need not look at it again in the middle of a read.
        gc.collect()
        gc.freeze()
        await stop.wait()
