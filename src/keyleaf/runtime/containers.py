"""One container of a manifest to one process. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from keyleaf.runtime.expansion import references
from keyleaf.runtime.specs import ContainerSpec, FieldReference, Mount, Port, Probe, Variable, VariablesOf
from keyleaf.runtime.values import Keyed, Literal, NotRunnable, Values, VaultValue
from keyleaf.runtime.yaml_shapes import at, integer, mapping, mappings, strings, text

FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "metadata.labels",
    "metadata.annotations",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)


def container_spec(
    container: Mapping[str, Any], namespace: str, values: Values, directory: str, volumes: set[str]
) -> ContainerSpec:
    """The process that ``container`` becomes.

    Args:
        directory: stands for the image's working directory; a relative ``workingDir`` is below it.
        volumes: names of the pod's volumes.

    Raises:
        NotRunnable: it gives no command, or asks for something that a local process cannot have.
    """
    name = text(container.get("name"))
    command = strings(container.get("command"))
    if not command:
        raise NotRunnable(f"container {name!r} gives no command, and images are not run here")
    variables = tuple(_variables(container, namespace, values))
    argv = (*command, *strings(container.get("args")))
    _no_secret_in(argv, variables, name)
    said = text(container.get("workingDir"))
    # An absolute path is one of the image, which is not here.
    inside = directory if not said or PurePosixPath(said).is_absolute() else str(PurePosixPath(directory) / said)
    return ContainerSpec(
        name,
        argv,
        inside,
        variables,
        tuple(_mounts(container, name, volumes)),
        tuple(
            Port(integer(port.get("containerPort"), 0), text(port.get("name")))
            for port in mappings(container.get("ports"))
            if port.get("protocol", "TCP") == "TCP" and integer(port.get("containerPort"), 0)
        ),
        probe(container.get("livenessProbe")),
        probe(container.get("readinessProbe")),
        probe(container.get("startupProbe")),
    )


def probe(value: Any) -> Probe | None:
    """A probe as written, with Kubernetes' defaults; None for none.

    Raises:
        NotRunnable: a kind that is not known here (gRPC).
    """
    written = mapping(value)
    if not written:
        return None
    times: dict[str, Any] = {
        "initial_delay": integer(written.get("initialDelaySeconds"), 0),
        "period": max(1, integer(written.get("periodSeconds"), 10)),
        "timeout": max(1, integer(written.get("timeoutSeconds"), 1)),
        "success_threshold": max(1, integer(written.get("successThreshold"), 1)),
        "failure_threshold": max(1, integer(written.get("failureThreshold"), 3)),
    }
    if "exec" in written:
        return Probe("exec", command=strings(at(written, "exec", "command")), **times)
    if "httpGet" in written:
        asked = mapping(written.get("httpGet"))
        headers = tuple((text(h.get("name")), text(h.get("value"))) for h in mappings(asked.get("httpHeaders")))
        return Probe(
            "http",
            port=_port(asked.get("port")),
            path=text(asked.get("path")) or "/",
            scheme=(text(asked.get("scheme")) or "http").lower(),
            headers=headers,
            **times,
        )
    if "tcpSocket" in written:
        return Probe("tcp", port=_port(at(written, "tcpSocket", "port")), **times)
    raise NotRunnable(f"a probe of the kind {next(iter(written), '')!r} is not known here")


def field_reference(path: str) -> FieldReference:
    """The downward API's field; NotRunnable for one that a local process does not have."""
    base = path.split("[", 1)[0]
    if base not in FIELDS:
        raise NotRunnable(f"the field {path!r} is not known here")
    return FieldReference(path)


def _variables(container: Mapping[str, Any], namespace: str, values: Values) -> Iterator[Variable | VariablesOf]:
    for source in mappings(container.get("envFrom")):
        prefix = text(source.get("prefix"))
        for kind, find in (("configMapRef", values.config_map), ("secretRef", values.secret)):
            reference = mapping(source.get(kind))
            if not reference:
                continue
            found = _found(find(namespace, text(reference.get("name"))), kind, reference, namespace)
            if found is not None:
                if found.reason:
                    raise NotRunnable(found.reason)
                yield from (Variable(f"{prefix}{key}", value) for key, value in found.values.items())
                yield from (VariablesOf(prefix, whole) for whole in found.objects)
    for written in mappings(container.get("env")):
        name = text(written.get("name"))
        source = mapping(written.get("valueFrom"))
        if not source:
            yield Variable(name, text(written.get("value")))
        elif "fieldRef" in source:
            yield Variable(name, field_reference(text(at(source, "fieldRef", "fieldPath"))))
        elif "configMapKeyRef" in source or "secretKeyRef" in source:
            kind = "configMapKeyRef" if "configMapKeyRef" in source else "secretKeyRef"
            reference = mapping(source[kind])
            find = values.config_map if kind == "configMapKeyRef" else values.secret
            found = _found(find(namespace, text(reference.get("name"))), kind, reference, namespace)
            value = found.get(text(reference.get("key"))) if found is not None else None
            if value is not None:
                yield Variable(name, value)
            elif reference.get("optional") is not True:
                raise NotRunnable(
                    f"{kind} of {name} names the key {text(reference.get('key'))!r} of "
                    f"{text(reference.get('name'))!r}, which nothing in the tree makes"
                )
        else:
            raise NotRunnable(f"the variable {name} takes its value from {next(iter(source))!r}, not known here")


def _found(found: Keyed | None, kind: str, reference: Mapping[str, Any], namespace: str) -> Keyed | None:
    if found is None and reference.get("optional") is not True:
        raise NotRunnable(f"{kind} names {text(reference.get('name'))!r}, which nothing makes in {namespace!r}")
    return found


def _no_secret_in(argv: tuple[str, ...], variables: tuple[Variable | VariablesOf, ...], name: str) -> None:
    """Refuse what would put a secret on the command line, where every process of the machine can read it."""
    private: set[str] = set()
    for variable in variables:
        if isinstance(variable, VariablesOf):
            continue
        value = variable.value
        from_secret = isinstance(value, VaultValue) or (isinstance(value, Literal) and value.private)
        if from_secret or (isinstance(value, str) and references(value) & private):
            private.add(variable.name)
        else:
            private.discard(variable.name)
    objects = [v.prefix for v in variables if isinstance(v, VariablesOf)]
    for argument in argv:
        for reference in sorted(references(argument)):
            known = any(isinstance(v, Variable) and v.name == reference for v in variables)
            if reference in private or (not known and any(reference.startswith(prefix) for prefix in objects)):
                raise NotRunnable(
                    f"container {name!r} puts $({reference}), a secret, on its command line, where every process "
                    "can read it: read the variable inside the program"
                )


def _mounts(container: Mapping[str, Any], name: str, volumes: set[str]) -> Iterator[Mount]:
    for mount in mappings(container.get("volumeMounts")):
        volume = text(mount.get("name"))
        path = PurePosixPath(text(mount.get("mountPath")))
        inside = PurePosixPath(text(mount.get("subPath")))
        if volume not in volumes:
            raise NotRunnable(f"container {name!r} mounts {volume!r}, which is no volume of its pod")
        if not path.is_absolute() or ".." in path.parts or ".." in inside.parts or inside.is_absolute():
            raise NotRunnable(f"container {name!r} mounts {volume!r} at {path}, which is not a path to mount at")
        yield Mount(volume, str(path), "" if str(inside) == "." else str(inside))


def _port(value: Any) -> int | str:
    return value if isinstance(value, int) else text(value)
