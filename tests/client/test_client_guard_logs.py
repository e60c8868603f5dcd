"""Real handlers write real files; nothing of a held secret is in them."""

from __future__ import annotations

import base64
import io
import json
import logging
import logging.config
import logging.handlers
import queue
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.logging import RichHandler
from uvicorn.logging import AccessFormatter

from keyleaf.client.guard import SecretGuard
from keyleaf.client.logs import guard_logging
from keyleaf.core.secret import CURRENT_ACTIVITY, Secret, SecretEscape

VALUE = 'sk_live/"51Hf=83hK" ü'
MARK = "[secret payments/stripe-api-key]"


@pytest.fixture
def guard() -> SecretGuard:
    made = SecretGuard()
    made.hold("payments/stripe-api-key", VALUE)
    return made


@pytest.fixture
def guarded(guard: SecretGuard) -> Iterator[Callable[[], None]]:
    undo = guard_logging(guard)
    yield undo
    undo()


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[logging.Logger]:
    """A logger with handlers of many kinds, all of which write into files in ``tmp_path``."""
    made = logging.getLogger("some.library")
    made.setLevel(logging.DEBUG)
    made.propagate = False
    full = logging.Formatter("%(levelname)s %(message)s %(args)s %(msg)s %(order)s", defaults={"order": ""})
    written = logging.FileHandler(tmp_path / "plain.log")
    rotating = logging.handlers.RotatingFileHandler(tmp_path / "rotating.log", maxBytes=4000, backupCount=100)
    behind = logging.FileHandler(tmp_path / "queued.log")
    queued = logging.handlers.QueueHandler(queue.SimpleQueue())
    listener = logging.handlers.QueueListener(queued.queue, behind)
    memory = logging.handlers.MemoryHandler(100, target=logging.FileHandler(tmp_path / "memory.log"))
    structured = logging.FileHandler(tmp_path / "structured.log")
    structured.setFormatter(EverythingAsJson())
    console = Console(file=(tmp_path / "rich.log").open("w"), width=400)
    rich = RichHandler(console=console, rich_tracebacks=True, tracebacks_show_locals=True)
    handlers: list[logging.Handler] = [written, rotating, queued, memory, structured, rich]
    for handler in (written, rotating, behind, memory):
        handler.setFormatter(full)
    for handler in handlers:
        made.addHandler(handler)
    listener.start()
    yield made
    listener.stop()
    memory.close()
    for handler in [*handlers, behind]:
        made.removeHandler(handler)
        handler.close()
    console.file.close()


class EverythingAsJson(logging.Formatter):
    """All fields of a record, as collectors of logs want them."""

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(vars(record))
        if record.exc_info:
            fields["exc_info"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=repr)


def everything(directory: Path) -> str:
    for handler in logging.getLogger("some.library").handlers:
        handler.flush()
        if isinstance(handler, logging.handlers.QueueHandler):
            listening = threading.Event()
            handler.queue.put(logging.makeLogRecord({"msg": Signal(listening)}))
            assert listening.wait(5)
    return "\n".join(file.read_text() for file in sorted(directory.iterdir()))


class Signal:
    """Sets an event when a handler formats it: everything before it is written."""

    def __init__(self, event: threading.Event) -> None:
        self.event = event

    def __str__(self) -> str:
        self.event.set()
        return "signal"


class Holder:
    def __init__(self, value: str) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Holder({self.value!r})"


def log_in_every_way(logger: logging.Logger, value: str) -> None:
    logger.info("plain " + value)
    logger.info("argument %s", value)
    logger.info("repr %r and %.12s", value, "x" * 4 + value)
    logger.info("two %s%s", value[:6], value[6:])
    logger.info("named %(key)s", {"key": value, "other": 1})
    logger.info("nested %s", {"keys": [value, ("a", value)]})
    logger.info("object %s", Holder(value))
    logger.info(Holder(value))
    logger.info("bytes %s", value.encode())
    logger.info("base64 %s", base64.b64encode(b"user:" + value.encode()).decode())
    logger.info("colons %s", value.encode().hex(":"))
    logger.info("extra", extra={"order": {"key": value}})
    logger.info("stack", stack_info=True)
    logger.log(logging.WARNING, "error %s", ValueError(value))
    try:
        try:
            raise KeyError(value)
        except KeyError as error:
            error.add_note(f"seen with {value}")
            raise RuntimeError(f"no: {value}") from error
    except RuntimeError:
        logger.exception("failed with %s", value)
        logger.error("again", exc_info=sys.exc_info())


def leaks(text: str) -> bool:
    spellings = [VALUE, json.dumps(VALUE)[1:-1], json.dumps(json.dumps(VALUE)[1:-1])[1:-1], VALUE.encode().hex(":")]
    spellings += [str(VALUE.encode())[2:-1], base64.b64encode(b"user:" + VALUE.encode()).decode()]
    return any(spelling in text for spelling in spellings)


def test_nothing_of_it_reaches_any_file(
    guard: SecretGuard, guarded: Callable[[], None], logger: logging.Logger, tmp_path: Path
) -> None:
    log_in_every_way(logger, VALUE)
    text = everything(tmp_path)
    assert not leaks(text)
    assert guard.find_text(text) is None
    assert f"argument {MARK}" in text
    assert f"failed with {MARK}" in text
    assert f"RuntimeError: no: {MARK}" in text
    assert f"seen with {MARK}" in text
    assert "[withheld: it held secret payments/stripe-api-key, hexadecimal]" in text


def test_without_the_guard_every_file_has_it(logger: logging.Logger, tmp_path: Path) -> None:
    log_in_every_way(logger, VALUE)
    everything(tmp_path)
    for name in ("plain", "rotating", "queued", "memory", "structured", "rich"):
        assert any(leaks(file.read_text()) for file in tmp_path.glob(f"{name}.log*")), name


