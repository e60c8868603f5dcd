"""Freshness, coalescing, expectations and names: on virtual time, against simulated vaults."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading_room import KEY, PAYMENTS, STOCK, Room, in_room

from keyleaf.client import ACTIVITY_HEADER, REQUEST_ID_HEADER, Caller, SecretUnavailable, secret
from keyleaf.core.errors import InputError
from keyleaf.core.names import is_guid


def test_a_reading_says_what_was_served() -> None:
    async def work(room: Room) -> None:
        version = room.vault.put(PAYMENTS, "key", "value-2", expires_on=room.clock.now() + 60)
        reading = await room.fetch()
        assert reading.secret.reveal() == "value-2"
        assert (reading.reference, reading.version, reading.shared, reading.enabled) == (KEY, version, 1, True)
        assert reading.expires_on == room.clock.now() + 60 - room.vault.latency
        (request,) = room.vault.requests
        assert is_guid(reading.request_id)
        assert request.headers == {REQUEST_ID_HEADER: reading.request_id, ACTIVITY_HEADER: "order-1/charge"}
        assert (request.vault_url, request.name, request.version) == (PAYMENTS, "key", "")
        assert "value-2" not in repr(reading)

    in_room(work)


def test_a_pinned_version_is_another_secret() -> None:
    async def work(room: Room) -> None:
        old = (await room.fetch()).version
        room.vault.put(PAYMENTS, "key", "value-2")
        pinned = secret("payments/key", version=old)
        values = await asyncio.gather(room.outcome(), room.outcome(pinned), room.outcome(secret("payments/KEY")))
        assert values == ["value-2", "value-1", "value-2"]
        assert sorted(request.version for request in room.vault.requests[1:]) == ["", old]

    in_room(work)


def test_a_thousand_fetches_make_one_request() -> None:
    async def work(room: Room) -> None:
        readings = await asyncio.gather(*(room.fetch(instance=f"order-{number}") for number in range(1000)))
        assert len(room.vault.requests) == 1
        assert {reading.shared for reading in readings} == {1000}
        assert len({reading.request_id for reading in readings}) == 1
        header = room.vault.requests[0].headers[ACTIVITY_HEADER]
        named = header.split(",")
        assert named[0] == "order-0/charge"
        assert int(named[-1]) + len(named) - 1 == 1000

    in_room(work)


def test_who_asks_twice_is_counted() -> None:
    async def work(room: Room) -> None:
        await asyncio.gather(room.fetch(instance="b"), room.fetch(instance="a"), room.fetch(instance="b"))
        assert room.vault.requests[0].headers[ACTIVITY_HEADER] == "b/charge;n=2,a/charge"

    in_room(work)


def test_secrets_do_not_wait_for_each_other() -> None:
    async def work(room: Room) -> None:
        for number in range(50):
            room.vault.put(STOCK, f"s{number}", str(number))
        values = await asyncio.gather(*(room.outcome(secret(f"stock/s{number}")) for number in range(50)))
        assert values == [str(number) for number in range(50)]
        assert room.vault.most_on_their_way == 50
        assert room.clock.monotonic() == pytest.approx(room.vault.latency)

    in_room(work)


def test_no_value_is_kept() -> None:
    async def work(room: Room) -> None:
        for number in range(2, 5):
            await room.fetch()
            room.vault.put(PAYMENTS, "key", f"value-{number}")
            assert await room.outcome() == f"value-{number}"
        assert len(room.vault.requests) == 6

    in_room(work)


def test_a_fetch_during_a_request_waits_for_the_next_one() -> None:
    async def work(room: Room) -> None:
        room.vault.latency = 1.0
        first = asyncio.create_task(room.fetch())
        await room.until(0.7)
        room.vault.put(PAYMENTS, "key", "value-2")
        later = [asyncio.create_task(room.fetch(instance=f"late-{number}")) for number in range(3)]
        await room.until(0.9)
        later.append(asyncio.create_task(room.fetch(instance="late-3")))
        assert (await first).secret.reveal() == "value-1"
        values = [await task for task in later]
        assert {reading.secret.reveal() for reading in values} == {"value-2"}
        assert {reading.shared for reading in values} == {4}
        assert room.sent() == [0.0, 1.0]
        assert room.vault.most_on_their_way == 1

    in_room(work)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 0.3), st.sampled_from(["fetch", "fetch", "fetch", "set"])), max_size=60),
    st.floats(0.001, 0.5),
)
def test_a_fetch_never_gets_what_was_asked_before_it_began(steps: list[tuple[float, str]], latency: float) -> None:
    async def work(room: Room) -> None:
        room.vault.latency = latency
        newest = 1
        began: list[tuple[float, int, asyncio.Task[str | SecretUnavailable]]] = []
        for wait, what in steps:
            await asyncio.sleep(wait)
            if what == "set":
                newest += 1
                room.vault.put(PAYMENTS, "key", f"value-{newest}")
            else:
                began.append((room.clock.monotonic(), newest, asyncio.create_task(room.outcome())))
        for _, known, task in began:
            value = await task
            assert isinstance(value, str)
            assert int(value.removeprefix("value-")) >= known
        assert room.vault.most_on_their_way <= 1
        assert len(room.vault.requests) <= len(began)

    in_room(work)


def test_a_batch_waits_for_what_is_expected() -> None:
    async def work(room: Room) -> None:
        expected = [room.reader.expect([KEY]) for _ in range(5)]
        fetches = []
        for number, expectation in enumerate(expected):
            await room.until(number * 0.03)
            fetches.append(asyncio.create_task(room.fetch(instance=str(number), expectation=expectation)))
        readings = await asyncio.gather(*fetches)
        assert {reading.shared for reading in readings} == {5}
        assert room.sent() == [pytest.approx(0.12)], "with the last one, without a further wait"

    in_room(work)


def test_a_batch_does_not_wait_for_what_was_expected_only_later() -> None:
    async def work(room: Room) -> None:
        fetch = asyncio.create_task(room.fetch())
        await asyncio.sleep(0)
        room.reader.expect([KEY])
        await fetch
        assert room.sent() == [0.0]

    in_room(work)


def test_a_batch_does_not_wait_longer_than_50_ms_for_the_next_one() -> None:
    async def work(room: Room) -> None:
        gone = room.reader.expect([KEY])
        first = asyncio.create_task(room.fetch())
        await room.until(0.04)
        second = asyncio.create_task(room.fetch())
        await asyncio.gather(first, second)
        assert room.sent() == [pytest.approx(0.09)]
        gone.close()
        started = room.clock.monotonic()
        await room.fetch()
        assert room.sent()[1] == pytest.approx(started), "and nobody waits for what will not come"

    in_room(work)


def test_a_batch_does_not_wait_longer_than_two_seconds_in_all() -> None:
    async def work(room: Room) -> None:
        room.reader.expect([KEY])
        fetches = []
        for number in range(60):
            await room.until(number * 0.04)
            fetches.append(asyncio.create_task(room.fetch()))
        await asyncio.gather(*fetches)
        assert room.sent()[0] == pytest.approx(2.0, abs=0.001)

    in_room(work)


def test_closing_an_expectation_lets_the_batch_go() -> None:
    async def work(room: Room) -> None:
        with room.reader.expect([KEY, secret("stock/other"), KEY]) as expectation:
            fetch = asyncio.create_task(room.fetch())
            await room.until(0.02)
        await fetch
        assert room.sent() == [pytest.approx(0.02)]
        expectation.close()
        expectation.close()
        await room.fetch()
        assert len(room.vault.requests) == 2

    in_room(work)


def test_an_expectation_of_two_secrets_is_met_one_by_one() -> None:
    async def work(room: Room) -> None:
        room.vault.put(STOCK, "key", "other")
        stock = secret("stock/key")
        both = room.reader.expect([KEY, stock])
        await room.fetch(expectation=both)
        assert room.sent() == [0.0], "its own fetch is what was expected"
        again = asyncio.create_task(room.fetch(expectation=both))
        await again
        assert room.clock.monotonic() < 0.03, "it comes once"
        waits = asyncio.create_task(room.fetch(stock))
        await room.until(0.04)
        await room.fetch(stock, expectation=both)
        assert (await waits).shared == 2

    in_room(work)


def test_whoever_gives_up_does_not_take_the_others_along() -> None:
    async def work(room: Room) -> None:
        room.vault.latency = 1.0
        fetches = [asyncio.create_task(room.fetch(instance=str(number))) for number in range(3)]
        await room.until(0.5)
        fetches[0].cancel()
        assert (await fetches[1]).secret.reveal() == "value-1"
        assert (await fetches[2]).shared == 3
        assert fetches[0].cancelled()

    in_room(work)


def test_nothing_is_asked_for_nobody() -> None:
    async def work(room: Room) -> None:
        with room.reader.expect([KEY]):
            fetches = [asyncio.create_task(room.fetch(instance=str(number))) for number in range(3)]
            await room.until(0.01)
            for fetch in fetches:
                fetch.cancel()
        await room.until(1.0)
        assert room.vault.requests == []
        assert await room.outcome() == "value-1"

    in_room(work)


def test_one_that_gave_up_is_not_named() -> None:
    async def work(room: Room) -> None:
        expectation = room.reader.expect([KEY])
        gone, stays = (asyncio.create_task(room.fetch(instance=name)) for name in ("gone", "stays"))
        await room.until(0.01)
        gone.cancel()
        await asyncio.sleep(0)
        expectation.close()
        assert (await stays).shared == 1
        assert room.vault.requests[0].headers[ACTIVITY_HEADER] == "stays/charge"

    in_room(work)


def test_closing_gives_up_what_is_on_its_way() -> None:
    async def work(room: Room) -> None:
        room.vault.silent = True
        room.reader.expect([secret("stock/key")])
        under_way = asyncio.create_task(room.outcome())
        gathering = asyncio.create_task(room.outcome(secret("stock/key")))
        await room.until(0.02)
        queued = asyncio.create_task(room.outcome())
        await room.until(0.03)
        await room.reader.close()
        for fetch in (under_way, gathering, queued, asyncio.create_task(room.outcome())):
            error = await fetch
            assert isinstance(error, SecretUnavailable)
            assert (error.reason, error.detail) == ("away", "the reader was closed")
        assert room.clock.monotonic() == pytest.approx(0.03)

    in_room(work)


def test_a_reference_without_a_vault_fails_before_anything_is_asked() -> None:
    async def work(room: Room) -> None:
        with pytest.raises(InputError, match="AZURE_KEYVAULT_URL"):
            await room.reader.fetch(secret("key"), caller=Caller("order-1", "charge"))
        with pytest.raises(InputError, match="AZURE_KEYVAULT_URL"):
            room.reader.expect([secret("key")])

    in_room(work)
