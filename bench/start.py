"""``keyleaf up`` on the example, first and later starts, beside merely starting as many programs with the SDK."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench import results

PROGRAMS = 10
_STEP = re.compile(r"keyleaf: (.*) \(([0-9.]+) s\)")


def main() -> None:
    """Measure and write ``start.json``."""
    bare = "import azure.identity, azure.keyvault.secrets"
    started = time.perf_counter()
    running = [subprocess.Popen([sys.executable, "-c", bare]) for _ in range(PROGRAMS)]
    for process in running:
        process.wait()
    peer = time.perf_counter() - started
    with tempfile.TemporaryDirectory(prefix="keyleaf-bench-") as scratch:
        steps = [_up(Path(scratch) / "state") for _ in range(3)]
    figures = {
        "programs": PROGRAMS,
        "bare_programs_seconds": peer,
        "first": steps[0],
        "second": steps[1],
        "third": steps[2],
        "ratio": steps[1]["at rest"] / peer,
    }
    results.write("start", figures)
    for name, value in figures.items():
        print(f"{name:22} {value}")


def _up(state: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "keyleaf", "up", "examples/shop", "--once", "--state", str(state)]
    started = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True)
    whole = time.perf_counter() - started
    if finished.returncode != 0:
        raise SystemExit(f"keyleaf up ended with {finished.returncode}: {finished.stdout[-1000:]}")
    seen = {text: float(seconds) for text, seconds in _STEP.findall(finished.stdout + finished.stderr)}
    ready = next(seconds for text, seconds in seen.items() if "ready" in text)
    applied = next(seconds for text, seconds in seen.items() if "Azure" in text and "ready" not in text)
    rest = next(seconds for text, seconds in seen.items() if "rest" in text)
    return {"azure ready": ready, "access in place": applied, "at rest": rest, "proved and stopped": whole}


if __name__ == "__main__":
    main()
