"""Every block of Python on the page runs, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "orchestrations.md"
CHECKS = """
from keyleaf.testing import Replay

saga = Replay(send, "cup", activities={"reserve": "r-1", "release": None, "ship": ConnectionError("no answer")})
assert saga.error is not None
assert [call.name for call in saga.calls] == ["reserve", "ship", "release"]

captured = Replay(
    capture_order, 7, activities={"capture": capture}, secrets={"payments/stripe-api-key": "the present key"}
)
assert captured.result == "order 7 captured"

import inspect

assert list(inspect.signature(charge_card).parameters) == ["order"]
"""


def test_the_page_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 6
    program = tmp_path / "page.py"
    program.write_text("\n\n".join(blocks) + CHECKS, "utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KEYLEAF_", "AZURE_"))}
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "orders.sqlite").exists()
