"""The async face."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from devtools_testutils.passthrough import without_extra_arguments


def recorded_by_proxy_async(test: Callable[..., Any]) -> Callable[..., Any]:
    """Await the test as it is."""

    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> Any:
        return await test(*args, **without_extra_arguments(test, kwargs))

    return run
