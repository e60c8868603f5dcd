"""``python -m crash --cuts N --kills N --flows N``: the harnesses, their negative controls, and the figures."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from crash.flows import Figures, postgres_kills, sqlite_kills
from crash.kill import kills
from crash.power_cut import power_cuts

CONTROL_CUTS = 200
FLOWS = Path(__file__).parent / "results" / "flows.json"
TAKEN_OVER_WITHIN = 5.0
"""Seconds from the death of a worker on Postgres until another one owns its instances."""


def main() -> int:
    """Run; 0 if nothing acknowledged was lost and every control failed as it must."""
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000, help="power cuts; 0 for none")
    parser.add_argument("--kills", type=int, default=20, help="kill -9 of a server under load; 0 for none")
    parser.add_argument("--flows", type=int, default=4, help="runs of orchestrations on each store; 0 for none")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    right = True
    if arguments.cuts:
        started = time.monotonic()
        done = power_cuts(arguments.cuts, seed=arguments.seed)
        right &= _tell(
            "power cuts",
            done.lost + done.corrupt == 0,
            started,
            cuts=done.cuts,
            acknowledged=done.acknowledged,
            lost=done.lost,
            corrupt=done.corrupt,
            problems=dict(done.problems),
        )
        started = time.monotonic()
        normal = power_cuts(CONTROL_CUTS, seed=arguments.seed, synchronous="NORMAL")
        right &= _tell(
            "control: synchronous=NORMAL", normal.lost * 2 > normal.cuts, started, cuts=normal.cuts, lost=normal.lost
        )
        started = time.monotonic()
        lying = power_cuts(CONTROL_CUTS, seed=arguments.seed, ignores_syncs=True)
        right &= _tell(
            "control: syncs ignored",
            lying.corrupt > 0,
            started,
            cuts=lying.cuts,
            lost=lying.lost,
            corrupt=lying.corrupt,
        )
    if arguments.kills:
        started = time.monotonic()
        killed = kills(arguments.kills, seed=arguments.seed)
        right &= _tell(
            "kill -9",
            not killed.problems,
            started,
            kills=killed.kills,
            writes=killed.writes,
            reads=killed.reads,
            problems=dict(killed.problems),
        )
        started = time.monotonic()
        early = kills(min(arguments.kills, 5), seed=arguments.seed, answers_first=True)
        right &= _tell(
            "control: answers before it logs",
            bool(early.problems),
            started,
            kills=early.kills,
            problems=dict(early.problems),
        )
    if arguments.flows:
        found = {
            "SQLite": _flows("SQLite", sqlite_kills, arguments.flows, arguments.seed),
            "PostgreSQL": _flows("PostgreSQL", postgres_kills, arguments.flows, arguments.seed),
        }
        right &= all(each["right"] for each in found.values())
        FLOWS.parent.mkdir(exist_ok=True)
        FLOWS.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if right else 1


def _flows(store: str, harness: Callable[..., Figures], runs: int, seed: int) -> dict[str, object]:
    """Kill workers of orchestrations.

    The control is in the same runs: some activity must have run more than once, or the kills hit nothing and the
    idempotency key was not needed.
    """
    started = time.monotonic()
    done = harness(runs, seed=seed)
    slowest = max(done.takeovers, default=0.0)
    right = not done.problems and done.reruns > 0 and slowest < TAKEN_OVER_WITHIN
    figures: dict[str, object] = {
        "runs": done.runs,
        "kills": done.kills,
        "restarts": done.restarts,
        "instances": done.instances,
        "reruns": done.reruns,
        "problems": dict(done.problems),
    }
    if done.takeovers:
        figures["takeover_median"] = round(statistics.median(done.takeovers), 2)
        figures["takeover_longest"] = round(slowest, 2)
    _tell(f"kill -9 of workers on {store}", right, started, **figures)
    return {**figures, "right": right, "seconds": round(time.monotonic() - started, 1)}


def _tell(what: str, right: bool, started: float, **figures: object) -> bool:
    seconds = round(time.monotonic() - started, 1)
    verdict = "as it must be" if right else "WRONG"
    sys.stdout.write(f"{what}: {verdict}; {json.dumps({**figures, 'seconds': seconds}, ensure_ascii=False)}\n")
    sys.stdout.flush()
    return right


if __name__ == "__main__":
    sys.exit(main())
