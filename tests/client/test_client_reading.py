"""What answers mean, at the edges."""

from __future__ import annotations

import pytest

from keyleaf.client import VaultAnswer
from keyleaf.client.reading import judge
from keyleaf.client.unavailable import Reason
from keyleaf.core.secret import Secret

NOW = 1_700_000_000.0
VALUE = Secret("value")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (VaultAnswer("answered", 200, VALUE), None),
        (VaultAnswer("answered", 200, VALUE, expires_on=NOW + 0.001), None),
        (VaultAnswer("answered", 200, VALUE, expires_on=NOW), "expired"),
        (VaultAnswer("answered", 200, VALUE, not_before=NOW), None),
        (VaultAnswer("answered", 200, VALUE, not_before=NOW + 0.001), "not yet valid"),
        (VaultAnswer("answered", 200, VALUE, enabled=False), "disabled"),
        (VaultAnswer("answered", 200), "away"),
        (VaultAnswer("answered", 401), "sign-in failed"),
        (VaultAnswer("answered", 403), "forbidden"),
        (VaultAnswer("answered", 403, inner="ForbiddenByConnection"), "forbidden"),
        (VaultAnswer("answered", 403, inner="SecretDisabled"), "disabled"),
        (VaultAnswer("answered", 403, inner="KeyleafSecretExpired"), "expired"),
        (VaultAnswer("answered", 403, inner="KeyleafSecretNotYetValid"), "not yet valid"),
        (VaultAnswer("answered", 404), "missing"),
        (VaultAnswer("answered", 429), "throttled"),
        (VaultAnswer("answered", 503), "away"),
        (VaultAnswer("away"), "away"),
        (VaultAnswer("sign-in failed", 401), "sign-in failed"),
    ],
)
def test_what_an_answer_means(answer: VaultAnswer, reason: Reason | None) -> None:
    assert judge(answer, NOW) == reason
