"""The room against a small model of Azure's rules: random histories of two vaults, every answer foretold."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from vault_room import BASE, Room, refusal, version_of

from keyleaf.core.errors import ServiceError
from keyleaf.vault import purge_due

DAY = 86_400
RETENTION = {"first": 90, "second": 7}
NAMES = st.sampled_from(["db", "DB", "Db", "api-key", "API-key"])
VAULTS = st.sampled_from(["first", "second"])
TIMES = st.none() | st.integers(1_000, 2_000_000_000)
TAGS = st.none() | st.dictionaries(st.sampled_from(["a", "b"]), st.text(max_size=3), max_size=2)
TYPES = st.none() | st.sampled_from(["", "text/plain"])
GONE = (404, "SecretNotFound", "")


@dataclass
class Version:
    """One version as the model knows it."""

    version: str
    value: str
    created: int
    updated: int
    enabled: bool = True
    nbf: int | None = None
    exp: int | None = None
    tags: dict[str, str] | None = None
    content_type: str | None = None


@dataclass
class Entry:
    """One secret as the model knows it."""

    name: str
    versions: list[Version] = field(default_factory=list)
    deleted: int | None = None

    @property
    def last(self) -> Version:
        """The latest version."""
        return self.versions[-1]


class Model(RuleBasedStateMachine):
    """Each rule does the same to the room and to the model, and compares."""

    room: Room
    numbers = count()

    def __init__(self) -> None:
        super().__init__()
        number = next(self.numbers)
        self.vaults = {which: f"kv-{which}-{number}" for which in RETENTION}
        for which, name in self.vaults.items():
            self.room.add_vault(name, retention_days=RETENTION[which])
        self.entries: dict[str, dict[str, Entry]] = {which: {} for which in RETENTION}
        self.blobs: list[tuple[str, Entry]] = []

    # --- what the model knows -------------------------------------------------------------------------------------
    def alive(self, which: str, name: str) -> Entry | None:
        entry = self.entries[which].get(name.lower())
        return None if entry is None or entry.deleted is not None else entry

    def dead(self, which: str, name: str) -> Entry | None:
        entry = self.entries[which].get(name.lower())
        return None if entry is None or entry.deleted is None else entry

    def attributes(self, which: str, one: Version) -> dict[str, Any]:
        level = "Recoverable+Purgeable" if RETENTION[which] == 90 else "CustomizedRecoverable+Purgeable"
        times = {name: time for name, time in (("nbf", one.nbf), ("exp", one.exp)) if time is not None}
        return times | {
            "enabled": one.enabled,
            "created": one.created,
            "updated": one.updated,
            "recoveryLevel": level,
            "recoverableDays": RETENTION[which],
        }

    def bundle(self, which: str, identifier: str, one: Version) -> dict[str, Any]:
        body: dict[str, Any] = {"id": identifier, "attributes": self.attributes(which, one)}
        if one.content_type is not None:
            body["contentType"] = one.content_type
        if one.tags is not None:
            body["tags"] = one.tags
        return body

    def full(self, which: str, entry: Entry, one: Version) -> dict[str, Any]:
        return self.bundle(which, f"{BASE}/secrets/{entry.name}/{one.version}", one)

    def gone(self, which: str, entry: Entry, *, listed: bool) -> dict[str, Any]:
        last = entry.last
        suffix = "" if listed else f"/{last.version}"
        assert entry.deleted is not None
        return self.bundle(which, f"{BASE}/secrets/{entry.name}{suffix}", last) | {
            "recoveryId": f"{BASE}/deletedsecrets/{entry.name}",
            "deletedDate": entry.deleted,
            "scheduledPurgeDate": entry.deleted + RETENTION[which] * DAY,
        }

    def call(self, which: str, method: str, path: str, body: object = None) -> Any:
        return self.room.call(method, path, body, self.vaults[which])

    def refused(self, which: str, method: str, path: str, expected: tuple[int, str, str], body: object = None) -> None:
        with pytest.raises(ServiceError) as caught:
            self.call(which, method, path, body)
        assert refusal(caught.value) == expected

    @property
    def now(self) -> int:
        return int(self.room.clock.now())

    # --- what may happen ------------------------------------------------------------------------------------------
    @rule(
        which=VAULTS,
        name=NAMES,
        value=st.text(max_size=8),
        enabled=st.none() | st.booleans(),
        nbf=TIMES,
        exp=TIMES,
        tags=TAGS,
        kind=TYPES,
    )
    def set(
        self,
        which: str,
        name: str,
        value: str,
        enabled: bool | None,
        nbf: int | None,
        exp: int | None,
        tags: dict[str, str] | None,
        kind: str | None,
    ) -> None:
        body = {
            "value": value,
            "contentType": kind,
            "tags": tags,
            "attributes": {"enabled": enabled, "nbf": nbf, "exp": exp},
        }
        if tags is not None and "" in tags:
            return
        if nbf is not None and exp is not None and exp <= nbf:
            self.refused(which, "PUT", f"/secrets/{name}", (400, "BadParameter", ""), body)
            return
        if self.dead(which, name):
            taken = (409, "Conflict", "ObjectIsDeletedButRecoverable")
            self.refused(which, "PUT", f"/secrets/{name}", taken, body)
            return
        made = self.call(which, "PUT", f"/secrets/{name}", body)
        entry = self.entries[which].setdefault(name.lower(), Entry(name))
        one = Version(version_of(made), value, self.now, self.now, enabled is not False, nbf, exp, tags, kind)
        assert one.version not in {old.version for old in entry.versions}
        entry.versions.append(one)
        assert made == self.full(which, entry, one) | {"value": value}

    @rule(which=VAULTS, name=NAMES, pick=st.none() | st.integers(0, 3))
    def get(self, which: str, name: str, pick: int | None) -> None:
        entry = self.alive(which, name)
        if entry is None or (pick is not None and pick >= len(entry.versions)):
            self.refused(which, "GET", f"/secrets/{name}/{'' if pick is None else '0' * 32}", GONE)
            return
        one = entry.versions[-1 if pick is None else pick]
        path = f"/secrets/{name}/{'' if pick is None else one.version}"
        if one.enabled:
            assert self.call(which, "GET", path) == self.full(which, entry, one) | {"value": one.value}
        else:
            self.refused(which, "GET", path, (403, "Forbidden", "SecretDisabled"))

    @rule(
        which=VAULTS,
        name=NAMES,
        pick=st.none() | st.integers(0, 3),
        enabled=st.none() | st.booleans(),
        exp=TIMES,
        tags=TAGS,
        kind=TYPES,
    )
    def update(
        self,
        which: str,
        name: str,
        pick: int | None,
        enabled: bool | None,
        exp: int | None,
        tags: dict[str, str] | None,
        kind: str | None,
    ) -> None:
        body = {"attributes": {"enabled": enabled, "exp": exp}, "tags": tags, "contentType": kind}
        entry = self.alive(which, name)
        if entry is None or (pick is not None and pick >= len(entry.versions)):
            self.refused(which, "PATCH", f"/secrets/{name}/{'' if pick is None else 'f' * 32}", GONE, body)
            return
        one = entry.versions[-1 if pick is None else pick]
        path = f"/secrets/{name}/{'' if pick is None else one.version}"
        ends = one.exp if exp is None else exp
        if one.nbf is not None and ends is not None and ends <= one.nbf:
            self.refused(which, "PATCH", path, (400, "BadParameter", ""), body)
            return
        one.exp, one.updated = ends, self.now
        one.enabled = one.enabled if enabled is None else enabled
        one.tags = one.tags if tags is None else tags
        one.content_type = one.content_type if kind is None else kind
        assert self.call(which, "PATCH", path, body) == self.full(which, entry, one)

    @rule(which=VAULTS, name=NAMES)
    def delete(self, which: str, name: str) -> None:
        entry = self.alive(which, name)
        if entry is None:
            self.refused(which, "DELETE", f"/secrets/{name}", GONE)
            return
        entry.deleted = self.now
        assert self.call(which, "DELETE", f"/secrets/{name}") == self.gone(which, entry, listed=False)

    @rule(which=VAULTS, name=NAMES)
    def recover(self, which: str, name: str) -> None:
        entry = self.dead(which, name)
        if entry is None:
            self.refused(which, "POST", f"/deletedsecrets/{name}/recover", GONE)
            return
        entry.deleted = None
        answer = self.call(which, "POST", f"/deletedsecrets/{name}/recover")
        assert answer == self.full(which, entry, entry.last)

    @rule(which=VAULTS, name=NAMES)
    def purge(self, which: str, name: str) -> None:
        if self.dead(which, name) is None:
            self.refused(which, "DELETE", f"/deletedsecrets/{name}", GONE)
            return
        assert self.call(which, "DELETE", f"/deletedsecrets/{name}") is None
        del self.entries[which][name.lower()]

    @rule(which=VAULTS, name=NAMES)
    def back_up(self, which: str, name: str) -> None:
        entry = self.alive(which, name)
        if entry is None:
            self.refused(which, "POST", f"/secrets/{name}/backup", GONE)
            return
        blob = self.call(which, "POST", f"/secrets/{name}/backup")["value"]
        self.blobs.append((blob, deepcopy(entry)))

    @precondition(lambda self: self.blobs)
    @rule(which=VAULTS, data=st.data())
    def restore(self, which: str, data: st.DataObject) -> None:
        blob, kept = data.draw(st.sampled_from(self.blobs))
        holder = self.entries[which].get(kept.name.lower())
        if holder is not None:
            inner = "ObjectIsDeletedButRecoverable" if holder.deleted is not None else ""
            self.refused(which, "POST", "/secrets/restore", (409, "Conflict", inner), {"value": blob})
            return
        entry = deepcopy(kept)
        self.entries[which][entry.name.lower()] = entry
        answer = self.call(which, "POST", "/secrets/restore", {"value": blob})
        assert answer == self.full(which, entry, entry.last)

    @rule(seconds=st.sampled_from([0.4, 1.0, 3 * DAY, 30 * DAY]))
    def time_passes(self, seconds: float) -> None:
        self.room.clock.advance(seconds)
        with self.room.database.write() as connection:
            removed = purge_due(connection, self.room.clock.now())
        due = [
            (which, key)
            for which, entries in self.entries.items()
            for key, entry in entries.items()
            if entry.deleted is not None and entry.deleted + RETENTION[which] * DAY <= self.now
        ]
        assert removed == len(due)
        for which, key in due:
            del self.entries[which][key]

    # --- what always holds ----------------------------------------------------------------------------------------
    @invariant()
    def lists_show_what_there_is(self) -> None:
        for which, entries in self.entries.items():
            living = [entry for entry in entries.values() if entry.deleted is None]
            listed = self.call(which, "GET", "/secrets")["value"]
            expected = [self.bundle(which, f"{BASE}/secrets/{one.name}", one.last) for one in living]
            assert by_id(listed) == by_id(expected)
            for entry in living:
                versions = self.call(which, "GET", f"/secrets/{entry.name}/versions")["value"]
                assert by_id(versions) == by_id([self.full(which, entry, one) for one in entry.versions])
            dead = [entry for entry in entries.values() if entry.deleted is not None]
            listed = self.call(which, "GET", "/deletedsecrets")["value"]
            assert by_id(listed) == by_id([self.gone(which, entry, listed=True) for entry in dead])
            for entry in dead:
                assert self.call(which, "GET", f"/secrets/{entry.name}/versions")["value"] == []
                found = self.call(which, "GET", f"/deletedsecrets/{entry.name.upper()}")
                assert found == self.gone(which, entry, listed=False)

    def teardown(self) -> None:
        """Leave nothing that a later history's time would purge."""
        for which, entries in self.entries.items():
            for entry in entries.values():
                if entry.deleted is not None:
                    self.call(which, "DELETE", f"/deletedsecrets/{entry.name}")


def by_id(bundles: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In one order: databases sort hyphens differently."""
    return sorted(bundles, key=lambda bundle: str(bundle["id"]))


def test_every_history_goes_as_azure_s_would(room: Room) -> None:
    machine = type("Histories", (Model,), {"room": room})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
