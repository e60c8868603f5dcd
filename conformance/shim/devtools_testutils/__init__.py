"""What the Azure SDKs' live tests need of their test helpers, for a live run without recording.

The package of this name is not published. In a live run without recording its decorators pass through and its
sanitizers do nothing, so this module offers the same names: credentials and resource names that are real, and the
rest as no-operations. Written from what the published tests call; no code of the original is in it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from devtools_testutils.passthrough import *  # noqa: F403
from devtools_testutils.passthrough import without_extra_arguments

RUN_ID = os.environ.get("KEYLEAF_SUITE_RUN_ID", "")


def is_live() -> bool:
    """Always true: there is no playback here."""
    return True


def is_live_and_not_recording() -> bool:
    """Always true: nothing is recorded."""
    return True


def recorded_by_proxy(test: Callable[..., Any]) -> Callable[..., Any]:
    """Call the test as it is."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> Any:
        return test(*args, **without_extra_arguments(test, kwargs))

    return run


@pytest.fixture(scope="session")
def test_proxy() -> None:
    """No proxy."""


class AzureRecordedTestCase:
    """Base class of the live tests."""

    @property
    def is_live(self) -> bool:
        return True

    @property
    def qualified_test_name(self) -> str:
        return os.environ.get("PYTEST_CURRENT_TEST", "").split(" ")[0]

    def get_resource_name(self, prefix: str) -> str:
        """A name that is the same within one test and differs between tests and runs."""
        test = f"{self.qualified_test_name}{RUN_ID}"
        return f"{prefix}{zlib.adler32(test.encode()) & 0xFFFFFFFF:08x}"

    def create_random_name(self, prefix: str) -> str:
        return self.get_resource_name(prefix)

    def get_credential(self, client_class: type, **kwargs: Any) -> Any:
        """The credential that the environment describes, sync or async."""
        if kwargs.pop("is_async", False):
            from azure.identity.aio import DefaultAzureCredential as AsyncDefaultAzureCredential

            return AsyncDefaultAzureCredential(**kwargs)
        from azure.identity import DefaultAzureCredential

        return DefaultAzureCredential(**kwargs)

    def create_client_from_credential(self, client_class: type, credential: Any, **kwargs: Any) -> Any:
        return client_class(credential=credential, **{"logging_enable": True, **kwargs})

    @staticmethod
    def await_prepared_test(test: Callable[..., Any]) -> Callable[..., Any]:
        """Run a coroutine test on a loop of its own."""

        @functools.wraps(test)
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            trimmed = without_extra_arguments(test, kwargs)
            result = test(self, *args, **trimmed)
            return asyncio.run(result) if inspect.isawaitable(result) else result

        return run


class AzureMgmtPreparer:
    """Imported by a helper module of the suites; no live test uses it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = (args, kwargs)
