"""Reads of secrets over TLS, with token, decision, decryption and durable record, beside the same server's constant."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conformance.subject import Operator, start_server

from bench import results
from bench.load import Load, run

SECONDS = 4.0
ROUNDS = 3
CONNECTIONS = (1, 32, 256)
MANY = 100_000
ASKED = 1_000


def main() -> None:
    """Measure and write ``reads.json``."""
    with tempfile.TemporaryDirectory(prefix="keyleaf-bench-") as scratch:
        state = Path(scratch) / "state"
        _fill(state)
        process, connection = start_server(state, arguments=("--constant",), environment=dict(os.environ))
        try:
            operator = Operator(state, connection)
            base = connection["vaults"]["kv-bench"]
            token = operator.token("https://0.0.1:" + base.rsplit(":", 1)[1])
            authority = Path(connection["ca_bundle"])
            empty = _memory(process.pid)
            reads = [f"/secrets/s{number * (MANY // ASKED)}?api-version=2026-04-01" for number in range(ASKED)]
            for path in reads:
                operator._http.get(base + path, headers={"Authorization": f"Bearer {token}"}).raise_for_status()
            # Until SQLite's write-ahead log has reached its size and is written over, every commit also extends a file.
            run(base, reads, token, 32, 2 * SECONDS, authority)
            rows = []
            for connections in CONNECTIONS:
                pairs: list[tuple[Load, Load, float, float]] = []
                for _ in range(ROUNDS):
                    before = _cpu(process.pid)
                    constant = run(base, ["/constant"], token, connections, SECONDS, authority)
                    between = _cpu(process.pid)
                    read = run(base, reads, token, connections, SECONDS, authority)
                    after = _cpu(process.pid)
                    pairs.append(
                        (
                            constant,
                            read,
                            (between - before) / (constant.rate * SECONDS),
                            (after - between) / (read.rate * SECONDS),
                        )
                    )
                row = _row(connections, pairs)
                rows.append(row)
                print(
                    f"{connections:4} connections: read {row['read']['rate']:7.0f}/s  p50 {row['read']['p50']:.2f} ms  "
                    f"p99 {row['read']['p99']:.2f} ms   constant {row['constant']['rate']:7.0f}/s   "
                    f"ratio {row['ratio']:.2f}   CPU ratio {row['cpu_ratio']:.2f}",
                    flush=True,
                )
            memory = _memory(process.pid)
            print(f"memory with {MANY} secrets: {empty} MB at start, {memory} MB after the load")
            results.write(
                "reads",
                {"secrets": MANY, "asked": ASKED, "rows": rows, "memory_mb": memory, "memory_at_start_mb": empty},
            )
        finally:
            process.terminate()
            process.wait(20)


def _row(connections: int, pairs: list[tuple[Load, Load, float, float]]) -> dict[str, Any]:
    """The round in the middle, by ratio."""
    pairs.sort(key=lambda pair: pair[1].rate / pair[0].rate)
    constant, read, constant_cpu, read_cpu = pairs[len(pairs) // 2]
    return {
        "connections": connections,
        "read": asdict(read),
        "constant": asdict(constant),
        "ratio": read.rate / constant.rate,
        "cpu_ratio": statistics.median(c / r for _, _, c, r in pairs),
        "cpu_us_read": read_cpu * 1e6,
        "cpu_us_constant": constant_cpu * 1e6,
    }


def _fill(state: Path) -> None:
    """A vault with many secrets, written by the vault's own code while no server runs."""
    process, connection = start_server(state, arguments=(), environment=dict(os.environ))
    Operator(state, connection).vault("kv-bench")
    process.terminate()
    process.wait(20)
    from keyleaf.core.clock import SystemRandomness
    from keyleaf.store import Database, StateDirectory, sqlite_url
    from keyleaf.store.rootkey import open_keyring
    from keyleaf.vault import find_vault
    from keyleaf.vault.bundles import SetRequest
    from keyleaf.vault.secrets import set_secret

    directory = StateDirectory.open(state)
    database = Database.open(sqlite_url(directory.database))
    randomness = SystemRandomness()
    with database.write() as writing:
        keyring = open_keyring(writing, directory, randomness)
        vault = find_vault(writing, "kv-bench")
        assert vault is not None
        for number in range(MANY):
            set_secret(writing, keyring, randomness, vault, f"s{number}", SetRequest(f"value-{number:050}"), 1.0)
    database.close()


def _cpu(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    """Resident megabytes of a process."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    sys.exit(main())
