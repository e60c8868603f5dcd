"""Writes a tree of applications for measuring: the same one each time for the same size.

    python bench/generate_tree.py FOLDER [--applications 1000]

One root, teams of fifty under it, and under each team its applications. Each application has a Deployment, a
ServiceAccount and four declared secrets: one in three through an ExternalSecret, one in three through a
SecretProviderClass, one in three through a SecretAccess.
"""

from __future__ import annotations

import argparse
from pathlib import Path

REPOSITORY = "https://git.example.com/platform/tree.git"
TEAM = 50
SECRETS = 4


def application(name: str, path: str, namespace: str, wave: int = 0, recurse: bool = False) -> str:
    """An Application object."""
    directory = "\n    directory:\n      recurse: true" if recurse else ""
    return f"""apiVersion: argoproj.io/v1alpha1
kind: Application
metadata:
  name: {name}
  namespace: argocd
  annotations:
    argocd.argoproj.io/sync-wave: "{wave}"
  finalizers:
    - resources-finalizer.argocd.argoproj.io
spec:
  project: default
  source:
    repoURL: {REPOSITORY}
    targetRevision: HEAD
    path: {path}{directory}
  destination:
    server: https://kubernetes.default.svc
    namespace: {namespace}
  syncPolicy:
    automated:
      prune: true
      selfHeal: true
"""


def workload(name: str, number: int) -> str:
    """A ServiceAccount and a Deployment that runs under it."""
    volume = (
        f"""
      volumes:
        - name: secrets
          csi:
            driver: secrets-store.csi.k8s.io
            readOnly: true
            volumeAttributes:
              secretProviderClass: {name}"""
        if number % 3 == 1
        else ""
    )
    return f"""apiVersion: v1
kind: ServiceAccount
metadata:
  name: {name}
  annotations:
    azure.workload.identity/client-id: ${{CLIENT_ID}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {name}
  labels:
    app: {name}
spec:
  replicas: 2
  selector:
    matchLabels:
      app: {name}
  template:
    metadata:
      labels:
        app: {name}
        azure.workload.identity/use: "true"
    spec:
      serviceAccountName: {name}
      containers:
        - name: main
          image: registry.example.com/{name}:1.{number}.0
          command: ["/app/serve", "--port", "8080"]
          ports:
            - containerPort: 8080
          env:
            - name: LOG_LEVEL
              value: info
          readinessProbe:
            httpGet:
              path: /ready
              port: 8080{volume}
"""


def secrets(name: str, number: int, vault: str) -> str:
    """The declared secrets, in one of three forms."""
    names = [f"{name}-secret-{index}" for index in range(SECRETS)]
    if number % 3 == 0:
        data = "".join(
            f"""    - secretKey: key-{index}
      remoteRef:
        key: {secret}
"""
            for index, secret in enumerate(names)
        )
        return f"""apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  name: {name}
spec:
  refreshInterval: 1h
  secretStoreRef:
    kind: ClusterSecretStore
    name: {vault}
  target:
    name: {name}
  data:
{data}"""
    if number % 3 == 1:
        entries = "".join(
            f"""        - |
          objectName: {secret}
          objectType: secret
"""
            for secret in names
        )
        return f"""apiVersion: secrets-store.csi.x-k8s.io/v1
kind: SecretProviderClass
metadata:
  name: {name}
spec:
  provider: azure
  parameters:
    keyvaultName: {vault}
    clientID: ${{CLIENT_ID}}
    objects: |
      array:
{entries}"""
    listed = "".join(f"    - {secret}\n" for secret in names)
    return f"""apiVersion: keyleaf.dev/v1alpha1
kind: SecretAccess
metadata:
  name: {name}
spec:
  serviceAccountName: {name}
  vault: {vault}
  purpose: measuring
  secrets:
{listed}"""


def store(vault: str) -> str:
    """The ClusterSecretStore of a vault."""
    return f"""apiVersion: external-secrets.io/v1
kind: ClusterSecretStore
metadata:
  name: {vault}
spec:
  provider:
    azurekv:
      authType: WorkloadIdentity
      vaultUrl: https://{vault}.vault.azure.net
"""


def generate(folder: Path, applications: int) -> None:
    """Write the tree into ``folder``, which may be empty or absent; ``applications`` counts the leaves."""

    def write(path: str, content: str) -> None:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)

    write("root.yaml", application("root", "teams", "argocd"))
    for team in range((applications + TEAM - 1) // TEAM):
        vault = f"kv-team-{team:03}"
        write(f"teams/team-{team:03}.yaml", application(f"team-{team:03}", f"apps/team-{team:03}", "argocd", team % 5))
        write(f"apps/team-{team:03}/store.yaml", store(vault))
        for number in range(team * TEAM, min(applications, (team + 1) * TEAM)):
            name = f"app-{number:05}"
            write(
                f"apps/team-{team:03}/{name}.yaml", application(name, f"services/{name}", f"ns-{number:05}", number % 3)
            )
            write(f"services/{name}/workload.yaml", workload(name, number))
            write(f"services/{name}/secrets.yaml", secrets(name, number, vault))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--applications", type=int, default=1000)
    given = parser.parse_args()
    generate(given.folder, given.applications)


if __name__ == "__main__":
    main()
