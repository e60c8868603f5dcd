"""Runs the orchestrations of one module: ``python -m keyleaf.orchestrate --module NAME [--path FOLDER]``.

``keyleaf up`` starts this for an Orchestration of the tree. It ends with 0 when it is asked to stop (SIGTERM, SIGINT),
with the error's exit code when it cannot start.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import logging
import os
import signal
import sys
from pathlib import Path

from keyleaf.client.output import guard_output, loop_exception_handler
from keyleaf.core.errors import InputError, KeyleafError
from keyleaf.orchestrate.worker import Worker

HEALTH_PORT = "KEYLEAF_HEALTH_PORT"


def main(arguments: list[str] | None = None) -> int:
    """Run until asked to stop; returns the exit code."""
    parser = argparse.ArgumentParser("python -m keyleaf.orchestrate", description=__doc__)
    parser.add_argument("--module", required=True, help="importable module that declares the orchestrations")
    parser.add_argument("--path", help="folder to put on the import path")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("azure").setLevel(logging.WARNING)
    try:
        load(options.module, options.path)
        return asyncio.run(serve())
    except KeyleafError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def load(module: str, path: str | None) -> None:
    """Import the author's module. Raises InputError."""
    if path:
        if not Path(path).is_dir():
            raise InputError(f"there is no folder {path}", hint="look at spec.path of the Orchestration")
        sys.path.insert(0, str(Path(path).resolve()))
    try:
        importlib.import_module(module)
    except KeyleafError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(
            f"module {module} cannot be imported: there is no module {error.name}",
            hint="look at spec.module and spec.path of the Orchestration",
        ) from None
    except Exception as error:
        raise InputError(f"module {module} cannot be imported: {type(error).__name__}: {error}") from None


async def serve() -> int:
    """Run a worker until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    worker = Worker()
    guard_output(worker.guard)
    loop.set_exception_handler(loop_exception_handler(worker.guard))
    async with worker, contextlib.AsyncExitStack() as stack:
        port = os.environ.get(HEALTH_PORT, "")
        if port:
            await stack.enter_async_context(await _health(int(port)))
        names = ", ".join(sorted(worker.registry.orchestrations)) or "no orchestrations"
        logging.getLogger("keyleaf.orchestrate").info("%s runs %s", worker.name, names)
        await stopped.wait()
    return 0


async def _health(port: int) -> asyncio.Server:
    """Answer ``GET /healthz`` on loopback: a worker that answers is ready."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            request = await reader.readuntil(b"\r\n\r\n")
            known = request.startswith((b"GET /healthz ", b"HEAD /healthz "))
            status = b"200 OK" if known else b"404 Not Found"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port)


if __name__ == "__main__":
    sys.exit(main())
