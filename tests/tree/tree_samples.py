"""Small manifests for the tests of the tree."""

from __future__ import annotations

import subprocess
from pathlib import Path

REPOSITORY = "https://git.example.com/shop/tree.git"


def application(
    name: str, path: str, *, namespace: str = "shop", extra: str = "", spec: str = "", meta: str = ""
) -> str:
    """An Application of this repository; ``extra`` goes below its source, ``spec`` and ``meta`` into theirs."""
    return f"""apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: {name}
{meta}
spec:
  project: default
  source:
    repoURL: {REPOSITORY}
    path: {path}
{extra}
  destination:
    server: https://kubernetes.default.svc
    namespace: {namespace}
{spec}
"""


def config_map(name: str, more: str = "") -> str:
    """A small object."""
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n{more}"


def access(name: str, *secrets: str, vault: str = "kv-shop") -> str:
    """A SecretAccess whose service account has its name."""
    listed = "".join(f"    - {secret}\n" for secret in secrets)
    return (
        f"apiVersion: keyleaf.dev/v1alpha1\nkind: SecretAccess\nmetadata:\n  name: {name}\nspec:\n"
        f"  serviceAccountName: {name}\n  vault: {vault}\n  secrets:\n{listed}"
    )


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder`` as somebody with a name, whatever the machine's configuration."""
    command = ["git", "-c", "user.name=Sample", "-c", "user.email=sample@example.com", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        [*command, "-C", str(folder), *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder: Path, files: dict[str, str], message: str = "change") -> str:
    """Write ``files``, commit them, and return the commit's id; makes the repository if there is none."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        git(folder, "init", "--quiet", "--initial-branch=main")
    for name, content in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")
