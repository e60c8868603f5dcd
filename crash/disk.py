"""A simulated disk, as an SQLite VFS: everything written is recorded, and only what was synced is sure to stay.

The model, at a cut: of every write since the file's last sync, each 512-byte sector may have reached the disk or not,
in any combination; a truncation or a deletion likewise. Whatever was synced stays. As SQLite does on Linux, the first
sync of a new file also syncs the directory, and with it the deletions so far.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

import apsw

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: to a file, or an acknowledgement (``what`` is then whatever was acknowledged)."""

    kind: Literal["write", "truncate", "sync", "delete", "told"]
    name: str = ""
    offset: int = 0
    data: bytes = b""
    what: object = None


class Disk(apsw.VFS):
    """Keeps files in memory and everything that happened to them, in order.

    Attributes:
        ignores_syncs: a lying disk: it says that it has synced, and has not.
    """

    def __init__(self, name: str, *, ignores_syncs: bool = False) -> None:
        self.vfs_name = name
        self.ignores_syncs = ignores_syncs
        self.files: dict[str, bytearray] = {}
        self.events: list[Event] = []
        super().__init__(name, "")

    def tell(self, what: object) -> None:
        """Note that something was acknowledged now."""
        self.events.append(Event("told", what=what))

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> _File:
        plain = name.filename() if isinstance(name, apsw.URIFilename) else name or f"temporary-{len(self.events)}"
        flags[1] = flags[0]
        self.files.setdefault(plain, bytearray())
        return _File(self, plain)

    def xAccess(self, pathname: str, flags: int) -> bool:
        return pathname in self.files

    def xDelete(self, filename: str, syncdir: bool) -> None:
        if self.files.pop(filename, None) is not None:
            self.events.append(Event("delete", filename))
            if syncdir and not self.ignores_syncs:
                self.events.append(Event("sync", filename))

    def xFullPathname(self, name: str) -> str:
        return name


class _File:
    """One open file."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name

    @property
    def _content(self) -> bytearray:
        return self._disk.files.setdefault(self._name, bytearray())

    def xRead(self, amount: int, offset: int) -> bytes:
        return bytes(self._content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:
        content = self._content
        if len(content) < offset + len(data):
            content.extend(bytes(offset + len(data) - len(content)))
        content[offset : offset + len(data)] = data
        self._disk.events.append(Event("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        del self._content[newsize:]
        self._disk.events.append(Event("truncate", self._name, newsize))

    def xSync(self, flags: int) -> None:
        if not self._disk.ignores_syncs:
            self._disk.events.append(Event("sync", self._name))

    def xFileSize(self) -> int:
        return len(self._content)

    def xLock(self, level: int) -> None:
        """One process, one connection: there is nobody to lock out."""

    def xUnlock(self, level: int) -> None:
        """See xLock."""

    def xCheckReservedLock(self) -> bool:
        return False

    def xSectorSize(self) -> int:
        return SECTOR

    def xDeviceCharacteristics(self) -> int:
        return int(apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE)  # as SQLite takes for granted on Linux

    def xFileControl(self, op: int, ptr: int) -> bool:
        return False

    def xClose(self) -> None:
        """The file stays."""


@dataclass(slots=True)
class _Surviving:
    """A file as it is on the disk, and what may yet become of it."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)
    exists: bool = False

    def settle(self) -> None:
        """Everything that was done to it has reached the disk."""
        for event in self.pending:
            _apply(self.durable, event)
        self.exists = not self.pending or self.pending[-1].kind != "delete"
        self.pending.clear()


class Platter:
    """What the disk holds, replayed event by event: cuts can be taken anywhere without beginning anew."""

    def __init__(self) -> None:
        self._files: dict[str, _Surviving] = {}
        self._at = 0

    def replay(self, events: list[Event], end: int) -> None:
        """Go on until ``end`` events have happened."""
        for event in events[self._at : end]:
            if event.kind == "told":
                continue
            file = self._files.setdefault(event.name, _Surviving())
            if event.kind == "sync":
                if not file.exists:
                    self._sync_directory()
                file.settle()
            else:
                file.pending.append(event)
        self._at = max(self._at, end)

    def _sync_directory(self) -> None:
        for file in self._files.values():
            if file.pending and file.pending[-1].kind == "delete":
                file.settle()

    def cut(self, chance: random.Random) -> dict[str, bytes]:
        """The files that are found after the power is back."""
        keep = chance.choice((0.0, 0.1, 0.5, 0.9, 0.98, 1.0))
        found: dict[str, bytes] = {}
        for name, file in self._files.items():
            content, exists = bytearray(file.durable), file.exists
            for event in file.pending:
                if event.kind == "write":
                    for part in _sectors(event):
                        if chance.random() < keep:
                            _apply(content, part)
                            exists = True
                elif chance.random() < keep:
                    if event.kind == "delete":
                        content, exists = bytearray(), False
                    else:
                        _apply(content, event)
            if exists:
                found[name] = bytes(content)
        return found


def _sectors(event: Event) -> list[Event]:
    """A write in pieces that do not cross a sector's border."""
    parts, offset, data = [], event.offset, event.data
    while data:
        size = SECTOR - offset % SECTOR
        parts.append(Event("write", event.name, offset, data[:size]))
        offset, data = offset + size, data[size:]
    return parts


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == "write":
        end = event.offset + len(event.data)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        content[event.offset : end] = event.data
    elif event.kind == "truncate":
        del content[event.offset :]
    else:
        content.clear()
