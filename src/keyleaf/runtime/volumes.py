"""One volume of a manifest to what is filled, shared or left empty here. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from keyleaf.runtime.containers import field_reference
from keyleaf.runtime.specs import TokenProjection, Volume, VolumeFile
from keyleaf.runtime.values import Keyed, NotRunnable, Values, VaultObject
from keyleaf.runtime.yaml_shapes import at, integer, mapping, mappings, text

CSI_DRIVER = "secrets-store.csi.k8s.io"
# Nobody but the owner ever needs them here; a wider mode of the manifest is cut down to these bits.
_ALLOWED = 0o550
_SECRET_MODE = 0o400
_PLAIN_MODE = 0o440


def volume_spec(volume: Mapping[str, Any], namespace: str, values: Values) -> Volume:
    """What ``volume`` becomes here.

    Raises:
        NotRunnable: a kind that a local process cannot have, or one that names something which nothing makes.
    """
    name = text(volume.get("name"))
    if "emptyDir" in volume:
        return Volume(name, "empty")
    if "persistentVolumeClaim" in volume:
        return Volume(name, "persistent", claim=text(at(volume, "persistentVolumeClaim", "claimName")))
    files: list[VolumeFile] = []
    objects: list[VaultObject] = []
    for part in _parts(volume, namespace, values, name):
        if isinstance(part, VolumeFile):
            if PurePosixPath(part.path).is_absolute() or ".." in PurePosixPath(part.path).parts or not part.path:
                raise NotRunnable(f"the volume {name!r} has a file that leaves it: {part.path!r}")
            files.append(part)
        else:
            objects.append(part)
    return Volume(name, "files", tuple(files), tuple(objects), _SECRET_MODE)


def _parts(volume: Mapping[str, Any], namespace: str, values: Values, name: str) -> Iterator[VolumeFile | VaultObject]:
    if "configMap" in volume:
        source = mapping(volume["configMap"])
        found = values.config_map(namespace, text(source.get("name")))
        yield from _keyed(source, found, "ConfigMap", text(source.get("name")), _PLAIN_MODE, name)
    elif "secret" in volume:
        source = mapping(volume["secret"])
        found = values.secret(namespace, text(source.get("secretName")))
        yield from _keyed(source, found, "Secret", text(source.get("secretName")), _SECRET_MODE, name)
    elif "csi" in volume:
        yield from _csi(mapping(volume["csi"]), namespace, values, name)
    elif "downwardAPI" in volume:
        yield from _downward(mapping(volume["downwardAPI"]))
    elif "projected" in volume:
        for source in mappings(at(volume, "projected", "sources")):
            yield from _projected(source, namespace, values, name)
    else:
        kind = next((key for key in volume if key != "name"), "unknown")
        raise NotRunnable(f"the volume {name!r} is of the kind {kind}, which is not to be had here")


def _projected(
    source: Mapping[str, Any], namespace: str, values: Values, name: str
) -> Iterator[VolumeFile | VaultObject]:
    if "serviceAccountToken" in source:
        token = mapping(source["serviceAccountToken"])
        lifetime = max(600, integer(token.get("expirationSeconds"), 3600))
        yield VolumeFile(text(token.get("path")), TokenProjection(text(token.get("audience")), lifetime), _SECRET_MODE)
    elif "configMap" in source:
        part = mapping(source["configMap"])
        found = values.config_map(namespace, text(part.get("name")))
        yield from _keyed(part, found, "ConfigMap", text(part.get("name")), _PLAIN_MODE, name)
    elif "secret" in source:
        part = mapping(source["secret"])
        found = values.secret(namespace, text(part.get("name")))
        yield from _keyed(part, found, "Secret", text(part.get("name")), _SECRET_MODE, name)
    elif "downwardAPI" in source:
        yield from _downward(mapping(source["downwardAPI"]))
    else:
        raise NotRunnable(f"the volume {name!r} projects {next(iter(source), '')!r}, which is not to be had here")


def _csi(source: Mapping[str, Any], namespace: str, values: Values, name: str) -> Iterator[VolumeFile | VaultObject]:
    if source.get("driver") != CSI_DRIVER:
        raise NotRunnable(f"the volume {name!r} needs the CSI driver {text(source.get('driver'))!r}")
    wanted = text(at(source, "volumeAttributes", "secretProviderClass"))
    found = values.provider_class(namespace, wanted)
    yield from _keyed({}, found, "SecretProviderClass", wanted, _SECRET_MODE, name)


def _keyed(
    source: Mapping[str, Any], found: Keyed | None, kind: str, wanted: str, mode: int, name: str
) -> Iterator[VolumeFile | VaultObject]:
    optional = source.get("optional") is True
    if found is None:
        if optional:
            return
        raise NotRunnable(f"the volume {name!r} names the {kind} {wanted!r}, which nothing in its namespace makes")
    if found.reason:
        raise NotRunnable(found.reason)
    mode = _mode(source.get("defaultMode"), mode)
    items = list(mappings(source.get("items")))
    if not items:
        yield from (VolumeFile(key, value, mode) for key, value in found.values.items())
        yield from found.objects
    for item in items:
        value = found.get(text(item.get("key")))
        if value is not None:
            yield VolumeFile(text(item.get("path")), value, _mode(item.get("mode"), mode))
        elif not optional:
            raise NotRunnable(f"the volume {name!r} wants the key {text(item.get('key'))!r} of {kind} {wanted!r}")


def _downward(source: Mapping[str, Any]) -> Iterator[VolumeFile]:
    for item in mappings(source.get("items")):
        path = text(at(item, "fieldRef", "fieldPath"))
        if not path:
            raise NotRunnable("resourceFieldRef has no meaning here: processes have no limits")
        yield VolumeFile(text(item.get("path")), field_reference(path), _PLAIN_MODE)


def _mode(said: Any, otherwise: int) -> int:
    """A mode without write bits and without any for others; YAML may have read ``0400`` as octal already."""
    return (said & _ALLOWED) | 0o400 if isinstance(said, int) and not isinstance(said, bool) else otherwise
