"""What the command line of ``keyleaf up`` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of one run. ``state`` is absolute; ``began`` is when it started, on the monotonic clock."""

    path: str
    state: Path
    once: bool
    port: int
    as_json: bool
    seed: bool
    revision: str
    bind: str
    began: float
