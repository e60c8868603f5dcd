"""What is not to be had: refusals, outages, throttling; on virtual time, against simulated vaults."""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import random
from collections.abc import Callable
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_room import KEY, PAYMENTS, STOCK, Room, in_room, most_in_a_second

from keyleaf.client import SecretUnavailable, secret
from keyleaf.client.unavailable import Reason
from keyleaf.core.errors import KeyleafError

USED_AFTER_EXPIRY = secret("payments/key", expired="use")

REFUSALS: dict[Reason, Callable[[Room], None]] = {
    "disabled": lambda room: room.vault.change(PAYMENTS, "key", enabled=False),
    "missing": lambda room: room.vault.delete(PAYMENTS, "key"),
    "expired": lambda room: room.vault.change(PAYMENTS, "key", expires_on=room.clock.now()),
    "not yet valid": lambda room: room.vault.change(PAYMENTS, "key", not_before=room.clock.now() + 3600),
    "forbidden": lambda room: room.vault.forbidden.add("key"),
}


async def refused(room: Room, reason: Reason) -> SecretUnavailable:
    error = await room.outcome()
    assert isinstance(error, SecretUnavailable)
    assert error.reason == reason
    return error


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_names_reason_and_secret_and_never_a_value(reason: Reason) -> None:
    async def work(room: Room) -> None:
        REFUSALS[reason](room)
        error = await refused(room, reason)
        assert isinstance(error, KeyleafError)
        assert error.waits
        assert error.reference == KEY
        assert "payments/key" in str(error)
        assert error.hint
        assert "value-1" not in str(error) + repr(error)
        assert 1 <= error.retry_after <= 2
        copy = pickle.loads(pickle.dumps(error))
        assert (copy.reason, copy.reference, copy.retry_after, str(copy)) == (
            error.reason,
            error.reference,
            error.retry_after,
            str(error),
        )

    in_room(work)


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_refusal_is_shared_for_a_while_and_then_asked_again(reason: Reason) -> None:
    async def work(room: Room) -> None:
        REFUSALS[reason](room)
        first = await refused(room, reason)
        again = room.clock.monotonic() + first.retry_after
        await room.until(again - 0.1)
        second = await refused(room, reason)
        assert second.retry_after == pytest.approx(0.1)
        assert len(room.vault.requests) == 1
        await room.until(again)
        room.vault.forbidden.clear()
        room.vault.put(PAYMENTS, "key", "value-2")
        assert await room.outcome() == "value-2"
        room.vault.put(PAYMENTS, "key", "value-3")
        assert await room.outcome() == "value-3", "a success ends the memory"
        assert len(room.vault.requests) == 3

    in_room(work)


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_thousand_blocked_instances_cost_about_one_request_a_second(reason: Reason) -> None:
    async def work(room: Room) -> None:
        REFUSALS[reason](room)
        waiting = [asyncio.create_task(room.patiently(instance=f"order-{number}")) for number in range(1000)]
        await room.until(30.0)
        sent = room.sent()
        assert 15 <= len(sent) <= 31
        gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) > 0.3, "with jitter"
        room.vault.forbidden.clear()
        room.vault.put(PAYMENTS, "key", "value-2")
        done = await asyncio.gather(*waiting)
        assert max(done) < 32.1

    in_room(work)


def test_those_who_came_during_a_request_share_its_refusal() -> None:
    async def work(room: Room) -> None:
        room.vault.delete(PAYMENTS, "key")
        fetches = [asyncio.create_task(room.outcome())]
        await room.until(room.vault.latency / 2)
        fetches += [asyncio.create_task(room.outcome()) for _ in range(100)]
        errors = await asyncio.gather(*fetches)
        assert {error.reason for error in errors if isinstance(error, SecretUnavailable)} == {"missing"}
        assert len(room.vault.requests) == 1

    in_room(work)


def test_a_refusal_is_of_one_secret() -> None:
    async def work(room: Room) -> None:
        room.vault.put(STOCK, "key", "other")
        old = (await room.fetch()).version
        room.vault.put(PAYMENTS, "key", "value-2", enabled=False)
        await refused(room, "disabled")
        assert await room.outcome(secret("stock/key")) == "other"
        assert await room.outcome(secret("payments/key", version=old)) == "value-1"

    in_room(work)


