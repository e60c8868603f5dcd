"""``keyleaf plan`` of a generated tree of 1,000 applications, whole process, beside merely parsing its YAML."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conformance.subject import start_server

from bench import results

APPLICATIONS = 1_000


def main() -> None:
    """Measure and write ``plan.json``."""
    with tempfile.TemporaryDirectory(prefix="keyleaf-bench-") as scratch:
        tree, state = Path(scratch) / "tree", Path(scratch) / "state"
        generate = [sys.executable, "bench/generate_tree.py", str(tree), "--applications", str(APPLICATIONS)]
        subprocess.run(generate, check=True, stdout=subprocess.DEVNULL)
        parse = (
            "import sys, yaml, pathlib\n"
            "for f in pathlib.Path(sys.argv[1]).rglob('*.yaml'):\n"
            "    list(yaml.compose_all(f.read_bytes(), Loader=yaml.CSafeLoader))\n"
        )
        parsing = _timed([sys.executable, "-c", parse, str(tree)], (0,))
        reading = _timed([sys.executable, "-m", "keyleaf", "tree", str(tree), "--json"], (0, 1))
        process, _ = start_server(state, arguments=(), environment=dict(os.environ))
        try:
            options = [str(tree), "--state", str(state), "--bind", "vault", "--create-vaults"]
            fresh = _timed([sys.executable, "-m", "keyleaf", "plan", *options, "--json"], (0, 1, 10))
            apply = _timed([sys.executable, "-m", "keyleaf", "apply", *options, "--yes"], (0, 1))
            settled = _timed([sys.executable, "-m", "keyleaf", "plan", *options, "--json"], (0, 1, 10))
        finally:
            process.terminate()
            process.wait(20)
    figures = {
        "applications": APPLICATIONS,
        "parse_seconds": parsing,
        "tree_seconds": reading,
        "plan_fresh_seconds": fresh,
        "apply_seconds": apply,
        "plan_settled_seconds": settled,
        "ratio": fresh / parsing,
    }
    results.write("plan", figures)
    for name, value in figures.items():
        print(f"{name:22} {value:.2f}")


def _timed(command: list[str], fine: tuple[int, ...]) -> float:
    started = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True)
    if finished.returncode not in fine:
        raise SystemExit(f"{' '.join(command[2:5])} ended with {finished.returncode}: {finished.stderr[-500:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
