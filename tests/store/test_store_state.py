"""The state directory, its private files, and its lock."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from keyleaf.core.errors import StateError
from keyleaf.store import StateDirectory, StateLock, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def permissive_umask() -> object:
    """Private files are private whatever the user's umask."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_new_directory_and_its_files_are_private(tmp_path: Path) -> None:
    state = StateDirectory.open(tmp_path / "deep" / "state")
    assert mode(state.root) == 0o700
    write_private(state.tls / "server.key", b"k")
    assert mode(state.tls) == 0o700
    assert mode(state.tls / "server.key") == 0o600


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o777)
    with pytest.raises(StateError, match="chmod 700"):
        StateDirectory.open(tmp_path / "state")


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StateError, match="file"):
        StateDirectory.open(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_replacing_a_file_makes_it_private_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["root.key"]


def test_a_failed_write_leaves_the_old_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "occupied"
    (path / "inside").mkdir(parents=True)
    with pytest.raises(OSError):
        write_private(path, b"new")
    assert [found.name for found in tmp_path.iterdir()] == ["occupied"]


def test_readers_see_one_content_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([letter]) * 20_000 for letter in b"ab"]
    write_private(path, contents[0])
    done = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not done.is_set():
            seen = path.read_bytes()
            if seen not in contents:
                torn.append(len(seen))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(60):
        write_private(path, contents[number % 2])
    done.set()
    reader.join()
    assert torn == []


HOLDER = """
import sys
from pathlib import Path
from keyleaf.store import StateLock
with StateLock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_at_a_time_even_when_the_last_one_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "server.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StateError, match=rf"pid {holder.pid}\)"), StateLock.hold(path):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdin.close()
    holder.stdout.close()
    with StateLock.hold(path):
        assert path.read_text() == str(os.getpid())
    with StateLock.hold(path):
        pass