def test_the_reference_decides_about_an_expired_value() -> None:
    async def work(room: Room) -> None:
        room.vault.change(PAYMENTS, "key", expires_on=room.clock.now() + 1)
        assert await room.outcome() == "value-1"
        await room.until(1.0)
        blocked, used = await asyncio.gather(room.outcome(), room.outcome(USED_AFTER_EXPIRY))
        assert isinstance(blocked, SecretUnavailable)
        assert (blocked.reason, used) == ("expired", "value-1")
        assert len(room.vault.requests) == 2, "both from one request"
        await refused(room, "expired")
        assert await room.outcome(USED_AFTER_EXPIRY) == "value-1", "the memory holds for those who block only"
        assert len(room.vault.requests) == 3
        room.vault.put(PAYMENTS, "key", "value-2")
        assert await room.outcome(USED_AFTER_EXPIRY) == "value-2"
        assert await room.outcome() == "value-2", "what anyone has seen to be good is good for all"

    in_room(work)


def test_an_outage_and_its_end() -> None:
    async def work(room: Room) -> None:
        room.vault.away = True
        error = await refused(room, "away")
        assert error.detail == "ServiceRequestError"
        assert error.retry_after == pytest.approx(0.5)
        began = room.clock.monotonic()
        at_once = await refused(room, "away")
        assert room.clock.monotonic() == began
        assert at_once.retry_after == pytest.approx(0.5)
        assert (await refused(room, "away")).detail == "ServiceRequestError"
        assert len(room.vault.requests) == 1
        room.vault.away = False
        await asyncio.sleep(at_once.retry_after)
        assert await room.outcome() == "value-1"
        assert await room.outcome() == "value-1"
        assert len(room.vault.requests) == 3

    in_room(work)


def test_while_a_vault_is_away_nobody_waits_for_what_is_expected_or_tried() -> None:
    async def work(room: Room) -> None:
        room.vault.away = True
        error = await refused(room, "away")
        room.reader.expect([KEY])
        began = room.clock.monotonic()
        await refused(room, "away")
        assert room.clock.monotonic() == began
        await asyncio.sleep(error.retry_after)
        room.vault.latency = 5.0
        trying = asyncio.create_task(room.outcome())
        await asyncio.sleep(1.0)
        assert room.vault.on_their_way == 1
        began = room.clock.monotonic()
        assert (await refused(room, "away")).retry_after == 0.5
        assert room.clock.monotonic() == began
        await trying

    in_room(work)


def test_one_tries_for_all() -> None:
    async def work(room: Room) -> None:
        for name in ("a", "b"):
            room.vault.put(PAYMENTS, name, name)
        room.vault.away = True
        error = await refused(room, "away")
        await asyncio.sleep(error.retry_after)
        outcomes = await asyncio.gather(*(room.outcome(secret(f"payments/{name}")) for name in ("a", "b", "key")))
        assert all(isinstance(outcome, SecretUnavailable) for outcome in outcomes)
        assert len(room.vault.requests) == 2

    in_room(work)


def test_vaults_do_not_answer_for_each_other() -> None:
    async def work(room: Room) -> None:
        room.vault.put(STOCK, "key", "other")
        room.vault.away = True
        await refused(room, "away")
        room.vault.away = False
        assert await room.outcome(secret("stock/key")) == "other"
        await refused(room, "away")

    in_room(work)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 302])
def test_which_answers_open_the_breaker(status: int) -> None:
    async def work(room: Room) -> None:
        room.vault.status = status
        error = await refused(room, "throttled" if status == 429 else "away")
        assert error.retry_after == pytest.approx(0.5)
        room.vault.status = 0
        await refused(room, error.reason)
        assert len(room.vault.requests) == 1

    in_room(work)


@pytest.mark.parametrize("status", [400, 403, 405, 409])
def test_which_answers_do_not(status: int) -> None:
    async def work(room: Room) -> None:
        room.vault.put(PAYMENTS, "other", "fine")
        room.vault.status = status
        error = await refused(room, "forbidden")
        assert f"HTTP {status}" in str(error)
        room.vault.status = 0
        assert await room.outcome(secret("payments/other")) == "fine"

    in_room(work)


