"""Trees and surroundings for the runtime's tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from keyleaf.core.errors import RemoteError
from keyleaf.core.location import Location
from keyleaf.runtime import Endpoints, ServiceAccountIssuer, Supervisor, SystemTimer, Timer, TokenKeeper
from keyleaf.runtime.fetching import decoded
from keyleaf.runtime.guard import marked
from keyleaf.runtime.values import VaultValue
from keyleaf.tree.model import Application, AppTree, Delivery, Manifest, SecretNeed, Source

ENDPOINTS = Endpoints(
    "https://127.0.0.1:1",
    "11111111-1111-4111-8111-111111111111",
    client_ids={("shop", "web"): "client-web", ("shop", "db"): "client-db"},
    vaults={"kv-shop": "https://127.0.0.1:2"},
)


def application(key: str, parent: str = "", wave: int = 0) -> Application:
    return Application(
        key,
        key,
        "argocd",
        "default",
        (Source("", key, tool="directory"),),
        "",
        "shop",
        Location(f"{key}.yaml", 1),
        parent,
        1 if parent else 0,
        wave,
    )


def manifests(text: str, app: str = "web") -> tuple[Manifest, ...]:
    found = []
    for body in yaml.safe_load_all(text):
        meta = body["metadata"]
        wave = int((meta.get("annotations") or {}).get("argocd.argoproj.io/sync-wave", 0))
        found.append(
            Manifest(
                body["apiVersion"],
                body["kind"],
                meta["name"],
                meta.get("namespace", "shop"),
                body,
                Location(f"{app}/all.yaml", 1),
                app,
                wave,
            )
        )
    return tuple(found)


def need(secret: str, form: Any = "sdk", target: str = "", key: str = "", **more: Any) -> SecretNeed:
    delivery = Delivery(form, target, key, more.pop("property", ""), refresh_seconds=more.pop("refresh_seconds", None))
    return SecretNeed(
        more.pop("application", "web"),
        "shop",
        more.pop("vault", "kv-shop"),
        secret,
        delivery,
        f"ExternalSecret/{target}",
        Location("web/all.yaml", 1),
        service_account="web",
        **more,
    )


def tree(*groups: tuple[Manifest, ...], needs: tuple[SecretNeed, ...] = (), apps: Any = None) -> AppTree:
    apps = apps or [application("root"), application("web", "root"), application("db", "root")]
    found = tuple(manifest for group in groups for manifest in group)
    return AppTree("/tree", "", {a.key: a for a in apps}, found, (), needs, (), ())


def deployment(name: str, program: str, app: str | None = None, **pod: Any) -> tuple[Manifest, ...]:
    container = {"name": "main", "command": ["python3", "-c", program], **pod.pop("container", {})}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 5, **pod.pop("pod", {})}
    labels = {"app": name, **pod.pop("labels", {})}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {**pod, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }
    return manifests(yaml.safe_dump(body), app or name)


class MemoryFetcher:
    """A vault in memory: the same rules of decoding, and it keeps who asked for what."""

    def __init__(self, **secrets: str) -> None:
        self.secrets = {name.replace("_", "-"): text for name, text in secrets.items()}
        self.asked: list[tuple[str, str]] = []

    async def fetch(self, value: VaultValue, service_account: str) -> bytes:
        self.asked.append((value.service_account or service_account, value.secret))
        if value.secret not in self.secrets:
            raise RemoteError(f"{value.secret} in vault {value.vault}: SecretNotFound (404)")
        return decoded(value, self.secrets[value.secret])

    async def close(self) -> None:
        pass


def supervisor(
    state: Path, fetcher: MemoryFetcher | None = None, timer: Timer | None = None, **more: Any
) -> Supervisor:
    timer = timer or SystemTimer()
    tokens = TokenKeeper(ServiceAccountIssuer.open(state / "oidc", "https://127.0.0.1:1/oidc/local"), timer)
    private = state / "private"
    private.mkdir(exist_ok=True)
    return Supervisor(state, tokens, fetcher or MemoryFetcher(), timer=timer, private=private, **more)


@asynccontextmanager
async def running(state: Path, **more: Any) -> AsyncIterator[Supervisor]:
    found = supervisor(state, **more)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
        assert marked(found.mark) == []


async def until(condition: Any) -> Any:
    """What ``condition`` gives once it is true: for what another process does."""
    end = time.monotonic() + 10
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true in ten seconds"
        await asyncio.sleep(0.02)
    return found
