"""``keyleaf.dev/v1alpha1 Orchestration``: durable orchestrations of one module, as one more child of an Application.

The schema stands in ``crds/orchestration.yaml``; what it says is checked here, with the line that is wrong.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from keyleaf.core.finding import Finding
from keyleaf.tree.files import below
from keyleaf.tree.keyleaf_fields import FieldReader
from keyleaf.tree.model import Manifest, Orchestration, SecretNeed, Unknown
from keyleaf.tree.objects import Object, mapping
from keyleaf.tree.placeholders import known
from keyleaf.tree.repository import Repository
from keyleaf.tree.yamlsource import Step

PAYLOAD_KEY_PURPOSE = "encrypts the orchestration's payloads"
ORCHESTRATOR_PURPOSE = "address of the orchestration's engine"
SET_BY_KEYLEAF = frozenset(
    {
        "KEYLEAF_APPLICATION", "KEYLEAF_FLOW", "KEYLEAF_HEALTH_PORT", "KEYLEAF_MOUNTS", "KEYLEAF_ORCHESTRATOR",
        "KEYLEAF_OWNER", "KEYLEAF_PAYLOAD_KEY", "KEYLEAF_SUPERVISOR", "KEYLEAF_VAULTS",
    }
)  # fmt: skip
"""Environment variables that a worker is given, besides those that begin with ``AZURE_``."""

_FIELDS = frozenset(
    {
        "module", "path", "image", "serviceAccountName", "vault", "vaultUrl", "secrets", "payloadKey", "orchestrator",
        "orchestratorSecret", "replicas", "purpose", "owner", "env",
    }
)  # fmt: skip
_VARIABLE = frozenset({"name", "value"})
_MOST_REPLICAS = 100
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*\Z", re.ASCII)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?\Z")
_OBJECT_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*\Z")
_ALONE = ("sqlite",)
_SHARED = ("postgresql", "postgres", "durabletask")
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_PASSWORDS = frozenset({"password", "sslpassword", "pwd", "accesskey"})
_IN_A_SECRET = "put the whole URL into a secret of the vault, and name that: orchestratorSecret: <name of the secret>"  # noqa: S105
Made = Orchestration | SecretNeed | Finding


def orchestration(source: Object, manifest: Manifest, repository: Repository) -> Iterator[Made]:
    """What an Orchestration declares: its needs, and itself if nothing is wrong with it.

    Args:
        repository: the repository that the tree is read from; ``path`` has to lie in it.
    """
    reader = FieldReader(source, manifest.application, "what is not understood is not granted, and does not run")
    spec = mapping(source.body.get("spec"))
    if not spec:
        reader.complain("spec is missing", fix="write spec with module, vault, payloadKey and secrets")
        yield from reader.wrong
        return
    reader.fields(spec, _FIELDS, "spec")
    _check_name(reader, manifest)
    vault = reader.vault(spec)
    account = reader.account(spec)
    purpose = reader.string(spec.get("purpose"), "spec", "purpose")
    yield from reader.needs(spec, manifest, vault, account, purpose, required=False)
    payload_key = reader.name(spec.get("payloadKey"), "spec", "payloadKey")
    from_secret = reader.name(spec["orchestratorSecret"], "spec", "orchestratorSecret") if _said(spec) else ""
    if vault is not None:
        if payload_key is not None:
            yield reader.need(manifest, vault, payload_key, account, PAYLOAD_KEY_PURPOSE, "spec", "payloadKey")
        if from_secret:
            yield reader.need(manifest, vault, from_secret, account, ORCHESTRATOR_PURPOSE, "spec", "orchestratorSecret")
    module = _module(reader, spec)
    path = _path(reader, spec, repository)
    reader.string(spec.get("image"), "spec", "image")
    orchestrator = _orchestrator(reader, spec)
    replicas = _replicas(reader, spec, orchestrator)
    owner = reader.string(spec.get("owner"), "spec", "owner")
    variables = tuple(_variables(reader, spec))
    if not reader.wrong and vault is not None and payload_key is not None and from_secret is not None:
        yield Orchestration(
            manifest.name,
            manifest.namespace,
            manifest.application,
            manifest.where,
            module,
            account,
            vault,
            payload_key,
            path,
            orchestrator,
            from_secret,
            replicas,
            purpose,
            owner,
            variables,
        )
    yield from reader.wrong


def _said(spec: Any) -> bool:
    return spec.get("orchestratorSecret") is not None


def _check_name(reader: FieldReader, manifest: Manifest) -> None:
    """Its namespace and name become those of a folder, with a dot between them."""
    if not _OBJECT_NAME.match(manifest.name):
        reader.complain(
            "metadata.name is not a name that Kubernetes takes",
            "metadata",
            "name",
            fix="use lower-case letters, digits, hyphens and dots",
        )
    if manifest.application and not _NAMESPACE.match(manifest.namespace):
        wrong = "is not one that Kubernetes takes" if manifest.namespace else "is said nowhere"
        reader.complain(
            f"its namespace {wrong}",
            "metadata",
            "namespace",
            fix="write metadata.namespace, or destination.namespace of the Application, in lower-case letters",
        )


def _module(reader: FieldReader, spec: Any) -> str:
    module = reader.string(spec.get("module"), "spec", "module", required=True)
    if module and not _MODULE.match(module):
        reader.complain(
            f"{module!r} is not the name of a Python module",
            "spec",
            "module",
            fix="write it as in an import statement, without .py: fulfilment, or shop.fulfilment",
        )
    return module


def _path(reader: FieldReader, spec: Any, repository: Repository) -> str | Unknown:
    """The folder that ``path`` names, relative to the tree's root; it counts from the manifest's file."""
    text = reader.string(spec.get("path"), "spec", "path")
    if not text:
        return ""
    manifest = posixpath.normpath(posixpath.join(repository.base, reader.source.where.file))
    folder = posixpath.normpath(posixpath.join(posixpath.dirname(manifest), text))
    if text.startswith("/") or "\\" in text or "\0" in text or folder == ".." or folder.startswith("../"):
        reader.complain(
            f"spec.path leads out of the repository: {text!r}",
            "spec",
            "path",
            fix="name a folder of the repository, relative to this file",
        )
        return ""
    if not repository.has(manifest):
        return Unknown("remote", text, "the manifest stands in another repository, whose programs are not here")
    folder = "" if folder == "." else folder
    if any(below(folder, link) for link in repository.files.escaping()):
        reader.complain(
            f"spec.path leads out of the repository through a symbolic link: {text!r}",
            "spec",
            "path",
            fix="name a folder of the repository",
        )
        return ""
    if not repository.exists(folder):
        reader.complain(
            f"spec.path names no folder with files in it: {text!r}",
            "spec",
            "path",
            fix="name a folder of the repository, relative to this file; links to folders are not followed",
        )
        return ""
    return posixpath.relpath(folder or ".", repository.base or ".")


def _orchestrator(reader: FieldReader, spec: Any) -> str | Unknown:
    """The engine's URL. What is wrong with it is told without showing it: it may hold a password."""
    text = reader.string(spec.get("orchestrator"), "spec", "orchestrator")
    if not text:
        return ""
    where: tuple[Step, ...] = ("spec", "orchestrator")
    if _said(spec):
        reader.complain(
            "spec names both orchestrator and orchestratorSecret",
            "spec",
            "orchestratorSecret",
            fix="keep one of them",
        )
        return ""
    try:
        parts = urlsplit(text)
        scheme = parts.scheme.split("+")[0]
        password = parts.password is not None or any(
            name.lower() in _PASSWORDS for name, _ in parse_qsl(parts.query, keep_blank_values=True)
        )
        # A password with a slash or hash in it ends up behind the host.
        hidden = scheme in _SHARED and "@" in f"{parts.path}{parts.query}{parts.fragment}"
        usable = parts.port is None or parts.port > 0
    except ValueError:
        scheme, password, hidden, usable = "", False, False, False
    if password or hidden:
        reader.complain("spec.orchestrator holds a password, and Git keeps it for ever", *where, fix=_IN_A_SECRET)
        return ""
    unknown = known(text)
    if isinstance(unknown, Unknown):
        return unknown
    if scheme not in (*_ALONE, *_SHARED) or not usable:
        reader.complain(
            "spec.orchestrator is not the URL of an engine",
            *where,
            fix="use sqlite:////absolute/file, postgresql://user@host/name or durabletask://host:port, or leave it out",
        )
        return ""
    if scheme == "sqlite" and not parts.path.startswith("//"):
        reader.complain(
            "spec.orchestrator names no absolute file",
            *where,
            fix="leave it out for a file in the state directory, or write sqlite:////absolute/file",
        )
        return ""
    return text


