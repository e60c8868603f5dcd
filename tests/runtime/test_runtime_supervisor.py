"""Real processes under the supervisor: start, identity, secrets, restart, change, end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from runtime_trees import ENDPOINTS, MemoryFetcher, deployment, manifests, need, running, tree, until

from keyleaf.runtime import Health, ManualTimer, run_spec
from keyleaf.runtime.guard import marked

REPORT = "import json,os,sys;json.dump(dict(os.environ),open(sys.argv[1],'w'));import time;time.sleep(60)"
SLEEP = "import time; time.sleep(60)"
LABELS = {"azure.workload.identity/use": "true"}


def read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return None


def alive(process: int) -> bool:
    """Whether it runs; what nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def report(name: str, file: Path, **more: Any) -> Any:
    container = {"args": [str(file)], **more.pop("container", {})}
    return deployment(name, REPORT, container=container, **more)


@pytest.mark.asyncio
async def test_a_process_has_exactly_its_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_CLIENT_SECRET", "of the parent")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of the parent")
    web = report("web", tmp_path / "web.json", labels=LABELS, pod={"serviceAccountName": "web"})
    db = report("db", tmp_path / "db.json", labels=LABELS, pod={"serviceAccountName": "db"})
    plain = report("plain", tmp_path / "plain.json", app="web", pod={"serviceAccountName": "web"})
    async with running(tmp_path) as supervised:
        await supervised.apply(run_spec(tree(web, db, plain), str(tmp_path)), ENDPOINTS)
        for directory in ("web", "db"):
            (tmp_path / directory).mkdir(exist_ok=True)
        of_web = await until(lambda: read_json(tmp_path / "web.json"))
        of_db = await until(lambda: read_json(tmp_path / "db.json"))
        of_plain = await until(lambda: read_json(tmp_path / "plain.json"))
        assert of_web["AZURE_CLIENT_ID"] == "client-web"
        assert of_db["AZURE_CLIENT_ID"] == "client-db"
        token_files = {of_web["AZURE_FEDERATED_TOKEN_FILE"], of_db["AZURE_FEDERATED_TOKEN_FILE"]}
        assert len(token_files) == 2
        for file in token_files:
            assert Path(file).stat().st_mode & 0o777 == 0o400
            assert Path(file).parent.stat().st_mode & 0o777 == 0o700
        assert of_db["AZURE_FEDERATED_TOKEN_FILE"] not in json.dumps(of_web)
        assert set(of_web) - {"LC_CTYPE"} == {
            "PATH", "HOME", "TMPDIR", "LANG", "NO_PROXY", "KEYLEAF_MOUNTS", "KEYLEAF_SUPERVISOR",
            "AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE",
            "AZURE_TOKEN_CREDENTIALS",
        }  # fmt: skip
        assert not any(name.startswith("AZURE_") for name in of_plain)


@pytest.mark.asyncio
async def test_secrets_reach_variables_and_files(tmp_path: Path) -> None:
    text = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  template:
    spec:
      serviceAccountName: web
      containers:
        - name: main
          command: [python3, -c, {json.dumps(REPORT)}]
          args: [{tmp_path}/web.json]
          env:
            - name: PASSWORD
              valueFrom: {{secretKeyRef: {{name: web-db, key: password}}}}
            - name: WHERE
              value: /mnt/keys/api-key
          envFrom:
            - prefix: APP_
              configMapRef: {{name: settings}}
          volumeMounts: [{{name: keys, mountPath: /mnt/keys}}]
      volumes:
        - name: keys
          csi:
            driver: secrets-store.csi.k8s.io
            volumeAttributes: {{secretProviderClass: keys}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{COLOUR: green}}
