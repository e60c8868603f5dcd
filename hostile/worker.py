"""What the hostile module does to the worker process before it runs: nothing else of the harness is in there.

``HOSTILE_GUARD=off`` takes the guard away, and the manners of Secret: what is written then shows what each way is worth
and that the search sees it. ``HOSTILE_DEBUG=1`` lets every logger speak.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import Any

import msgspec

from keyleaf import Worker
from keyleaf.client import logs, tracebacks
from keyleaf.client.guard import SecretGuard
from keyleaf.core.secret import Secret
from keyleaf.orchestrate import attempt, payload

_WORKERS: list[Worker] = []


class Here:
    """The worker of this process, as an author who starts workers by hand would have it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.start, self.signal = worker.start, worker.signal
        self.cancel, self.terminate = worker.cancel, worker.terminate

    async def end(self, instance: str) -> None:
        """End an instance that waits for its event, if it still does."""
        with contextlib.suppress(Exception):
            await self._worker.terminate(instance)


def here() -> Here:
    """The worker of this process."""
    return Here(_WORKERS[-1])


def prepare() -> None:
    """Keep the worker where activities find it, and do what the environment asks for."""
    enter = Worker.__aenter__

    async def remember(worker: Worker) -> Worker:
        _WORKERS.append(worker)
        entered = await enter(worker)
        if os.environ.get("HOSTILE_DEBUG"):
            _speak_up()
        return entered

    Worker.__aenter__ = remember  # type: ignore[method-assign]
    if os.environ.get("HOSTILE_GUARD") == "off":
        _take_the_guard_away()


def _speak_up() -> None:
    for name in ("", *logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        for handler in logger.handlers:
            handler.setLevel(logging.DEBUG)


def _take_the_guard_away() -> None:
    def as_it_is(guard: SecretGuard, text: str) -> str:
        return text

    def as_they_are(guard: SecretGuard, error: BaseException) -> tuple[str, str, str]:
        return tracebacks.type_name(error), tracebacks.message(error), tracebacks.formatted(error)

    def nothing(*_: object) -> None:
        return None

    stubs: dict[str, Any] = {
        "find": nothing,
        "find_text": nothing,
        "scrub": as_it_is,
        "scrub_lines": as_it_is,
        "scrub_exception": as_they_are,
    }
    for name, stub in stubs.items():
        setattr(SecretGuard, name, stub)
    for name in ("clean", "clean_extra"):
        setattr(logs._RecordCleaner, name, nothing)
    manners: dict[str, Any] = {
        "__str__": Secret.reveal,
        "__format__": lambda secret, spec: format(secret.reveal(), spec),
        "__add__": lambda secret, other: secret.reveal() + other,
        "__radd__": lambda secret, other: other + secret.reveal(),
        "__reduce_ex__": lambda secret, protocol: (Secret, (secret.reveal(), "")),
        "__copy__": lambda secret: secret,
        "__deepcopy__": lambda secret, memo: secret,
    }
    for name, stub in manners.items():
        setattr(Secret, name, stub)
    payload._ENCODER = msgspec.json.Encoder(enc_hook=str, decimal_format="string")
    assert attempt.to_json is payload.to_json
