"""Refuses the world to an orchestration while its code runs.

Python tells audit hooks of files, sockets, processes and more before they are touched
(https://docs.python.org/3/library/audit_events.html). One hook is installed for the process when it is first needed,
and cannot be taken away; it looks only at threads that are inside :func:`orchestrating`. Clocks and random numbers
raise no audit event: those are for the look at the code (``purity``).

What keeps working although it touches the world:
    - importing, and reading what is installed with Python: modules, package data, time zones;
    - logging, whose handlers may open or rotate files, warnings and tracebacks, which read source;
    - debuggers and coverage;
    - what an engine does to carry a command out;
    - finalizers of objects that have nothing to do with the orchestration and happen to be collected here.
"""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any

from keyleaf.core.location import Location
from keyleaf.orchestrate.impure_names import ACTIVITY, SLEEP
from keyleaf.orchestrate.nondeterminism import NondeterminismError, is_engine, place_in_code

_EVENTS = {
    "open": "open()",
    "builtins.input": "input()",
    "time.sleep": "time.sleep()",
    "_thread.start_new_thread": "threading.Thread.start()",
    "_thread.start_joinable_thread": "threading.Thread.start()",
    "socket.__new__": "socket.socket()",
    "subprocess.Popen": "subprocess.Popen()",
    "sqlite3.connect": "sqlite3.connect()",
    "urllib.Request": "urllib.request.urlopen()",
}
"""Audit events, as authors call them."""

_FAMILIES = frozenset(
    {
        "ftplib",
        "glob",
        "http",
        "imaplib",
        "nntplib",
        "os",
        "pathlib",
        "poplib",
        "shutil",
        "smtplib",
        "socket",
        "sqlite3",
        "subprocess",
        "telnetlib",
        "tempfile",
        "urllib",
        "webbrowser",
    }
)
"""First part of the names of further events that touch the world."""

_AT_LIBERTY = frozenset(
    {
        "_frozen_importlib",
        "_frozen_importlib_external",
        "_pydevd_bundle",
        "bdb",
        "coverage",
        "debugpy",
        "importlib",
        "linecache",
        "logging",
        "loguru",
        "pdb",
        "pkgutil",
        "pydevd",
        "traceback",
        "tracemalloc",
        "warnings",
        "zipimport",
        "zoneinfo",
    }
)
"""Top-level modules that may touch the world while an orchestration runs."""

_PORTS = ("keyleaf.orchestrate.engines", "keyleaf.orchestrate.history", "keyleaf.testing")
"""Modules that carry commands out."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC


class _Stretch(AbstractContextManager[None]):
    """One stretch of an orchestration's code on this thread."""

    __slots__ = ("_outer", "boundary", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.boundary: FrameType | None = None
        self._outer: _Stretch | None = None

    def __enter__(self) -> None:
        thread = get_ident()
        self.boundary = sys._getframe(1)
        self._outer = _RUNNING.get(thread)
        _RUNNING[thread] = self

    def __exit__(self, *error: object) -> None:
        thread = get_ident()
        if self._outer is None:
            del _RUNNING[thread]
        else:
            _RUNNING[thread] = self._outer
        self.boundary = self._outer = None


_RUNNING: dict[int, _Stretch] = {}
"""The stretch that runs, by thread."""

_LOCK = threading.Lock()
_installed = False


def orchestrating(name: str) -> AbstractContextManager[None]:
    """While it is entered, what touches the world on this thread raises NondeterminismError.

    The frame that enters it is the one that steps the orchestration. It may be entered inside another.

    Args:
        name: of the orchestration, for messages.
    """
    if not _installed:
        _install()
    return _Stretch(name)


def _install() -> None:
    global _installed
    with _LOCK:
        if _installed:
            return
        _folders()  # reads files itself, so before the hook is there
        sys.addaudithook(_refuse)
        if hasattr(os, "register_at_fork"):  # the other threads are gone, and their numbers are given out again
            os.register_at_fork(after_in_child=_RUNNING.clear)
        _installed = True


def _refuse(
    event: str, args: tuple[Any, ...], running: dict[int, _Stretch] = _RUNNING, thread: Any = get_ident
) -> None:
    if not running:
        return
    stretch = running.get(thread())
    if stretch is None or (event not in _EVENTS and event.partition(".")[0] not in _FAMILIES):
        return
    if event == "open" and _reads_what_is_installed(args):
        return
    frames = _frames_inside(stretch)
    if any(_at_liberty(frame) for frame in frames):
        return
    what = _EVENTS.get(event, f"{event}()")
    instead = f"use {SLEEP}" if event == "time.sleep" else f"do it in {ACTIVITY}"
    where, function = _place(frames, stretch)
    raise NondeterminismError(f"orchestration {stretch.name} used {what}{function}", hint=instead, where=where)


def _frames_inside(stretch: _Stretch) -> list[FrameType]:
    """The frames that run for the orchestration, innermost first."""
    frames: list[FrameType] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame is not stretch.boundary:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__") or "")


def _at_liberty(frame: FrameType) -> bool:
    module = _module(frame)
    function = frame.f_code.co_name
    return (
        module.partition(".")[0] in _AT_LIBERTY
        or module.startswith(_PORTS)
        or function == "__del__"
        or (module == "weakref" and function == "__call__")
    )


def _place(frames: list[FrameType], stretch: _Stretch) -> tuple[Location | None, str]:
    """The innermost frame of the author's package, and its function."""
    authors = [frame for frame in frames if _is_authors(frame)]
    if not authors and stretch.boundary is not None and _is_authors(stretch.boundary):
        authors = [stretch.boundary]
    if not authors:
        return None, ""
    # The outermost one is the orchestration, whatever it has called since.
    package = _module(authors[-1]).partition(".")[0]
    frame = next(frame for frame in authors if _module(frame).partition(".")[0] == package)
    code = frame.f_code
    return place_in_code(code.co_filename, frame.f_lineno or 0), f" in {code.co_qualname}"


def _is_authors(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return not is_engine(_module(frame)) and not file.startswith(("<frozen ", _folders()[0]))


@functools.cache
def _folders() -> tuple[str, ...]:
    """Directories of what is installed with this Python, as prefixes of paths; the standard library first."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [*site.getsitepackages(), site.getusersitepackages()]
    folders += [str(Path(folder).resolve()) for folder in folders]
    return tuple(dict.fromkeys(folder + os.sep for folder in folders))


def _reads_what_is_installed(args: tuple[Any, ...]) -> bool:
    """Whether an ``open`` event reads a file that is installed with Python, or a time zone."""
    path, _, flags = args
    if not isinstance(path, str | bytes | os.PathLike) or (isinstance(flags, int) and flags & _WRITING):
        return False
    time_zones = getattr(sys.modules.get("zoneinfo"), "TZPATH", ())
    return os.path.normpath(os.fsdecode(path)).startswith((*_folders(), *(folder + os.sep for folder in time_zones)))
