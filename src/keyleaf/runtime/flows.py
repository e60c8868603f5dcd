"""Where an Orchestration keeps its engine's store, what its worker is told, and what others may know of it.

``<state>/flows/<namespace>.<name>/`` holds ``flows.sqlite`` where no other engine is named, and ``flow.json``, by which
``keyleaf flow`` finds the engine. The store outlives the Orchestration: taking its manifest away loses no instance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from keyleaf.core.errors import StateError
from keyleaf.runtime.expansion import replace_addresses
from keyleaf.runtime.identity import Endpoints, write_atomically
from keyleaf.runtime.specs import WorkloadSpec

FLOWS = "flows"
FLOW_FILE = "flow.json"
STORE = "flows.sqlite"
_VERSION = 1


def flow_directory(state: Path, namespace: str, name: str) -> Path:
    """The directory of one Orchestration. A namespace has no dot in its name, so that no two share one."""
    return state / FLOWS / f"{namespace}.{name}"


def worker_environment(spec: WorkloadSpec, endpoints: Endpoints, state: Path) -> dict[str, str]:
    """The variables of an Orchestration's worker that only this machine knows; empty for any other workload."""
    if spec.flow is None:
        return {}
    told = {
        "KEYLEAF_VAULTS": ",".join(f"{name}={url}" for name, url in sorted(endpoints.vaults.items())),
        "PYTHONUNBUFFERED": "1",
    }
    url = endpoints.vaults.get(spec.flow.vault.lower())
    if url:
        told["AZURE_KEYVAULT_URL"] = url
    if not spec.flow.orchestrator and not spec.flow.orchestrator_secret:
        told["KEYLEAF_ORCHESTRATOR"] = _own_store(spec, state)
    return told


def describe_flows(
    state: Path,
    workloads: Iterable[WorkloadSpec],
    endpoints: Endpoints,
    addresses: Mapping[str, Sequence[tuple[str, str]]],
) -> None:
    """Make the directory and ``flow.json`` (0600) of each Orchestration; those of others are taken away.

    No secret value is in it: whoever acts on the engine reads the secrets that it names with an identity of their own.

    Args:
        addresses: by namespace, pairs for :func:`replace_addresses`.

    Raises:
        StateError: the state directory cannot be written.
    """
    written: set[Path] = set()
    try:
        for spec in workloads:
            if spec.flow is not None:
                directory = flow_directory(state, spec.namespace, spec.name)
                for folder in (directory.parent, directory):
                    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    folder.chmod(0o700)
                file = directory / FLOW_FILE
                text = json.dumps(_described(spec, endpoints, state, addresses.get(spec.namespace, ())), indent=1)
                write_atomically(file, text.encode(), 0o600)
                written.add(file)
        for file in (state / FLOWS).glob(f"*/{FLOW_FILE}"):
            if file not in written:
                file.unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"{state / FLOWS} cannot be written: {error.strerror}", hint="give another --state") from None


def _described(
    spec: WorkloadSpec, endpoints: Endpoints, state: Path, addresses: Sequence[tuple[str, str]]
) -> dict[str, object]:
    flow = spec.flow
    assert flow is not None
    orchestrator = replace_addresses(flow.orchestrator, addresses)
    if not orchestrator and not flow.orchestrator_secret:
        orchestrator = _own_store(spec, state)
    return {
        "version": _VERSION,
        "flow": f"{spec.namespace}/{spec.name}",
        "application": spec.application,
        "owner": flow.owner,
        "serviceAccount": spec.service_account,
        "module": flow.module,
        "path": flow.path,
        "orchestrator": orchestrator,
        "orchestratorSecret": flow.orchestrator_secret,
        "payloadKey": flow.payload_key,
        "vault": flow.vault,
        "vaults": dict(sorted(endpoints.vaults.items())),
    }


def _own_store(spec: WorkloadSpec, state: Path) -> str:
    return f"sqlite:///{flow_directory(state, spec.namespace, spec.name).absolute() / STORE}"
