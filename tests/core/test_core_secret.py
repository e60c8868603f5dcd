"""A Secret shows itself to nobody who did not ask."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest

from keyleaf.core.secret import Secret

CANARY = "canary-7d1f0b"


def test_no_way_of_printing_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(CANARY)
    logging.getLogger("t").warning("%s %r", secret, secret)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret:>40}", f"{[secret]!r}", f"{secret}", caplog.text]
    assert all(CANARY not in text for text in shown)
    assert secret.reveal() == CANARY


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, hash, list, len])
def test_what_would_carry_it_off_fails_without_naming_it(leak: object) -> None:
    with pytest.raises(TypeError) as caught:
        leak(Secret(CANARY))  # type: ignore[operator]
    assert CANARY not in str(caught.value)


def test_equality_and_truth() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert not Secret("")
