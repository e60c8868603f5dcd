"""Everything in a tree's objects that says which secret is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keyleaf.core.finding import Finding
from keyleaf.tree.identities import mounts
from keyleaf.tree.model import Manifest, Orchestration, SecretNeed, SecretSeed
from keyleaf.tree.objects import Object
from keyleaf.tree.orchestrations import orchestration
from keyleaf.tree.repository import Repository
from keyleaf.tree.secrets_csi import GROUP as CSI_GROUP
from keyleaf.tree.secrets_csi import provider_class
from keyleaf.tree.secrets_external import (
    GROUP as EXTERNAL_GROUP,
)
from keyleaf.tree.secrets_external import (
    Stores,
    cluster_external_secret,
    external_secret,
    push_secret,
)
from keyleaf.tree.secrets_keyleaf import API_VERSION, secret_access, secret_seed

Pair = tuple[Object, Manifest]


@dataclass(frozen=True, slots=True)
class Found:
    """What the objects of a tree say about secrets, in their order."""

    needs: tuple[SecretNeed, ...]
    seeds: tuple[SecretSeed, ...]
    orchestrations: tuple[Orchestration, ...]
    findings: tuple[Finding, ...]


def find_needs(pairs: Sequence[Pair], parents: Mapping[str, str], repository: Repository) -> Found:
    """Look through all objects.

    Args:
        parents: maps Applications to what renders them.
        repository: holds the folders that Orchestrations name.
    """
    stores = Stores(pairs, parents)
    mounted = tuple(mounts(pairs))
    made: list[SecretNeed | SecretSeed | Orchestration | Finding] = []
    for source, manifest in pairs:
        if source.api_version == API_VERSION and source.kind == "SecretAccess":
            made.extend(secret_access(source, manifest))
        elif source.api_version == API_VERSION and source.kind == "SecretSeed":
            made.extend(secret_seed(source, manifest))
        elif source.api_version == API_VERSION and source.kind == "Orchestration":
            made.extend(orchestration(source, manifest, repository))
        elif source.group == CSI_GROUP and source.kind == "SecretProviderClass":
            made.extend(provider_class(source, manifest, mounted))
        elif source.group == EXTERNAL_GROUP:
            if source.kind == "ExternalSecret":
                made.extend(external_secret(source, manifest, stores))
            elif source.kind == "ClusterExternalSecret":
                made.extend(cluster_external_secret(source, manifest, stores))
            elif source.kind in ("PushSecret", "ClusterPushSecret"):
                made.extend(push_secret(source, manifest))
    return Found(
        tuple(dict.fromkeys(one for one in made if isinstance(one, SecretNeed))),
        tuple(dict.fromkeys(one for one in made if isinstance(one, SecretSeed))),
        tuple(one for one in made if isinstance(one, Orchestration)),
        tuple(one for one in made if isinstance(one, Finding)),
    )
