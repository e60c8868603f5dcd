"""Names that only matter when a run is recorded: here they do nothing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

__all__ = [
    "add_body_key_sanitizer",
    "add_general_regex_sanitizer",
    "add_header_regex_sanitizer",
    "add_oauth_response_sanitizer",
    "add_remove_header_sanitizer",
    "remove_batch_sanitizers",
    "set_custom_default_matcher",
]


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Accept anything, do nothing."""


add_body_key_sanitizer = _nothing
add_general_regex_sanitizer = _nothing
add_header_regex_sanitizer = _nothing
add_oauth_response_sanitizer = _nothing
add_remove_header_sanitizer = _nothing
remove_batch_sanitizers = _nothing
set_custom_default_matcher = _nothing


def without_extra_arguments(test: Callable[..., Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that ``test`` takes."""
    parameters = inspect.signature(test).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return kwargs
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in kwargs.items() if name in names}
