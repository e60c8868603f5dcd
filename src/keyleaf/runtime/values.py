"""Where the values of ConfigMaps, Secrets and secret volumes come from. Pure: references, never fetched values."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from keyleaf.runtime.yaml_shapes import at, mapping, mappings
from keyleaf.tree.model import AppTree, Manifest, SecretNeed, Unknown


class NotRunnable(Exception):
    """What a manifest asks for that a local process cannot have; the message says why."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that Git itself holds. ``private``: it came from a Secret."""

    content: bytes = field(repr=False)
    private: bool = False


@dataclass(frozen=True, slots=True)
class VaultValue:
    """A value of a secret in a vault, read as one service account.

    Attributes:
        service_account: in ``namespace``; empty takes that of the process which needs the value.
        property: name in the JSON object that the secret holds; empty for the whole value.
        refresh_seconds: how often the manifest asks for it again; 0 never, None not said.
    """

    namespace: str
    service_account: str
    vault: str
    secret: str
    version: str = ""
    property: str = ""
    encoding: str = "utf-8"
    refresh_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class VaultObject:
    """A secret that holds a JSON object, each member of which is one value (``dataFrom.extract``)."""

    whole: VaultValue

    def member(self, name: str) -> VaultValue:
        """One member of it."""
        return replace(self.whole, property=name)


Value = Literal | VaultValue


@dataclass(frozen=True, slots=True)
class Keyed:
    """A ConfigMap, Secret or provider class: its values by key, and whole JSON objects whose keys are not known."""

    values: Mapping[str, Value]
    objects: tuple[VaultObject, ...] = ()
    reason: str = ""

    def get(self, key: str) -> Value | None:
        """The value under ``key``; None where nothing creates it. NotRunnable where it cannot be had here."""
        if self.reason:
            raise NotRunnable(self.reason)
        if key in self.values:
            return self.values[key]
        return self.objects[0].member(key) if self.objects else None


class Values:
    """The ConfigMaps, Secrets and SecretProviderClasses of a tree, by namespace and name."""

    def __init__(self, tree: AppTree) -> None:
        self._config_maps: dict[tuple[str, str], Keyed] = {}
        self._secrets: dict[tuple[str, str], Keyed] = {}
        self._classes: dict[tuple[str, str], Keyed] = {}
        templated = {
            (m.namespace, _target(m)): f"ExternalSecret/{m.name} makes it from a template, which only a cluster renders"
            for m in tree.manifests
            if m.kind == "ExternalSecret" and at(m.body, "spec", "target", "template", "data")
        }
        for need in tree.needs:
            if need.delivery.form == "kubernetes-secret":
                _add(self._secrets, need)
            elif need.delivery.form == "file":
                _add(self._classes, need)
        for place, reason in templated.items():
            self._secrets[place] = Keyed({}, reason=reason)
        for manifest in tree.manifests:
            place = (manifest.namespace, manifest.name)
            if manifest.kind == "ConfigMap":
                self._config_maps[place] = Keyed(_config_map(manifest.body))
            elif manifest.kind == "Secret":
                self._secrets[place] = Keyed(_secret(manifest.body))
            elif manifest.kind == "SecretProviderClass":
                self._synced(manifest)

    def config_map(self, namespace: str, name: str) -> Keyed | None:
        """That ConfigMap; None where nothing in the tree makes it."""
        return self._config_maps.get((namespace, name))

    def secret(self, namespace: str, name: str) -> Keyed | None:
        """That Secret; None where nothing in the tree makes it."""
        return self._secrets.get((namespace, name))

    def provider_class(self, namespace: str, name: str) -> Keyed | None:
        """The files of a volume of that SecretProviderClass; None where nothing in the tree makes it."""
        return self._classes.get((namespace, name))

    def _synced(self, manifest: Manifest) -> None:
        """Secrets that the CSI driver makes from the files of a class (``secretObjects``)."""
        files = self._classes.get((manifest.namespace, manifest.name), Keyed({}))
        for made in mappings(at(manifest.body, "spec", "secretObjects")):
            values = {
                str(entry["key"]): files.values[str(entry["objectName"])]
                for entry in mappings(made.get("data"))
                if str(entry.get("objectName")) in files.values and entry.get("key")
            }
            place = (manifest.namespace, str(made.get("secretName", "")))
            if place not in self._secrets:
                self._secrets[place] = Keyed(values)


def _add(into: dict[tuple[str, str], Keyed], need: SecretNeed) -> None:
    place = (need.namespace, need.delivery.target)
    known = into.get(place, Keyed({}))
    if isinstance(need.vault, Unknown) or isinstance(need.secret, Unknown):
        unknown = need.vault if isinstance(need.vault, Unknown) else need.secret
        reason = unknown.reason if isinstance(unknown, Unknown) else ""
        into[place] = Keyed(known.values, known.objects, f"{need.declared_by} ({need.where}) is not known: {reason}")
        return
    value = VaultValue(
        need.namespace,
        need.service_account,
        need.vault,
        need.secret,
        need.version,
        need.delivery.property,
        need.delivery.encoding,
        need.delivery.refresh_seconds,
    )
    if need.delivery.form == "file" and need.delivery.key in known.values:
        # Pods of several service accounts mount it: each of them asks for itself.
        value = replace(value, service_account="")
    if need.delivery.key:
        into[place] = Keyed({**known.values, need.delivery.key: value}, known.objects, known.reason)
    else:
        into[place] = Keyed(known.values, (*known.objects, VaultObject(value)), known.reason)


def _target(manifest: Manifest) -> str:
    return str(at(manifest.body, "spec", "target", "name") or manifest.name)


def _config_map(body: Mapping[str, Any]) -> dict[str, Value]:
    values: dict[str, Value] = {str(k): Literal(str(v).encode()) for k, v in mapping(body.get("data")).items()}
    values.update({k: Literal(v) for k, v in _decoded(body.get("binaryData"))})
    return values


def _secret(body: Mapping[str, Any]) -> dict[str, Value]:
    values: dict[str, Value] = {k: Literal(v, private=True) for k, v in _decoded(body.get("data"))}
    for key, text in mapping(body.get("stringData")).items():
        values[str(key)] = Literal(str(text).encode(), private=True)
    return values


def _decoded(data: Any) -> Iterator[tuple[str, bytes]]:
    for key, text in mapping(data).items():
        try:
            yield str(key), base64.b64decode(str(text), validate=False)
        except (binascii.Error, ValueError):
            yield str(key), str(text).encode()
