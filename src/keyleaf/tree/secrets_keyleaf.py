"""``keyleaf.dev/v1alpha1``: SecretAccess, which declares what an app asks Key Vault for, and SecretSeed.

Orchestration, of the same group, is read in :mod:`keyleaf.tree.orchestrations`.

The schemas stand in ``crds/`` beside this module; what they say is checked here, with the line that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator

from keyleaf.core.finding import Finding
from keyleaf.tree.keyleaf_fields import FieldReader
from keyleaf.tree.model import Manifest, SecretNeed, SecretSeed, Unknown
from keyleaf.tree.objects import Object, mapping
from keyleaf.tree.yamlsource import Step

API_VERSION = "keyleaf.dev/v1alpha1"
_ACCESS = frozenset({"serviceAccountName", "vault", "vaultUrl", "purpose", "secrets"})
_SEED = frozenset({"vault", "secrets"})
_SEED_SECRET = frozenset({"name", "template", "generate", "contentType"})
_LEAST, _MOST = 8, 1024
Made = SecretNeed | SecretSeed | Finding


def secret_access(source: Object, manifest: Manifest) -> Iterator[Made]:
    """What a SecretAccess declares: one need per secret, or what is wrong with it, by line."""
    reader = FieldReader(source, manifest.application)
    spec = mapping(source.body.get("spec"))
    if not spec:
        reader.complain("spec is missing", fix="write spec with vault, serviceAccountName and secrets")
        yield from reader.wrong
        return
    reader.fields(spec, _ACCESS, "spec")
    purpose = reader.string(spec.get("purpose"), "spec", "purpose")
    yield from reader.needs(spec, manifest, reader.vault(spec), reader.account(spec), purpose)
    yield from reader.wrong


def secret_seed(source: Object, manifest: Manifest) -> Iterator[Made]:
    """What a SecretSeed generates on a laptop: one seed per secret, or what is wrong with it, by line."""
    reader = FieldReader(source, manifest.application)
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
