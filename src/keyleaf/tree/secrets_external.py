"""Needs that the External Secrets Operator declares: ExternalSecret and ClusterExternalSecret over azurekv stores.

Every apiVersion in use is read: v1alpha1, v1beta1, v1.
Source: https://external-secrets.io/latest/provider/azure-key-vault/, https://external-secrets.io/latest/api/spec/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from keyleaf.core.finding import Finding, Severity
from keyleaf.tree.model import Delivery, Manifest, SecretNeed, Unknown
from keyleaf.tree.objects import Object, items, mapping, text
from keyleaf.tree.placeholders import known, vault_of_url
from keyleaf.tree.yamlsource import Step

GROUP = "external-secrets.io"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_STORES = ("SecretStore", "ClusterSecretStore")
Pair = tuple[Object, Manifest]
ObjectType = Literal["secret", "key", "cert"]
Auth = Literal["workload-identity", "managed-identity", "service-principal", "unknown"]
_AUTH: Mapping[str, Auth] = {
    "": "service-principal",
    "ServicePrincipal": "service-principal",
    "ManagedIdentity": "managed-identity",
    "WorkloadIdentity": "workload-identity",
}


@dataclass(frozen=True, slots=True)
class Store:
    """A store: ``account`` is (namespace, name) of the service account that it signs in as, if it names one."""

    manifest: Manifest
    azure: bool
    vault: str | Unknown
    auth: Auth
    account: tuple[str, str]
    client_id: str | Unknown


class Stores:
    """The stores of a tree, found from the Application that asks."""

    def __init__(self, pairs: Iterable[Pair], parents: Mapping[str, str]) -> None:
        self._parents = parents
        self._by_name: dict[tuple[str, str], list[Store]] = {}
        for source, manifest in pairs:
            if source.kind in _STORES and source.group == GROUP:
                self._by_name.setdefault((source.kind, manifest.name), []).append(_store(source, manifest))

    def find(self, kind: str, name: str, asking: Manifest) -> Store | str:
        """The store that ``asking`` means, or why there is none: several of one name are told apart by nearness."""
        named = self._by_name.get((kind, name), [])
        if kind == "SecretStore":
            here = [store for store in named if store.manifest.namespace == asking.namespace]
            if named and not here:
                others = ", ".join(sorted({store.manifest.namespace or "no namespace" for store in named}))
                return f"the SecretStore {name!r} exists only in another namespace ({others})"
            named = here
        if not named:
            return f"no manifest of the tree declares the {kind} {name!r}"
        nearest = max(self._nearness(store.manifest, asking) for store in named)
        chosen = [store for store in named if self._nearness(store.manifest, asking) == nearest]
        if len({repr((store.azure, store.vault, store.auth, store.account)) for store in chosen}) > 1:
            return f"several manifests declare the {kind} {name!r}, with different vaults"
        return chosen[0]

    def _nearness(self, store: Manifest, asking: Manifest) -> tuple[int, int]:
        """How much of the way from the root both share, by Application, then by folder."""
        ours, theirs = self._line(asking.application), self._line(store.application)
        shared = sum(1 for one, other in zip(ours, theirs, strict=False) if one == other)
        folders = zip(asking.where.file.split("/")[:-1], store.where.file.split("/")[:-1], strict=False)
        depth = 0
        for one, other in folders:
            if one != other:
                break
            depth += 1
        return (shared + (store.application == asking.application), depth)

    def _line(self, key: str) -> list[str]:
        line: list[str] = []
        while key and key not in line:
            line.append(key)
            key = self._parents.get(key, "")
        return line[::-1]


def _store(source: Object, manifest: Manifest) -> Store:
    provider = mapping(mapping(source.body.get("spec")).get("provider"))
    azure = mapping(provider.get("azurekv"))
    account = mapping(azure.get("serviceAccountRef"))
    name = text(account.get("name"))
    namespace = text(account.get("namespace")) if source.kind == "ClusterSecretStore" else manifest.namespace
    said = known(azure.get("authType"))
    auth: Auth = "unknown" if isinstance(said, Unknown) else _AUTH.get(said, "unknown")
    return Store(
        manifest,
        "azurekv" in provider,
        vault_of_url(azure.get("vaultUrl")),
        auth,
        (namespace, name) if name and auth == "workload-identity" else ("", ""),
        known(azure.get("identityId")),
    )


def external_secret(source: Object, manifest: Manifest, stores: Stores) -> Iterator[SecretNeed | Finding]:
    """The needs of an ExternalSecret."""
    yield from _needs(source, manifest, mapping(source.body.get("spec")), ("spec",), stores, manifest.name)


def cluster_external_secret(source: Object, manifest: Manifest, stores: Stores) -> Iterator[SecretNeed | Finding]:
    """The needs of a ClusterExternalSecret, once per namespace that it names; selectors only the cluster can answer."""
    spec = mapping(source.body.get("spec"))
    inner = mapping(spec.get("externalSecretSpec"))
    name = text(spec.get("externalSecretName")) or manifest.name
    namespaces = [text(item) for item in items(spec.get("namespaces")) if text(item)]
    if not namespaces:
        yield Finding(
            "namespaces-dynamic",
            Severity.NOTE,
            f"{source.kind}/{source.name} chooses its namespaces by labels, which only the cluster knows",
            manifest.application,
            source.at("spec", "namespaceSelectors"),
            "its secrets are still counted as needed by the Application that declares it",
            "name the namespaces in spec.namespaces",
        )
    for namespace in namespaces or [manifest.namespace]:
        there = Manifest(
            manifest.api_version, manifest.kind, manifest.name, namespace, manifest.body, manifest.where,
            manifest.application, manifest.wave,
        )  # fmt: skip
        yield from _needs(source, there, inner, ("spec", "externalSecretSpec"), stores, name)


def push_secret(source: Object, manifest: Manifest) -> Iterator[Finding]:
    """A PushSecret writes to the vault; keyleaf grants reading only, and says so."""
    yield Finding(
        "push-secret-not-granted",
        Severity.NOTE,
        f"{source.kind}/{source.name} writes to its store, and keyleaf grants reading only",
        manifest.application,
        source.where,
        "writing takes the role Key Vault Secrets Officer",
        "grant that role yourself, on the secrets that it writes",
    )


def _needs(
    source: Object, manifest: Manifest, spec: Mapping[str, Any], at: tuple[Step, ...], stores: Stores, own_name: str
) -> Iterator[SecretNeed | Finding]:
    target = mapping(spec.get("target"))
    name = text(target.get("name")) or own_name
    refresh = 0 if text(spec.get("refreshPolicy")) == "CreatedOnce" else duration(spec.get("refreshInterval"))
    told: set[tuple[str, str]] = set()

    def need(
        entry: Mapping[str, Any], ref: Mapping[str, Any], key: str, path: tuple[Step, ...]
    ) -> Iterator[SecretNeed | Finding]:
        own = mapping(mapping(entry.get("sourceRef")).get("storeRef")) or mapping(entry.get("storeRef"))
        where = own or mapping(spec.get("secretStoreRef"))
        kind, store_name = text(where.get("kind")) or "SecretStore", text(where.get("name"))
        found: Store | str = stores.find(kind, store_name, manifest)
        vault: str | Unknown
        if isinstance(found, str):
            if (kind, store_name) not in told:
                told.add((kind, store_name))
                yield _store_problem(source, manifest, kind, found, (*at, "secretStoreRef"))
            vault, auth, account, client = Unknown("remote", store_name, found), "unknown", ("", ""), known("")
        elif not found.azure:
            return
        else:
            vault, auth, account, client = found.vault, found.auth, found.account, found.client_id
        secret, object_type = _remote_key(ref)
        near = account[0] in ("", manifest.namespace)
        yield SecretNeed(
            manifest.application,
            manifest.namespace,
            vault,
            secret,
            Delivery(
                "kubernetes-secret",
                name,
                key,
                text(ref.get("property")),
                "base64" if text(ref.get("decodingStrategy")) in ("Base64", "Base64URL") else "utf-8",
                refresh,
            ),
            f"{source.kind}/{source.name}",
            source.at(*path),
            object_type,
            text(ref.get("version")),
            account[1] if near else "",
            client,
            auth,  # type: ignore[arg-type]
            shared_service_account="" if near else "/".join(account),
        )

    for index, entry in enumerate(items(spec.get("data"))):
        ref = mapping(mapping(entry).get("remoteRef"))
        if "generatorRef" not in mapping(mapping(entry).get("sourceRef")):
            yield from need(
                mapping(entry), ref, text(mapping(entry).get("secretKey")), (*at, "data", index, "remoteRef", "key")
            )
    for index, entry in enumerate(items(spec.get("dataFrom"))):
        body = mapping(entry)
        if "generatorRef" in mapping(body.get("sourceRef")):
            continue
        if "find" in body:
            yield from need(body, {"find": body["find"]}, "", (*at, "dataFrom", index, "find"))
        elif "extract" in body:
            yield from need(body, mapping(body["extract"]), "", (*at, "dataFrom", index, "extract", "key"))
        elif "key" in body:
            yield from need(body, body, "", (*at, "dataFrom", index, "key"))


def _remote_key(ref: Mapping[str, Any]) -> tuple[str | Unknown, ObjectType]:
    if "find" in ref:
        find = mapping(ref["find"])
        said = text(mapping(find.get("name")).get("regexp")) or text(find.get("path")) or "tags"
        return Unknown("dynamic", said, "it is found by a search in the vault, by name or tags"), "secret"
    key = known(ref.get("key"))
    if isinstance(key, Unknown):
        return key, "secret"
    prefix, slash, rest = key.partition("/")
    if slash and prefix in ("secret", "key", "cert"):
        kinds: dict[str, ObjectType] = {"secret": "secret", "key": "key", "cert": "cert"}
        return rest, kinds[prefix]
    return key, "secret"


def _store_problem(source: Object, manifest: Manifest, kind: str, reason: str, path: tuple[Step, ...]) -> Finding:
    message = f"{source.kind}/{source.name}: {reason}"
    where = source.at(*path, "name")
    if "another namespace" in reason:
        fix = "declare the store in the same namespace, or use a ClusterSecretStore"
        cause = "a SecretStore serves its own namespace only"
        return Finding("store-in-other-namespace", Severity.ERROR, message, manifest.application, where, cause, fix)
    if "several" in reason:
        cause = "which one the cluster holds cannot be told from this tree"
        fix = "point keyleaf at the folder of one cluster"
        return Finding("store-ambiguous", Severity.WARNING, message, manifest.application, where, cause, fix)
    cause = "which vault it reads is therefore not known"
    fix = f"commit the {kind} to the tree, or point keyleaf at a folder that holds it"
    return Finding("store-missing", Severity.WARNING, message, manifest.application, where, cause, fix)


def duration(value: Any) -> int | None:
    """Seconds in a Go duration such as ``1h0m0s``; None if it is absent or none."""
    said = text(value).strip()
    if said in ("0", "0s"):
        return 0
    found = _DURATION.findall(said)
    if not found or "".join(number + unit for number, unit in found) != said:
        return None
    return round(min(sum(float(number) * _SECONDS[unit] for number, unit in found), 1e12))
