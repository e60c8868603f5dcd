"""``keyleaf.dev/v1alpha1``: SecretAccess, which declares what an app asks Key Vault for, and SecretSeed.

The schemas stand in ``crds/`` beside this module; what they say is checked here, with the line that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keyleaf.core.finding import Finding, Severity
from keyleaf.core.names import SECRET_NAME, SECRET_VERSION, VAULT_NAME
from keyleaf.tree.model import Delivery, Manifest, SecretNeed, SecretSeed, Unknown
from keyleaf.tree.objects import Object, items, mapping
from keyleaf.tree.placeholders import known, vault_of_url
from keyleaf.tree.yamlsource import Step

API_VERSION = "keyleaf.dev/v1alpha1"
_ACCESS = frozenset({"serviceAccountName", "vault", "vaultUrl", "purpose", "secrets"})
_ACCESS_SECRET = frozenset({"name", "version", "purpose"})
_SEED = frozenset({"vault", "secrets"})
_SEED_SECRET = frozenset({"name", "template", "generate", "contentType"})
_LEAST, _MOST = 8, 1024
Made = SecretNeed | SecretSeed | Finding


class _Reader:
    """Checks fields of one object and collects what is wrong with them."""

    def __init__(self, source: Object, application: str) -> None:
        self.source = source
        self.application = application
        self.wrong: list[Finding] = []

    def complain(self, message: str, *path: Step, fix: str) -> None:
        self.wrong.append(
            Finding(
                "keyleaf-resource-invalid",
                Severity.ERROR,
                f"{self.source.kind}/{self.source.name}: {message}",
                self.application,
                self.source.at(*path),
                "what is not understood is not granted",
                fix,
            )
        )

    def fields(self, value: Any, allowed: frozenset[str], *path: Step) -> None:
        for key in mapping(value):
            if key not in allowed:
                self.complain(
                    f"{'.'.join(map(str, path))} has no field {key!r}", *path, key, fix=f"it takes {_listed(allowed)}"
                )

    def string(self, value: Any, *path: Step, required: bool = False) -> str:
        if isinstance(value, str) and (value or not required):
            return value
        if value is None and not required:
            return ""
        what = "is missing" if value is None or value == "" else "must be text"
        self.complain(f"{'.'.join(map(str, path))} {what}", *path, fix="write it, in quotes if it looks like a number")
        return ""

    def name(self, value: Any, *path: Step) -> str | Unknown | None:
        text = self.string(value, *path, required=True)
        if not text:
            return None
        name = known(text)
        if isinstance(name, str) and not SECRET_NAME.match(name):
            self.complain(f"{name!r} is not a secret name", *path, fix="use 1 to 127 letters, digits and hyphens")
            return None
        return name

    def vault(self, spec: Any) -> str | Unknown | None:
        if "vaultUrl" in spec and "vault" in spec:
            self.complain("spec names both vault and vaultUrl", "spec", "vaultUrl", fix="keep one of them")
            return None
        if "vaultUrl" in spec:
            url = self.string(spec["vaultUrl"], "spec", "vaultUrl", required=True)
            return vault_of_url(url) if url else None
        text = self.string(spec.get("vault"), "spec", "vault", required=True)
        name = known(text) if text else None
        if isinstance(name, str) and not VAULT_NAME.match(name):
            self.complain(
                f"{name!r} is not a vault name",
                "spec",
                "vault",
                fix="use 3 to 24 letters, digits and single hyphens, starting with a letter",
            )
            return None
        return name

    def entries(self, spec: Any) -> Iterator[tuple[int, Any]]:
        listed = spec.get("secrets")
        if not isinstance(listed, list) or not listed:
            self.complain("spec.secrets must list at least one secret", "spec", "secrets", fix="list the secrets")
        yield from enumerate(items(listed))


def secret_access(source: Object, manifest: Manifest) -> Iterator[Made]:
    """What a SecretAccess declares: one need per secret, or what is wrong with it, by line."""
    reader = _Reader(source, manifest.application)
    spec = mapping(source.body.get("spec"))
    if not spec:
        reader.complain("spec is missing", fix="write spec with vault, serviceAccountName and secrets")
        yield from reader.wrong
        return
    reader.fields(spec, _ACCESS, "spec")
    vault = reader.vault(spec)
    account = reader.string(spec.get("serviceAccountName"), "spec", "serviceAccountName") or "default"
    purpose = reader.string(spec.get("purpose"), "spec", "purpose")
    for index, entry in reader.entries(spec):
        path: tuple[Step, ...] = ("spec", "secrets", index)
        version = own = ""
        if isinstance(entry, str):
            name = reader.name(entry, *path)
        elif isinstance(entry, dict):
            reader.fields(entry, _ACCESS_SECRET, *path)
            name = reader.name(entry.get("name"), *path, "name")
            version = reader.string(entry.get("version"), *path, "version")
            own = reader.string(entry.get("purpose"), *path, "purpose")
            path = (*path, "name")
            if version and not SECRET_VERSION.match(version):
                reader.complain(
                    f"{version!r} is not a version", *path[:-1], "version", fix="use the 32 hexadecimal digits of one"
                )
                continue
        else:
            reader.complain(f"spec.secrets.{index} is neither a name nor a mapping", *path, fix="write a name")
            continue
        if name is not None and vault is not None:
            yield SecretNeed(
                manifest.application,
                manifest.namespace,
                vault,
                name,
                Delivery("sdk"),
                f"{source.kind}/{source.name}",
                source.at(*path),
                version=version,
                service_account=account,
                purpose=own or purpose,
            )
    yield from reader.wrong


def secret_seed(source: Object, manifest: Manifest) -> Iterator[Made]:
    """What a SecretSeed generates on a laptop: one seed per secret, or what is wrong with it, by line."""
    reader = _Reader(source, manifest.application)
    spec = mapping(source.body.get("spec"))
    reader.fields(spec, _SEED, "spec")
    vault = reader.vault(spec)
    for index, entry in reader.entries(spec):
        path: tuple[Step, ...] = ("spec", "secrets", index)
        if not isinstance(entry, dict):
            entry = {"name": entry}
            name = reader.name(entry["name"], *path)
        else:
            reader.fields(entry, _SEED_SECRET, *path)
            name = reader.name(entry.get("name"), *path, "name")
            path = (*path, "name")
        template = reader.string(entry.get("template"), *path[:3], "template") or "{random}"
        content_type = reader.string(entry.get("contentType"), *path[:3], "contentType")
        size = entry.get("generate", 24)
        if not isinstance(size, int) or isinstance(size, bool) or not _LEAST <= size <= _MOST:
            reader.complain(
                f"generate must be a number of bytes from {_LEAST} to {_MOST}", *path[:3], "generate", fix="write 24"
            )
            continue
        if "{random}" not in template:
            reader.complain(
                "template holds no {random}, so its value would be written in Git",
                *path[:3],
                "template",
                fix="write {random} where the generated part belongs",
            )
            continue
        if isinstance(name, Unknown) or isinstance(vault, Unknown):
            reader.complain("a seed takes plain names only", *path, fix="write the name itself")
        elif name is not None and vault is not None:
            yield SecretSeed(vault, name, source.at(*path), template, size, content_type)
    yield from reader.wrong


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
