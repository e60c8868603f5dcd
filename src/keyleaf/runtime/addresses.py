"""Cluster and vault addresses, and what they are on this machine. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import urlsplit

from keyleaf.runtime.specs import RunSpec, Service, WorkloadSpec

PUBLIC_VAULT_DOMAIN = "vault.azure.net"
Ports = Mapping[tuple[str, int], int]
"""The port here of a workload's first replica, by (workload key, container port)."""


def service_addresses(spec: RunSpec, ports: Ports, namespace: str) -> list[tuple[str, str]]:
    """Names of Services as a pod in ``namespace`` may write them, with a port, and the address here.

    A Service whose pods do not run here keeps its name.
    Names: https://kubernetes.io/docs/concepts/services-networking/dns-pod-service/
    """
    found: list[tuple[str, str]] = []
    for service in spec.services:
        for port, target in service.ports:
            here = _here(service, target, spec.workloads, ports)
            if here is None:
                continue
            for host in _hosts(service, namespace):
                found.append((f"{host}:{port}", f"127.0.0.1:{here}"))
                if port == 80 and "." in host:
                    found.append((host, f"127.0.0.1:{here}"))
    return found


def vault_addresses(vaults: Mapping[str, str]) -> list[tuple[str, str]]:
    """Public names of vaults, and their authorities here."""
    return [(f"{name}.{PUBLIC_VAULT_DOMAIN}", urlsplit(url).netloc) for name, url in vaults.items()]


def _hosts(service: Service, namespace: str) -> Iterator[str]:
    full = f"{service.name}.{service.namespace}"
    yield from (full, f"{full}.svc", f"{full}.svc.cluster.local")
    if service.namespace == namespace:
        yield service.name


def _here(service: Service, target: int | str, workloads: Iterable[WorkloadSpec], ports: Ports) -> int | None:
    for workload in workloads:
        matches = service.selector.items() <= dict(workload.labels).items()
        if workload.namespace != service.namespace or not matches:
            continue
        for container in workload.containers:
            for port in container.ports:
                if target in (port.number, port.name) and (workload.key, port.number) in ports:
                    return ports[workload.key, port.number]
    return None
