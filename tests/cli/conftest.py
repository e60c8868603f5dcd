"""Trees come from the tests of plan, the server from those of cloud."""

from __future__ import annotations

import sys
from pathlib import Path

for room in ("plan", "cloud"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))