"""
    (tmp_path / "web").mkdir()
    needs = (
        need("db", "kubernetes-secret", "web-db", "password"),
        need("api-key", "file", "keys", "api-key", refresh_seconds=15),
    )
    fetcher = MemoryFetcher(db="hunter2", api_key="first")
    timer = ManualTimer()
    async with running(tmp_path, fetcher=fetcher, timer=timer) as supervised:
        await supervised.apply(run_spec(tree(manifests(text), needs=needs), str(tmp_path)), ENDPOINTS)
        seen = await until(lambda: read_json(tmp_path / "web.json"))
        assert seen["PASSWORD"] == "hunter2"
        assert seen["APP_COLOUR"] == "green"
        file = Path(seen["WHERE"])
        assert file.read_text() == "first"
        assert file.stat().st_mode & 0o777 == 0o400
        assert set(fetcher.asked) == {("web", "db"), ("web", "api-key")}
        pid = supervised.status()[0].pods[0].containers["main"].pid
        fetcher.secrets["api-key"] = "second"
        await timer.advance(16)
        await until(lambda: file.read_text() == "second")
        assert supervised.status()[0].pods[0].containers["main"].pid == pid


@pytest.mark.asyncio
async def test_a_missing_secret_is_told_and_tried_again(tmp_path: Path) -> None:
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  template:
    spec:
      containers:
        - name: main
          command: [python3, -c, "import time; time.sleep(60)"]
          env: [{name: KEY, valueFrom: {secretKeyRef: {name: keys, key: key}}}]
"""
    (tmp_path / "web").mkdir()
    fetcher, timer = MemoryFetcher(), ManualTimer()
    spec = run_spec(tree(manifests(text), needs=(need("late", "kubernetes-secret", "keys", "key"),)), str(tmp_path))
    async with running(tmp_path, fetcher=fetcher, timer=timer) as supervised:
        await supervised.apply(spec, ENDPOINTS)
        await until(lambda: supervised.health("web")[0] is Health.DEGRADED)
        assert "SecretNotFound" in supervised.health("web")[1]
        fetcher.secrets["late"] = "here"
        await timer.advance(1)
        await until(lambda: supervised.health("web")[0] is Health.HEALTHY)


