"""Keeps held secrets out of standard output and standard error, and out of what Python prints of unhandled errors."""

from __future__ import annotations

import asyncio
import atexit
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import IO, Any, BinaryIO, TextIO, cast

from keyleaf.client.guard import SecretGuard
from keyleaf.client.tracebacks import shown

_LONGEST_LINE = 256 * 1024


class ScrubbedStream(io.TextIOBase):
    """A text stream that hands on whole lines, scrubbed.

    Text waits until its line has ended, so that a value that is written in pieces is found; ``flush`` hands on no
    half line either, ``close`` does. Lines with which a value of several lines begins wait for what comes after. While
    nothing is held nothing waits. A line of more than 256 KB is handed on in parts; a value that is longer than half of
    that may then be missed.

    ``fileno`` is the stream's own: what is written to it (by faulthandler, by child processes) is not scrubbed.
    ``buffer`` takes bytes under the same rules. Safe to share between threads. Closing does not close the stream
    below.
    """

    def __init__(self, stream: TextIO, guard: SecretGuard) -> None:
        super().__init__()
        self._stream = stream
        self._lines = _Lines(guard)
        self._lock = threading.RLock()
        below = getattr(stream, "buffer", None)
        self._bytes = None if below is None else _ScrubbedBytes(self, below, guard)

    @property
    def buffer(self) -> BinaryIO:
        """Takes bytes, which are scrubbed too.

        Raises:
            AttributeError: the stream below has none.
        """
        if self._bytes is None:
            raise AttributeError("the stream below takes text only")
        return cast(BinaryIO, self._bytes)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def name(self) -> str:
        return str(getattr(self._stream, "name", ""))

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        """Take text; as many characters as were given count as written."""
        with self._lock:
            if self.closed:
                raise ValueError("the stream is closed")
            ready = self._lines.add(text)
            if ready:
                self._stream.write(ready)
                self._stream.flush()
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream below; a half line goes on waiting."""
        if not self.closed:
            with self._lock:
                self._stream.flush()

    def release(self) -> None:
        """Hand on the half line that waits."""
        with self._lock:
            rest = self._lines.rest()
            if rest:
                self._stream.write(rest)
            if self._bytes is not None:
                self._bytes.release()
            self._stream.flush()

    def close(self) -> None:
        """Hand on the half line that waits, and take no more."""
        if not self.closed:
            self.release()
            super().close()


class _ScrubbedBytes(io.RawIOBase):
    """The ``buffer`` of a scrubbed stream."""

    def __init__(self, text: ScrubbedStream, below: IO[bytes], guard: SecretGuard) -> None:
        super().__init__()
        self._text = text
        self._below = below
        self._lines = _Lines(guard)
        self._lock = threading.RLock()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._below.fileno()

    def isatty(self) -> bool:
        return self._below.isatty()

    def write(self, data: Any, /) -> int:
        taken = bytes(data)
        with self._lock:
            self._hand_on(self._lines.add(taken.decode("utf-8", "surrogateescape")))
        return len(taken)

    def flush(self) -> None:
        if not self.closed:
            self._below.flush()

    def release(self) -> None:
        with self._lock:
            self._hand_on(self._lines.rest())

    def _hand_on(self, text: str) -> None:
        if text:
            self._text.flush()
            self._below.write(text.encode("utf-8", "surrogateescape"))
            self._below.flush()


class _Lines:
    """Gathers text and gives back what may be handed on."""

    def __init__(self, guard: SecretGuard) -> None:
        self._guard = guard
        self._waiting = ""

    def add(self, text: str) -> str:
        if not self._guard.holds_any:
            ready, self._waiting = self._waiting + text, ""
            return ready
        self._waiting += text
        full = len(self._waiting) > _LONGEST_LINE
        if not full and "\n" not in text and "\r" not in text:
            return ""
        # All of it, not only the whole lines: a value of several lines may end in the half one.
        scrubbed = self._guard.scrub_lines(self._waiting)
        if text.endswith("\n") and not scrubbed.endswith("\n"):
            scrubbed += "\n"
        end = max(scrubbed.rfind("\n"), scrubbed.rfind("\r")) + 1
        if not full:
            end = self._guard.beginning_of_lines(scrubbed[:end])
        if not end and full:
            end = len(scrubbed) // 2
        self._waiting = scrubbed[end:]
        return scrubbed[:end]

    def rest(self) -> str:
        rest, self._waiting = self._guard.scrub(self._waiting), ""
        return rest


def guard_output(guard: SecretGuard) -> Callable[[], None]:
    """Scrub ``sys.stdout``, ``sys.stderr`` and what Python prints of unhandled errors; call the result to undo it.

    Unhandled errors are those of the main thread (``sys.excepthook``), of other threads (``threading.excepthook``) and
    those that cannot be raised, in ``__del__`` for example (``sys.unraisablehook``). Log handlers that were given one
    of the two streams before are given the scrubbed one: a record that was changed after it was made is scrubbed there.
    """
    streams = sys.stdout, sys.stderr
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    scrubbed = tuple(None if stream is None else ScrubbedStream(stream, guard) for stream in streams)

    def tell(head: str, error: BaseException | None) -> None:
        if sys.stderr is not None:
            text = "" if error is None else guard.scrub_exception(error)[2]
            sys.stderr.write(f"{guard.scrub(head)}{text}")
            sys.stderr.flush()

    def unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        tell("", error)

    def unhandled_in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not SystemExit:
            name = "<unknown>" if args.thread is None else args.thread.name
            tell(f"Exception in thread {name}:\n", args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        tell(f"{args.err_msg or 'Exception ignored in'}: {type(args.object).__qualname__}\n", args.exc_value)

    def release() -> None:
        for stream in scrubbed:
            if stream is not None:
                stream.release()

    def undo() -> None:
        atexit.unregister(release)
        release()
        for before, after in zip(streams, scrubbed, strict=True):
            _hand_over(after, before)
        if sys.stdout is scrubbed[0]:
            sys.stdout = streams[0]
        if sys.stderr is scrubbed[1]:
            sys.stderr = streams[1]
        if sys.excepthook is unhandled:
            sys.excepthook = hooks[0]
        if threading.excepthook is unhandled_in_thread:
            threading.excepthook = hooks[1]
        if sys.unraisablehook is unraisable:
            sys.unraisablehook = hooks[2]

    sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], scrubbed)
    for before, after in zip(streams, scrubbed, strict=True):
        _hand_over(before, after)
    sys.excepthook, threading.excepthook, sys.unraisablehook = unhandled, unhandled_in_thread, unraisable
    # The interpreter flushes the streams when it ends, and does not close them.
    atexit.register(release)
    return undo


def _hand_over(before: object, after: Any) -> None:
    """Let log handlers that write to ``before`` write to ``after``."""
    if before is None:
        return
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(after)


def loop_exception_handler(
    guard: SecretGuard,
) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """For ``loop.set_exception_handler``: the loop's default handler, given scrubbed text only.

    asyncio calls it with errors that nobody awaits; the default handler logs the task, whose ``repr`` has its result
    or its error, and the exception with its frames.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        lines = [str(context.get("message") or "Unhandled exception in event loop")]
        lines += [
            f"{name}: {shown(value)}" for name, value in sorted(context.items()) if name not in ("message", "exception")
        ]
        text = guard.scrub("\n".join(lines))
        error = context.get("exception")
        if isinstance(error, BaseException):
            text += "\n" + guard.scrub_exception(error)[2].rstrip("\n")
        loop.default_exception_handler({"message": text})

    return handle
