"""``keyleaf rekey`` as a program, between two runs of a real server."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

from embedded import start_embedded

OLD = base64.b64encode(b"canary-old-root-key-of-32-bytes!").decode()
NEW = base64.b64encode(b"canary-new-root-key-of-32-bytes!").decode()


def keyleaf(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {name: value for name, value in os.environ.items() if not name.startswith("KEYLEAF_")}
    return subprocess.run(
        [sys.executable, "-m", "keyleaf", *arguments],
        env={**given, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_secrets_tokens_and_backups_survive_a_change_of_the_root_key(tmp_path: Path) -> None:
    state = tmp_path / "state"
    server = start_embedded(state, tmp_path)
    vault = server.vault("kv-rekey")
    server.put(vault, "db", "canary-value")
    blob = server.call("POST", f"{vault['url']}/secrets/db/backup", vault).json()["value"]
    refused = keyleaf("rekey", "--state", str(state))
    assert refused.returncode == 3
    assert f"(pid {server.process.pid})" in refused.stderr
    server.stop()

    changed = keyleaf("rekey", "--state", str(state), "--to", "env", KEYLEAF_NEW_ROOT_KEY=NEW)
    assert changed.returncode == 0, changed.stderr
    assert "file -> env" in changed.stdout
    assert "canary" not in changed.stdout + changed.stderr
    assert NEW not in changed.stdout + changed.stderr
    assert not (state / "root.key").exists()

    for environment in ({}, {"KEYLEAF_ROOT_KEY": OLD}):
        started = keyleaf("serve", "--state", str(state), **environment)
        assert started.returncode == 3, started.stderr
        assert "Traceback" not in started.stderr

    server = start_embedded(state, tmp_path, KEYLEAF_ROOT_KEY=NEW)
    url = f"{vault['url']}/secrets/db"
    assert server.call("GET", url, vault).json()["value"] == "canary-value"
    server.call("DELETE", url, vault)
    server.call("DELETE", f"{vault['url']}/deletedsecrets/db", vault)
    restored = server.call("POST", f"{vault['url']}/secrets/restore", vault, json={"value": blob})
    assert restored.status_code == 200, "a backup from before still restores"
    assert server.call("GET", url, vault).json()["value"] == "canary-value"
    server.stop()

    back = keyleaf("rekey", "--state", str(state), "--to", "file", KEYLEAF_ROOT_KEY=NEW)
    assert back.returncode == 0, back.stderr
    assert (state / "root.key").stat().st_mode & 0o777 == 0o600
    verified = keyleaf("audit", "verify", "--state", str(state))
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_what_is_no_installation_is_left_as_it_is(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir(mode=0o700)
    for arguments, word in (
        (("--state", str(tmp_path / "none")), "not a state directory"),
        (("--state", str(empty)), "no database"),
        (("--state", str(empty), "--to", "paper"), "not a provider"),
    ):
        done = keyleaf("rekey", *arguments)
        assert done.returncode == 2
        assert word in done.stderr
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [empty]
    assert list(empty.iterdir()) == []
