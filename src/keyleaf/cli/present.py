"""How the reading verbs answer: tables for people, one JSON document for programs.

Rich leaves colours out where ``NO_COLOR`` is set or the output is no terminal.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keyleaf.core.finding import Finding, Severity

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}


def console(*, stderr: bool = False) -> Console:
    """The terminal, or whatever stands for it; what is no terminal gets lines of 160 columns, never cut."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else max(160, shutil.get_terminal_size((160, 24)).columns)
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not stream.isatty())


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table; cells are plain text, nothing in them is markup."""
    table = Table(*columns, title=escape(title) or None, title_justify="left", box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console().print(table)


def finding_as_data(finding: Finding) -> dict[str, str]:
    """A finding as plain data, for ``--json``."""
    return {
        "code": finding.code,
        "severity": finding.severity.name.lower(),
        "message": finding.message,
        "owner": finding.owner,
        "where": str(finding.where) if finding.where else "",
        "cause": finding.cause,
        "fix": finding.fix,
    }


def print_findings(findings: Iterable[Finding], *, stderr: bool = False) -> None:
    """Each finding with its place and owner; errors and warnings with cause and fix too.

    Of notes of one kind only the first is shown, with the number of the others: ``--json`` has all.
    """
    out = console(stderr=stderr)
    listed = list(findings)
    notes = Counter(finding.code for finding in listed if finding.severity is Severity.NOTE)
    for finding in listed:
        others = notes.pop(finding.code, 0) - 1 if finding.severity is Severity.NOTE else 0
        if others < 0:
            continue
        style = _STYLES[finding.severity]
        head = f"[{style}]{finding.severity.name.lower()}[/] [bold]{escape(finding.code)}[/]"
        owner = f" [dim]({escape(finding.owner)})[/]" if finding.owner else ""
        place = f"{escape(str(finding.where))}: " if finding.where else ""
        out.print(f"{head} {place}{escape(finding.message)}{owner}")
        if others:
            out.print(f"    [dim]and {others} more of this kind; --json lists them[/]")
        if finding.severity is Severity.NOTE:
            continue
        if finding.cause:
            out.print(f"    [dim]why:[/] {escape(finding.cause)}")
        if finding.fix:
            out.print(f"    [dim]fix:[/] {escape(finding.fix)}")
