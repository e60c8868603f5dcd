"""A pytest plugin for the Azure SDKs' suites: shorter waits, the older api-versions, and what really went on the wire.

The tests wait for a distant service (2 s a key, 60 s after a purge). Each wait is cut to 1.1 s: more than one second,
because some tests compare timestamps of whole seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

LONGEST_WAIT = 1.1

_sleep = time.sleep
_async_sleep = asyncio.sleep
_outcomes: dict[str, str] = {}
_on_wire: set[str] = set()


def _short_sleep(seconds: float) -> None:
    _sleep(min(seconds, LONGEST_WAIT))


async def _short_async_sleep(delay: float, result: Any = None) -> Any:
    return await _async_sleep(min(delay, LONGEST_WAIT), result)


def _count_requests() -> None:
    """Note each test that opens a TLS connection: the rest are unit tests that say nothing about a server."""
    import socket

    connect = socket.socket.connect

    def noted(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and str(address[0]).startswith("127."):
            _on_wire.add(os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0])
        return connect(self, address)

    socket.socket.connect = noted  # type: ignore[method-assign]
    loop_connect = asyncio.BaseEventLoop.sock_connect if hasattr(asyncio.BaseEventLoop, "sock_connect") else None
    if loop_connect is None:
        from asyncio.selector_events import BaseSelectorEventLoop

        selector_connect = BaseSelectorEventLoop.sock_connect

        async def noted_async(self: Any, sock: Any, address: Any) -> None:
            _on_wire.add(os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0])
            await selector_connect(self, sock, address)

        BaseSelectorEventLoop.sock_connect = noted_async  # type: ignore[method-assign]


def pytest_configure(config: pytest.Config) -> None:
    time.sleep = _short_sleep
    asyncio.sleep = _short_async_sleep  # type: ignore[assignment]
    config.addinivalue_line("markers", "playback_test_only: needs a recording")
    config.addinivalue_line("markers", "live_test_only: needs a service")
    _count_requests()


class _EnvironmentVariables:
    def sanitize_batch(self, mapping: dict[str, str]) -> None:
        """Nothing is recorded, so nothing is sanitized."""


@pytest.fixture(scope="session")
def environment_variables() -> _EnvironmentVariables:
    """The names that a recording would hide."""
    return _EnvironmentVariables()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("playback_test_only"):
            item.add_marker(pytest.mark.skip(reason="needs a recording"))


def pytest_sessionstart(session: pytest.Session) -> None:
    if os.environ.get("SUITE_ALL_API_VERSIONS"):
        for module in ("_test_case", "_async_test_case"):
            try:
                preparers = __import__(module)
            except ImportError:
                continue
            for value in vars(preparers).values():
                if isinstance(value, type) and hasattr(value, "_skip_if_not_configured"):
                    value._skip_if_not_configured = lambda self, *args, **kwargs: None


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    tells = report.when == "call" or report.outcome in ("failed", "skipped")
    if tells and _outcomes.get(report.nodeid) != "failed":
        _outcomes[report.nodeid] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    destination = os.environ.get("KEYLEAF_SUITE_REPORT")
    if not destination:
        return
    wire = {test.split("::", 1)[-1] for test in _on_wire}
    counts = {"wire_passed": 0, "wire_failed": 0, "unit_passed": 0, "unit_failed": 0, "skipped": 0}
    for test, outcome in _outcomes.items():
        if outcome == "skipped":
            counts["skipped"] += 1
        else:
            counts[f"{'wire' if test.split('::', 1)[-1] in wire else 'unit'}_{outcome}"] += 1
    Path(destination).write_text(json.dumps(counts))
