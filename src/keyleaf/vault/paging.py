"""Pages of lists: ``maxresults`` and an opaque ``$skiptoken`` that says after which item to go on.

A token names the last item seen, not a position, so a list stays complete while others change it: what was there all
the time is seen exactly once.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from urllib.parse import quote

from keyleaf.vault.problems import bad_parameter

LARGEST_PAGE = 25
_TOKEN = re.compile(r"after:[0-9a-z-]{1,127}\Z")


def page_size(query: Mapping[str, str]) -> int:
    """``maxresults``, 1 to 25, default 25.

    Raises:
        ServiceError: 400 BadParameter.
    """
    text = query.get("maxresults")
    if text is None:
        return LARGEST_PAGE
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= LARGEST_PAGE):
        raise bad_parameter(f"maxresults is not a number from 1 to {LARGEST_PAGE}.")
    return int(text)


def after(query: Mapping[str, str]) -> str:
    """The item that the last page ended with; empty at the start.

    Raises:
        ServiceError: 400 BadParameter.
    """
    token = query.get("$skiptoken")
    if not token:
        return ""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
    except (binascii.Error, ValueError):
        text = ""
    if not _TOKEN.match(text):
        raise bad_parameter("$skiptoken is not one that this service gave out.")
    return text.removeprefix("after:")


def next_link(base: str, path: str, query: Mapping[str, str], last: str) -> str:
    """The URL of the next page."""
    token = base64.urlsafe_b64encode(f"after:{last}".encode()).rstrip(b"=").decode()
    version = quote(query.get("api-version", ""), safe="")
    size = f"&maxresults={query['maxresults']}" if "maxresults" in query else ""
    return f"{base}{path}?api-version={version}&$skiptoken={token}{size}"