@pytest.mark.asyncio
async def test_crashes_back_off(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    timer = ManualTimer()
    async with running(tmp_path, timer=timer) as supervised:
        await supervised.apply(run_spec(tree(deployment("web", "raise SystemExit(3)")), str(tmp_path)), ENDPOINTS)
        for wait in (0.5, 1.0, 2.0, 4.0):
            await until(lambda wait=wait: wait in timer.waits)
            assert supervised.health("web") == (Health.DEGRADED, "main: CrashLoopBackOff: exit code 3")
            await timer.advance(wait)
        assert supervised.status()[0].restarts >= 3


@pytest.mark.asyncio
async def test_only_what_changed_restarts(tmp_path: Path) -> None:
    for name in ("web", "db"):
        (tmp_path / name).mkdir()
    async with running(tmp_path) as supervised:
        before = tree(deployment("web", SLEEP), deployment("db", SLEEP))
        await supervised.apply(run_spec(before, str(tmp_path)), ENDPOINTS)
        assert await supervised.settled(10)
        pids = {s.spec.name: s.pods[0].containers["main"].pid for s in supervised.status()}
        after = tree(deployment("web", SLEEP), deployment("db", f"{SLEEP} # changed"))
        changes = await supervised.apply(run_spec(after, str(tmp_path)), ENDPOINTS)
        assert (changes.restarted, changes.kept) == (("db/Deployment/shop/db",), ("web/Deployment/shop/web",))
        await until(lambda: supervised.health("db")[0] is Health.HEALTHY)
        now = {s.spec.name: s.pods[0].containers["main"].pid for s in supervised.status()}
        assert now["web"] == pids["web"]
        assert now["db"] != pids["db"]
        gone = await supervised.apply(run_spec(tree(deployment("web", SLEEP)), str(tmp_path)), ENDPOINTS)
        assert gone.stopped == ("db/Deployment/shop/db",)
        assert not alive(now["db"])


@pytest.mark.asyncio
async def test_jobs_run_to_their_end_and_waves_wait(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    text = f"""
apiVersion: batch/v1
kind: Job
metadata: {{name: prepare, annotations: {{argocd.argoproj.io/sync-wave: "-1"}}}}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: main, command: [sh, -c, "sleep 0.2; touch {tmp_path}/done"]}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  template:
    spec:
      containers: [{{name: main, command: [sh, -c, "test -e {tmp_path}/done || exit 9; exec sleep 60"]}}]
"""
    async with running(tmp_path) as supervised:
        await supervised.apply(run_spec(tree(manifests(text)), str(tmp_path)), ENDPOINTS)
        await until(lambda: [s.health for s in supervised.status()] == [Health.HEALTHY, Health.HEALTHY])
        job, web = supervised.status()
        assert job.pods[0].phase == "succeeded"
        assert web.restarts == 0


@pytest.mark.asyncio
async def test_a_job_that_fails_too_often_is_degraded(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    text = """
apiVersion: batch/v1
kind: Job
metadata: {name: broken}
spec:
  backoffLimit: 1
  template: {spec: {restartPolicy: Never, containers: [{name: main, command: [sh, -c, "exit 4"]}]}}
"""
    timer = ManualTimer()
    async with running(tmp_path, timer=timer) as supervised:
        await supervised.apply(run_spec(tree(manifests(text)), str(tmp_path)), ENDPOINTS)
        await until(lambda: 0.5 in timer.waits)
        await timer.advance(0.5)
        await until(lambda: supervised.health("web")[0] is Health.DEGRADED)
        assert supervised.health("web")[1] == "BackoffLimitExceeded: main ended with 4"


@pytest.mark.asyncio
async def test_readiness_and_liveness(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    server = """
import http.server, os, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if pathlib.Path(os.environ['SICK']).exists() else 200); self.end_headers()
http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), Handler).serve_forever()
"""
    probe = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    container = {
        "ports": [{"containerPort": 80, "name": "http"}],
        "env": [{"name": "SICK", "value": str(tmp_path / "sick")}],
        "readinessProbe": probe,
        "livenessProbe": probe,
    }
    async with running(tmp_path) as supervised:
        await supervised.apply(run_spec(tree(deployment("web", server, container=container)), str(tmp_path)), ENDPOINTS)
        await until(lambda: supervised.health("web")[0] is Health.HEALTHY)
        status = supervised.status()[0].pods[0]
        assert status.ports[80] != 80
        (tmp_path / "sick").touch()
        await until(lambda: status.containers["main"].reason == "CrashLoopBackOff")
        (tmp_path / "sick").unlink()
        await until(lambda: supervised.health("web")[0] is Health.HEALTHY)


@pytest.mark.asyncio
async def test_what_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    stubborn = (
        "import signal,subprocess,sys,time,pathlib;signal.signal(signal.SIGTERM,signal.SIG_IGN);"
        "c=subprocess.Popen(['sleep','60']);pathlib.Path(sys.argv[1]).write_text(str(c.pid));time.sleep(60)"
    )
    web = deployment(
        "web", stubborn, container={"args": [str(tmp_path / "pid")]}, pod={"terminationGracePeriodSeconds": 0}
    )
    async with running(tmp_path) as supervised:
        await supervised.apply(run_spec(tree(web), str(tmp_path)), ENDPOINTS)
        child = int(await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    assert not alive(child)


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from runtime_trees import *
from keyleaf.runtime import run_spec
async def main():
    state = Path({str(tmp_path)!r})
    supervised = supervisor(state)
    await supervised.start()
    web = deployment("web", "import subprocess; subprocess.run(['setsid', 'sleep', '60'])")
    await supervised.apply(run_spec(tree(web), str(state)), ENDPOINTS)
    print(supervised.mark, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    (tmp_path / "web").mkdir()
    killed = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    with killed.stdout:
        mark = killed.stdout.readline().strip()
    end = time.monotonic() + 10
    while len(marked(mark)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert len(marked(mark)) >= 2
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    while marked(mark):
        assert time.monotonic() < end, "something outlived its supervisor"
        time.sleep(0.02)
