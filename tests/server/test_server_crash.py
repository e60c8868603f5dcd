"""``kill -9`` under load: 20 kills lose nothing that was acknowledged, and a build that answers first is caught."""

from __future__ import annotations

import pytest
from crash.kill import kills

KILLS = 20


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_when_the_server_is_killed() -> None:
    figures = kills(KILLS)
    assert (figures.kills, dict(figures.problems)) == (KILLS, {})
    assert figures.writes > 10 * KILLS
    assert figures.reads > 5 * KILLS


@pytest.mark.slow
def test_a_build_that_answers_before_it_logs_is_caught() -> None:
    figures = kills(3, answers_first=True)
    assert set(figures.problems) == {"an acknowledged request has no record"}
