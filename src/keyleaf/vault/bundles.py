"""The JSON of the data plane: requests as they are read, answers as they are written.

Shapes: https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from keyleaf.vault.problems import bad_parameter

MAX_VALUE_BYTES = 25 * 1024
MAX_TAGS = 15
MAX_TAG_CHARACTERS = 256
MAX_CONTENT_TYPE = 255
_LATEST_TIME = 253_402_300_799  # 9999-12-31T23:59:59Z


class Attributes(
    msgspec.Struct,
    omit_defaults=True,
    rename={"recovery_level": "recoveryLevel", "recoverable_days": "recoverableDays"},
):
    """Attributes of one version; times in seconds since 1970."""

    enabled: bool | None = None
    nbf: int | None = None
    exp: int | None = None
    created: int | None = None
    updated: int | None = None
    recovery_level: str | None = None
    recoverable_days: int | None = None


class SetRequest(msgspec.Struct, rename="camel"):
    """Body of PUT /secrets/{name}."""

    value: str
    content_type: str | None = None
    tags: dict[str, str] | None = None
    attributes: Attributes | None = None


class UpdateRequest(msgspec.Struct, rename="camel"):
    """Body of PATCH /secrets/{name}/{version}: what is absent stays as it is."""

    content_type: str | None = None
    tags: dict[str, str] | None = None
    attributes: Attributes | None = None


class RestoreRequest(msgspec.Struct):
    """Body of POST /secrets/restore."""

    value: str


class Bundle(msgspec.Struct, omit_defaults=True, rename="camel"):
    """A secret as it is answered: with its value (get, set), or without."""

    id: str
    attributes: Attributes
    value: str | None = None
    content_type: str | None = None
    tags: dict[str, str] | None = None
    recovery_id: str | None = None
    deleted_date: int | None = None
    scheduled_purge_date: int | None = None


class Page(msgspec.Struct, rename="camel"):
    """One page of a list; ``next_link`` None ends it."""

    value: list[Bundle]
    next_link: str | None = None


class BackupBlob(msgspec.Struct):
    """Answer of POST /secrets/{name}/backup."""

    value: str


Request = TypeVar("Request", bound=msgspec.Struct)


def read_request(body: bytes, kind: type[Request]) -> Request:
    """Decode a request's body; unknown fields are ignored, as Azure ignores them.

    Raises:
        ServiceError: 400 BadParameter naming the field, never its content.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise bad_parameter(f"The request body is not valid: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad_parameter("The request body is not valid JSON.") from None


def check_limits(content_type: str | None, tags: dict[str, str] | None, attributes: Attributes | None) -> None:
    """Refuse what Azure refuses: too many or too long tags, a content type too long, times out of range."""
    if content_type is not None and len(content_type) > MAX_CONTENT_TYPE:
        raise bad_parameter(f"contentType is longer than {MAX_CONTENT_TYPE} characters.")
    if content_type is not None and "\x00" in content_type:
        raise bad_parameter("contentType holds a NUL character.")
    if tags is not None:
        if len(tags) > MAX_TAGS:
            raise bad_parameter(f"A secret takes at most {MAX_TAGS} tags.")
        if any(
            not name or len(name) > MAX_TAG_CHARACTERS or len(text) > MAX_TAG_CHARACTERS for name, text in tags.items()
        ):
            raise bad_parameter(f"A tag's name has 1 to {MAX_TAG_CHARACTERS} characters, its value at most as many.")
    if attributes is not None:
        for field, time in (("nbf", attributes.nbf), ("exp", attributes.exp)):
            if time is not None and not 0 <= time <= _LATEST_TIME:
                raise bad_parameter(f"attributes.{field} is not a time in seconds since 1970.")
        if attributes.nbf is not None and attributes.exp is not None and attributes.exp <= attributes.nbf:
            raise bad_parameter("attributes.exp is not after attributes.nbf.")


def check_value_size(value: str) -> None:
    """Refuse a value over 25 KiB of UTF-8."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise bad_parameter("value is not valid Unicode.") from None
    if size > MAX_VALUE_BYTES:
        raise bad_parameter(f"The value is larger than {MAX_VALUE_BYTES} bytes.")
