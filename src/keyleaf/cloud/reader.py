"""Reads the actual state: a handful of lists, then one more per identity of the tree and per vault that it names."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from keyleaf.cloud.azure import Azure
from keyleaf.core.errors import RemoteError
from keyleaf.plan.model import Actual, SecretState, Vault
from keyleaf.plan.naming import is_ours

WORKERS = 8


def read_actual(azure: Azure, tree: str, vaults: Iterable[str]) -> Actual:
    """What Azure has now.

    Azure has no list of federated credentials across identities, hence a call for each identity of the tree.

    Args:
        tree: id of the tree whose identities are looked into.
        vaults: names of the vaults whose secrets' attributes are wanted; values are never read.

    Raises:
        RemoteError: Azure refused a list, or did not answer. A vault whose secrets cannot be listed is no error: it
            is named in ``unreadable``.
    """
    wanted = {name.lower() for name in vaults}
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="azure") as pool:
        all_vaults = pool.submit(azure.vaults)
        all_identities = pool.submit(azure.identities)
        all_assignments = pool.submit(azure.assignments)
        all_roles = pool.submit(azure.custom_roles)
        found_vaults = tuple(all_vaults.result())
        secrets = {
            vault.name.lower(): pool.submit(_secrets, azure, vault)
            for vault in found_vaults
            if vault.name.lower() in wanted
        }
        identities = tuple(all_identities.result())
        ours = [identity.scope for identity in identities if is_ours(identity.tags, tree)]
        credentials = tuple(found for batch in pool.map(azure.credentials, ours) for found in batch)
        states = {name: future.result() for name, future in secrets.items()}
        return Actual(
            vaults=found_vaults,
            identities=identities,
            credentials=credentials,
            assignments=tuple(all_assignments.result()),
            secrets=tuple(state for found in states.values() if not isinstance(found, str) for state in found),
            roles=tuple(all_roles.result()),
            listed=frozenset(name for name, found in states.items() if not isinstance(found, str)),
            unreadable={name: found for name, found in states.items() if isinstance(found, str)},
        )


def _secrets(azure: Azure, vault: Vault) -> tuple[SecretState, ...] | str:
    try:
        return tuple(azure.secrets(vault))
    except RemoteError as error:
        return error.message
