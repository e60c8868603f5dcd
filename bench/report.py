# ruff: noqa: E501 (lines of a page)
"""Writes docs/performance.md out of the figures in bench/results/."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from bench import results

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"

HEAD = """# Performance

`make bench` takes these figures and writes this page. Each stands beside its ceiling or a peer that was measured in the
same run on the same machine: trust the ratios, not the absolute numbers.
"""


def write_page() -> None:
    """Write the page; what has not been measured is said so."""
    parts = [HEAD]
    sections = (
        ("reads", _reads),
        ("ledger", _ledger),
        ("plan", _plan),
        ("start", _start),
        ("flows", _flows),
        ("snowball", _snowball),
    )
    for name, section in sections:
        figures = results.read(name)
        parts.append(section(figures) if figures else f"## {name}\n\nNot measured yet: `make bench ARGS={name}`.\n")
    PAGE.write_text("\n".join(parts))


def _machine(figures: dict[str, Any]) -> str:
    seen = figures["machine"]
    return f"{seen['cores']} cores ({seen['processor']}), Python {seen['python']}, load {seen['load']:.1f} at the end"


def _reads(figures: dict[str, Any]) -> str:
    lines = [
        "## Reading a secret",
        "",
        "One server process, TLS, keep-alive. *Read*: token, directory, RBAC, AES-GCM and an audit record that is on disk",
        "before the answer leaves. *Constant*: the same server answering a fixed text. Client: "
        f"{figures['rows'][0]['read']['client']}, one thread, on the same machine; {figures['secrets']:,} secrets in the",
        f"vault, {figures['asked']:,} of them asked in turn. After a warm-up; the round in the middle of three, by ratio.",
        "",
        "| connections | reads/s | p50 ms | p99 ms | constant/s | ratio | processor time, constant : read |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in figures["rows"]:
        read, constant = row["read"], row["constant"]
        lines.append(
            f"| {row['connections']} | {read['rate']:,.0f} | {read['p50']:.2f} | {read['p99']:.2f} | "
            f"{constant['rate']:,.0f} | {row['ratio']:.2f} | {row['cpu_us_constant']:.0f} µs : {row['cpu_us_read']:.0f} µs "
            f"= {row['cpu_ratio']:.2f} |"
        )
    lines += [
        "",
        f"Memory of the server with {figures['secrets']:,} secrets: {figures['memory_at_start_mb']} MB at start, "
        f"{figures['memory_mb']} MB after the load.",
        "",
        _machine(figures) + ".",
        "",
    ]
    return "\n".join(lines)


def _ledger(figures: dict[str, Any]) -> str:
    lines = ["## The audit log", "", "| figure | value |", "|---|---|"]
    for name, value in figures.items():
        if name != "machine":
            lines.append(f"| {name.replace('_', ' ')} | {_shown(value)} |")
    return "\n".join([*lines, "", _machine(figures) + ".", ""])


def _plan(figures: dict[str, Any]) -> str:
    return "\n".join(
        [
            "## Planning a large tree",
            "",
            f"A generated tree of {figures['applications']:,} applications with four declared secrets each, whole processes.",
            "",
            "| step | seconds |",
            "|---|---|",
            f"| merely parsing the YAML (ceiling) | {figures['parse_seconds']:.1f} |",
            f"| `keyleaf tree` | {figures['tree_seconds']:.1f} |",
            f"| `keyleaf plan`, nothing applied yet | {figures['plan_fresh_seconds']:.1f} |",
            f"| `keyleaf apply` | {figures['apply_seconds']:.1f} |",
            f"| `keyleaf plan`, everything applied | {figures['plan_settled_seconds']:.1f} |",
            "",
            f"Planning costs {figures['ratio']:.1f} times the parsing. With everything applied it has to ask for the",
            "federated credentials of each identity, one call each: Azure has no list of them.",
            "",
            _machine(figures) + ".",
            "",
        ]
    )


def _start(figures: dict[str, Any]) -> str:
    lines = [
        "## Starting the example",
        "",
        "| step, seconds since the start | first start | second | third |",
        "|---|---|---|---|",
    ]
    for step in figures["first"]:
        cells = " | ".join(f"{figures[run][step]:.1f}" for run in ("first", "second", "third"))
        lines.append(f"| {step} | {cells} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Merely starting {figures['programs']} programs that import the SDK, without keyleaf: "
            f"{figures['bare_programs_seconds']:.1f} s; the second start takes {figures['ratio']:.1f} times that.",
            "",
            _machine(figures) + ".",
            "",
        ]
    )


def _flows(figures: dict[str, Any]) -> str:
    lines = [
        "## Orchestrations",
        "",
        "Four activities in a row, started and awaited by 1 or 16 clients in the same process. *With a secret*: the last of the",
        "four reads one from an embedded vault in a process of its own, through Microsoft's SDK: keyleaf just in time, the bare",
        "engine by a shared client. Payloads of keyleaf are encrypted with a key from the vault unless said otherwise; every",
        "engine runs with its own durability, keyleaf on SQLite with `synchronous=FULL`. Contestants take turns; medians of",
        f"{figures['rounds']} rounds of {figures['seconds']:.0f} s, spread in brackets. *Ratio* is to the first contestant of the table in the same round.",
        "",
    ]
    for engine, rows in figures["engines"].items():
        lines += [
            f"### {engine}",
            "",
            "| | clients | secret | orchestrations/s | p50 ms | p99 ms | processor ms each | ratio | to itself without secret |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for row in rows:
            with_secret = row["variant"] == "secret"
            lines.append(
                f"| {row['contestant']} | {row['concurrency']} | {'yes' if with_secret else ''} | {row['rate']:.0f} "
                f"({row['rate_least']:.0f} to {row['rate_most']:.0f}) | {row['p50']:.1f} | {row['p99']:.1f} | "
                f"{row['processor_ms']:.1f} | {row['ratio']:.2f} | "
                f"{format(row['ratio_without_secret'], '.2f') if with_secret else ''} |"
            )
        lines.append("")
    if "growth" in figures:
        growth = figures["growth"]
        lines += [
            "### Growth of one store",
            "",
            f"SQLite, {growth['concurrency']} clients. Time for the last hundred instances beside the first hundred, and for looking.",
            "",
            "| instances in the store | time, last 100 : first 100 | processor time, last 100 : first 100 | list the newest 100, ms | get one, ms |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {row['instances']:,} | {row['ratio_to_first_100']:.2f} | {format(row.get('processor_ratio_to_first_100', math.nan), '.2f')} | {row['list_ms']:.1f} | {row['get_ms']:.1f} |"
            for row in growth["rows"]
        ]
        lines.append("")
    seen = figures["machine"]
    busy = ["", "The machine was busy with other work: take these figures again before you rely on them."]
    return "\n".join([*lines, _machine(figures) + ".", *(busy if seen["load"] > 2 * seen["cores"] else []), ""])


def _snowball(figures: dict[str, Any]) -> str:
    lines = [
        "## A vault that is throttling or away",
        "",
        "Instances of one activity that needs one secret start while the vault is bad: it answers 429, or closes every",
        "connection. Requests are counted where they arrive, at a TLS server. *SDK alone*: the same activity calls a shared",
        "client of Microsoft's SDK, with its own retries.",
        "",
        "![Requests a second over time](snowball.svg)",
        "",
        "| the vault | engine | | instances | bad for s | requests meanwhile | most in any second | requests afterwards | finished | s after the vault is good |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in figures["cases"]:
        lines.append(
            f"| {case['outage']} | {case['engine']} | {'SDK alone' if case['alone'] else 'keyleaf'} | {case['instances']:,} | "
            f"{case['outage_seconds']:.0f} | {case['requests_while_bad']:,} | {case['most_in_a_second_while_bad']:,} | "
            f"{case['requests_afterwards']:,} | {case['ended'].get('right', 0):,} | {case['ended_after_outage']:.0f} |"
        )
    return "\n".join([*lines, "", _machine(figures) + ".", ""])


def _shown(value: object) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)