def test_undone_it_is_as_before(guarded: Callable[[], None], logger: logging.Logger, tmp_path: Path) -> None:
    guarded()
    assert logging.getLogRecordFactory() is logging.LogRecord
    logger.info("argument %s", VALUE)
    logger.info("%r", Secret(VALUE))
    assert leaks(everything(tmp_path))


def test_factories_before_and_after_it_are_called(guard: SecretGuard, caplog: pytest.LogCaptureFixture) -> None:
    def adding(name: str, made: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
        def factory(*args: object, **kwargs: object) -> logging.LogRecord:
            record = made(*args, **kwargs)
            setattr(record, name, True)
            return record

        return factory

    logging.setLogRecordFactory(adding("inner", logging.LogRecord))
    undo = guard_logging(guard)
    outer = adding("outer", logging.getLogRecordFactory())
    logging.setLogRecordFactory(outer)
    try:
        logging.getLogger("t").warning("a %s", VALUE)
        undo()
        assert logging.getLogRecordFactory() is outer
        logging.getLogger("t").warning("b %s", VALUE)
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert caplog.messages == [f"a {MARK}", f"b {VALUE}"]
    assert all(getattr(record, name) for record in caplog.records for name in ("inner", "outer"))


@pytest.mark.parametrize(
    "log",
    [
        lambda logger, secret: logger.info(secret),
        lambda logger, secret: logger.info("%s", secret),
        lambda logger, secret: logger.info("%r and %r", 1, secret),
        lambda logger, secret: logger.info("%(key)r", {"key": secret}),
        lambda logger, secret: logger.info("%s", {"keys": [1, (2, {"a": secret})]}),
        lambda logger, secret: logger.info("a", extra={"order": [secret]}),
        lambda logger, secret: logging.LoggerAdapter(logger, {"order": secret}).info("a"),
    ],
)
def test_a_secret_object_fails_in_the_caller(
    guarded: Callable[[], None],
    logger: logging.Logger,
    tmp_path: Path,
    log: Callable[[logging.Logger, Secret], None],
) -> None:
    token = CURRENT_ACTIVITY.set("charge")
    try:
        with pytest.raises(SecretEscape, match="the secret payments/key cannot be logged in the activity charge"):
            log(logger, Secret("never-held", "payments/key"))
    finally:
        CURRENT_ACTIVITY.reset(token)
    assert "never-held" not in everything(tmp_path)


def test_an_error_made_with_a_secret_object_is_logged_without_it(
    guarded: Callable[[], None], logger: logging.Logger, tmp_path: Path
) -> None:
    try:
        raise ValueError("no", Secret(VALUE, "payments/key"))
    except ValueError as error:
        logger.exception("failed with %s", error)
    text = everything(tmp_path)
    assert "Secret(payments/key)" in text
    assert not leaks(text)


def test_a_record_that_holds_nothing_stays_as_it_is(
    guarded: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    given = ("x", 17, 2.5, None, Holder("y"))
    logging.getLogger("t").warning("%s %d %.1f %s %s", *given)
    assert caplog.records[-1].args == given
    assert caplog.messages[-1] == "x 17 2.5 None Holder('y')"
    named = {"order": 17}
    logging.getLogger("t").warning("%(order)05d", named, extra={"count": 3})
    assert caplog.records[-1].args == named
    assert vars(caplog.records[-1])["count"] == 3
    assert caplog.messages[-1] == "00017"


def test_a_code_of_digits_given_to_a_number_format(
    guard: SecretGuard, guarded: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    guard.hold("bank/code", "12345678")
    guard.hold("bank/pin", "1234")
    logging.getLogger("t").warning("code %d of %d", 12345678, 2)
    logging.getLogger("t").warning("pin %s", "1234")
    assert caplog.messages == ["code [secret bank/code] of 2", "pin [secret bank/pin]"]


def test_arguments_that_do_not_fit_are_reported_without_the_value(
    guarded: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    made = logging.getLogger("t.misfit")
    made.propagate = False
    handler = logging.StreamHandler(sys.stderr)
    made.addHandler(handler)
    try:
        made.warning(f"{VALUE} %s %s", VALUE)
    finally:
        made.removeHandler(handler)
    told = capsys.readouterr().err
    assert not leaks(told)
    assert MARK in told


def test_formatters_that_take_arguments_by_position_still_work(guarded: Callable[[], None]) -> None:
    out = io.StringIO()
    made = logging.getLogger("t.access")
    made.propagate = False
    made.setLevel(logging.INFO)
    handler = logging.StreamHandler(out)
    handler.setFormatter(AccessFormatter('%(client_addr)s "%(request_line)s" %(status_code)s', use_colors=False))
    made.addHandler(handler)
    try:
        made.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:80", "GET", f"/pay?key={VALUE}", "1.1", 200)
    finally:
        made.removeHandler(handler)
    assert out.getvalue() == f'127.0.0.1:80 "GET /pay?key={MARK} HTTP/1.1" 200 OK\n'


def test_warnings_are_scrubbed_where_logging_takes_them(
    guarded: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        try:
            warnings.warn(f"deprecated {VALUE}", stacklevel=1)
        finally:
            logging.captureWarnings(False)
    assert "deprecated [secret" in caplog.text
    assert not leaks(caplog.text)


def test_a_guard_that_holds_nothing_keeps_exceptions_whole(caplog: pytest.LogCaptureFixture) -> None:
    undo = guard_logging(SecretGuard())
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("t").exception("failed")
    finally:
        undo()
    assert caplog.records[-1].exc_info is not None
