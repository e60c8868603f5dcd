"""Trees come from the tests of plan; examples have no time limit of their own, a busy machine is slow now and then."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
