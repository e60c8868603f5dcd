"""Trees for the tests of plan and cloud: small by hand, random by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from keyleaf.core.finding import Finding
from keyleaf.core.location import Location
from keyleaf.plan import Settings
from keyleaf.tree.model import (
    Application,
    AppTree,
    Delivery,
    Manifest,
    SecretNeed,
    SecretSeed,
    ServiceAccount,
    Source,
    Unknown,
)

SUBSCRIPTION = "0a0a0a0a-0000-4000-8000-00000000000a"
ISSUER = "https://issuer.example/cluster"
NOW = 1_700_000_000.0


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "tree": "shop",
        "subscription": SUBSCRIPTION,
        "resource_group": "rg",
        "location": "westeurope",
        "issuer": ISSUER,
        "create_vaults": True,
    }
    return Settings(**{**values, **changes})


def app(
    name: str, parent: str = "", depth: int = 0, wave: int = 0, state: Any = "rendered", **more: Any
) -> Application:
    return Application(
        key=more.pop("key", name),
        name=name,
        namespace="argocd",
        project="default",
        sources=(Source("https://git.example/r", name, tool="directory", state=state),),
        destination_server="https://kubernetes.default.svc",
        destination_namespace=name,
        where=Location(f"apps/{name}.yaml", 1),
        parent=parent,
        depth=depth,
        wave=wave,
        **more,
    )


def need(
    application: str, vault: str | Unknown, secret: str | Unknown, account: str = "app", line: int = 7, **more: Any
) -> SecretNeed:
    return SecretNeed(
        application=application,
        namespace=more.pop("namespace", application),
        vault=vault,
        secret=secret,
        delivery=Delivery("sdk"),
        declared_by=more.pop("declared_by", f"SecretAccess/{application}"),
        where=Location(f"{application}/access.yaml", line),
        service_account=account,
        **more,
    )


def manifest(application: str, body: dict[str, Any], line: int = 3) -> Manifest:
    meta = body["metadata"]
    return Manifest(
        body["apiVersion"],
        body["kind"],
        meta["name"],
        meta.get("namespace", application),
        body,
        Location(f"{application}/{body['kind'].lower()}.yaml", line),
        application,
    )


def deployment(
    application: str, spec: dict[str, Any], labels: dict[str, str] | None = None, name: str = "web"
) -> Manifest:
    template = {"metadata": {"labels": labels or {}}, "spec": spec}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"template": template}}
    return manifest(application, body)


def account(
    application: str, name: str, client_id: str = "", implicit: bool = False, namespace: str = ""
) -> ServiceAccount:
    where = Location(f"{application}/account.yaml", 5)
    return ServiceAccount(name, namespace or application, application, where, client_id, implicit=implicit)


def tree(
    *applications: Application,
    needs: tuple[SecretNeed, ...] = (),
    manifests: tuple[Manifest, ...] = (),
    accounts: tuple[ServiceAccount, ...] = (),
    seeds: tuple[SecretSeed, ...] = (),
    findings: tuple[Finding, ...] = (),
) -> AppTree:
    return AppTree("/srv/git/shop", "", {a.key: a for a in applications}, manifests, accounts, needs, seeds, findings)


NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")
VAULTS = ("kv-one", "kv-two")
SECRETS = ("db", "api-key", "token", "mail")


@st.composite
def random_trees(draw: st.DrawFn) -> AppTree:
    """A tree of up to six Applications on three levels, each with needs of its own."""
    count = draw(st.integers(1, len(NAMES)))
    applications: list[Application] = []
    for place, name in enumerate(NAMES[:count]):
        parent = draw(st.sampled_from([None, *applications])) if place else None
        if parent is not None and parent.depth == 2:
            parent = None
        applications.append(
            app(name, parent.key if parent else "", parent.depth + 1 if parent else 0, draw(st.integers(-2, 2)))
        )
    needs = draw(
        st.lists(
            st.builds(
                need,
                st.sampled_from([a.key for a in applications]),
                st.sampled_from(VAULTS),
                st.sampled_from(SECRETS),
                st.sampled_from(["app", "job"]),
            ),
            max_size=12,
        )
    )
    return tree(*applications, needs=tuple(needs))
