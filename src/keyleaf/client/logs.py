"""Keeps held secrets out of every log record of the process, whichever logger, handler or formatter it meets."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from keyleaf.client.guard import SecretGuard
from keyleaf.core.secret import Secret, SecretEscape

_PLAIN = (str, int, float, bool, type(None))
_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def guard_logging(guard: SecretGuard) -> Callable[[], None]:
    """Scrub all records that are made from now on; call what is returned to undo it.

    Whoever logs a Secret (as message, as argument, in ``extra``, or inside a list, tuple, set or dict of these) at a
    level that is enabled gets a SecretEscape at once. Held values are replaced in the message, the arguments,
    ``extra``, the stack and the exception. As soon as a value is held, exceptions are formatted when the record is
    made and stay in it as text only (``exc_text``): a formatter that prints local variables has none to print.

    It builds on the record factory that it finds, and goes on to work under one that is set later and calls it.
    ``extra`` is set after the factory; for it, :meth:`logging.Logger.makeRecord` is wrapped. Undo in reverse order of
    installation, or a factory that was set meanwhile goes too.

    Rules: https://docs.python.org/3/library/logging.html#logging.setLogRecordFactory
    """
    made_before = logging.getLogRecordFactory()
    make_record_before = logging.Logger.makeRecord
    cleaner = _RecordCleaner(guard)
    active = True

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = made_before(*args, **kwargs)
        if active:
            cleaner.clean(record)
        return record

    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make_record_before(self, *args, **kwargs)
        if active:
            cleaner.clean_extra(record)
        return record

    def undo() -> None:
        nonlocal active
        # What was installed on top keeps calling these two; from now on they only hand on.
        active = False
        if logging.getLogRecordFactory() is factory:
            logging.setLogRecordFactory(made_before)
        if logging.Logger.makeRecord is make_record:
            logging.Logger.makeRecord = make_record_before  # type: ignore[method-assign]

    logging.setLogRecordFactory(factory)
    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]
    return undo


class _RecordCleaner:
    def __init__(self, guard: SecretGuard) -> None:
        self._guard = guard

    def clean(self, record: logging.LogRecord) -> None:
        """Scrub what the factory knows."""
        refuse_secrets(record.msg)
        refuse_secrets(record.args)
        if not self._guard.holds_any:
            return
        self._clean_message(record)
        if record.stack_info:
            record.stack_info = self._guard.scrub(record.stack_info)
        if isinstance(record.exc_info, tuple) and record.exc_info[1] is not None:
            record.exc_text = self._guard.scrub_exception(record.exc_info[1])[2].rstrip("\n")
            record.exc_info = None
        elif record.exc_text:
            record.exc_text = self._guard.scrub(record.exc_text)

    def clean_extra(self, record: logging.LogRecord) -> None:
        """Scrub the fields that ``extra`` added."""
        fields = vars(record)
        for name in fields.keys() - _OWN_FIELDS:
            refuse_secrets(fields[name])
            fields[name] = self._scrubbed(fields[name])

    def _clean_message(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            if (
                isinstance(record.msg, str)
                and _are_plain(record.args)
                and self._guard.find((message, record.args)) is None
            ):
                return
            scrubbed = self._guard.scrub(message)
        except SecretEscape:
            raise
        except Exception:
            # The arguments do not fit the message; logging reports that, with both, when the record is formatted.
            scrubbed = ""
        if not isinstance(record.msg, str):
            record.msg = self._scrubbed(record.msg)
        # Message and arguments stay apart where they can: some formatters take arguments by position.
        if isinstance(record.args, Mapping):
            record.args = {name: self._scrubbed(value) for name, value in record.args.items()}
        elif record.args:
            record.args = tuple(self._scrubbed(value) for value in record.args)
        try:
            clean = self._guard.find_text(record.getMessage()) is None
        except Exception:
            # The mark does not fit a %d.
            clean = False
        if not clean:
            record.msg, record.args = scrubbed or self._guard.scrub(str(record.msg)), ()

    def _scrubbed(self, value: object) -> object:
        """The value itself; in the place of one that holds a secret, its scrubbed text."""
        if isinstance(value, str):
            return self._guard.scrub(value)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, BaseException):
            return value if self._guard.find(value) is None else self._guard.scrub_exception(value)[1]
        try:
            text = str(value)
            found = self._guard.find(value) or self._guard.find_text(text)
        except SecretEscape:
            raise
        except Exception:
            return f"<{type(value).__qualname__}>"
        if found is None:
            return value
        scrubbed = self._guard.scrub(text)
        return f"[secret {found.label}]" if scrubbed == text else scrubbed


def _are_plain(args: object) -> bool:
    """Whether no argument has parts that its text in the message may leave out."""
    return not args or (isinstance(args, tuple) and all(type(value) in _PLAIN for value in args))


def refuse_secrets(value: object) -> None:
    """Raise SecretEscape if ``value`` is a Secret, or a list, tuple, set or dict that holds one at any depth."""
    waiting = [value]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, Secret):
            one.refuse("logged")
        if isinstance(one, dict | list | tuple | set | frozenset) and id(one) not in seen:
            seen.add(id(one))
            if isinstance(one, dict):
                waiting += one
                waiting += one.values()
            else:
                waiting += one
