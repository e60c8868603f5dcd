"""Who creates the Kubernetes Secrets of a tree, and with which keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyleaf.plan.workloads import Workload, mapping, mappings
from keyleaf.tree.model import AppTree, Manifest

CSI_DRIVER = "secrets-store.csi.k8s.io"
_TLS = frozenset({"tls.crt", "tls.key"})
_BY_TYPE: Mapping[str, frozenset[str]] = {
    "kubernetes.io/service-account-token": frozenset({"token", "ca.crt", "namespace"}),
}


@dataclass(frozen=True, slots=True)
class Producer:
    """Something that creates a Secret.

    Attributes:
        by: kind and name, ``ExternalSecret/payments-db``.
        keys: the keys that it will hold; None where only the world can tell.
    """

    by: str
    manifest: Manifest
    keys: frozenset[str] | None


class SecretProducers:
    """The Secrets that the tree's objects create, by namespace and name.

    Rules: Secret, https://kubernetes.io/docs/concepts/configuration/secret/; ExternalSecret targets,
    https://external-secrets.io/latest/api/externalsecret/; ``secretObjects`` of a SecretProviderClass,
    https://secrets-store-csi-driver.sigs.k8s.io/topics/sync-as-kubernetes-secret
    """

    def __init__(self, tree: AppTree, mounted: frozenset[tuple[str, str]]) -> None:
        """``mounted``: (namespace, name) of the SecretProviderClasses that a pod mounts: others sync nothing."""
        self._by_name: dict[tuple[str, str], list[Producer]] = {}
        self._anywhere: dict[str, list[Producer]] = {}
        self._unmounted: dict[tuple[str, str], Manifest] = {}
        for manifest in tree.manifests:
            read = _READERS.get(manifest.kind)
            if read is not None:
                read(self, manifest, mounted)

    def of(self, namespace: str, name: str) -> tuple[Producer, ...]:
        """What creates that Secret; empty if nothing in the tree does."""
        return (*self._by_name.get((namespace, name), ()), *self._anywhere.get(name, ()))

    def unmounted(self, namespace: str, name: str) -> Manifest | None:
        """The SecretProviderClass that would create that Secret if any pod mounted it."""
        return self._unmounted.get((namespace, name))

    def _add(self, manifest: Manifest, name: object, keys: frozenset[str] | None) -> None:
        if isinstance(name, str) and name:
            producer = Producer(f"{manifest.kind}/{manifest.name}", manifest, keys)
            self._by_name.setdefault((manifest.namespace, name), []).append(producer)

    def _secret(self, manifest: Manifest, _: frozenset[tuple[str, str]]) -> None:
        body = manifest.body
        keys = frozenset(map(str, (*mapping(body.get("data")), *mapping(body.get("stringData")))))
        self._add(manifest, manifest.name, keys | _BY_TYPE.get(str(body.get("type", "")), frozenset()))

    def _sealed(self, manifest: Manifest, _: frozenset[tuple[str, str]]) -> None:
        spec = mapping(manifest.body.get("spec"))
        template = mapping(spec.get("template"))
        name = mapping(template.get("metadata")).get("name") or manifest.name
        keys = (*mapping(spec.get("encryptedData")), *mapping(template.get("data")))
        self._add(manifest, name, frozenset(map(str, keys)))

    def _external(self, manifest: Manifest, _: frozenset[tuple[str, str]]) -> None:
        spec = mapping(manifest.body.get("spec"))
        self._add(manifest, mapping(spec.get("target")).get("name") or manifest.name, _external_keys(spec))

    def _cluster_external(self, manifest: Manifest, _: frozenset[tuple[str, str]]) -> None:
        # Its namespaces are chosen by labels that only the cluster knows.
        spec = mapping(mapping(manifest.body.get("spec")).get("externalSecretSpec"))
        name = mapping(spec.get("target")).get("name") or mapping(manifest.body.get("spec")).get("externalSecretName")
        producer = Producer(f"{manifest.kind}/{manifest.name}", manifest, _external_keys(spec))
        self._anywhere.setdefault(str(name or manifest.name), []).append(producer)

    def _provider_class(self, manifest: Manifest, mounted: frozenset[tuple[str, str]]) -> None:
        for item in mappings(mapping(manifest.body.get("spec")).get("secretObjects")):
            name = item.get("secretName")
            if (manifest.namespace, manifest.name) in mounted:
                keys = frozenset(str(entry.get("key")) for entry in mappings(item.get("data")) if entry.get("key"))
                self._add(manifest, name, keys)
            elif isinstance(name, str):
                self._unmounted.setdefault((manifest.namespace, name), manifest)

    def _certificate(self, manifest: Manifest, _: frozenset[tuple[str, str]]) -> None:
        spec = mapping(manifest.body.get("spec"))
        if manifest.api_version.startswith("cert-manager.io/"):
            keys = None if spec.get("keystores") or spec.get("additionalOutputFormats") else _TLS | {"ca.crt"}
            self._add(manifest, spec.get("secretName"), keys)


_READERS = {
    "Secret": SecretProducers._secret,
    "SealedSecret": SecretProducers._sealed,
    "ExternalSecret": SecretProducers._external,
    "ClusterExternalSecret": SecretProducers._cluster_external,
    "SecretProviderClass": SecretProducers._provider_class,
    "Certificate": SecretProducers._certificate,
}


def _external_keys(spec: Mapping[str, object]) -> frozenset[str] | None:
    template = mapping(mapping(spec.get("target")).get("template"))
    fixed = frozenset(map(str, mapping(template.get("data"))))
    if spec.get("dataFrom") or template.get("templateFrom"):
        return None
    written = frozenset(str(entry.get("secretKey")) for entry in mappings(spec.get("data")) if entry.get("secretKey"))
    if not fixed:
        return written
    # With a template only its keys arrive, unless it says that it adds to them.
    return fixed | written if template.get("mergePolicy") == "Merge" else fixed


def mounted_provider_classes(found: tuple[Workload, ...]) -> dict[tuple[str, str], list[Workload]]:
    """The SecretProviderClasses that pods mount, by (namespace, name), with the workloads that do."""
    mounted: dict[tuple[str, str], list[Workload]] = {}
    for workload in found:
        for volume in mappings(workload.spec.get("volumes")):
            csi = mapping(volume.get("csi"))
            name = mapping(csi.get("volumeAttributes")).get("secretProviderClass")
            if csi.get("driver") == CSI_DRIVER and isinstance(name, str):
                mounted.setdefault((workload.manifest.namespace, name), []).append(workload)
    return mounted
