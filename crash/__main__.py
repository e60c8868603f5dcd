"""``python -m crash --cuts N --kills N``: both harnesses, their negative controls, and the figures."""

from __future__ import annotations

import argparse
import json
import sys
import time

from crash.kill import kills
from crash.power_cut import power_cuts

CONTROL_CUTS = 200


def main() -> int:
    """Run; 0 if nothing acknowledged was lost and every control failed as it must."""
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--cuts", type=int, default=1000, help="power cuts; 0 for none")
    parser.add_argument("--kills", type=int, default=20, help="kill -9 of a server under load; 0 for none")
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
    return 0 if right else 1


def _tell(what: str, right: bool, started: float, **figures: object) -> bool:
    seconds = round(time.monotonic() - started, 1)
    verdict = "as it must be" if right else "WRONG"
    sys.stdout.write(f"{what}: {verdict}; {json.dumps({**figures, 'seconds': seconds}, ensure_ascii=False)}\n")
    sys.stdout.flush()
    return right


if __name__ == "__main__":
    sys.exit(main())
