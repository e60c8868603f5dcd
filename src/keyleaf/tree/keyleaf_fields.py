"""Fields of one ``keyleaf.dev`` object: read with care, and what is wrong with them collected, by line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keyleaf.core.finding import Finding, Severity
from keyleaf.core.names import SECRET_NAME, SECRET_VERSION, VAULT_NAME
from keyleaf.tree.model import Delivery, Manifest, SecretNeed, Unknown
from keyleaf.tree.objects import Object, items, mapping
from keyleaf.tree.placeholders import known, vault_of_url
from keyleaf.tree.yamlsource import Step

_NEEDED_SECRET = frozenset({"name", "version", "purpose"})


class FieldReader:
    """Checks fields of one object and collects what is wrong with them in ``wrong``.

    Args:
        consequence: what follows from anything that is wrong, for a person.
    """

    def __init__(
        self, source: Object, application: str, consequence: str = "what is not understood is not granted"
    ) -> None:
        self.source = source
        self.application = application
        self.consequence = consequence
        self.wrong: list[Finding] = []

    def complain(self, message: str, *path: Step, fix: str) -> None:
        """Add a finding at ``path``, or as near to it as can be told."""
        self.wrong.append(
            Finding(
                "keyleaf-resource-invalid",
                Severity.ERROR,
                f"{self.source.kind}/{self.source.name}: {message}",
                self.application,
                self.source.at(*path),
                self.consequence,
                fix,
            )
        )

    def fields(self, value: Any, allowed: frozenset[str], *path: Step) -> None:
        """Complain about every key of ``value`` that is not ``allowed``."""
        for key in mapping(value):
            if key not in allowed:
                self.complain(
                    f"{'.'.join(map(str, path))} has no field {key!r}", *path, key, fix=f"it takes {_listed(allowed)}"
                )

    def string(self, value: Any, *path: Step, required: bool = False) -> str:
        """``value`` if it is text; empty otherwise."""
        if isinstance(value, str) and (value or not required):
            return value
        if value is None and not required:
            return ""
        what = "is missing" if value is None or value == "" else "must be text"
        self.complain(f"{'.'.join(map(str, path))} {what}", *path, fix="write it, in quotes if it looks like a number")
        return ""

    def name(self, value: Any, *path: Step) -> str | Unknown | None:
        """The name of a secret; None if it is none."""
        text = self.string(value, *path, required=True)
        if not text:
            return None
        name = known(text)
        if isinstance(name, str) and not SECRET_NAME.match(name):
            self.complain(f"{name!r} is not a secret name", *path, fix="use 1 to 127 letters, digits and hyphens")
            return None
        return name

    def vault(self, spec: Any) -> str | Unknown | None:
        """The name of the vault that ``vault`` or ``vaultUrl`` says; None if neither does."""
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

    def entries(self, spec: Any, *, required: bool = True) -> Iterator[tuple[int, Any]]:
        """The entries of ``secrets``, with their places."""
        listed = spec.get("secrets")
        if listed is None and not required:
            return
        if not isinstance(listed, list) or (required and not listed):
            wanted = "must list at least one secret" if required else "must be a list"
            self.complain(f"spec.secrets {wanted}", "spec", "secrets", fix="list the secrets")
        yield from enumerate(items(listed))

    def needs(
        self,
        spec: Any,
        manifest: Manifest,
        vault: str | Unknown | None,
        account: str,
        purpose: str,
        *,
        required: bool = True,
    ) -> Iterator[SecretNeed]:
        """One need for each entry of ``secrets``, which the app reads itself; what is wrong with the others."""
        for index, entry in self.entries(spec, required=required):
            path: tuple[Step, ...] = ("spec", "secrets", index)
            version = own = ""
            if isinstance(entry, str):
                name = self.name(entry, *path)
            elif isinstance(entry, dict):
                self.fields(entry, _NEEDED_SECRET, *path)
                name = self.name(entry.get("name"), *path, "name")
                version = self.string(entry.get("version"), *path, "version")
                own = self.string(entry.get("purpose"), *path, "purpose")
                path = (*path, "name")
                if version and not SECRET_VERSION.match(version):
                    self.complain(
                        f"{version!r} is not a version",
                        *path[:-1],
                        "version",
                        fix="use the 32 hexadecimal digits of one",
                    )
                    continue
            else:
                self.complain(f"spec.secrets.{index} is neither a name nor a mapping", *path, fix="write a name")
                continue
            if name is not None and vault is not None:
                yield self.need(manifest, vault, name, account, own or purpose, *path, version=version)

    def account(self, spec: Any) -> str:
        """The service account that asks; ``default`` if none is said."""
        return self.string(spec.get("serviceAccountName"), "spec", "serviceAccountName") or "default"

    def need(
        self,
        manifest: Manifest,
        vault: str | Unknown,
        name: str | Unknown,
        account: str,
        purpose: str,
        *path: Step,
        version: str = "",
    ) -> SecretNeed:
        """A need of something that asks the vault itself, declared at ``path``."""
        return SecretNeed(
            manifest.application,
            manifest.namespace,
            vault,
            name,
            Delivery("sdk"),
            f"{self.source.kind}/{self.source.name}",
            self.source.at(*path),
            version=version,
            service_account=account,
            purpose=purpose,
        )


def _listed(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