def _replicas(reader: FieldReader, spec: Any, orchestrator: str | Unknown) -> int:
    said = spec.get("replicas", 1)
    if not isinstance(said, int) or isinstance(said, bool) or not 0 <= said <= _MOST_REPLICAS:
        reader.complain(f"spec.replicas must be a number from 0 to {_MOST_REPLICAS}", "spec", "replicas", fix="write 1")
        return 1
    url = orchestrator.text if isinstance(orchestrator, Unknown) else orchestrator
    alone = (not url and not _said(spec) and not spec.get("orchestrator")) or url.startswith(_ALONE)
    if said > 1 and alone:
        reader.complain(
            f"spec.replicas is {said}, and a SQLite file is for one worker",
            "spec",
            "replicas",
            fix="write 1, or name an engine that workers share: orchestrator: postgresql://… or durabletask://…",
        )
    return said


def _variables(reader: FieldReader, spec: Any) -> Iterator[tuple[str, str]]:
    listed = spec.get("env")
    if listed is None:
        return
    if not isinstance(listed, list):
        reader.complain("spec.env must be a list", "spec", "env", fix="write - {name: NAME, value: text}")
        return
    for index, entry in enumerate(listed):
        path: tuple[Step, ...] = ("spec", "env", index)
        if not isinstance(entry, dict):
            reader.complain(f"spec.env.{index} is no mapping", *path, fix="write - {name: NAME, value: text}")
            continue
        reader.fields(entry, _VARIABLE, *path)
        name = reader.string(entry.get("name"), *path, "name", required=True)
        value = reader.string(entry.get("value"), *path, "value")
        if name and not _VARIABLE_NAME.match(name):
            reader.complain(f"{name!r} is not the name of a variable", *path, "name", fix="use letters, digits and _")
        elif name in SET_BY_KEYLEAF or name.startswith("AZURE_"):
            reader.complain(f"{name} is set by keyleaf", *path, "name", fix="leave it out")
        elif name:
            yield name, value
