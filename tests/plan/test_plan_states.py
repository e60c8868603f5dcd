"""The eight states of the map."""

from __future__ import annotations

import pytest

from keyleaf.plan import Observation, State, classify

NOTHING = Observation()
NOW = Observation(reads=3)
BEFORE = Observation(reads_before=3)
DENIED = Observation(denied=2)


@pytest.mark.parametrize(
    ("declared", "granted", "observed", "state"),
    [
        (True, True, NOW, State.HEALTHY),
        (True, True, NOTHING, State.IDLE),
        (True, True, BEFORE, State.IDLE),
        (True, False, NOTHING, State.WILL_FAIL),
        (True, False, DENIED, State.WILL_FAIL),
        (True, False, BEFORE, State.BROKEN_NOW),
        (True, False, NOW, State.BROKEN_NOW),
        (False, True, NOW, State.SHADOW),
        (False, True, NOTHING, State.GHOST_GRANT),
        (False, True, BEFORE, State.GHOST_GRANT),
        (False, False, BEFORE, State.GHOST_HOLDER),
        (False, False, NOW, State.GHOST_HOLDER),
        (False, False, DENIED, State.PROBE),
        (False, False, NOTHING, None),
    ],
)
def test_each_row_of_the_map(declared: bool, granted: bool, observed: Observation, state: State | None) -> None:
    assert classify(declared=declared, granted=granted, observed=observed) is state


def test_the_names_and_their_advice() -> None:
    assert [state.value for state in State] == [
        "healthy",
        "idle",
        "will fail",
        "broken now",
        "shadow",
        "ghost grant",
        "ghost holder",
        "probe",
    ]
    assert all(state.advice for state in State)
