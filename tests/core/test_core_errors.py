"""The error tree tells a person where and what to do, and a client in Azure's shape."""

from __future__ import annotations

import pytest

from keyleaf.core import errors
from keyleaf.core.clock import ManualClock, SeededRandomness, SystemClock, SystemRandomness, random_guid, random_hex
from keyleaf.core.location import Location
from keyleaf.core.names import SECRET_VERSION, check_secret_name, check_vault_name, is_guid


def test_message_names_place_and_mend() -> None:
    error = errors.InputError("no such app", hint="see keyleaf tree", where=Location("apps/a.yaml", 3))
    assert str(error) == "apps/a.yaml:3: no such app (see keyleaf tree)"


def test_every_error_has_an_exit_code_of_its_kind() -> None:
    codes = {cls.__name__: cls.exit_code for cls in (errors.InputError, errors.StateError, errors.RemoteError)}
    assert len(set(codes.values())) == 3
    assert errors.LedgerError.exit_code == errors.StateError.exit_code


def test_service_error_has_azures_shape() -> None:
    error = errors.ServiceError(403, "Forbidden", "no", inner="SecretDisabled")
    assert error.body() == {"error": {"code": "Forbidden", "message": "no", "innererror": {"code": "SecretDisabled"}}}
    assert errors.ServiceError(404, "SecretNotFound", "x").body() == {
        "error": {"code": "SecretNotFound", "message": "x"}
    }


@pytest.mark.parametrize("name", ["a", "A-1", "x" * 127])
def test_secret_names_that_azure_takes(name: str) -> None:
    assert check_secret_name(name) == name


@pytest.mark.parametrize("name", ["", "a_b", "a b", "x" * 128, "a\n", "é", "a/b"])
def test_secret_names_that_azure_refuses(name: str) -> None:
    with pytest.raises(errors.InputError):
        check_secret_name(name)


@pytest.mark.parametrize("name", ["ab", "1abc", "a--b", "abc-", "x" * 25, "kv_shop", "kv.shop"])
def test_vault_names_that_azure_refuses(name: str) -> None:
    with pytest.raises(errors.InputError):
        check_vault_name(name)


@pytest.mark.parametrize("name", ["kv-shop-dev", "abc", "A" * 24])
def test_vault_names_that_azure_takes(name: str) -> None:
    assert check_vault_name(name) == name


def test_random_ids_have_azures_form() -> None:
    for source in (SystemRandomness(), SeededRandomness(3)):
        assert is_guid(random_guid(source))
        assert SECRET_VERSION.match(random_hex(source))
    assert random_guid(SeededRandomness(1)) == random_guid(SeededRandomness(1))


def test_manual_clock_moves_only_when_told() -> None:
    clock = ManualClock(100.0)
    before = clock.now(), clock.monotonic()
    clock.advance(2.5)
    assert (clock.now() - before[0], clock.monotonic() - before[1]) == (2.5, 2.5)
    assert SystemClock().now() > 1_700_000_000
