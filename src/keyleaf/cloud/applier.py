"""Makes a plan true, step by step; killed at any moment, the next plan holds exactly what is still missing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from itertools import groupby

from keyleaf.access import RoleAssignment
from keyleaf.cloud.azure import Azure
from keyleaf.core.errors import RemoteError
from keyleaf.core.scope import Scope
from keyleaf.plan.model import (
    Change,
    Credential,
    DesiredAssignment,
    DesiredCredential,
    DesiredIdentity,
    DesiredVault,
    Identity,
    Plan,
)
from keyleaf.plan.naming import MANAGED_BY, TREE, assignment_description, assignment_id

WORKERS = 8
Progress = Callable[[Change], None]


def apply_plan(azure: Azure, plan: Plan, progress: Progress | None = None) -> dict[str, Identity]:
    """Carry out every change of ``plan``, stage after stage; within a stage identities are worked on side by side.

    Args:
        progress: called after each change, from the threads that work.

    Returns:
        The identities of the tree by name, with their client ids.

    Raises:
        RemoteError: the first change that Azure refused, after those under way have ended. Planning and applying again
            goes on from there.
    """
    return _Applier(azure, plan, progress or (lambda change: None)).run()


class _Applier:
    def __init__(self, azure: Azure, plan: Plan, progress: Progress) -> None:
        self._azure = azure
        self._plan = plan
        self._progress = progress
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._scopes = {identity.name: identity.scope for identity in plan.desired.identities}
        self._identities = {identity.scope.key: identity for identity in azure.identities()}

    def run(self) -> dict[str, Identity]:
        for _, stage in groupby(self._plan.changes, key=lambda change: change.stage):
            self._run_stage(list(stage))
        return {
            name: self._identities[scope.key] for name, scope in self._scopes.items() if scope.key in self._identities
        }

    def _run_stage(self, changes: list[Change]) -> None:
        # One identity's changes wait for one another: Azure refuses concurrent writes to its federated credentials.
        chains: dict[str, list[Change]] = {}
        for change in changes:
            chains.setdefault(change.identity or change.name, []).append(change)
        if len(chains) == 1:
            self._run_chain(changes)
            return
        with ThreadPoolExecutor(min(WORKERS, len(chains)), thread_name_prefix="apply") as pool:
            running = [pool.submit(self._run_chain, chain) for chain in chains.values()]
            wait(running, return_when=FIRST_EXCEPTION)
            if any(future.done() and future.exception() for future in running):
                self._stop.set()
        for future in running:
            future.result()

    def _run_chain(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if self._stop.is_set():
                return
            try:
                self._run_change(change)
            except RemoteError as error:
                message = f"could not {change.action} the {change.kind.label} {change.name}: {error.message}"
                raise RemoteError(message, hint=error.hint or "keyleaf apply goes on from here") from error
            self._progress(change)

    def _run_change(self, change: Change) -> None:
        after, before = change.after, change.before
        if isinstance(after, DesiredVault):
            marks = {MANAGED_BY: "keyleaf", TREE: self._plan.desired.settings.tree}
            self._azure.put_vault(after.scope, after.location, marks)
        elif isinstance(after, DesiredIdentity):
            # A PUT replaces all tags: those that others set have to be sent along.
            others = before.tags if isinstance(before, Identity) else {}
            location = before.location if isinstance(before, Identity) and before.location else after.location
            made = self._azure.put_identity(after.scope, location, {**others, **after.tags})
            with self._lock:
                self._identities[made.scope.key] = made
        elif isinstance(after, DesiredCredential):
            scope = self._scopes[after.identity]
            name = before.name if isinstance(before, Credential) else after.name
            self._azure.put_credential(Credential(scope, name, after.issuer, after.subject, after.audiences))
        elif isinstance(after, DesiredAssignment):
            self._azure.put_assignment(self._assignment(after, before if isinstance(before, RoleAssignment) else None))
        elif isinstance(before, Identity):
            self._azure.delete_identity(before.scope)
        elif isinstance(before, Credential):
            self._azure.delete_credential(before.identity, before.name)
        elif isinstance(before, RoleAssignment):
            self._azure.delete_assignment(before.id)

    def _assignment(self, after: DesiredAssignment, before: RoleAssignment | None) -> RoleAssignment:
        with self._lock:
            identity = self._identities.get(self._scopes[after.identity].key)
        if identity is None:
            raise RemoteError(f"the managed identity {after.identity} is not there", hint="run keyleaf apply again")
        return RoleAssignment(
            before.id if before else assignment_resource_id(after.scope, identity.principal_id, after.role),
            after.scope,
            identity.principal_id,
            after.role,
            after.condition,
            assignment_description(self._plan.desired.settings.tree, after.declared_for or after.application),
        )


def assignment_resource_id(scope: Scope, principal_id: str, role: str) -> str:
    """The ARM id of the role assignment that keyleaf makes for that principal and role at ``scope``."""
    name = assignment_id(scope.key, principal_id, role)
    return f"{scope.path.rstrip('/')}/providers/Microsoft.Authorization/roleAssignments/{name}"
