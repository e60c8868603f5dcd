"""``make conformance``: the Azure SDKs' own tests, as published, live against keyleaf.

The source distributions of the pinned packages are fetched with pip and unpacked into a cache; the tests in them run
unmodified, on ``shim/devtools_testutils`` in place of the unpublished helper package. The counts are compared with
``expected.json``: one test fewer on the wire, or one failure, and this fails.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from conformance.subject import Subject, furnish

HERE = Path(__file__).parent
EXPECTED = HERE / "expected.json"


@dataclass(frozen=True)
class Suite:
    """One run of pytest over part of a package's tests."""

    name: str
    package: str
    arguments: tuple[str, ...]
    environment: dict[str, str]
    directory: str = "tests"


def suites(subject: Subject, *, all_versions: bool) -> list[Suite]:
    """The runs: each in an environment as its tests ask for it."""
    secret = {
        "KEYVAULT_TENANT_ID": "adfs",
        "KEYVAULT_CLIENT_ID": subject.client_id,
        "KEYVAULT_CLIENT_SECRET": subject.client_secret,
        "AZURE_KEYVAULT_URL": subject.vault_url,
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    principal = {
        "AZURE_TENANT_ID": "adfs",
        "AZURE_CLIENT_ID": subject.client_id,
        "AZURE_CLIENT_SECRET": subject.client_secret,
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    managed = {
        "AZURE_IDENTITY_TEST_VAULT_URL": subject.vault_url,
        "AZURE_IDENTITY_TEST_MANAGED_IDENTITY_CLIENT_ID": subject.identity_client_id,
    }
    app_service = {**managed, "IDENTITY_ENDPOINT": subject.msi_endpoint, "IDENTITY_HEADER": subject.msi_header}
    imds = {**managed, "AZURE_POD_IDENTITY_AUTHORITY_HOST": subject.connection["authority"]}
    live = ("test_managed_identity_live.py", "test_managed_identity_live_async.py")
    directory = "tests/managed-identity-live"
    runs = [
        Suite("secrets", "azure-keyvault-secrets", (), secret),
        Suite("identity-live", "azure-identity", ("test_live.py", "test_live_async.py"), principal),
        Suite("identity-app-service", "azure-identity", live, app_service, directory),
        Suite("identity-imds", "azure-identity", live, imds, directory),
    ]
    if all_versions:
        every = {**secret, "SUITE_ALL_API_VERSIONS": "1"}
        only = ("-k", "not challenge")
        runs.append(Suite("secrets-all-api-versions", "azure-keyvault-secrets", only, every))
    return runs


def unpack(package: str, cache: Path) -> Path:
    """The package's source distribution, at the version that is installed; fetched once."""
    version = importlib.metadata.version(package)
    stem = f"{package.replace('-', '_')}-{version}"
    unpacked = cache / stem
    if not unpacked.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*command, "--no-binary", ":all:", "-d", str(cache), f"{package}=={version}"], check=True)
        with tarfile.open(cache / f"{stem}.tar.gz") as archive:
            archive.extractall(cache, filter="data")
    return unpacked


def run(suite: Suite, subject: Subject, cache: Path) -> dict[str, int]:
    """Run one suite; returns its counts."""
    directory = unpack(suite.package, cache) / suite.directory
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "counts.json"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": scratch,
            "PYTHONPATH": str(HERE / "shim"),
            "AZURE_TEST_RUN_LIVE": "true",
            "AZURE_SKIP_LIVE_RECORDING": "true",
            "KEYLEAF_SUITE_REPORT": str(report),
            "KEYLEAF_SUITE_RUN_ID": uuid.uuid4().hex,
            **subject.trust(),
            **suite.environment,
        }
        options = ["-q", "--tb=short", "-p", "keyleaf_suite", "-p", "no:cacheprovider", "-W", "ignore"]
        command = [sys.executable, "-m", "pytest", *options, *(suite.arguments or (".",))]
        finished = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True)
        if not report.exists():
            raise SystemExit(f"{suite.name}: pytest did not run\n{finished.stdout[-4000:]}{finished.stderr[-4000:]}")
        counts: dict[str, int] = json.loads(report.read_text())
        if counts["wire_failed"] or counts["unit_failed"]:
            print(finished.stdout[-8000:])
        return counts


def main() -> int:
    """Run all suites and compare their counts with what is pinned."""
    parser = argparse.ArgumentParser(prog="make conformance")
    parser.add_argument("--all-api-versions", action="store_true", help="also the api-versions that live runs skip")
    parser.add_argument("--update", action="store_true", help="write the counts as the new expectation")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "keyleaf-conformance")
    options = parser.parse_args()
    expected = json.loads(EXPECTED.read_text()) if EXPECTED.exists() else {}
    measured: dict[str, dict[str, int]] = {}
    worse: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        subject = furnish(Path(scratch) / "state")
        try:
            for suite in suites(subject, all_versions=options.all_api_versions):
                counts = run(suite, subject, options.cache)
                measured[suite.name] = counts
                print(f"{suite.name:26} " + "  ".join(f"{name} {count}" for name, count in counts.items()), flush=True)
                pinned = expected.get(suite.name, {})
                fewer = any(counts[name] < pinned.get(name, 0) for name in ("wire_passed", "unit_passed"))
                if fewer or counts["wire_failed"] or counts["unit_failed"] or not counts["wire_passed"]:
                    worse.append(suite.name)
        finally:
            subject.stop()
    if options.update:
        EXPECTED.write_text(json.dumps({**expected, **measured}, indent=2) + "\n")
    if worse:
        print(f"conformance: worse than pinned in {EXPECTED.name}: {', '.join(worse)}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
