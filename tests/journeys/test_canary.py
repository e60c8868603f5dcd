"""A secret is never written down: a canary put into the vault is found by a byte search nowhere else.

The search runs while everything runs: the state directory, every log, and the arguments and environment of every
process that keyleaf started, except where a manifest asks for the value in a file or in the environment.
"""

from __future__ import annotations

import base64
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

CANARY = "canary-3f9c1e7ab0d24c55-never-written-down"
FORMS = {
    "plain": CANARY.encode(),
    "base64": base64.b64encode(CANARY.encode()).rstrip(b"=")[:-2],
    "base64, shifted by one": base64.b64encode(b"x" + CANARY.encode())[4:-4],
    "base64, shifted by two": base64.b64encode(b"xx" + CANARY.encode())[4:-4],
    "hex": CANARY.encode().hex().encode(),
    "utf-16": CANARY.encode("utf-16-le"),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The example, with a canary as every first value."""
    copy = tmp_path / "shop"
    shutil.copytree("examples/shop", copy)
    return copy


@pytest.fixture
def running(tree: Path, tmp_path: Path) -> Iterator[tuple[Path, int]]:
    state = tmp_path / "state"
    log = (tmp_path / "up.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "keyleaf", "up", str(tree), "--state", str(state)], stdout=log, stderr=log
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and b"come to rest" not in (tmp_path / "up.log").read_bytes():
        assert process.poll() is None
        time.sleep(0.1)
    yield state, process.pid
    process.send_signal(signal.SIGINT)
    process.wait(30)


def keyleaf(state: Path, *arguments: str, value: str | None = None) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "keyleaf", *arguments, "--state", str(state)]
    return subprocess.run(command, input=None if value is None else value.encode(), capture_output=True)


def found_in(content: bytes) -> list[str]:
    return [name for name, form in FORMS.items() if form in content]


def descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
    family = {root}
    while True:
        more = {child for child, parent in parents.items() if parent in family} - family
        if not more:
            return sorted(family)
        family |= more


def test_the_search_finds_what_is_written_down(tmp_path: Path) -> None:
    for name, form in FORMS.items():
        assert name in found_in(b"before" + form + b"after")
    assert found_in(base64.b64encode(f"pad{CANARY}pad".encode()))
    assert found_in(base64.b64encode(f"p{CANARY}pad".encode()))
    assert found_in(base64.b64encode(f"pp{CANARY}pad".encode()))
    assert not found_in(b"nothing here")


def test_a_canary_is_found_nowhere(running: tuple[Path, int], tmp_path: Path) -> None:
    state, pid = running
    said = b""
    assert keyleaf(state, "secret", "set", "kv-shop-dev/payments-api-key", value=CANARY).returncode == 0
    assert keyleaf(state, "secret", "set", "kv-shop-dev/undeclared", value=CANARY).returncode == 0
    read = keyleaf(state, "secret", "get", "kv-shop-dev/undeclared")
    assert CANARY.encode() in read.stdout, "the canary is in the vault, and comes out for who asks"
    for arguments in (
        ("secret", "get", "kv-shop-dev/undeclared", "--json"),
        ("secret", "list", "kv-shop-dev"),
        ("secret", "versions", "kv-shop-dev/undeclared"),
        ("secret", "get", "kv-shop-dev/nothing"),
        ("who", "kv-shop-dev/payments-api-key"),
        ("why", "checkout-dev", "kv-shop-dev/payments-api-key"),
        ("audit", "tail"),
        ("audit", "export", "--format", "jsonl", "--output", str(tmp_path / "export.jsonl")),
    ):
        finished = keyleaf(state, *arguments)
        said += finished.stdout + finished.stderr
    # The app that reads it just in time does so by its own identity; only the length of what it got is printed.
    program = (
        "import os\n"
        "from azure.identity import DefaultAzureCredential\n"
        "from azure.keyvault.secrets import SecretClient\n"
        "vault = SecretClient(os.environ['AZURE_KEYVAULT_URL'], DefaultAzureCredential())\n"
        "print(len(vault.get_secret('payments-api-key').value))"
    )
    command = [sys.executable, "-m", "keyleaf", "run", "--state", str(state), "--as", "checkout-dev", "--"]
    asked = subprocess.run([*command, sys.executable, "-c", program], capture_output=True)
    assert asked.stdout.strip() == str(len(CANARY)).encode(), asked.stderr
    said += asked.stdout + asked.stderr
    assert not found_in(said)
    assert not found_in((tmp_path / "up.log").read_bytes())
    assert not found_in((tmp_path / "export.jsonl").read_bytes())
    searched = 0
    for file in [path for path in state.rglob("*") if path.is_file() and not path.is_symlink()]:
        hits = found_in(file.read_bytes())
        assert not hits, f"{hits} in {file.relative_to(state)}"
        searched += 1
    assert searched > 10
    family = descendants(pid)
    assert len(family) > 8
    for process in family:
        for name in ("cmdline", "environ"):
            try:
                content = Path(f"/proc/{process}/{name}").read_bytes()
            except OSError:
                continue
            assert not found_in(content), f"{name} of process {process}"
    own = f"keyleaf-{os.getuid()}-"
    for file in Path("/dev/shm").glob(f"{own}*/**/*"):
        if file.is_file() and not file.is_symlink():
            assert not found_in(file.read_bytes()), file
