"""``make mutants``: seed known faults into a copy of the server, one at a time, and show that the tests catch each.

The first thirteen are the faults that were seeded when the SDKs' own suites were examined; those suites catch six of
them. The others break one further rule each, among them every rule that those suites leave untested. A fault whose
place in the code is not found any more is an error: a mutation run that mutates nothing proves nothing.
"""

# ruff: noqa: E501 (what is planted stands as it stands in the code)
from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRACT = (
    "tests/vault/test_vault_times.py",
    "tests/server/test_server_secrets.py",
    "tests/server/test_server_trust.py",
)


@dataclass(frozen=True)
class Mutant:
    """One fault: ``old`` occurs exactly once in ``file`` and becomes ``new``.

    Attributes:
        suite: whether the SDKs' own suites were found to catch this kind of fault; None for our own additions.
    """

    name: str
    file: str
    old: str
    new: str
    suite: bool | None = None


MUTANTS = (
    Mutant(
        "lists end after the first page",
        "vault/routes.py",
        'if len(found) > size else None\n        return Reply(body=Page(items, link), resource=f"{call.base}/secrets")',
        'if False else None\n        return Reply(body=Page(items, link), resource=f"{call.base}/secrets")',
        True,
    ),
    Mutant(
        "no challenge, no authentication header",
        "server/answers.py",
        '    if endpoint.kind == "vault":\n        text = f\'Bearer',
        '    if endpoint.kind == "vault":\n        return ""\n        text = f\'Bearer',
        True,
    ),
    Mutant(
        "restore changes timestamps",
        "vault/backup.py",
        "created=version.created,",
        "created=version.created + 1,",
        True,
    ),
    Mutant("PATCH does not move updated", "vault/secrets.py", '"updated": int(now), "nbf": nbf', '"nbf": nbf', True),
    Mutant("purge answers 200", "vault/routes.py", "Reply(status=204, resource", "Reply(status=200, resource", True),
    Mutant(
        "PATCH does not change tags",
        "vault/secrets.py",
        "if request.tags is not None:",
        "if False and request.tags is not None:",
        True,
    ),
    Mutant("a list shows every version", "vault/reader.py", ".where(secret_version.c.ordinal == newest)", "", False),
    Mutant(
        "errors are a bare string",
        "core/errors.py",
        'return {"error": error}',
        'return {"error": str(self.message)}',
        False,
    ),
    Mutant(
        "token signatures are not checked",
        "identity/verifier.py",
        "if not signature_holds(token, key, _ALGORITHMS):",
        "if False:",
        False,
    ),
    Mutant("a disabled secret can be read", "vault/secrets.py", "if not found.enabled:", "if False:", False),
    Mutant(
        "a deleted name can be set",
        "vault/secrets.py",
        "    if row.deleted is not None:\n        raise",
        "    if False:\n        raise",
        False,
    ),
    Mutant(
        "recover drops old versions",
        "vault/deletion.py",
        "    recovered = load_secret(",
        "    connection.exec_driver_sql(f'DELETE FROM secret_version WHERE secret_id = {found.secret_id} AND ordinal < {found.ordinal}')\n    recovered = load_secret(",
        False,
    ),
    Mutant("times are in milliseconds", "vault/secrets.py", "created=int(now),", "created=int(now * 1000),", False),
    Mutant("expired secrets are refused", "vault/policy.py", "if not policy.refuse_expired:", "if False:"),
    Mutant("the stricter policy does nothing", "vault/policy.py", "if not policy.refuse_placeholders:", "if True:"),
    Mutant(
        "names keep their case apart",
        "vault/reader.py",
        "    query = _JOINED.where(secret.c.vault_key == vault_key, secret.c.name_key == name.lower())",
        "    query = _JOINED.where(secret.c.vault_key == vault_key, secret.c.name == name)",
    ),
    Mutant("any name is taken", "vault/secrets.py", "if not SECRET_NAME.match(name):", "if False:"),
    Mutant("values of any size are taken", "vault/bundles.py", "if size > MAX_VALUE_BYTES:", "if False:"),
    Mutant("any number of tags is taken", "vault/bundles.py", "if len(tags) > MAX_TAGS:", "if False:"),
    Mutant("purge protection does not protect", "vault/deletion.py", "if vault.purge_protection:", "if False:"),
    Mutant(
        "restore overwrites",
        "vault/backup.py",
        "raise deleted_but_recoverable(backup.name) if deleted else already_exists(backup.name)",
        "pass",
    ),
    Mutant(
        "retention is always 90 days",
        "vault/deletion.py",
        "int(now) + vault.retention_days * DAY",
        "int(now) + 90 * DAY",
    ),
    Mutant("pages of any size", "vault/paging.py", "1 <= int(text) <= LARGEST_PAGE", "int(text) >= 0"),
    Mutant(
        "no api-version is needed",
        "server/router.py",
        "    if not version:\n        raise",
        "    if False:\n        raise",
    ),
    Mutant(
        "only known api-versions",
        "server/router.py",
        'r"(?:\\d{1,2}\\.\\d{1,2}|\\d{4}-\\d{2}-\\d{2})',
        'r"(?:\\d{1,2}\\.\\d{1,2}|202[0-6]-\\d{2}-\\d{2})',
    ),
    Mutant("audiences are not checked", "identity/verifier.py", "if found.audience not in audiences:", "if False:"),
    Mutant("expired tokens are taken", "identity/verifier.py", "if found.expires + self._skew <= now:", "if False:"),
    Mutant(
        "issuers are not checked",
        "identity/verifier.py",
        "        if tenant is None:\n            expected",
        "        tenant = tenant or next(iter(self._tenant_of.values()))\n        if False:\n            expected",
    ),
    Mutant(
        "a revoked session goes on", "identity/verifier.py", "if found.issued < row.tokens_valid_from:", "if False:"
    ),
    Mutant("revocation has no claims challenge", "server/answers.py", "if isinstance(error, Revoked):", "if False:"),
    Mutant(
        "federated subjects have no case",
        "identity/client_credentials.py",
        "[c for c in by_issuer if c.subject == subject]",
        "[c for c in by_issuer if c.subject.casefold() == subject.casefold()]",
    ),
    Mutant(
        "everybody may read",
        "server/pipeline.py",
        "if not decision.allowed:\n                        raise",
        "if False:\n                        raise",
    ),
    Mutant(
        "a read grant may write",
        "vault/routes.py",
        'write = on_secret("getSecret/action"), on_secret("setSecret/action", requested=True)',
        'write = on_secret("getSecret/action"), on_secret("getSecret/action", requested=True)',
    ),
    Mutant(
        "one secret's grant opens its neighbours",
        "vault/routes.py",
        "return Demand(action, secret_scope(vault.scope, name)",
        "return Demand(action, secret_scope(vault.scope, name[:2])",
    ),
    Mutant("conditions are not looked at", "access/decision.py", "if not verdict.allowed:", "if False:"),
    Mutant(
        "a change does not reach the caches",
        "server/pipeline.py",
        "                self.renew(appended.generation)",
        "                pass",
    ),
    Mutant(
        "it answers before it records",
        "server/pipeline.py",
        "            await self.ledger.append(outcome.record, generation=outcome.generation)\n",
        "            asyncio.ensure_future(asyncio.sleep(1))\n",
    ),
    Mutant(
        "denials are not recorded",
        "server/pipeline.py",
        "            await self.ledger.append(outcome.record, generation=outcome.generation)\n",
        "            if outcome.answer.status != 403:\n                await self.ledger.append(outcome.record, generation=outcome.generation)\n",
    ),
    Mutant(
        "short reads are not recorded",
        "server/hot.py",
        "            await pipeline.ledger.append(record, generation=caches.generation)\n",
        "            pass\n",
    ),
    Mutant(
        "any host is answered",
        "server/endpoints.py",
        'raise ServiceError(421, "MisdirectedRequest"',
        'return self._vault(f"https://{text}", self.vaults[port], f"https://0.0.1:{port}") if port in self.vaults else self._management(f"https://{text}")\n        raise ServiceError(421, "MisdirectedRequest"',
    ),
    Mutant("trailers become headers", "server/protocol.py", "        if self._head_done:\n            return\n", ""),
)


