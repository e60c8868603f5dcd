"""The user's own ``kustomize``, ``kubectl`` and ``helm``: found on PATH, run without network and without their home."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keyleaf.tree.files import normal

SECONDS = 60.0
# Nothing answers on the discard port: whatever a tool tries to download fails at once.
_LOGGED = re.compile(r'"command failed" err=(?:"(.*)"|<\n(.*?)\n >)\s*\Z', re.DOTALL)
_NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool printed; ``problem`` is why it failed, empty if it did not."""

    output: bytes
    problem: str = ""


class Tools:
    """Runs tools on copies of a tree's files and remembers what they printed for which files.

    Hand the same object to each reading of a tree that is watched: what did not change is not rendered again.

    Args:
        path: where programs are looked for; ``PATH`` of the environment if None, nowhere if empty.
        seconds: how long one run may take.
        remembered: how many results are kept.
    """

    def __init__(self, path: str | None = None, seconds: float = SECONDS, remembered: int = 4096) -> None:
        search = os.environ.get("PATH", os.defpath) if path is None else path
        self.path = search
        self.seconds = seconds
        self._kustomize = shutil.which("kustomize", path=search) if search else None
        self._kubectl = shutil.which("kubectl", path=search) if search else None
        self.helm = shutil.which("helm", path=search) if search else None
        self._remembered: dict[str, ToolResult] = {}
        self._most = remembered

    @property
    def kustomize(self) -> tuple[str, ...]:
        """The command that builds a kustomization; empty if there is none."""
        if self._kustomize:
            return (self._kustomize, "build")
        return (self._kubectl, "kustomize") if self._kubectl else ()

    def run(self, command: Sequence[str], files: Mapping[str, bytes], folder: str) -> ToolResult:
        """Run ``command`` in ``folder`` of a temporary copy of ``files``, which is removed afterwards."""
        key = _digest(command, files, folder)
        known = self._remembered.get(key)
        if known is None:
            known = self._run(command, files, folder)
            if len(self._remembered) >= self._most:
                self._remembered.clear()
            self._remembered[key] = known
        return known

    def _run(self, command: Sequence[str], files: Mapping[str, bytes], folder: str) -> ToolResult:
        with tempfile.TemporaryDirectory(prefix="keyleaf-render-") as made:
            top = Path(made) / "tree"
            for name, content in files.items():
                place = top / normal(name)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
            inside = top / folder
            inside.mkdir(parents=True, exist_ok=True)
            try:
                process = subprocess.run(
                    list(command),
                    cwd=inside,
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    timeout=self.seconds,
                    env=_environment(self.path, made),
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return ToolResult(b"", f"{Path(command[0]).name} took more than {self.seconds:.0f} s")
            except OSError as error:
                return ToolResult(b"", f"{Path(command[0]).name} could not be started: {error.strerror}")
            if process.returncode:
                said = process.stderr.decode("utf-8", "replace").replace(str(top) + "/", "").replace(str(top), ".")
                return ToolResult(b"", f"{Path(command[0]).name}: {_last_words(said, process.returncode)}")
            return ToolResult(process.stdout)


def _last_words(said: str, code: int) -> str:
    """Why a tool failed, in one line: kubectl wraps its reason in a log line, in quotes or between brackets."""
    logged = _LOGGED.search(said)
    if logged:
        reason = logged.group(1).replace('\\"', '"') if logged.group(1) else logged.group(2)
        return " ".join(reason.split())[:500]
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("# Warning")]
    return lines[-1][:500] if lines else f"exit code {code}"


def _environment(path: str, home: str) -> dict[str, str]:
    return {
        "PATH": path,
        "HOME": home,
        "TMPDIR": home,
        "HELM_CACHE_HOME": f"{home}/helm",
        "HELM_CONFIG_HOME": f"{home}/helm",
        "HELM_DATA_HOME": f"{home}/helm",
        "KUBECONFIG": f"{home}/none",
        "GIT_ALLOW_PROTOCOL": "",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HTTP_PROXY": _NOWHERE,
        "HTTPS_PROXY": _NOWHERE,
        "ALL_PROXY": _NOWHERE,
        "NO_PROXY": "",
        "LC_ALL": "C",
    }


def _digest(command: Sequence[str], files: Mapping[str, bytes], folder: str) -> str:
    digest = hashlib.sha256(repr((tuple(command), folder)).encode())
    for name in sorted(files):
        digest.update(f"\0{name}\0{len(files[name])}\0".encode("utf-8", "surrogateescape"))
        digest.update(files[name])
    return digest.hexdigest()