@pytest.mark.parametrize("reason", REFUSALS)
def test_which_answers_close_it(reason: Reason) -> None:
    async def work(room: Room) -> None:
        room.vault.away = True
        error = await refused(room, "away")
        room.vault.away = False
        REFUSALS[reason](room)
        await asyncio.sleep(error.retry_after)
        await refused(room, reason)
        room.vault.put(PAYMENTS, "other", "fine")
        assert await room.outcome(secret("payments/other")) == "fine"

    in_room(work)


def test_no_answer_at_all_is_an_outage() -> None:
    async def work(room: Room) -> None:
        room.vault.silent = True
        error = await refused(room, "away")
        assert error.detail == "no answer in 10 s"
        assert room.clock.monotonic() == pytest.approx(10.0)

    in_room(work)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed(form: str) -> None:
    async def work(room: Room) -> None:
        room.vault.throttled = True
        room.vault.retry_after = "20" if form == "seconds" else formatdate(room.clock.now() + 20, usegmt=True)
        error = await refused(room, "throttled")
        assert error.retry_after == pytest.approx(20, abs=0.1)
        await asyncio.gather(*(room.patiently() for _ in range(10)), asyncio.create_task(lift(room, 5.0)))
        assert len(room.vault.requests) == 2
        assert 19.9 <= room.sent()[1] <= 20.1

    in_room(work)


async def lift(room: Room, moment: float) -> None:
    """End the trouble at a moment."""
    await room.until(moment)
    room.vault.throttled = room.vault.away = False
    room.vault.signed_in = True


@pytest.mark.parametrize("trouble", ["throttled", "away"])
@pytest.mark.parametrize("secrets", [1, 40])
def test_a_thousand_instances_against_a_minute_of_trouble(trouble: str, secrets: int) -> None:
    """They cause at most two requests a second, and all of them finish soon after it is over."""

    async def work(room: Room) -> None:
        for number in range(secrets):
            room.vault.put(PAYMENTS, f"s{number}", str(number))
        await asyncio.gather(*(room.outcome(secret(f"payments/s{number}")) for number in range(secrets)))
        setattr(room.vault, trouble, True)
        begin = room.clock.monotonic()
        await refused(room, "throttled" if trouble == "throttled" else "away")
        known = room.clock.monotonic()
        instances = [
            room.patiently(secret(f"payments/s{number % secrets}"), instance=f"order-{number}")
            for number in range(1000)
        ]
        *done, _ = await asyncio.gather(*instances, lift(room, begin + 60))
        during = [time for time in room.sent() if known <= time < begin + 60]
        assert during
        assert most_in_a_second(during) <= 2
        assert max(time for time in done if time) < begin + 60 + 30 + 8 + 2, "the longest backoff, then the slow start"

    in_room(work)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 5)), min_size=10, max_size=120),
    st.sampled_from(["throttled", "away", "signed out", "silent"]),
    st.floats(0.001, 3),
)
def test_while_a_vault_fails_no_second_sees_more_than_two_requests(
    seed: int, steps: list[tuple[float, int]], trouble: str, latency: float
) -> None:
    async def work(room: Room) -> None:
        room.vault.latency = latency
        room.vault.throttled, room.vault.away = trouble == "throttled", trouble == "away"
        room.vault.signed_in, room.vault.silent = trouble != "signed out", trouble == "silent"
        await room.outcome()
        known = room.clock.monotonic()
        fetches = []
        for wait, number in steps:
            await asyncio.sleep(wait)
            fetches.append(asyncio.create_task(room.outcome(secret(f"payments/s{number}"))))
        await asyncio.gather(*fetches)
        later = [time for time in room.sent() if time >= known]
        assert most_in_a_second(later) <= 2

    in_room(work, jitter=random.Random(seed).random)