def find(mutant: Mutant, sources: Path) -> tuple[Path, str]:
    """The file that the fault belongs in, and its text; exits if its place is not there exactly once."""
    file = sources / "keyleaf" / mutant.file
    text = file.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.name}: its place occurs {text.count(mutant.old)} times in {mutant.file}")
    return file, text


def plant(mutant: Mutant, copy: Path) -> None:
    """Write the fault into a copy of the sources."""
    file, text = find(mutant, copy)
    file.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def caught(mutant: Mutant, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the tests fail on the fault, and the first one that does."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        plant(mutant, copy)
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
        finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        failed = [line for line in finished.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        first = failed[0].split(" - ")[0].rsplit("::", 1)[-1] if failed else ""
        return finished.returncode == 1 and bool(failed), first


def main() -> int:
    """Plant every fault; fails if one survives, or if the tests fail without any."""
    parser = argparse.ArgumentParser(prog="make mutants")
    parser.add_argument("--only", default="", help="only the faults whose name holds this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time")
    options = parser.parse_args()
    for mutant in MUTANTS:
        find(mutant, ROOT / "src")
    clean = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--no-header", *CONTRACT], cwd=ROOT, capture_output=True, text=True
    )
    if clean.returncode != 0:
        print(clean.stdout[-2000:])
        print("mutants: the tests fail without any fault")
        return 1
    survivors: list[str] = []
    by_suites = 0
    started = time.monotonic()
    chosen = [mutant for mutant in MUTANTS if options.only in mutant.name]
    with ThreadPoolExecutor(options.jobs) as pool:
        outcomes = zip(chosen, pool.map(lambda mutant: caught(mutant, CONTRACT), chosen), strict=True)
        for mutant, (found, test) in outcomes:
            by_suites += mutant.suite is True
            print(f"{'caught ' if found else 'SURVIVED'} {mutant.name:45} {test}", flush=True)
            if not found:
                survivors.append(mutant.name)
    seeded = [mutant for mutant in chosen if mutant.suite is not None]
    kept = [mutant for mutant in seeded if mutant.name not in survivors]
    print(f"the thirteen seeded faults: {len(kept)} of {len(seeded)} caught here, {by_suites} by the SDKs' own suites")
    print(f"all faults: {len(chosen) - len(survivors)} of {len(chosen)} caught in {time.monotonic() - started:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
