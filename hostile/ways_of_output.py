"""Ways out through logs, standard output, warnings and errors that nobody handles."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import logging.handlers
import queue
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from hostile.ways import in_base64, in_two, way
from keyleaf import Secret

LOG = logging.getLogger("hostile.author")
THIRD = logging.getLogger("third.party.client")
THIRD.setLevel(logging.DEBUG)
STRUCTURED = logging.getLogger("hostile.structured")
STRUCTURED.propagate = False
_STREAM = logging.StreamHandler()
_STREAM.setFormatter(logging.Formatter("%(levelname)s %(message)s %(password)s", defaults={"password": "-"}))
STRUCTURED.addHandler(_STREAM)


class Shows:
    """Reveals in its repr and its text."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"Shows({self._value})"


def _fails(value: str) -> None:
    raise ValueError(value)


def _logged_exception(value: str) -> None:
    try:
        _fails(value)
    except ValueError:
        LOG.exception("it failed")


def _stack(value: str) -> None:
    LOG.error("here", stack_info=True, extra={"password": value})
    STRUCTURED.error("here", extra={"password": value})


def _in_thread(run: Callable[[], None]) -> None:
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,))
    thread.start()
    thread.join()


def _added_by_a_filter(value: str) -> None:
    def add(record: logging.LogRecord) -> bool:
        record.msg, record.args = f"{record.msg} {value}", ()
        return True

    LOG.addFilter(add)
    try:
        LOG.warning("more")
    finally:
        LOG.removeFilter(add)


def _through_a_queue(value: str) -> None:
    waiting: queue.Queue[Any] = queue.Queue()
    handler = logging.handlers.QueueHandler(waiting)
    logger = logging.Logger("hostile.queued")
    logger.addHandler(handler)
    logger.warning("queued %s", value)
    LOG.handle(waiting.get())


def _unraisable(value: str) -> None:
    class Falls:
        def __del__(self) -> None:
            raise ValueError(value)

    Falls()
    gc.collect()


def _generator(value: str) -> None:
    def endless() -> Iterator[int]:
        try:
            yield 1
        finally:
            raise ValueError(value)

    made = endless()
    next(made)
    del made
    gc.collect()


def _print_exc(value: str) -> None:
    try:
        _fails(value)
    except ValueError:
        traceback.print_exc()


def _print_in_pieces(value: str) -> None:
    for character in value:
        sys.stdout.write(character)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _of_an_exception(error: BaseException) -> None:
    sys.excepthook(type(error), error, error.__traceback__)


OUTPUT: dict[str, Any] = {
    "info(%s)": lambda value: LOG.info("signed in with %s", value),
    "info(f-string)": lambda value: LOG.info(f"signed in with {value}"),
    "the value as message": lambda value: LOG.warning(value),
    "%r": lambda value: LOG.warning("with %r", value),
    "a dict as argument": lambda value: LOG.warning("with %(key)s", {"key": value}),
    "a list as argument": lambda value: LOG.warning("with %s", [1, {"key": value}]),
    "two halves as arguments": lambda value: LOG.warning("with %s%s", *in_two(value)),
    "an object that shows it": lambda value: LOG.warning("with %s", Shows(value)),
    "an object as message": lambda value: LOG.warning(Shows(value)),
    "an exception as argument": lambda value: LOG.warning("with %s", ValueError(value)),
    "a wrong format": lambda value: LOG.warning("with %d", value),
    "too many arguments": lambda value: LOG.warning("with", value),
    "base64": lambda value: LOG.warning("Authorization: Basic %s", in_base64(value, 1)),
    "hexadecimal": lambda value: LOG.warning("wire: %s", value.encode().hex(" ")),
    "JSON": lambda value: LOG.warning(json.dumps({"headers": {"x-api-key": value}})),
    "bytes": lambda value: LOG.warning("sent %s", value.encode()),
    "exception()": _logged_exception,
    "exc_info of another": lambda value: LOG.error("it failed", exc_info=ValueError(value)),
    "a group": lambda value: LOG.error("it failed", exc_info=ExceptionGroup("two", [ValueError(value)])),
    "extra": _stack,
    "a LoggerAdapter": lambda value: logging.LoggerAdapter(LOG, {"key": value}).warning("with %s", value),
    "a third party's logger": lambda value: THIRD.warning("> POST / key=%s", value),
    "a logger named by it": lambda value: logging.getLogger(value).warning("hello"),
    "a thread": lambda value: _in_thread(lambda: LOG.warning("with %s", value)),
    "a thread named by it": lambda value: threading.Thread(target=lambda: _fails("x"), name=value).start(),
    "a filter that adds it": _added_by_a_filter,
    "makeLogRecord": lambda value: LOG.handle(logging.makeLogRecord({"msg": value, "name": "made", "levelno": 30})),
    "a record changed later": lambda value: LOG.handle(_changed(LOG.makeRecord("n", 30, "f", 1, "m", (), None), value)),
    "a queue": _through_a_queue,
    "warnings.warn": lambda value: warnings.warn(f"old: {value}", stacklevel=1),
}


