"""Git repositories, read through the user's own ``git`` and never trusted.

Only objects are read: no work tree is made, no hook runs, no configured program is started, no missing object is
fetched behind one's back. Source: https://git-scm.com/docs/git-cat-file, https://git-scm.com/docs/git#_environment_variables
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import subprocess
import threading
from collections.abc import MutableSequence, Sequence
from pathlib import Path

from keyleaf.core.errors import InputError, RemoteError
from keyleaf.tree.files import FolderIndex, normal
from keyleaf.tree.repository import without_credentials

_SAFE = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat", "-c", "gc.auto=0",
    "-c", "maintenance.auto=false", "-c", "protocol.ext.allow=never", "-c", "submodule.recurse=false",
    "-c", "credential.interactive=false", "-c", "core.askPass=",
)  # fmt: skip
_SCHEMES = ("https://", "ssh://", "file://")
_SCP = re.compile(r"(?:[A-Za-z0-9_.-]+@)?[A-Za-z0-9_.-]+:(?!//)[^\s]+\Z")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_LINK = "120000"
_MODULE = "160000"
FETCH_SECONDS = 300.0


def is_remote(root: str) -> bool:
    """Whether ``root`` is an address to fetch from, not a path on this machine."""
    if root.startswith(("https://", "ssh://", "http://", "git://")):
        return True
    return not Path(root).exists() and not root.startswith((".", "/", "file://")) and _SCP.match(root) is not None


class GitFiles:
    """The files of one commit, read through one ``git cat-file --batch`` that lives as long as this object."""

    def __init__(self, repository: Path, commit: str) -> None:
        self.repository = repository
        self.commit = commit
        self._entries: dict[str, tuple[str, str]] = {}
        listing = _git(repository, "ls-tree", "-r", "-z", "--full-tree", commit)
        for entry in listing.split(b"\0"):
            head, tab, name = entry.partition(b"\t")
            if tab:
                mode, _, oid = head.decode().split(" ")
                if mode != _MODULE:
                    self._entries[name.decode("utf-8", "surrogateescape")] = (mode, oid)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._escaping: list[str] = []
        self._links: dict[str, str] = {}
        plain = [path for path, (mode, _) in self._entries.items() if mode != _LINK]
        for path, (mode, _) in list(self._entries.items()):
            if mode == _LINK:
                self._follow(path, plain)
        self._index = FolderIndex(plain)

    def list(self, prefix: str = "") -> Sequence[str]:
        """See FileSet."""
        return self._index.under(prefix)

    def size(self, path: str) -> int:
        """See FileSet."""
        return len(self.read(path))

    def read(self, path: str) -> bytes:
        """See FileSet."""
        target = self._links.get(path, path)
        mode, oid = self._entries.get(target, ("", ""))
        if not oid or mode == _LINK:
            raise InputError(f"{path} does not exist in commit {self.commit[:12]}")
        return self._blob(oid, path)

    def escaping(self) -> Sequence[str]:
        """See FileSet."""
        return tuple(self._escaping)

    def close(self) -> None:
        """End the process; reading again would start another one."""
        with self._lock:
            if self._process is not None:
                for stream in (self._process.stdin, self._process.stdout):
                    if stream is not None:
                        stream.close()
                self._process.wait()
                self._process = None

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            self.close()

    def _follow(self, path: str, plain: MutableSequence[str]) -> None:
        """Links to files of the commit are followed, eight steps at most; links that leave it are remembered."""
        target = path
        for _ in range(8):
            text = self._blob(self._entries[target][1], target).decode("utf-8", "surrogateescape")
            joined = posixpath.normpath(posixpath.join(posixpath.dirname(target), text))
            if text.startswith("/") or joined.startswith(".."):
                self._escaping.append(path)
                return
            target = normal(joined)
            if target not in self._entries:
                return
            if self._entries[target][0] != _LINK:
                self._links[path] = target
                plain.append(path)
                return

    def _blob(self, oid: str, path: str) -> bytes:
        with self._lock:
            if self._process is None:
                self._process = subprocess.Popen(
                    ["git", *_SAFE, "-C", str(self.repository), "cat-file", "--batch"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=_environment(protocols=""),
                )
            process = self._process
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(f"{oid}\n".encode())
                process.stdin.flush()
                head = process.stdout.readline().split()
                if len(head) != 3:
                    raise InputError(f"{path} is not in this copy of the repository", hint="git fetch")
                content = process.stdout.read(int(head[2]) + 1)
            except OSError:
                raise InputError(f"git could not read {path}", hint="git fsck") from None
            return content[:-1]


class GitSource:
    """Fetches remote repositories into bare ones below ``cache``, one per address, shallow.

    Args:
        cache: made with mode 0700 if it is not there; default ``$XDG_CACHE_HOME/keyleaf/git``.
    """

    def __init__(self, cache: Path | None = None) -> None:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        self.cache = cache or Path(home) / "keyleaf" / "git"

    def open(self, url: str, revision: str = "") -> GitFiles:
        """The files of ``revision`` at ``url``: a branch, tag or commit; the default branch if empty.

        Raises:
            InputError: the address is of a kind that is not fetched from.
            RemoteError: the repository did not answer, or has no such revision.
        """
        shown = without_credentials(url)
        if not (url.startswith(_SCHEMES) or _SCP.match(url)) or url.startswith("-"):
            raise InputError(f"{shown} is not fetched from", hint="use https://, ssh://, file:// or user@host:path")
        if revision.startswith("-") or any(c.isspace() for c in revision):
            raise InputError(f"{revision!r} is not a revision")
        place = self.cache / hashlib.sha256(url.encode()).hexdigest()[:32]
        if not (place / "HEAD").exists():
            self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            _git(place.parent, "init", "--quiet", "--bare", "--", str(place))
        wanted = revision or "HEAD"
        command = ("fetch", "--quiet", "--no-tags", "--depth", "1", "--no-recurse-submodules", "--no-write-fetch-head")
        into = "refs/keyleaf/wanted"
        process = subprocess.run(
            ["git", *_SAFE, "-C", str(place), *command, "--", url, f"+{wanted}:{into}"],
            capture_output=True,
            timeout=FETCH_SECONDS,
            stdin=subprocess.DEVNULL,
            env=_environment(protocols="https:ssh:file"),
            check=False,
        )
        if process.returncode:
            said = without_credentials(process.stderr.decode("utf-8", "replace")).replace(url, shown).strip()
            last = said.splitlines()[-1] if said else "no reason given"
            raise RemoteError(f"{shown} could not be fetched at {wanted}: {last}", hint="try: git ls-remote " + shown)
        return GitFiles(place, commit_of(place, into))


def toplevel(folder: Path) -> Path | None:
    """The work tree that ``folder`` lies in; None if it lies in none, or only in a bare repository."""
    process = _run(folder, "rev-parse", "--show-toplevel")
    return Path(process.stdout.decode().rstrip("\n")) if process.returncode == 0 and process.stdout.strip() else None


def is_bare(folder: Path) -> bool:
    """Whether ``folder`` is a bare repository, or the ``.git`` of one."""
    process = _run(folder, "rev-parse", "--is-inside-git-dir")
    return process.returncode == 0 and process.stdout.strip() == b"true" and (folder / "HEAD").is_file()


def commit_of(folder: Path, revision: str) -> str:
    """The full id of the commit that ``revision`` names.

    Raises:
        InputError: there is none.
    """
    if revision.startswith("-") or "\0" in revision:
        raise InputError(f"{revision!r} is not a revision")
    for name in (revision, f"origin/{revision}"):
        process = _run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        found = process.stdout.decode().strip()
        if process.returncode == 0 and _SHA.match(found):
            return found
    raise InputError(f"{folder} has no revision {revision!r}", hint="git branch --all, git tag --list")


def remote_urls(folder: Path) -> tuple[str, ...]:
    """The addresses of the repository's remotes."""
    process = _run(folder, "config", "--get-regexp", r"^remote\..*\.url$")
    lines = process.stdout.decode("utf-8", "replace").splitlines() if process.returncode == 0 else []
    return tuple(line.partition(" ")[2] for line in lines)


def _environment(protocols: str) -> dict[str, str]:
    """The user's environment without what could redirect git, make it ask, or name other programs."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_") or key == "GIT_SSL_CAINFO"}
    return {
        **kept,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": protocols,
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
        "LC_ALL": "C",
    }


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", *_SAFE, "-C", str(folder), *arguments],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env=_environment(protocols=""),
            check=False,
        )
    except FileNotFoundError:
        raise InputError("git is not on PATH", hint="install git") from None


def _git(folder: Path, *arguments: str) -> bytes:
    process = _run(folder, *arguments)
    if process.returncode:
        said = process.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InputError(f"git {arguments[0]} failed in {folder}: {said[-1] if said else 'no reason given'}")
    return process.stdout
