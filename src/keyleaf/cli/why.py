"""``keyleaf why``: why an identity may, or may not, read a secret."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from keyleaf.access import Decision
from keyleaf.cli import azure_options as o
from keyleaf.cli.present import console, print_json
from keyleaf.cli.secret_name import find_secret
from keyleaf.cli.session import Options, connect
from keyleaf.core.errors import InputError
from keyleaf.core.names import is_guid
from keyleaf.core.scope import secret_scope
from keyleaf.plan import Actual, EffectiveAccess, Identity, SecretState, Vault
from keyleaf.plan.naming import APPLICATION


def why(
    identity: Annotated[
        str, typer.Argument(help="An Application's name, the identity's name, its client id or its object id.")
    ],
    secret: Annotated[str, typer.Argument(metavar="SECRET", help="VAULT/NAME")],
    as_json: o.Json = False,
    state: o.State = None,
    azure: o.Real = False,
    subscription: o.Subscription = "",
) -> None:
    """Explain whether an identity may read a secret: the assignment that allows it, or what would."""
    from keyleaf.cloud import read_actual

    session = connect(options=Options(state=state, real=azure, subscription=subscription))
    vault, name = find_secret(session, secret)
    # No tree is asked about, so no federated credential is read.
    actual = read_actual(session.azure, "", {vault.name})
    known, principal_id = find_identity(actual, identity)
    decision = EffectiveAccess(actual).decide(principal_id, secret_scope(vault.scope, name), vault.name, name)
    notes = list(other_reasons(vault, name, actual))
    if as_json:
        print_json(
            {
                "identity": known.name if known else "",
                "application": known.tags.get(APPLICATION, "") if known else "",
                "object_id": principal_id,
                "vault": vault.name,
                "secret": name,
                **decision_as_data(decision),
                "notes": notes,
            }
        )
        return
    out = console()
    color = "green" if decision.allowed else "red"
    title = f"{known.name if known else principal_id} → {vault.name}/{name}"
    out.print(f"[bold]{escape(title)}[/]  [{color}]{'allowed' if decision.allowed else 'denied'}[/]")
    out.print(escape(decision.explain()))
    for note in notes:
        out.print(f"[yellow]but:[/] {escape(note)}")


def decision_as_data(decision: Decision) -> dict[str, object]:
    """A decision as plain data, for ``--json``."""
    return {
        "allowed": decision.allowed,
        "assignment": decision.assignment_id,
        "role": decision.role,
        "near": [str(miss) for miss in decision.near],
        "suggestion": {"role": decision.suggestion.role, "scope": str(decision.suggestion.scope)}
        if decision.suggestion
        else None,
        "explanation": decision.explain(),
    }


def find_identity(actual: Actual, text: str) -> tuple[Identity | None, str]:
    """The identity that a person means, and its object id; a GUID that is no managed identity's is an object id."""
    wanted = text.lower()
    found = [
        identity
        for identity in actual.identities
        if wanted in (identity.name.lower(), identity.client_id.lower(), identity.principal_id.lower())
        or identity.tags.get(APPLICATION, "").lower() == wanted
    ]
    if len(found) > 1:
        raise InputError(
            f"{text!r} names {len(found)} identities", hint=", ".join(identity.client_id for identity in found)
        )
    if found:
        return found[0], found[0].principal_id
    if is_guid(text):
        return None, wanted
    known = ", ".join(sorted(identity.name for identity in actual.identities)[:10])
    raise InputError(f"no identity is called {text!r}", hint=f"known: {known}" if known else "keyleaf apply makes them")


def other_reasons(vault: Vault, name: str, actual: Actual) -> list[str]:
    """What would make the read fail although the roles allow it."""
    reasons: list[str] = []
    if not vault.rbac:
        reasons.append(f"{vault.name} decides by access policies, so role assignments have no effect on it")
    state = find_state(actual, vault, name)
    if state is None and vault.name.lower() in actual.listed:
        reasons.append(f"{vault.name}/{name} does not exist: the answer is 404")
    elif state is not None and state.deleted:
        reasons.append(f"{vault.name}/{name} is deleted: the answer is 404 until it is recovered")
    elif state is not None and not state.enabled:
        reasons.append(f"{vault.name}/{name} is disabled: the answer is 403, whatever the roles")
    return reasons


def find_state(actual: Actual, vault: Vault, name: str) -> SecretState | None:
    """What is known of the secret."""
    pair = (vault.name.lower(), name.lower())
    return next((s for s in actual.secrets if (s.vault.lower(), s.name.lower()) == pair), None)
