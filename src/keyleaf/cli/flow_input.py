"""What is typed after ``keyleaf flow``: JSON, tags and moments."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from keyleaf.cli.audit_log import microseconds
from keyleaf.core.errors import InputError


def json_object(text: str) -> bytes:
    """The arguments by name. Raises InputError."""
    data = json_text(text, "--input")
    if not isinstance(json.loads(data), dict):
        raise InputError("--input is no JSON object", hint='give the arguments by name: {"order": …}')
    return data


def json_text(text: str, option: str) -> bytes:
    """JSON given as it is, in a file (``@FILE``) or on standard input (``-``). Raises InputError."""
    try:
        if text == "-":
            data = sys.stdin.buffer.read()
        elif text.startswith("@"):
            data = Path(text[1:]).read_bytes()
        else:
            data = text.encode()
        json.loads(data)
    except OSError as error:
        raise InputError(f"{option}: {text[1:]} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        place = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{option} is not JSON{place}", hint="quote it for the shell, or use @FILE") from None
    return data


def tag_of(text: str) -> tuple[str, str]:
    """``KEY=VALUE``. Raises InputError."""
    key, separator, value = text.partition("=")
    if not key or not separator:
        raise InputError(f"{text!r} is no tag", hint="write KEY=VALUE")
    return key, value


def moment(text: str, option: str) -> float:
    """Seconds since 1970 of a time or an age; 0 for an empty text. Raises InputError."""
    found = microseconds(text, option, datetime.now(UTC))
    return found / 1e6 if found is not None else 0.0
