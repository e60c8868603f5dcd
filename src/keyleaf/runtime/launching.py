"""A container, what its variables stand for, and where it runs: command line and environment. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyleaf.runtime.expansion import expand, replace_addresses, replace_paths
from keyleaf.runtime.process import Launch
from keyleaf.runtime.specs import ContainerSpec, FieldReference, Variable, VariablesOf, WorkloadSpec
from keyleaf.runtime.values import Literal, VaultValue

_MEMBER = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]\Z")
_VARIABLE_NAME = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*\Z")


@dataclass(frozen=True, slots=True)
class Place:
    """Where one pod runs.

    Attributes:
        root: what stands for the container's root directory: mount paths lie below it.
        ports: the port here by the container's port; ``addresses`` pairs for :func:`replace_addresses`.
        base: variables that every process has; ``identity`` those that sign it in and win over the manifest.
    """

    pod: str
    root: Path
    base: Mapping[str, str]
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: Mapping[int, int] = field(default_factory=dict)
    addresses: Sequence[tuple[str, str]] = ()
    vault_url: str = ""


def launch(
    workload: WorkloadSpec,
    container: ContainerSpec,
    place: Place,
    values: Mapping[VaultValue, bytes],
    objects: Mapping[VaultValue, Mapping[str, str]],
) -> Launch:
    """What is executed for ``container``.

    Order as in Kubernetes: ``envFrom``, then ``env``, each seeing what stands before it. Text of the manifest has its
    mount paths, Service addresses and vault addresses replaced by those here; values out of a vault stay untouched.
    """
    paths = {m.path: str(place.root / m.path.lstrip("/")) for m in container.mounts}

    def localized(text: str) -> str:
        return replace_paths(replace_addresses(text, place.addresses), paths)

    said: dict[str, str] = {}
    for variable in container.variables:
        if isinstance(variable, VariablesOf):
            for name, text in objects[variable.source.whole].items():
                if _VARIABLE_NAME.match(f"{variable.prefix}{name}"):
                    said[f"{variable.prefix}{name}"] = text
            continue
        said[variable.name] = _value(variable, workload, place, values, said, localized)
    for name, text in said.items():
        if (name == "PORT" or name.endswith("_PORT")) and text.isdigit() and int(text) in place.ports:
            said[name] = str(place.ports[int(text)])
    environment = {**place.base, "KEYLEAF_MOUNTS": str(place.root)}
    for port in container.ports:
        environment.setdefault("PORT", str(place.ports.get(port.number, port.number)))
        if port.name:
            name = f"PORT_{re.sub(r'[^A-Za-z0-9]', '_', port.name).upper()}"
            environment[name] = str(place.ports.get(port.number, port.number))
    if place.vault_url:
        environment["AZURE_KEYVAULT_URL"] = place.vault_url
    environment.update({name: text for name, text in said.items() if "\0" not in text and "=" not in name and name})
    environment.update(place.identity)
    argv = tuple(localized(expand(argument, environment)) for argument in container.argv)
    return Launch(argv, environment, container.working_directory)


def field_value(path: str, workload: WorkloadSpec, pod: str) -> str:
    """A field of the pod, as the downward API writes it."""
    member = _MEMBER.match(path)
    if member:
        found = workload.labels if member[1] == "labels" else workload.annotations
        return found.get(member[2], "")
    if path in ("metadata.labels", "metadata.annotations"):
        written = workload.labels if path.endswith("labels") else workload.annotations
        return "\n".join(f'{name}="{text}"' for name, text in sorted(written.items()))
    return {
        "metadata.name": pod,
        "metadata.namespace": workload.namespace,
        "metadata.uid": pod_uid(workload, pod),
        "spec.nodeName": "localhost",
        "spec.serviceAccountName": workload.service_account,
    }.get(path, "127.0.0.1")


def pod_uid(workload: WorkloadSpec, pod: str) -> str:
    """A stable uid of a pod."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"pod/{workload.namespace}/{pod}"))


def _value(
    variable: Variable,
    workload: WorkloadSpec,
    place: Place,
    values: Mapping[VaultValue, bytes],
    said: Mapping[str, str],
    localized: Callable[[str], str],
) -> str:
    value = variable.value
    if isinstance(value, FieldReference):
        return field_value(value.path, workload, place.pod)
    if isinstance(value, VaultValue):
        return values[value].decode("utf-8", "surrogateescape")
    if isinstance(value, Literal):
        text = value.content.decode("utf-8", "surrogateescape")
        return text if value.private else localized(text)
    return expand(localized(value), said)
