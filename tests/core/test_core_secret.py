"""A Secret shows itself to nobody who did not ask."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
from collections.abc import Callable

import msgspec
import pytest

from keyleaf.core.errors import KeyleafError
from keyleaf.core.secret import CURRENT_ACTIVITY, Secret, SecretEscape, refuse_secret

CANARY = "canary-7d1f0b"


@dataclasses.dataclass
class Order:
    key: Secret


ESCAPES: dict[str, Callable[[Secret], object]] = {
    "str": str,
    "bytes": bytes,
    "format": lambda secret: format(secret, ">40"),
    "f-string": lambda secret: f"Bearer {secret}",
    "str.format": lambda secret: "{:>40}".format(secret),  # noqa: UP032
    "%s": lambda secret: "%s" % secret,  # noqa: UP031
    "before +": lambda secret: secret + "",
    "after +": lambda secret: "" + secret,  # type: ignore[operator]
    "bytes +": lambda secret: b"" + secret,  # type: ignore[operator]
    "list +": lambda secret: [] + secret,  # type: ignore[operator]  # noqa: RUF005
    "*": lambda secret: secret * 2,
    "as format": lambda secret: secret % (),
    "index": lambda secret: secret[0],
    "slice": lambda secret: secret[:4],
    "list": list,
    "tuple": tuple,
    "unpacked": lambda secret: [*secret],
    "in": lambda secret: "c" in secret,
    "len": len,
    "print": lambda secret: print(secret),
    "pickle": pickle.dumps,
    "oldest pickle": lambda secret: pickle.dumps(secret, protocol=0),
    "pickle inside": lambda secret: pickle.dumps({"key": [secret]}),
    "copy": copy.copy,
    "deepcopy": lambda secret: copy.deepcopy({"key": secret}),
    "asdict": lambda secret: dataclasses.asdict(Order(secret)),
    "json": lambda secret: json.dumps({"key": secret}, default=refuse_secret),
    "msgspec json": lambda secret: msgspec.json.encode(Order(secret), enc_hook=refuse_secret),
    "msgspec msgpack": lambda secret: msgspec.msgpack.encode([secret], enc_hook=refuse_secret),
    "msgspec builtins": lambda secret: msgspec.to_builtins([secret], enc_hook=refuse_secret),
}


@pytest.mark.parametrize("way", ESCAPES)
def test_it_cannot_be_turned_into_anything_else(way: str) -> None:
    token = CURRENT_ACTIVITY.set("charge")
    try:
        with pytest.raises(SecretEscape) as caught:
            ESCAPES[way](Secret(CANARY, "payments/stripe-api-key"))
    finally:
        CURRENT_ACTIVITY.reset(token)
    told = str(caught.value)
    assert CANARY not in told
    assert "the secret payments/stripe-api-key cannot be" in told
    assert "in the activity charge" in told
    assert "call .reveal() where the value is used" in told


@pytest.mark.parametrize(
    "encode",
    [json.dumps, msgspec.json.encode, msgspec.msgpack.encode, hash, "".join, lambda secret: "".join([secret])],
)
def test_what_knows_only_plain_types_refuses_it_in_its_own_words(encode: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as caught:
        encode(Secret(CANARY))
    assert CANARY not in str(caught.value)


def test_the_hook_leaves_other_types_to_the_encoder_as_errors() -> None:
    with pytest.raises(TypeError, match=r"builtins\.object cannot be encoded"):
        json.dumps(object(), default=refuse_secret)


def test_an_escape_is_an_error_of_the_house_and_a_type_error() -> None:
    with pytest.raises(SecretEscape) as caught:
        str(Secret(CANARY))
    assert isinstance(caught.value, KeyleafError)
    assert isinstance(caught.value, TypeError)
    assert str(caught.value).startswith("a Secret cannot be turned into text (call")


def test_its_repr_shows_the_label_at_most(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("t").warning("%r", Secret(CANARY))
    assert caplog.messages == ["Secret(***)"]
    assert repr([Secret(CANARY, "payments/stripe-api-key")]) == "[Secret(payments/stripe-api-key)]"
    assert Secret(CANARY).reveal() == CANARY


def test_equality_and_truth() -> None:
    assert Secret("a") == Secret("a", "a name")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("\ud800") == Secret("\ud800")
    assert not Secret("")
