"""Where children run: local processes, each with an identity of its own."""

from keyleaf.runtime.fetching import Read, VaultFetcher
from keyleaf.runtime.health import Health, PodStatus, WorkloadStatus, worst
from keyleaf.runtime.identity import Endpoints, TokenKeeper, private_directory, write_atomically
from keyleaf.runtime.issuer import AUDIENCE, LIFETIME, ServiceAccountIssuer
from keyleaf.runtime.process import Guard
from keyleaf.runtime.reading import run_spec
from keyleaf.runtime.specs import NotRun, RunSpec, WorkloadSpec
from keyleaf.runtime.supervisor import Changes, Supervisor
from keyleaf.runtime.timing import ManualTimer, SystemTimer, Timer

__all__ = [
    "AUDIENCE",
    "Changes",
    "Endpoints",
    "Guard",
    "Health",
    "LIFETIME",
    "ManualTimer",
    "NotRun",
    "PodStatus",
    "Read",
    "RunSpec",
    "ServiceAccountIssuer",
    "Supervisor",
    "SystemTimer",
    "Timer",
    "TokenKeeper",
    "VaultFetcher",
    "WorkloadSpec",
    "WorkloadStatus",
    "private_directory",
    "run_spec",
    "worst",
    "write_atomically",
]
