"""A PostgreSQL server for the time of a measurement, where its programs are on the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def programs() -> Path | None:
    """The folder of the server's programs."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    """The URL of an empty database with the server's own defaults (every commit is synced); None without programs."""
    folder = programs()
    if folder is None:
        yield None
        return
    home = Path(tempfile.mkdtemp(prefix="keyleaf-pg-"))  # a socket's path is limited to 107 characters
    # PostgreSQL refuses to run as root.
    account = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    if account:
        home.chmod(0o777)
    control = [*account, str(folder / "pg_ctl"), "-D", str(home / "data"), "-w", "-s"]
    try:
        make = [*account, str(folder / "initdb"), "-D", str(home / "data"), "-A", "trust", "-U", "postgres"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        options = f"-k {home} -c listen_addresses=''"
        subprocess.run([*control, "-l", str(home / "log"), "-o", options, "start"], check=True)
        yield f"postgresql://postgres@/postgres?host={home}"
    finally:
        subprocess.run([*control, "-m", "fast", "stop"], check=False)
        shutil.rmtree(home, ignore_errors=True)
