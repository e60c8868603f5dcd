"""Needs that a SecretProviderClass of the Secrets Store CSI driver declares, with Azure's provider.

Source: https://azure.github.io/secrets-store-csi-driver-provider-azure/docs/getting-started/usage/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from keyleaf.core.finding import Finding, Severity
from keyleaf.core.location import Location
from keyleaf.tree.identities import Mount
from keyleaf.tree.model import Delivery, Manifest, SecretNeed, Unknown
from keyleaf.tree.objects import Object, flag, items, mapping, text
from keyleaf.tree.placeholders import known
from keyleaf.tree.yamlsource import Document, parse

GROUP = "secrets-store.csi.x-k8s.io"
_ENCODINGS = {"base64": "base64", "hex": "hex"}
Auth = Literal["workload-identity", "managed-identity", "service-principal", "unknown"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of ``objects``: its fields, and where its name stands."""

    body: Mapping[str, Any]
    where: Location


def provider_class(source: Object, manifest: Manifest, mounts: Iterable[Mount]) -> Iterator[SecretNeed | Finding]:
    """The needs of one SecretProviderClass: once per service account whose pods mount it.

    Values that it also copies into Kubernetes Secrets (``secretObjects``) are needs of that form too.
    """
    spec = mapping(source.body.get("spec"))
    if text(spec.get("provider")).lower() != "azure":
        return
    parameters = mapping(spec.get("parameters"))
    vault: str | Unknown = known(parameters.get("keyvaultName"))
    if vault == "":
        vault = Unknown("unresolved", "", "keyvaultName is not given")
    mine = [one for one in mounts if (one.namespace, one.provider_class) == (manifest.namespace, manifest.name)]
    auth, client_id = _auth(parameters, mine)
    accounts = list(dict.fromkeys(one.service_account for one in mine)) if auth == "workload-identity" else []
    copies: dict[str, list[tuple[str, str]]] = {}
    for wanted in items(spec.get("secretObjects")):
        for entry in items(mapping(wanted).get("data")):
            copies.setdefault(text(mapping(entry).get("objectName")), []).append(
                (text(mapping(wanted).get("secretName")), text(mapping(entry).get("key")))
            )
    entries, findings = _entries(source, parameters)
    yield from (replace(finding, owner=manifest.application) for finding in findings)
    for entry in entries:
        name = known(entry.body.get("objectName"))
        if name == "":
            yield _malformed(source, manifest, entry.where, "an entry of objects has no objectName")
            continue
        said = text(entry.body.get("objectType")).lower()
        object_type: Literal["secret", "key", "cert"] = (
            "key" if said == "key" else "cert" if said in ("cert", "certificate") else "secret"
        )
        shown = name.text if isinstance(name, Unknown) else name
        alias = text(entry.body.get("objectAlias")) or shown
        encoding = _ENCODINGS.get(text(entry.body.get("objectEncoding")).lower(), "utf-8")
        deliveries = [Delivery("file", manifest.name, alias, encoding=encoding)]
        deliveries += [
            Delivery("kubernetes-secret", secret, key)
            for known_as in dict.fromkeys((alias, shown))
            for secret, key in copies.get(known_as, ())
        ]
        for account in accounts or [""]:
            for delivery in deliveries:
                yield SecretNeed(
                    manifest.application,
                    manifest.namespace,
                    vault,
                    name,
                    delivery,
                    f"{source.kind}/{source.name}",
                    entry.where,
                    object_type,
                    text(entry.body.get("objectVersion")),
                    account,
                    client_id,
                    auth,
                )


def _auth(parameters: Mapping[str, Any], mounts: list[Mount]) -> tuple[Auth, str | Unknown]:
    client_id = known(parameters.get("clientID"))
    if client_id:
        return "workload-identity", client_id
    if flag(parameters.get("useVMManagedIdentity")):
        return "managed-identity", known(parameters.get("userAssignedIdentityID"))
    if flag(parameters.get("usePodIdentity")):
        return "unknown", ""
    if any(one.publishes_secret for one in mounts):
        return "service-principal", ""
    # No identity is written down: the annotation of the pods' service account names it.
    return "workload-identity", ""


def _entries(source: Object, parameters: Mapping[str, Any]) -> tuple[list[_Entry], list[Finding]]:
    """The entries of ``parameters.objects``: YAML in text, whose list holds YAML in text again."""
    written = parameters.get("objects")
    at = source.at("spec", "parameters", "objects")
    if not isinstance(written, str):
        what = "has no objects" if written is None else "must give objects as text"
        problem = _problem(source, at, what, "write objects: | with an array of entries below")
        return [], [problem]
    if source.document is not None and source.exact:
        documents, findings = source.document.embedded(*source.path, "spec", "parameters", "objects")
    else:
        documents, findings = parse(written.encode(), at.file)
        findings = [replace(finding, where=at) for finding in findings]
    entries: list[_Entry] = []
    problems = [
        _problem(source, finding.where or at, f"has objects that are no YAML ({finding.message})", "mend the text")
        for finding in findings
    ]
    for document in documents:
        value = document.value
        listed, path = (mapping(value).get("array"), ("array",)) if isinstance(value, Mapping) else (value, ())
        if not isinstance(listed, list):
            problems.append(
                _problem(source, document.where, "has objects without an array", "write array: and its entries")
            )
            continue
        for index, item in enumerate(listed):
            if isinstance(item, Mapping):
                entries.append(_Entry(item, _place(source, document, item, (*path, index, "objectName"))))
            elif isinstance(item, str):
                inner, wrong = document.embedded(*path, index)
                for one in inner:
                    if isinstance(one.value, Mapping):
                        entries.append(_Entry(one.value, _place(source, one, one.value, ("objectName",))))
                problems.extend(
                    _problem(source, finding.where or at, "has an entry of objects that is no YAML", "mend the text")
                    for finding in wrong
                )
    return entries, problems


def _place(source: Object, document: Document, item: Mapping[str, Any], path: tuple[str | int, ...]) -> Location:
    if source.document is not None and source.exact:
        return document.locate(*path)
    return source.find(text(item.get("objectName")))


def _malformed(source: Object, manifest: Manifest, where: Location, message: str) -> Finding:
    return replace(_problem(source, where, message, "write objectName"), owner=manifest.application)


def _problem(source: Object, where: Location, message: str, fix: str) -> Finding:
    return Finding(
        "provider-class-invalid",
        Severity.ERROR,
        f"{source.kind}/{source.name} {message}",
        "",
        where,
        "the driver would not mount it",
        fix,
    )
