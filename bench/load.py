"""Load on an HTTPS endpoint: wrk where it is installed, else a small client of our own, slower than the server.

The client is a separate process in both cases, so that it shares no interpreter with anything that is measured.
"""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass
class Load:
    """What a client saw.

    Attributes:
        rate: answers a second; p50 and p99 are milliseconds.
    """

    client: str
    connections: int
    rate: float
    p50: float
    p99: float
    failures: int


def run(base: str, paths: list[str], token: str, connections: int, seconds: float, authority: Path) -> Load:
    """Ask for the paths in turn on so many connections, for so long."""
    if shutil.which("wrk"):
        return _wrk(base, paths, token, connections, seconds)
    command = [sys.executable, "-m", "bench.load", base, str(connections), str(seconds), str(authority)]
    finished = subprocess.run(
        command, input=json.dumps({"paths": paths, "token": token}), capture_output=True, text=True, check=True
    )
    return Load(**json.loads(finished.stdout))


def _wrk(base: str, paths: list[str], token: str, connections: int, seconds: float) -> Load:
    listed = ", ".join(json.dumps(path) for path in paths)
    script = f"""
local paths = {{{listed}}}
local headers = {{["Authorization"] = "Bearer {token}"}}
local n = 0
request = function()
  n = n + 1
  return wrk.format("GET", paths[n % #paths + 1], headers)
end
done = function(summary, latency, requests)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), failed))
end
"""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "-s", file.name, base]
        finished = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in finished.stdout.splitlines() if line.startswith("RESULT "))
    requests, duration, p50, p99, failed = (int(word) for word in line.split()[1:])
    return Load("wrk", connections, requests / duration * 1e6, p50 / 1000, p99 / 1000, failed)


async def _own(base: str, connections: int, seconds: float, authority: str, paths: list[str], token: str) -> Load:
    import asyncio

    host, port = base.removeprefix("https://").split(":")
    context = ssl.create_default_context(cafile=authority)
    requests = [
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        for path in paths
    ]
    times: list[float] = []
    failures = 0
    end = time.perf_counter() + seconds

    async def worker(offset: int) -> None:
        nonlocal failures
        reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
        position = offset
        while (started := time.perf_counter()) < end:
            writer.write(requests[position % len(requests)])
            position += 1
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            failures += not head.startswith(b"HTTP/1.1 200")
            times.append(time.perf_counter() - started)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(worker(number) for number in range(connections)))
    elapsed = time.perf_counter() - began
    times.sort()
    p50, p99 = (times[int(len(times) * q)] * 1000 for q in (0.5, 0.99))
    return Load("own client", connections, len(times) / elapsed, p50, p99, failures)


if __name__ == "__main__":
    import asyncio

    given = json.loads(sys.stdin.read())
    seen = asyncio.run(
        _own(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4], given["paths"], given["token"])
    )
    print(json.dumps(asdict(seen)))
