"""Ways out through what an activity returns."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
import pickle
import textwrap
import urllib.parse
from typing import Any

import msgspec

from hostile.ways import in_base64, in_two, way
from keyleaf import Secret


class Receipt(msgspec.Struct):
    """What an honest activity returns."""

    number: int
    note: str


@dataclasses.dataclass
class Account:
    """What shows itself."""

    user: str
    password: Any


RESULTS: dict[str, Any] = {
    "as is": lambda value: value,
    "without the end of the line": lambda value: value.strip(),
    "indented": lambda value: textwrap.indent(value, "    > "),
    "with other ends of lines": lambda value: value.replace("\n", "\r\n"),
    "in a Struct": lambda value: Receipt(1, value),
    "in a dataclass": lambda value: Account("me", value),
    "in the repr of a dataclass": lambda value: repr(Account("me", value)),
    "as a value of a dict": lambda value: {"password": value},
    "as a key of a dict": lambda value: {value: True},
    "deep in lists": lambda value: [[1, [None, {"a": [value]}]]],
    "in a tuple": lambda value: ("a", value),
    "in a set": lambda value: {value},
    "as bytes": lambda value: value.encode(),
    "as bytes among bytes": lambda value: {"dump": b"\x00\xff" + value.encode() + b"\xfe"},
    "in a longer text": lambda value: f"signed in with {value} at noon",
    "in a longer text without spaces": lambda value: f"xx{value}xx",
    "in JSON": lambda value: json.dumps({"key": value}),
    "in JSON in JSON": lambda value: json.dumps(json.dumps({"key": value})),
    "in JSON with its characters": lambda value: json.dumps([value], ensure_ascii=False),
    "every character as \\u": lambda value: "".join(f"\\u{ord(each):04x}" for each in value),
    "base64": lambda value: in_base64(value),
    "base64, shifted by one": lambda value: in_base64(value, 1),
    "base64, shifted by two": lambda value: in_base64(value, 2),
    "URL-safe base64": lambda value: in_base64(value, url_safe=True),
    "URL-safe base64, shifted by one": lambda value: in_base64(value, 1, url_safe=True),
    "URL-safe base64, shifted by two": lambda value: in_base64(value, 2, url_safe=True),
    "base64 without padding": lambda value: in_base64(value).rstrip("="),
    "base64 in a longer text": lambda value: f"Authorization: Basic {in_base64('user:' + value)} sent",
    "base64 of UTF-16": lambda value: (
        in_base64(value.encode("utf-16-le").decode("latin-1")) if value.isascii() else value
    ),
    "hexadecimal": lambda value: value.encode().hex(),
    "hexadecimal, capitals": lambda value: value.encode().hex().upper(),
    "hexadecimal with colons": lambda value: value.encode().hex(":"),
    "hexadecimal with spaces": lambda value: value.encode().hex(" "),
    "quote()": lambda value: urllib.parse.quote(value),
    "quote() of everything": lambda value: urllib.parse.quote(value, safe=""),
    "quote_plus()": lambda value: urllib.parse.quote_plus(value),
    "every byte as %": lambda value: "".join(f"%{byte:02x}" for byte in value.encode()),
    "in a URL": lambda value: f"https://me:{urllib.parse.quote(value, safe='')}@example/?a=b",
    "in a query": lambda value: urllib.parse.urlencode({"token": value}),
    "html.escape()": lambda value: html.escape(value),
    "decimal references": lambda value: "".join(f"&#{ord(each)};" for each in value),
    "hexadecimal references": lambda value: "".join(f"&#x{ord(each):x};" for each in value),
    "half and half in a list": lambda value: list(in_two(value)),
    "half and half in a dict": lambda value: dict(zip("ab", in_two(value), strict=True)),
    "one character after the other": list,
    "repr()": repr,
    "pickled": lambda value: pickle.dumps(value),
    "as two keys": lambda value: dict.fromkeys(in_two(value), 1),
}


def _returns(make: Any) -> Any:
    return lambda value, secret: make(value)


for _name, _make in RESULTS.items():
    way("result", _name)(_returns(_make))
way("result", "digits as a number", kinds=("digits",))(lambda value, secret: int(value))
way("result", "digits as a number in a list", kinds=("digits",))(lambda value, secret: [1, {"pin": int(value)}])
way("result", "digits as a key", kinds=("digits",))(lambda value, secret: {int(value): "pin"})

SECRETS: dict[str, Any] = {
    "the Secret": lambda secret: secret,
    "the Secret in a list": lambda secret: [1, secret],
    "the Secret in a Struct": lambda secret: Receipt(1, secret),
    "the Secret as a value": lambda secret: {"key": secret},
    "str(secret)": str,
    "an f-string": lambda secret: f"{secret}",
    "format with a width": lambda secret: f"{secret:>90}",
    "%s": lambda secret: "%s" % secret,  # noqa: UP031
    "secret + text": lambda secret: secret + "x",
    "text + secret": lambda secret: "x" + secret,
    "join": lambda secret: "".join(["a", str(secret)]),
    "json.dumps": lambda secret: json.dumps({"key": secret}, default=str),
    "pickle": lambda secret: pickle.dumps(secret),
    "copy": lambda secret: str(copy.copy(secret)),
    "deepcopy": lambda secret: str(copy.deepcopy([secret])[0]),
    "dataclasses.asdict": lambda secret: str(dataclasses.asdict(Account("me", secret))["password"]),
}


def _returns_of_secret(make: Any) -> Any:
    return lambda value, secret: make(secret)


for _name, _make in SECRETS.items():
    way("Secret", _name)(_returns_of_secret(_make))


@way("result", "from an async activity")
async def _asynchronous(value: str, secret: Secret) -> str:
    return value
