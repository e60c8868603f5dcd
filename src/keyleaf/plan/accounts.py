"""Kubernetes service accounts: which of them sign in to Azure, and as whose identity."""

from __future__ import annotations

from collections.abc import Mapping

from keyleaf.core.location import Location
from keyleaf.plan.model import Desired
from keyleaf.plan.workloads import workloads
from keyleaf.tree.model import AppTree, SecretNeed

ServiceAccountName = tuple[str, str]
"""Namespace and name."""


class ServiceAccountOwners:
    """Whose identity a service account carries: one account, one identity, as its one annotation has it.

    It is that of the Application that declares the account, else of the first that uses it.
    """

    def __init__(self, tree: AppTree) -> None:
        self._declared: dict[ServiceAccountName, list[str]] = {}
        self._users: dict[ServiceAccountName, str] = {}
        self._pods: dict[tuple[str, str], dict[str, None]] = {}
        for account in tree.service_accounts:
            name = (account.namespace, account.name)
            if account.application in tree.applications and not account.implicit:
                self._declared.setdefault(name, []).append(account.application)
            elif account.application in tree.applications:
                self._users.setdefault(name, account.application)
        for workload in workloads(tree):
            manifest = workload.manifest
            pods = self._pods.setdefault((manifest.application, manifest.namespace), {})
            pods.setdefault(workload.service_account)
        for need in tree.needs:
            for name in self.accounts(need):
                self._users.setdefault(name, need.application)

    def owner(self, namespace: str, service_account: str, application: str) -> str:
        """Key of the Application whose identity ``application`` uses through that service account."""
        name = (namespace, service_account)
        declared = self._declared.get(name, [])
        if declared:
            return application if application in declared else declared[0]
        return self._users.get(name, application)

    def accounts(self, need: SecretNeed) -> list[ServiceAccountName]:
        """The service accounts that ask: the one that ``need`` names, else those of its Application's pods there."""
        if need.service_account:
            return [(need.namespace, need.service_account)]
        return [(need.namespace, name) for name in self._pods.get((need.application, need.namespace), {})]

    def owner_of(self, need: SecretNeed) -> str:
        """Key of the Application whose identity reads what ``need`` declares."""
        accounts = self.accounts(need)
        return self.owner(*accounts[0], need.application) if accounts else need.application


def identities_of_accounts(desired: Desired) -> dict[ServiceAccountName, str]:
    """Name of the identity that each (namespace, service account) signs in as."""
    found: dict[ServiceAccountName, str] = {}
    for credential in desired.credentials:
        _, _, namespace, name = credential.subject.split(":", 3)
        found.setdefault((namespace, name), credential.identity)
    return found


def accounts_that_sign_in(
    tree: AppTree, owners: ServiceAccountOwners
) -> Mapping[tuple[str, ServiceAccountName], Location]:
    """Service accounts that sign in to Azure although no need names them: annotated ones, and those of pods."""
    found: dict[tuple[str, ServiceAccountName], Location] = {}
    for account in tree.service_accounts:
        if account.client_id:
            found.setdefault((account.application, (account.namespace, account.name)), account.where)
    for workload in workloads(tree):
        manifest = workload.manifest
        if workload.service_account != "default" or workload.uses_workload_identity:
            owner = owners.owner(manifest.namespace, workload.service_account, manifest.application)
            found.setdefault((owner, (manifest.namespace, workload.service_account)), manifest.where)
    return found
