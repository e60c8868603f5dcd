"""Kubernetes objects in the documents of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from keyleaf.core.location import Location
from keyleaf.tree.yamlsource import Document, Step

CONTROL_GROUP = "argoproj.io/"
CLUSTER_SCOPED = frozenset(
    {
        "APIService", "CertificateSigningRequest", "ClusterExternalSecret", "ClusterIssuer", "ClusterPolicy",
        "ClusterPushSecret", "ClusterRole", "ClusterRoleBinding", "ClusterSecretStore", "CSIDriver",
        "CustomResourceDefinition", "FlowSchema", "GatewayClass", "IngressClass", "MutatingWebhookConfiguration",
        "Namespace", "Node", "PersistentVolume", "PriorityClass", "PriorityLevelConfiguration", "RuntimeClass",
        "StorageClass", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration", "VolumeAttachment", "VolumeSnapshotClass",
    }
)  # fmt: skip
_NOWHERE = Location("")
_WAVE = re.compile(r"[+-]?\d{1,9}\Z")
WAVE = "argocd.argoproj.io/sync-wave"


@dataclass(frozen=True, slots=True)
class Object:
    """A Kubernetes object as read.

    Attributes:
        document: where its values stand; of rendered objects, the document that they were rendered from.
        path: the steps in ``document`` that lead to it: not empty inside a ``List``.
        exact: whether ``document`` is the object itself, so that paths in ``body`` are paths in it.
        place: where it stands if there is no document.
        texts: templates and values, as (file, text), that it was rendered from: values are looked up in them.
    """

    api_version: str
    kind: str
    name: str
    namespace: str
    body: Mapping[str, Any] = field(repr=False)
    document: Document | None = field(repr=False, default=None)
    path: tuple[Step, ...] = ()
    exact: bool = True
    place: Location = _NOWHERE
    texts: tuple[tuple[str, str], ...] = field(repr=False, default=())

    @property
    def where(self) -> Location:
        """Its first line."""
        if self.document is None:
            return self.place
        return self.document.locate(*self.path) if self.path else self.document.where

    @property
    def group(self) -> str:
        """Its API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def wave(self) -> int:
        """Its sync wave: https://argo-cd.readthedocs.io/en/stable/user-guide/sync-waves/"""
        text = str(mapping(mapping(self.body.get("metadata")).get("annotations")).get(WAVE, "")).strip()
        return int(text) if _WAVE.match(text) else 0

    def at(self, *path: Step) -> Location:
        """Where ``path`` of the body stands, as exactly as can be told."""
        if self.document is not None and self.exact:
            return self.document.locate(*self.path, *path)
        value: Any = self.body
        for step in path:
            value = _get(value, step)
        if not isinstance(value, str | int) or not str(value):
            return self.where
        return self.find(str(value))

    def find(self, value: str) -> Location:
        """Where something that was rendered into this object is written, as far as a search for it can tell."""
        found = self.document.find_scalar(value) if self.document is not None else None
        if found is None and self.document is not None:
            found = _search(((self.document.file, self.document.text),), value.strip())
        return found or _search(self.texts, value.strip()) or self.where


def _search(texts: Iterable[tuple[str, str]], value: str) -> Location | None:
    if "\n" in value:
        return None
    whole = re.compile(rf"(?<![\w-]){re.escape(value)}(?![\w-])")
    for file, content in texts:
        match = whole.search(content)
        if match:
            line_start = content.rfind("\n", 0, match.start()) + 1
            return Location(file, content.count("\n", 0, match.start()) + 1, match.start() - line_start + 1)
    return None


def _get(value: Any, step: Step) -> Any:
    if isinstance(value, Mapping):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def objects_in(document: Document) -> Iterator[Object]:
    """The objects of one document: itself, or the items of a ``List``; nothing if it is none."""
    yield from _objects(document.value, document, ())


def _objects(body: Any, document: Document, path: tuple[Step, ...]) -> Iterator[Object]:
    if not isinstance(body, Mapping):
        if isinstance(body, list) and not path:
            for index, item in enumerate(body):
                yield from _objects(item, document, (index,))
        return
    kind, version = body.get("kind"), body.get("apiVersion")
    if not isinstance(kind, str) or not isinstance(version, str) or not kind:
        return
    items = body.get("items")
    if kind.endswith("List") and isinstance(items, list) and len(path) < 8:
        for index, item in enumerate(items):
            yield from _objects(item, document, (*path, "items", index))
        return
    yield object_of(body, document, path)


def object_of(
    body: Mapping[str, Any], document: Document | None, path: tuple[Step, ...] = (), *, exact: bool = True,
    place: Location = _NOWHERE,
) -> Object:  # fmt: skip
    """``body`` as an Object."""
    metadata = mapping(body.get("metadata"))
    name = metadata.get("name") or metadata.get("generateName")
    return Object(
        str(body.get("apiVersion") or ""),
        str(body.get("kind") or ""),
        "" if name is None else str(name),
        str(metadata.get("namespace") or ""),
        body,
        document,
        path,
        exact,
        place,
    )


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` if it is a mapping, else an empty one: manifests are read as they are written."""
    return value if isinstance(value, Mapping) else {}


def items(value: Any) -> list[Any]:
    """``value`` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """A scalar as text; empty for anything else."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else ""


def strings(value: Any) -> tuple[str, ...]:
    """The scalars of a list as text."""
    return tuple(text(item) for item in items(value) if text(item))


def text_map(value: Any) -> dict[str, str]:
    """A mapping of text to text, such as labels."""
    return {str(key): text(item) for key, item in mapping(value).items()}


def flag(value: Any) -> bool:
    """A boolean, also where it is written as text."""
    return value is True or (isinstance(value, str) and value.lower() == "true")
