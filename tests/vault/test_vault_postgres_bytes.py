"""No byte of a value reaches Postgres's disk: its tables, indexes and write-ahead log are searched."""

from __future__ import annotations

import uuid
from pathlib import Path

import psycopg
import pytest
from vault_room import Room

from keyleaf.store import Database


@pytest.mark.postgres
def test_no_byte_of_a_value_reaches_postgres_s_disk(postgres_socket: Path) -> None:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={postgres_socket} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        database = Database.open(f"postgresql://postgres@/{name}?host={postgres_socket}")
        room = Room(database)
        canary, plain = f"canary-{uuid.uuid4().hex}", f"plain-{uuid.uuid4().hex}"
        room.set("db", canary, tags={"note": plain})
        room.set("db", canary * 20)
        blob = room.call("POST", "/secrets/db/backup")["value"]
        room.call("DELETE", "/secrets/db")
        room.call("DELETE", "/deletedsecrets/db")
        room.call("POST", "/secrets/restore", {"value": blob})
        assert room.get("db")["value"] == canary * 20
        database.close()
        connection.execute("CHECKPOINT")
    found = {canary: 0, plain: 0}
    for file in (postgres_socket / "data").rglob("*"):
        if file.is_file() and not file.is_symlink():
            content = file.read_bytes()
            for text in found:
                found[text] += content.count(text.encode())
    assert found[canary] == 0
    assert found[plain] > 0, "what is stored in the clear is found by the same search"
