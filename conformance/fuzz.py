"""``make fuzz``: thousands of malformed and hostile requests against a real server, with and without valid tokens.

Half of them are made by schemathesis from the server's OpenAPI document, half by :mod:`conformance.attack`. The run
fails on any answer of 500 or above, on an error that has no service's shape, on a success without a valid token, on a
secret value or a traceback in what it must not be in, and on an audit log that does not verify afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisException
from schemathesis import GenerationMode

from conformance.attack import Attack, Attacker, Target, announces_more, send
from conformance.subject import SECRETS_OFFICER, Operator, start_server
from keyleaf.server.openapi import described

CANARY = "canary-0e5c1f"
API = "2026-04-01"
_PUBLIC = ("/healthz", "/oidc/")
_SHOWN = 20


@dataclass
class Report:
    """What came of a run."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def fail(self, reason: str, request: object) -> None:
        """Note a failure."""
        self.failures.append(f"{reason}: {str(request)[:600]}")


@dataclass
class Field:
    """A furnished server and who talks to it."""

    state: Path
    connection: dict[str, Any]
    operator: Operator
    vault_url: str
    vault_token: str
    stranger: str
    errors: Path

    @property
    def group(self) -> str:
        return self.operator.group()


def run(total: int, number: int) -> Report:
    """Send ``total`` requests, made from the seed ``number``."""
    report = Report()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="keyleaf-fuzz-") as folder, _furnished(Path(folder), report) as place:
        _described_requests(place, report, total // 2, number)
        _attacks(place, report, total - sum(report.requests.values()), number)
    report.seconds = time.monotonic() - started
    return report


@contextmanager
def _furnished(folder: Path, report: Report) -> Iterator[Field]:
    state, errors = folder / "state", folder / "errors"
    process, connection = start_server(state, environment=dict(os.environ), errors=errors)
    try:
        operator = Operator(state, connection)
        vault = operator.vault("kv-fuzz", softDeleteRetentionInDays=7)
        operator.vault("kv-other")
        url = vault["properties"]["vaultUri"].rstrip("/")
        resource = "https://0.0.1:" + url.rsplit(":", 1)[1]
        for name in ("db", "api"):
            body = {"value": f"{CANARY}-{name}"}
            operator._send("PUT", f"{url}/secrets/{name}?api-version={API}", operator.token(resource), body)
        yield Field(
            state,
            connection,
            operator,
            url,
            operator.token(resource),
            _stranger(operator, connection, resource),
            errors,
        )
        if process.poll() is not None:
            report.fail("the server ended", process.returncode)
    finally:
        process.terminate()
        process.wait(20)
    written = errors.read_text(errors="replace")
    for sign in ("Traceback", " failed: ", CANARY, "Error at "):
        if sign in written:
            report.fail(f"{sign!r} in the server's error output", written[max(0, written.index(sign) - 300) :])
    verify = [sys.executable, "-m", "keyleaf", "audit", "verify", "--state", str(state)]
    verified = subprocess.run(verify, capture_output=True, text=True)
    if verified.returncode:
        report.fail("the audit log does not verify", verified.stdout + verified.stderr)


def _stranger(operator: Operator, connection: Mapping[str, Any], resource: str) -> str:
    """A genuine token for the vault, of somebody who may do nothing in it."""
    application = operator.graph("POST", "/applications", {"displayName": "stranger"})
    operator.graph("POST", "/servicePrincipals", {"appId": application["appId"]})
    password = operator.graph("POST", f"/applications/{application['id']}/addPassword", {"passwordCredential": {}})
    answer = operator._http.post(
        f"{connection['authority']}/{connection['tenant_id']}/oauth2/v2.0/token",
        data={
            "grant_type": "client_credentials",
            "client_id": application["appId"],
            "client_secret": password["secretText"],
            "scope": f"{resource}/.default",
        },
    )
    answer.raise_for_status()
    return str(answer.json()["access_token"])


def _described_requests(place: Field, report: Report, total: int, number: int) -> None:
    """Requests that schemathesis makes from the document: some that fit it, some that do not."""
    operations = [found.ok() for found in schemathesis.openapi.from_dict(described()).get_all_operations()]
    choose = random.Random(number)
    choose.shuffle(operations)
    each = max(3, total // (2 * len(operations)))
    session = requests.Session()
    session.verify = place.connection["ca_bundle"]
    session.trust_env = False
    while sum(report.requests.values()) < total:
        for operation in operations:
            for mode in GenerationMode.POSITIVE, GenerationMode.NEGATIVE:
                wanted = min(each, total - sum(report.requests.values()))
                if wanted > 0:
                    _one_operation(place, report, operation, mode, wanted, choose, session)


def _one_operation(
    place: Field,
    report: Report,
    operation: Any,
    mode: GenerationMode,
    wanted: int,
    choose: random.Random,
    session: requests.Session,
) -> None:
    surface = operation.definition.raw["tags"][0]
    protected = bool(operation.definition.raw["security"])
    base = place.vault_url if surface == "vault" else place.connection["arm"]
    good = {
        "vault": place.vault_token,
        "graph": place.operator.token("https://graph.microsoft.com"),
    }.get(surface, place.operator.token(place.connection["arm"]))

    @seed(choose.randrange(2**32))
    @settings(
        max_examples=wanted,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def attack(case: Any) -> None:
        for name in list(case.path_parameters or {}):
            if choose.random() < 0.7:
                case.path_parameters[name] = _value(place, name, operation.method)
        if surface in ("vault", "arm") and choose.random() < 0.8:
            case.query = {**(case.query or {}), "api-version": API}
        kind = choose.choice(("valid", "valid", "none", "stranger", "broken"))
        token = {"valid": good, "none": "", "stranger": place.stranger, "broken": f"{good[:-6]}AAAAAA"}[kind]
        arguments = case.as_transport_kwargs(base_url=base)
        headers = {k: v for k, v in (arguments.pop("headers", None) or {}).items() if k.lower() != "authorization"}
        headers["Authorization"] = f"Bearer {token}" if token else ""
        try:
            answer = session.request(**{**arguments, "headers": headers, "timeout": 20, "allow_redirects": False})
        except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL, UnicodeError):
            return  # the client could not send it
        except requests.RequestException as error:
            report.fail(f"no answer ({type(error).__name__})", f"{arguments['method']} {arguments['url']}")
            return
        report.requests["described"] += 1
        shown = f"{kind} {arguments['method']} {answer.request.url} {answer.request.body!r} -> {answer.text}"
        _judge(report, surface, answer.status_code, answer.content, kind == "valid" or not protected, shown)
        if protected and surface == "vault" and kind == "stranger" and answer.status_code < 300:
            report.fail("a stranger was served", shown)

    try:
        attack()
    except HypothesisException:
        return  # nothing can be made for this operation in this mode


def _value(place: Field, name: str, method: str) -> str:
    """A value that leads somewhere; nothing that the run itself stands on is ever changed."""
    safe = method.upper() in ("GET", "HEAD")
    return {
        "subscription": str(place.connection["subscription_id"]),
        "group": "keyleaf" if safe else f"group-{uuid.uuid4().hex[:4]}",
        "tenant": str(place.connection["tenant_id"]),
        "managementGroup": str(place.connection["tenant_id"]),
        "name": "kv-fuzz" if safe else random.choice(("api", "kv-other", "new-one")),
        "namespace": "Microsoft.KeyVault",
        "type": "vaults",
        "childType": "secrets",
        "child": "db",
        "operation": "add",
        "version": "0" * 32,
    }.get(name, str(uuid.uuid4()))


def _attacks(place: Field, report: Report, total: int, number: int) -> None:
    """Requests of our own, byte by byte."""
    context = ssl.create_default_context(cafile=place.connection["ca_bundle"])
    arm, graph = place.operator.token(place.connection["arm"]), place.operator.token("https://graph.microsoft.com")
    main = int(place.connection["arm"].rsplit(":", 1)[1])
    port = int(place.vault_url.rsplit(":", 1)[1])
    secret = {
        "value": "x",
        "contentType": "t",
        "tags": {"a": "b"},
        "attributes": {"enabled": True, "exp": 2_000_000_000},
    }
    subscription = place.group.rsplit("/", 2)[0]
    vaults = f"{place.group}/providers/Microsoft.KeyVault/vaults"
    identities = f"{place.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    assignment = f"{vaults}/kv-other/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
    tenant = place.connection["tenant_id"]
    targets = [
        Target(
            port,
            ("/secrets/db", "/secrets/db/", "/secrets", "/secrets/db/versions", "/secrets/new", "/deletedsecrets",
             "/deletedsecrets/db", "/secrets/api/backup", "/secrets/restore", "/deletedsecrets/api/recover"),
            (secret, {"value": "eyJ"}, {"attributes": {"enabled": False}}),
            place.vault_token,
            (arm, graph, place.stranger),
        ),
        Target(
            main,
            (vaults, f"{vaults}/kv-other", f"{identities}/id-x", f"{identities}/id-x/federatedIdentityCredentials/c",
             assignment, f"{subscription}/providers/Microsoft.KeyVault/checkNameAvailability", "/subscriptions",
             f"{subscription}/resources", "/providers/Microsoft.Authorization/roleDefinitions"),
            (
                {"location": "local", "properties": {"tenantId": tenant, "sku": {"family": "A", "name": "standard"}}},
                {"properties": {"principalId": str(uuid.uuid4()), "roleDefinitionId": SECRETS_OFFICER}},
                {"properties": {"issuer": "https://x", "subject": "s", "audiences": ["a"]}},
                {"name": "kv-x", "type": "Microsoft.KeyVault/vaults"},
            ),
            arm,
            (place.vault_token, graph, place.stranger),
        ),
        Target(
            main,
            ("/v1.0/applications", f"/v1.0/applications/{uuid.uuid4()}/addPassword", "/v1.0/servicePrincipals"),
            ({"displayName": "x", "keyCredentials": []}, {"appId": str(uuid.uuid4())}),
            graph,
            (place.stranger, place.vault_token),  # one for the management endpoint itself does hold here
        ),
        Target(
            main,
            (f"/{tenant}/oauth2/v2.0/token", "/common/oauth2/token", "/msi/token", "/metadata/identity/oauth2/token",
             f"/{tenant}/v2.0/.well-known/openid-configuration", "/common/discovery/instance"),
            ("grant_type=client_credentials&client_id=x&client_secret=y&scope=https://vault.azure.net/.default",
             "grant_type=client_credentials&client_id=%00&client_assertion=a.b.c&resource=x", "%=&&=", "a=b" * 9000),
            arm,
            (graph,),
        ),
    ]  # fmt: skip
    attacker = Attacker(number, targets)
    for _ in range(total):
        one = attacker.next()
        try:
            received = send(one, context)
        except TimeoutError:
            report.fail("no answer in time", one.request[:500])
            continue
        report.requests["our own"] += 1
        if not received:
            if announces_more(one.request):
                report.requests["  of them left waiting for their rest"] += 1
            else:
                report.fail("closed without an answer", one.request[:500])
            continue
        _judge_raw(report, one, received, port)


def _judge_raw(report: Report, attack: Attack, received: bytes, vault_port: int) -> None:
    while received.startswith(b"HTTP/1.1 100"):
        received = received.partition(b"\r\n\r\n")[2]
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        status = int(head.split(b" ", 2)[1])
    except (IndexError, ValueError):
        if received:
            report.fail("not an answer", received)
        return
    target = attack.request.split(b" ", 2)[1].decode("latin-1")
    public = attack.port != vault_port and not target.lower().startswith(("/subscriptions", "/providers", "/v1.0"))
    shown = f"{attack.request[:300]!r} -> {received[:300]!r}"
    surface = "vault" if attack.port == vault_port else "any"
    allowed = attack.authorised or public or target.startswith(_PUBLIC)
    if attack.request.startswith(b"HEAD "):
        body = b""
    _judge(report, surface, status, body, allowed, shown)


def _judge(report: Report, surface: str, status: int, body: bytes, allowed: bool, shown: str) -> None:
    report.statuses[status] += 1
    if status >= 500:
        report.fail(f"answered {status}", shown)
    if b"Traceback" in body or b'File "/' in body:
        report.fail("a traceback in the answer", shown)
    if not allowed and (status < 300 or CANARY.encode() in body):
        report.fail("a success without a valid token", shown)
    if status >= 400 and CANARY.encode() in body:
        report.fail("a secret in an error", shown)
    if status >= 400 and body and not _is_error(surface, body):
        report.fail("not an error of Azure's shape", shown)


def _is_error(surface: str, body: bytes) -> bool:
    """Key Vault, ARM and Graph nest the error; the token service and the managed identity endpoints have their own."""
    try:
        found = json.loads(body)
    except ValueError:
        return False
    if not isinstance(found, dict):
        return False
    error = found.get("error")
    if isinstance(error, dict):
        return isinstance(error.get("code"), str) and isinstance(error.get("message"), str)
    if surface == "vault":
        return False
    return isinstance(error, str) or ("statusCode" in found and "message" in found)


def main() -> int:
    """Run, tell the figures, and say whether anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given_arguments = parser.parse_args()
    report = run(given_arguments.requests, given_arguments.seed)
    for source, count in report.requests.items():
        print(f"{source:36} {count:7}")
    print("answers: " + ", ".join(f"{status}: {count}" for status, count in sorted(report.statuses.items())))
    print(f"{report.seconds:.0f} s, seed {given_arguments.seed}, {len(report.failures)} failures")
    for failure in report.failures[:_SHOWN]:
        print(f"  {failure}")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
