"""One repository's files as documents and objects, each read and parsed once."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from keyleaf.core.errors import InputError
from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.tree.files import FileSet, normal
from keyleaf.tree.objects import Object, objects_in
from keyleaf.tree.yamlsource import MAX_BYTES, Document, parse

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
_SKIP_RENDERING = b"# +argocd:skip-file-rendering"
_SCP = re.compile(r"(?:[^@/:\s]+@)?([^/:\s]+):(?!//)(.+)\Z")


@dataclass(frozen=True, slots=True)
class Parsed:
    """One file: its documents, the objects in them, and what is wrong."""

    documents: Sequence[Document]
    objects: Sequence[Object]
    findings: Sequence[Finding]


class Repository:
    """Files of one repository at one revision.

    Args:
        base: the folder that was asked for, within ``files``; Locations are relative to it.
        label: stands before the paths of other repositories than the tree's own.
        urls: the addresses under which Applications may name this repository, in normal form.
    """

    def __init__(
        self, files: FileSet, base: str = "", label: str = "", urls: frozenset[str] = frozenset(), revision: str = ""
    ) -> None:
        self.files = files
        self.base = base
        self.label = label
        self.urls = urls
        self.revision = revision
        self._parsed: dict[str, Parsed] = {}

    def shown(self, path: str) -> str:
        """``path`` as Locations write it."""
        if self.label:
            return f"{self.label}/{path}"
        return posixpath.relpath(path or ".", self.base or ".") if self.base else path

    def exists(self, folder: str) -> bool:
        """Whether there is any file below ``folder``."""
        return bool(self.files.list(folder))

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return path in self.files.list(posixpath.dirname(path))

    def resolve(self, path: str) -> str | None:
        """Where an Application's ``path`` leads, from the folder that was read, else from the top; None if nowhere."""
        inside = normal(path)
        if inside.startswith("..") or path.strip().startswith("/.."):
            return None
        for start in dict.fromkeys((self.base, "")):
            folder = normal(posixpath.join(start, inside))
            if self.exists(folder):
                return folder
        return None

    def kustomization(self, folder: str) -> str:
        """The kustomization file in ``folder``; empty if there is none."""
        here = {p for p in self.files.list(folder) if posixpath.dirname(p) == folder}
        return next((path for name in KUSTOMIZATIONS if (path := posixpath.join(folder, name)) in here), "")

    def parsed(self, path: str) -> Parsed:
        """One YAML or JSON file; never raises."""
        known = self._parsed.get(path)
        if known is None:
            known = self._parsed[path] = self._parse(path)
        return known

    def _parse(self, path: str) -> Parsed:
        shown = self.shown(path)
        try:
            # Parsing refuses what is too large; it need not be read for that.
            size = self.files.size(path)
            content = self.files.read(path) if size <= MAX_BYTES else b" " * (MAX_BYTES + 1)
        except InputError as error:
            where = Location(shown)
            found = Finding(
                "file-unreadable", Severity.ERROR, error.message, "", where, "", "mend the link or the file"
            )
            return Parsed((), (), (found,))
        if _SKIP_RENDERING in content:
            return Parsed((), (), ())
        documents, findings = parse(content, shown)
        return Parsed(documents, [found for document in documents for found in objects_in(document)], findings)


def normal_url(url: str) -> str:
    """A repository's address without scheme, user, port, ``.git`` and case of the host: what two spellings share."""
    text = url.strip()
    scp = _SCP.match(text)
    if scp and "://" not in text:
        host, path = scp.groups()
    elif "://" in text:
        try:
            parts = urlsplit(text)
            host, path = parts.hostname or "", parts.path
        except ValueError:
            return text
    else:
        host, path = "", text
    path = path.strip("/").removesuffix(".git").rstrip("/")
    return f"{host.lower()}/{path.lower() if host else path}"


def without_credentials(url: str) -> str:
    """``url`` as it may be shown: user and password left out."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", url)
