"""What lies in the database: no value, and nothing that can be moved to where it does not belong."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select, text, update
from vault_room import Room

from keyleaf.core.errors import StateError
from keyleaf.store import Database, schema, sqlite_url

CANARY = "canary-7f3a9c51-in-the-coal-mine"
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be")


def test_no_byte_of_a_value_reaches_the_disk(tmp_path: Path) -> None:
    database = Database.open(sqlite_url(tmp_path / "state.db"))
    room = Room(database)
    room.set("db", CANARY, tags={"found": "tag-in-the-clear"})
    room.set("db", f"{CANARY}-2")
    assert room.get("db")["value"] == f"{CANARY}-2"
    blob = room.call("POST", "/secrets/db/backup")["value"]
    room.call("DELETE", "/secrets/db")
    on_disk(tmp_path)
    room.call("DELETE", "/deletedsecrets/db")
    room.call("POST", "/secrets/restore", {"value": blob})
    on_disk(tmp_path)
    database.close()
    on_disk(tmp_path)


def on_disk(folder: Path) -> None:
    """The search finds what is stored in the clear, and no value."""
    content = b"".join(path.read_bytes() for path in folder.iterdir())
    assert b"tag-in-the-clear" in content
    forms = [CANARY.encode(encoding) for encoding in ENCODINGS] + [CANARY.encode().hex().encode()]
    assert not [form for form in forms if form in content]


def test_a_purged_secret_leaves_no_ciphertext(tmp_path: Path) -> None:
    database = Database.open(sqlite_url(tmp_path / "state.db"))
    room = Room(database)
    room.set("db", CANARY)
    with database.read() as connection:
        sealed = bytes(connection.execute(select(schema.secret_version.c.sealed)).scalar_one())
    room.call("DELETE", "/secrets/db")
    room.call("DELETE", "/deletedsecrets/db")
    database.close()
    assert sealed not in b"".join(path.read_bytes() for path in tmp_path.iterdir())


def test_rows_that_are_exchanged_do_not_open(room: Room) -> None:
    room.add_vault("kv-other")
    for vault in ("kv-shop", "kv-other"):
        for name in ("a", "b"):
            room.set(name, f"{vault}-{name}", vault)
            assert room.get(name, vault=vault)["value"], "every vault's key is in memory"
    columns = (schema.secret_version.c.wrapped_key, schema.secret_version.c.sealed)
    with room.database.read() as connection:
        rows = connection.execute(select(schema.secret_version.c.secret_id, *columns).order_by("secret_id")).all()
    for taken in ({"sealed"}, {"wrapped_key"}, {"sealed", "wrapped_key"}):
        for target, source in ((rows[0], rows[1]), (rows[0], rows[2])):
            values = {name: getattr(source, name) for name in taken}
            kept = {name: getattr(target, name) for name in taken}
            statement = update(schema.secret_version).where(schema.secret_version.c.secret_id == target.secret_id)
            with room.database.write() as connection:
                connection.execute(statement.values(values))
            with pytest.raises(StateError, match="does not decrypt") as caught:
                room.get("a")
            assert "kv-shop-a" not in str(caught.value)
            with room.database.write() as connection:
                connection.execute(statement.values(kept))
    assert room.get("a")["value"] == "kv-shop-a"


def test_a_secret_that_is_moved_or_renamed_in_the_database_does_not_open(room: Room) -> None:
    room.add_vault("kv-other")
    room.set("a", "v")
    room.set("warm", "v", "kv-other")
    for statement, name, vault in (
        ("UPDATE secret SET vault_key = 'kv-other' WHERE name = 'a'", "a", "kv-other"),
        ("UPDATE secret SET vault_key = 'kv-shop', name = 'b', name_key = 'b' WHERE name = 'a'", "b", "kv-shop"),
        ("UPDATE secret SET name = 'a', name_key = 'a' WHERE name = 'b'", "a", "kv-shop"),
    ):
        with room.database.write() as connection:
            connection.execute(text(statement))
        if (name, vault) == ("a", "kv-shop"):
            assert room.get(name, vault=vault)["value"] == "v", "back in its place it opens"
        else:
            with pytest.raises(StateError):
                room.get(name, vault=vault)


def test_a_vault_s_key_does_not_serve_another_vault(room: Room) -> None:
    room.add_vault("kv-other")
    room.set("a", "v")
    with room.database.write() as connection:
        statement = update(schema.vault).where(schema.vault.c.name_key == "kv-other")
        connection.execute(statement.values(wrapped_key=room.row().wrapped_key))
    with pytest.raises(StateError):
        room.set("a", "v", "kv-other")
