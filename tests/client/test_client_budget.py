"""Token buckets let no more through than they are told."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.client.budget import SlowStart, TokenBucket

STEPS = st.lists(st.floats(0, 3), min_size=1, max_size=80)


@settings(deadline=None)
@given(STEPS, st.floats(0.1, 50), st.floats(1, 20))
def test_a_bucket_never_lets_more_through_than_rate_and_capacity(
    steps: list[float], rate: float, capacity: float
) -> None:
    bucket = TokenBucket(rate, capacity)
    now, taken = 0.0, []
    for step in steps:
        now += step
        while bucket.take(now):
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= capacity + rate * (taken[last] - start) + 1e-6


@settings(deadline=None)
@given(STEPS, st.floats(0.1, 50), st.floats(1, 20))
def test_after_the_wait_that_a_bucket_names_it_gives(steps: list[float], rate: float, capacity: float) -> None:
    bucket = TokenBucket(rate, capacity)
    now = 0.0
    for step in steps:
        now += step
        wait = bucket.wait(now)
        assert wait == 0.0 or not bucket.take(now)
        now += wait + 1e-6
        assert bucket.take(now)


def test_a_bucket_that_cannot_give_says_so() -> None:
    bucket = TokenBucket(0, 1)
    assert bucket.take(0.0)
    assert bucket.wait(5.0) == math.inf
    bucket.give(5.0, 0.5)
    assert not bucket.take(5.0)
    bucket.give(5.0, 9)
    assert bucket.take(5.0)
    assert not bucket.take(5.0), "it holds no more than its capacity"
    assert TokenBucket(1, 2).wait(0.0, 3) == math.inf
    for rate, capacity in ((-1, 1), (1, 0), (math.nan, 1), (1, math.inf)):
        with pytest.raises(ValueError, match="bucket"):
            TokenBucket(rate, capacity)


def test_a_slow_start_doubles_every_second() -> None:
    slow = SlowStart(100.0)
    leaves = []
    while not slow.over(now := slow.departure(0.0)):
        leaves.append(now)
        assert slow.take(0.0) == now
    per_second = [sum(1 for time in leaves if second <= time - 100 < second + 1) for second in range(9)]
    assert per_second[0] == 1, "the request that closed the breaker was the other one of this second"
    assert all(2**n <= count <= 2 ** (n + 1) for n, count in enumerate(per_second[1:8], 1))
    assert per_second[8] == 0
    assert slow.over(108.0)
    assert [slow.take(108.5) for _ in range(1000)] == [108.5] * 1000


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=300))
def test_a_slow_start_keeps_its_spacing_whenever_it_is_asked(steps: list[float]) -> None:
    slow = SlowStart(0.0)
    now, leaves = 0.0, []
    for step in steps:
        now += step
        leaves.append(slow.take(now))
        assert leaves[-1] >= now
    for before, after in itertools.pairwise(leaves):
        rate = 2 * 2 ** math.floor(before)
        assert after >= 8.0 or after - before >= 1 / rate - 1e-9
