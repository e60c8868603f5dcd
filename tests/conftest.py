"""What tests of several rooms share: an empty state database, once on SQLite and once on Postgres."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

_READY_SECONDS = 30


def _server_binaries() -> Path | None:
    """The folder of PostgreSQL's server programs, if they are on this machine."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    """A PostgreSQL server of this test run, on a Unix socket in the folder that is given."""
    binaries = _server_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    # Not pytest's own folder: a socket's path is limited to 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="keyleaf-pg-"))
    data = folder / "data"
    # PostgreSQL refuses to run as root.
    account = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
    if account:
        folder.chmod(0o777)
    try:
        make = [*account, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        start = [*account, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-t", str(_READY_SECONDS), "-s"]
        start += [
            "-l",
            str(folder / "log"),
            "-o",
            f"-k {folder} -c listen_addresses='' -c max_connections=100",
            "start",
        ]
        subprocess.run(start, check=True)
        yield folder
    finally:
        stop = [*account, str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "-s", "stop"]
        subprocess.run(stop, check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; the schema is the test's to make."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    folder = request.getfixturevalue("postgres_socket")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://postgres@/{name}?host={folder}"
