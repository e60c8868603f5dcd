"""An engine that cannot be reached gets one clear line, soon, from whoever opens it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from keyleaf import Worker
from keyleaf.core.errors import InputError, KeyleafError
from keyleaf.orchestrate.definitions import Registry
from keyleaf.orchestrate.engines.opening import open_control
from keyleaf.orchestrate.errors import EngineUnreachable

pytestmark = pytest.mark.asyncio


async def refusals(url: str, expected: type[KeyleafError], within: float = 2.0) -> str:
    """What a worker and somebody who only looks are told: the same."""
    told = []
    for attempt in ("worker", "control"):
        begun = time.monotonic()
        with pytest.raises(expected) as refused:
            if attempt == "control":
                open_control(url)
            else:
                async with Worker(url, registry=Registry(), payload_key="plain", environment={}):
                    pytest.fail("it began")
        assert time.monotonic() - begun < within
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert "\n" not in told[0]
    return told[0]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://host/flows", "no engine is called 'mysql' (use sqlite:///file, postgresql://host/name"),
        ("flows.sqlite", "the engine's URL has no scheme"),
        ("sqlite://", "sqlite:// needs a file"),
        ("sqlite:///:memory:", "sqlite:// needs a file"),
        ("sqlite:flows.sqlite", "is not a database URL"),
        ("durabletask://", "use durabletask://host:port"),
        ("durabletask://host:99999", "Port out of range"),
        ("durabletask://host:1?hub=orders", "use durabletask://host:port or …?taskhub=name"),
    ],
)
async def test_a_url_that_names_no_engine(url: str, told: str) -> None:
    assert told in await refusals(url, InputError)


async def test_a_sqlite_file_that_cannot_be_opened(tmp_path: Path) -> None:
    told = await refusals(f"sqlite:///{tmp_path}/gone/flows.sqlite", InputError)
    assert told == f"the folder {tmp_path}/gone of the engine's database does not exist (make it first)"
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, and no database\n" * 200)
    told = await refusals(f"sqlite:///{text}", EngineUnreachable)
    assert "file is not a database (look at KEYLEAF_ORCHESTRATOR)" in told
    assert text.read_text().startswith("these are notes"), "what is not ours stays as it is"
    assert "unable to open database file" in await refusals(f"sqlite:///{tmp_path}", EngineUnreachable)


AS_NOBODY = """
import asyncio, os, sys
from keyleaf import Worker
from keyleaf.core.errors import KeyleafError
from keyleaf.orchestrate.definitions import Registry

async def serve(url):
    async with Worker(url, registry=Registry(), payload_key="plain", environment={}):
        pass

asyncio.run(serve(sys.argv[1]))  # also loads every module while they may be read
for name in os.listdir(sys.argv[2]):
    os.chmod(os.path.join(sys.argv[2], name), 0o444)
os.chmod(sys.argv[2], 0o555)
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    asyncio.run(serve(sys.argv[1]))
    print("it began")
except KeyleafError as error:
    print(f"{type(error).__name__}: {error}")
"""


async def test_a_sqlite_file_that_may_not_be_written() -> None:
    """In a process of its own, because nothing is read-only to root."""
    import tempfile  # pytest's folders may not be entered by others

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flows.sqlite"
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, f"sqlite:///{file}", folder], capture_output=True, text=True, timeout=60
        )
        Path(folder).chmod(0o700)
    assert "Traceback" not in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "readonly database" in done.stdout or "Permission denied" in done.stdout, done.stdout


def _lets_in(address: str) -> bool:
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture
def closed(postgres_socket: Path) -> Iterator[str]:
    """A database on a server that asks one of its users for a password."""
    with psycopg.connect(f"host={postgres_socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        connection.execute("CREATE ROLE visitor LOGIN")
        row: Any = connection.execute("SHOW hba_file").fetchone()
        rules = Path(row[0])
        before = rules.read_text()
        rules.write_text(f"local all locked scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        end = time.monotonic() + 10
        while _lets_in(f"host={postgres_socket} user=locked dbname=postgres password=wrong"):
            assert time.monotonic() < end, "the server does not read its rules again"
        yield f"/postgres?host={quote(str(postgres_socket), safe='')}"
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP ROLE locked")
        connection.execute("DROP ROLE visitor")


@pytest.mark.postgres
async def test_a_postgres_that_refuses(closed: str, postgres_url: str) -> None:
    told = await refusals(f"postgresql://locked:wrong-canary@{closed}", EngineUnreachable)
    assert 'password authentication failed for user "locked"' in told
    assert "wrong-canary" not in told
    assert 'role "nobody_here" does not exist' in await refusals(
        f"postgresql://nobody_here@{closed}", EngineUnreachable
    )
    gone = closed.replace("/postgres?", "/flows_that_are_gone?")
    assert "does not exist" in await refusals(f"postgresql://postgres@{gone}", EngineUnreachable)
    with pytest.raises(EngineUnreachable, match="permission denied for database") as refused:
        url = postgres_url.replace("postgres@", "visitor@")
        async with Worker(url, registry=Registry(), payload_key="plain", environment={}):
            pytest.fail("it began")
    assert "\n" not in str(refused.value)


async def test_where_nobody_listens() -> None:
    told = await refusals("postgresql://flows:pass-canary@127.0.0.1:1/flows", EngineUnreachable)
    assert "Connection refused (look at KEYLEAF_ORCHESTRATOR)" in told
    assert "pass-canary" not in told
    with pytest.raises(EngineUnreachable, match=r"no Durable Task backend answers at 127\.0\.0\.1:1 ") as refused:
        open_control("durabletask://127.0.0.1:1")
    assert "\n" not in str(refused.value)
