"""Signing keys: rotated on schedule, published until their tokens have died, shared by processes."""

from __future__ import annotations

import pytest
from identity_support import Installation, issue
from sqlalchemy import select

from keyleaf.core.clock import ManualClock, SeededRandomness
from keyleaf.core.errors import StateError
from keyleaf.identity import SigningKeys
from keyleaf.identity.signing_keys import GRACE, ROTATE_EVERY, TOKEN_LIFETIME
from keyleaf.store import Keyring
from keyleaf.store.schema import signing_key


def maintain(installation: Installation) -> bool:
    with installation.database.write() as conn:
        return installation.signing_keys.maintain(conn, installation.clock.now())


def test_rotation_does_not_break_living_tokens(installation: Installation, clock: ManualClock) -> None:
    assert not maintain(installation)
    clock.advance(ROTATE_EVERY - 10)
    old = issue(installation)
    clock.advance(20)
    assert maintain(installation)
    new = issue(installation)
    assert new.split(".")[0] != old.split(".")[0]
    installation.verifier.clear()
    for token in (old, new):
        installation.verify(token)
    assert len(installation.published()) == 2


def test_a_dead_key_is_dropped(installation: Installation, clock: ManualClock) -> None:
    clock.advance(ROTATE_EVERY + 1)
    maintain(installation)
    clock.advance(GRACE + TOKEN_LIFETIME)
    assert maintain(installation)
    assert len(installation.published()) == 1


def test_late_upkeep_signs_on_for_the_days_of_grace_and_no_longer(
    installation: Installation, clock: ManualClock
) -> None:
    clock.advance(ROTATE_EVERY + GRACE - 1)
    installation.verify(issue(installation))
    clock.advance(2)
    with pytest.raises(StateError, match="no key"):
        issue(installation)
    with installation.database.read() as conn:
        assert installation.signing_keys.needs_upkeep(conn, clock.now())


def test_two_processes_agree(installation: Installation, clock: ManualClock) -> None:
    other = SigningKeys(Keyring(b"r" * 32, SeededRandomness(2)))
    clock.advance(ROTATE_EVERY + 1)
    with installation.database.write() as conn:
        assert other.maintain(conn, clock.now())
    assert not maintain(installation)
    with installation.database.read() as conn:
        mine, its = (keys.current(conn, clock.now()) for keys in (installation.signing_keys, other))
    assert mine.kid == its.kid
    # The verifier still holds the keys of before; it finds the new one by itself.
    installation.verify(issue(installation))


def test_the_private_key_is_sealed_and_not_published(installation: Installation) -> None:
    with installation.database.read() as conn:
        row = conn.execute(select(signing_key)).mappings().one()
        current = installation.signing_keys.current(conn, installation.clock.now())
    private = current.key.as_dict(private=True)
    assert current.key.as_der(private=True) not in row["sealed"]
    assert set(installation.published()[0]) == {"kty", "n", "e", "kid", "use", "alg"}
    assert private["d"] not in row["public"]
    assert repr(current) == f"SigningKey({current.kid})"


def test_another_root_key_opens_nothing(installation: Installation) -> None:
    stranger = SigningKeys(Keyring(b"x" * 32, SeededRandomness(3)))
    with installation.database.read() as conn, pytest.raises(StateError):
        stranger.current(conn, installation.clock.now())


def test_sizes() -> None:
    with pytest.raises(ValueError, match="2048 or 3072"):
        SigningKeys(Keyring(b"r" * 32, SeededRandomness(3)), size=1024)
