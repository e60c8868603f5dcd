"""Where figures go, and on what machine they were taken."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def write(name: str, figures: dict[str, Any]) -> None:
    """Write the figures of one measurement."""
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": machine(), **figures}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


def read(name: str) -> dict[str, Any] | None:
    """The figures of one measurement, if it was taken."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None
