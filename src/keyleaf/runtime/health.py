"""Health in Argo CD's words. Pure.

Source: https://argo-cd.readthedocs.io/en/stable/operator-manual/health/
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from keyleaf.runtime.specs import WorkloadSpec


class Health(StrEnum):
    """From best to worst, in the order in which Argo CD lets the worst one count."""

    HEALTHY = "Healthy"
    SUSPENDED = "Suspended"
    PROGRESSING = "Progressing"
    MISSING = "Missing"
    DEGRADED = "Degraded"


@dataclass(slots=True)
class ContainerStatus:
    """What one process is doing; ``reason`` in kubelet's words where it has one."""

    name: str
    state: Literal["waiting", "running", "completed", "failed"] = "waiting"
    ready: bool = False
    restarts: int = 0
    reason: str = "ContainerCreating"
    message: str = ""
    pid: int = 0
    exit_code: int | None = None
    started: float = 0.0


@dataclass(slots=True)
class PodStatus:
    """What one replica is doing. ``ports`` here by the container's port."""

    name: str
    phase: Literal["pending", "running", "succeeded", "failed"] = "pending"
    reason: str = ""
    containers: dict[str, ContainerStatus] = field(default_factory=dict)
    ports: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorkloadStatus:
    """One workload and its pods. ``next_run`` of a CronJob in seconds since 1970 UTC, 0 for none."""

    spec: WorkloadSpec
    health: Health
    message: str
    pods: tuple[PodStatus, ...]
    next_run: float = 0.0

    @property
    def restarts(self) -> int:
        """How often its processes were started again."""
        return sum(container.restarts for pod in self.pods for container in pod.containers.values())


def pod_health(pod: PodStatus) -> tuple[Health, str]:
    """Health of one pod, with the reason where it is not healthy."""
    if pod.phase == "succeeded":
        return Health.HEALTHY, ""
    if pod.phase == "failed":
        return Health.DEGRADED, pod.reason
    for container in pod.containers.values():
        if container.reason in ("CrashLoopBackOff", "CreateContainerConfigError", "RunContainerError"):
            detail = f": {container.message}" if container.message else ""
            return Health.DEGRADED, f"{container.name}: {container.reason}{detail}"
    if pod.phase == "running" and all(c.ready for c in pod.containers.values()):
        return Health.HEALTHY, ""
    if pod.phase == "pending" and pod.reason:
        return Health.DEGRADED, pod.reason
    waiting = [c.name for c in pod.containers.values() if not c.ready]
    return Health.PROGRESSING, f"waiting for {', '.join(waiting)}" if waiting else "starting"


def workload_health(spec: WorkloadSpec, pods: Iterable[PodStatus]) -> tuple[Health, str]:
    """Health of a workload out of that of its pods."""
    pods = tuple(pods)
    if spec.suspended:
        return Health.SUSPENDED, "suspended in Git"
    if spec.kind == "CronJob":
        failed = [pod for pod in pods if pod.phase == "failed"]
        return (Health.DEGRADED, failed[-1].reason) if failed and pods[-1] is failed[-1] else (Health.HEALTHY, "")
    if len(pods) < spec.replicas:
        return Health.PROGRESSING, "not started yet"
    if spec.kind == "Job" and any(pod.phase == "running" for pod in pods):
        return Health.PROGRESSING, "not completed yet"
    return worst(pod_health(pod) for pod in pods)


def worst(found: Iterable[tuple[Health, str]]) -> tuple[Health, str]:
    """The worst health, with its reason; Healthy for none."""
    order = list(Health)
    return max(found, key=lambda one: order.index(one[0]), default=(Health.HEALTHY, ""))
