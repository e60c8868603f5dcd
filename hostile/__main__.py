"""``python -m hostile [--runs N] [--engine NAME] [--guard off]``: hostile runs, the search, and its controls.

With the guard on, and payloads encrypted, nothing may be found; the same with the guard and without encryption. With
the guard off and payloads in the clear every way has to be found where it leads: otherwise the search proves nothing.
With the guard off and payloads encrypted what is found is what encryption alone does not stop.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from hostile.engines import ENGINES
from hostile.stage import Figures, Setting, Vault, choose, perform, vault
from hostile.ways import WAYS

_RESULTS = Path(__file__).parent / "results"
_SHOWN = 20


def main() -> int:
    """Run; 0 if nothing was found and the control found everything."""
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="hostile runs on each engine")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="one engine; left out: all")
    parser.add_argument("--guard", choices=("on", "off"), default="on", help="off: only the control")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000, help="of the canaries")
    arguments = parser.parse_args()
    right = True
    say(f"{len(WAYS)} ways out, seed {arguments.seed}")
    for engine in arguments.engine or ENGINES:
        with vault(arguments.seed) as stage:
            right &= _engine(stage, engine, arguments.runs, arguments.seed, guarded=arguments.guard == "on")
    return 0 if right else 1


def _engine(stage: Vault, engine: str, runs: int, seed: int, *, guarded: bool) -> bool:
    once = choose(min(runs, len(WAYS)), seed)
    document: dict[str, Any] = {"seed": seed, "ways": len(WAYS)}
    right = True
    figures: dict[str, Figures] = {}
    settings = [
        ("control: no guard, in the clear", Setting(engine, guard=False, encrypted=False), once),
        ("encryption alone", Setting(engine, guard=False), once),
    ]
    if guarded:
        settings = [
            ("guard and encryption", Setting(engine), choose(runs, seed)),
            ("guard and encryption, debug logs", Setting(engine, debug=True), once),
            ("guard alone", Setting(engine, encrypted=False), once),
            *settings,
        ]
    for name, setting, chosen in settings:
        done = figures[name] = perform(stage, setting, chosen)
        document[name] = summary(done)
        say(f"{engine}, {name}: {json.dumps(document[name], ensure_ascii=False)}")
        if setting.guard:
            right &= _nothing(done)
    missed = missing(figures["control: no guard, in the clear"])
    document["control found"] = f"{len(once) - len(missed)} of {len(once)} ways"
    for line in missed:
        say(f"  the control did not find {line}")
    document["channels"] = table(engine, figures)
    _RESULTS.mkdir(exist_ok=True)
    if guarded:
        document["machine"] = {"cores": os.cpu_count(), "python": sys.version.split()[0]}
        (_RESULTS / f"{engine}.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return right and not missed


def summary(done: Figures) -> dict[str, Any]:
    """Figures of a run."""
    return {
        "runs": done.runs,
        "ended": done.ends,
        "problems": len(done.problems),
        "bytes searched": done.searched,
        "files and records searched": done.stored.places + done.logged.places + done.around.places,
        "hits": done.hits,
        "hits in the store": sum(done.stored.hits.values()),
        "hits in logs": sum(done.logged.hits.values()),
        "hits elsewhere": sum(done.around.hits.values()),
        "seconds": done.seconds,
    }


def _nothing(done: Figures) -> bool:
    for problem in done.problems[:_SHOWN]:
        say(f"  {problem}")
    found = Counter[tuple[int, str, str]]()
    for each in (done.stored, done.logged, done.around):
        found += each.hits
    for (number, place, form), count in found.most_common(_SHOWN):
        say(f"  FOUND {_called(number)} in {place}: {form}, {count} times")
    return not done.problems and not found


def _called(number: int) -> str:
    return "a way that cannot be told" if not number else f"{WAYS[number - 1].channel}: {WAYS[number - 1].name}"


def missing(control: Figures) -> list[str]:
    """Ways that an unguarded worker should have written somewhere, and that the search did not find there."""
    found = {"store": control.stored.ways(), "log": control.logged.ways()}
    return [
        f"{_called(way.number)}, in the {way.place}"
        for way in WAYS
        if way.number in control.tried and way.place != "nowhere" and way.number not in found[way.place]
    ]


def table(engine: str, figures: dict[str, Figures]) -> dict[str, dict[str, str]]:
    """For each channel how many of its ways were found, by setting; printed as well."""
    rows: dict[str, dict[str, str]] = {}
    for channel in dict.fromkeys(way.channel for way in WAYS):
        row = rows[channel] = {}
        for name, done in figures.items():
            numbers = {way.number for way in WAYS if way.channel == channel} & done.tried
            stored, logged = len(numbers & done.stored.ways()), len(numbers & done.logged.ways())
            row[name] = f"{stored} in the store, {logged} in logs, of {len(numbers)}"
    width = max(len(channel) for channel in rows)
    say(f"{engine}: ways found, by channel")
    for channel, row in rows.items():
        for name, told in row.items():
            say(f"  {channel:{width}}  {name:33} {told}")
    return rows


def say(text: str) -> None:
    """A line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