def _changed(record: logging.LogRecord, value: str) -> logging.LogRecord:
    record.msg = value
    return record


STREAMS: dict[str, Any] = {
    "print": lambda value: print(value),
    "print, no end of line": lambda value: print("with", value, end=" ", flush=True),
    "print to stderr": lambda value: print("with", value, file=sys.stderr),
    "sys.stderr.write": lambda value: sys.stderr.write(f"with {value}\n"),
    "sys.stdout.writelines": lambda value: sys.stdout.writelines(["with ", value, "\n"]),
    "sys.stdout.buffer": lambda value: sys.stdout.buffer.write(f"with {value}\n".encode()),
    "one character after the other": _print_in_pieces,
    "print in a thread": lambda value: _in_thread(lambda: print(value)),
    "traceback.print_exc": _print_exc,
    "traceback.print_exception of a group": lambda value: traceback.print_exception(
        ExceptionGroup("two", [ValueError(value)])
    ),
    "base64": lambda value: print(in_base64(value, 2)),
    "sys.excepthook": lambda value: _of_an_exception(ValueError(value)),
    "a handler of its own": lambda value: logging.StreamHandler(sys.stderr).emit(logging.makeLogRecord({"msg": value})),
}
UNHANDLED: dict[str, Any] = {
    "in a thread": lambda value: _in_thread(lambda: _fails(value)),
    "in __del__": _unraisable,
    "in a generator that is closed": _generator,
    "a group in a thread": lambda value: _in_thread(lambda: _throw_group(value)),
}


def _throw_group(value: str) -> None:
    raise ExceptionGroup("two", [ValueError(value), ValueError("other")])


def _then_ends(run: Any) -> Any:
    def activity(value: str, secret: Secret) -> str:
        run(value)
        return "done"

    return activity


for _channel, _runs in (("log", OUTPUT), ("output", STREAMS), ("unhandled", UNHANDLED)):
    for _name, _run in _runs.items():
        way(_channel, _name, place="log", end="completed")(_then_ends(_run))


def _secret(run: Any) -> Any:
    return lambda value, secret: run(secret)


SECRETS: dict[str, Any] = {
    "the Secret with %s": lambda secret: LOG.info("with %s", secret),
    "the Secret as message": lambda secret: LOG.warning(secret),
    "the Secret in extra": lambda secret: STRUCTURED.warning("with", extra={"password": secret}),
    "the Secret in a list": lambda secret: LOG.warning("with %s", [str(secret)]),
}
for _name, _run in SECRETS.items():
    way("log", _name, place="log")(_secret(_run))
way("output", "the Secret", place="log")(_secret(lambda secret: print(secret)))

_FORGOTTEN: set[Any] = set()


@way("unhandled", "in a task that is forgotten", place="log", end="completed")
async def _forgotten(value: str, secret: Secret) -> str:
    async def fails() -> None:
        _fails(value)

    task = asyncio.get_running_loop().create_task(fails(), name=f"task of {value}")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    gc.collect()
    return "done"


@way("unhandled", "in a callback of the loop", place="log", end="completed")
async def _callback(value: str, secret: Secret) -> str:
    asyncio.get_running_loop().call_soon(_fails, value)
    await asyncio.sleep(0.01)
    return "done"


@way("unhandled", "a coroutine that nobody awaits", place="nowhere", end="completed")
async def _never_awaited(value: str, secret: Secret) -> str:
    async def nothing(text: str) -> None: ...

    nothing(value)  # type: ignore[unused-coroutine]
    gc.collect()
    return "done"


@way("unhandled", "an asynchronous generator that is dropped", place="log", end="completed")
async def _dropped(value: str, secret: Secret) -> str:
    async def endless() -> Any:
        try:
            yield 1
        finally:
            raise ValueError(value)

    made = endless()
    await anext(made)
    del made
    gc.collect()
    await asyncio.sleep(0.01)
    return "done"


@way("log", "info(), async", place="log", end="completed")
async def _logs_async(value: str, secret: Secret) -> str:
    LOG.info("signed in with %s", value)
    return "done"