def test_a_slow_start_after_an_outage() -> None:
    async def work(room: Room) -> None:
        for number in range(5000):
            room.vault.put(PAYMENTS, f"s{number}", str(number))
        room.vault.away = True
        error = await refused(room, "away")
        room.vault.away = False
        await asyncio.sleep(error.retry_after)
        await room.fetch()
        closed = room.clock.monotonic()
        began = [room.patiently(secret(f"payments/s{number}")) for number in range(1500)]
        await asyncio.gather(*began)
        sent = [time - closed for time in room.sent() if time > closed]
        in_second = [sum(1 for time in sent if second <= time < second + 1) for second in range(8)]
        assert all(count <= 2 ** (second + 1) for second, count in enumerate(in_second)), in_second
        assert in_second[1] >= 2
        assert in_second[5] >= 32
        await room.until(closed + 12)
        await asyncio.gather(*(room.fetch(secret(f"payments/s{number}")) for number in range(5000)))
        assert room.clock.monotonic() == pytest.approx(closed + 12 + room.vault.latency), "no limit any more"

    in_room(work)


def test_a_slow_start_holds_nobody_longer_than_its_patience() -> None:
    async def work(room: Room) -> None:
        for number in range(20):
            room.vault.put(PAYMENTS, f"s{number}", str(number))
        room.vault.throttled = True
        error = await refused(room, "throttled")
        room.vault.throttled = False
        await asyncio.sleep(error.retry_after)
        await room.fetch()
        began = room.clock.monotonic()

        async def held(number: int) -> tuple[float, str | SecretUnavailable]:
            outcome = await room.outcome(secret(f"payments/s{number}"))
            return room.clock.monotonic() - began, outcome

        results = await asyncio.gather(*(held(number) for number in range(20)))
        served = [time for time, outcome in results if isinstance(outcome, str)]
        turned_away = [(time, outcome) for time, outcome in results if isinstance(outcome, SecretUnavailable)]
        assert served == pytest.approx([0.5 + room.vault.latency, 1.0 + room.vault.latency])
        assert {time for time, _ in turned_away} == {0.0}
        assert all(error.reason == "throttled" and 1 < error.retry_after <= 3 for _, error in turned_away)
        assert len({error.retry_after for _, error in turned_away}) > 10, "they do not come back together"

    in_room(work)


def test_whoever_is_held_is_told_when_the_vault_fails_again() -> None:
    async def work(room: Room) -> None:
        for number in range(3):
            room.vault.put(PAYMENTS, f"s{number}", str(number))
        room.vault.away = True
        error = await refused(room, "away")
        room.vault.away = False
        await asyncio.sleep(error.retry_after)
        await room.fetch()
        room.vault.away = True
        began = room.clock.monotonic()
        first, second = (asyncio.create_task(room.outcome(secret(f"payments/s{number}"))) for number in range(2))
        assert isinstance(await first, SecretUnavailable)
        assert isinstance(await second, SecretUnavailable)
        assert room.clock.monotonic() - began == pytest.approx(0.5 + room.vault.latency)
        assert len(room.vault.requests) == 3

    in_room(work)


def test_a_sign_in_that_fails_is_tried_once_a_second_for_all_secrets_of_a_vault() -> None:
    async def work(room: Room) -> None:
        for number in range(50):
            room.vault.put(PAYMENTS, f"s{number}", str(number))
        room.vault.signed_in = False
        error = await refused(room, "sign-in failed")
        assert 1 <= error.retry_after <= 2
        instances = [room.patiently(secret(f"payments/s{number % 50}")) for number in range(1000)]
        *done, _ = await asyncio.gather(*instances, lift(room, 30.0))
        failed = [request.sent for request in room.vault.requests if request.status == 0]
        assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(failed))
        assert len(failed) >= 14, "it does not become rarer"
        assert max(time for time in done if time) < 30 + 2 + 8 + 2

    in_room(work)


def test_a_connection_that_raises_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def work(room: Room) -> None:
        async def get(*_: object) -> None:
            raise RuntimeError("value-1")

        room.vault.get = get  # type: ignore[assignment,method-assign]
        error = await refused(room, "away")
        assert error.detail == "RuntimeError"
        assert "value-1" not in str(error)

    with caplog.at_level(logging.DEBUG):
        in_room(work)
    assert "value-1" not in caplog.text
    assert "payments.vault.azure.net: away" in caplog.text
