"""After an outage requests begin again slowly."""

from __future__ import annotations

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from keyleaf.client.slow_start import SlowStart


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
