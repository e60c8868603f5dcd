"""``keyleaf audit``: read, verify and export the audit log, beside a running server or on a copy."""

from __future__ import annotations

import contextlib
import enum
import json
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.markup import escape

from keyleaf.cli import audit_log as log
from keyleaf.cli import azure_options as o
from keyleaf.cli.present import console, print_json
from keyleaf.core.errors import InputError, LedgerError, StateError
from keyleaf.ledger import (
    Filter,
    Record,
    Report,
    copy_of,
    copy_of_export,
    last,
    notes,
    open_note,
    query,
    snapshot,
    stored_entries,
    to_audit_events,
    to_csv,
    to_lines,
    verify,
)

audit = typer.Typer(help="Read, verify and export the audit log.", no_args_is_help=True, add_completion=False)

_POLL_SECONDS = 0.2
_DOES_NOT_FIT = 1
_INTERRUPTED = 130


class Format(enum.StrEnum):
    """Formats of the export."""

    jsonl = "jsonl"
    csv = "csv"
    auditevent = "auditevent"


@audit.command()
def tail(
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last records to show.")] = 20,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with new records until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document; with -f, one a line.")] = False,
    state: o.State = None,
) -> None:
    """Show the last records."""
    with log.reading(log.place_of(state)) as connection:
        with snapshot(connection):
            found = last(connection, Filter(), lines)
            newest = found[-1:] or last(connection, Filter(), 1)
        if not follow:
            print_json([log.as_data(record) for record in found]) if as_json else log.show(found)
            return
        position = (newest[0].epoch, newest[0].seq) if newest else (0, -1)
        try:
            for record in found:
                _put(record, as_json)
            while True:
                with snapshot(connection):
                    fresh = list(query(connection, Filter(), after=position))
                for record in fresh:
                    _put(record, as_json)
                    position = (record.epoch, record.seq)
                time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            raise typer.Exit(_INTERRUPTED) from None


@audit.command("query")
def query_records(
    since: Annotated[str, typer.Option(help="A time such as 2030-01-31T12:00Z, or an age: 90m, 7d.")] = "",
    until: Annotated[str, typer.Option(help="A time or an age.")] = "",
    identity: Annotated[str, typer.Option(help="Object id, client id or Application.")] = "",
    operation: Annotated[str, typer.Option(help="As Azure names it: SecretGet, VaultPut …")] = "",
    resource: Annotated[str, typer.Option(help="Part of the resource's id.")] = "",
    secret: Annotated[str, typer.Option(help="Name of a secret.")] = "",
    decision: Annotated[str, typer.Option(help="allowed, denied, unauthenticated or none.")] = "",
    status: Annotated[int | None, typer.Option(help="HTTP status.")] = None,
    request_id: Annotated[
        str, typer.Option(help="As answered in x-ms-request-id, or as an orchestration's read sent it.")
    ] = "",
    instance: Annotated[str, typer.Option(help="Of an orchestration: the reads for it.")] = "",
    activity: Annotated[str, typer.Option(help="Of an orchestration: the reads for it.")] = "",
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", min=1, help="At most so many, the oldest first.")
    ] = None,
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Show the records that pass every filter, oldest first."""
    if decision not in ("", "allowed", "denied", "unauthenticated", "none"):
        raise InputError(f"--decision {decision!r} is none", hint="allowed, denied, unauthenticated or none")
    now = datetime.now(UTC)
    wanted = Filter(
        since=log.microseconds(since, "--since", now),
        until=log.microseconds(until, "--until", now),
        identity=identity,
        operation=operation,
        resource=resource,
        secret=secret,
        decision=decision,
        status=status,
        request_id=request_id,
        instance=instance,
        activity=activity,
    )
    with log.reading(log.place_of(state)) as connection, snapshot(connection):
        found = list(query(connection, wanted, limit=limit))
    print_json([log.as_data(record) for record in found]) if as_json else log.show(found)


@audit.command("verify")
def verify_log(
    anchor: Annotated[
        list[Path] | None, typer.Option(help="A checkpoint that was kept elsewhere; may be given more than once.")
    ] = None,
    export: Annotated[Path | None, typer.Option(help="Verify an exported file instead of the database.")] = None,
    vkey: Annotated[
        Path | None,
        typer.Option(help="The key that verifies checkpoints. Default: ledger.vkey of the state directory."),
    ] = None,
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Verify every record and checkpoint; exit code 1 if anything does not fit."""
    place = log.place_of(state, database=export is None)
    key = _read(vkey).strip() if vkey else place.vkey
    anchors = [_read(path) for path in anchor or ()]
    if export is not None:
        report = verify(copy_of_export(export, key), anchors)
    else:
        # Read before the database: what is kept beside it is never ahead of it then.
        kept = [place.kept] if place.kept else []
        with log.reading(place) as connection, snapshot(connection):
            try:
                report = verify(copy_of(connection, key), [*kept, *anchors])
            except LedgerError as error:
                report = Report(problem=str(error))
    _tell(report, as_json, alone=not anchors, keyless=not key)
    if not report.fits:
        raise typer.Exit(_DOES_NOT_FIT)


@audit.command()
def export(
    form: Annotated[
        Format, typer.Option("--format", help="jsonl verifies on its own; auditevent is Azure's shape.")
    ] = Format.jsonl,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file. Default: standard output.")] = None,
    state: o.State = None,
) -> None:
    """Write the whole log, as it is at this moment."""
    place = log.place_of(state)
    with log.reading(place) as connection, snapshot(connection):
        entries = stored_entries(connection)
        copy = copy_of(connection, place.vkey)
        match form:
            case Format.jsonl:
                lines = to_lines(entries, notes(connection), copy.vkey)
            case Format.csv:
                lines = to_csv(entries)
            case Format.auditevent:
                lines = to_audit_events(entries)
        with _writing(output) as file:
            file.writelines(lines)


@audit.command("anchor")
def write_anchor(
    file: Annotated[Path, typer.Argument(help="Where to write it; - for standard output. Keep it elsewhere.")],
    state: o.State = None,
) -> None:
    """Write the last signed checkpoint: with it, verify sees a roll-back."""
    place = log.place_of(state)
    with log.reading(place) as connection, snapshot(connection):
        signed = notes(connection)
        key = copy_of(connection, place.vkey).vkey
    if not signed:
        raise StateError("no checkpoint is signed yet", hint="the server signs one every minute, and when it stops")
    try:
        checkpoint = open_note(signed[-1].note, key)
    except InputError as error:
        raise LedgerError(error.message, hint="keyleaf audit verify") from None
    with _writing(None if str(file) == "-" else file) as out:
        out.write(signed[-1].note)
    console(stderr=True).print(f"checkpoint of {checkpoint.size} records, {escape(checkpoint.origin)}")


@audit.command()
def epoch(
    reason: Annotated[str, typer.Option(help="Why the database was restored; it is kept in the log.")],
    state: o.State = None,
    as_json: o.Json = False,
) -> None:
    """Go on after an honest restore: a new epoch that names the old one's last checkpoint. No server may be running."""
    if not reason.strip():
        raise InputError("--reason is empty", hint="say why the database was restored")
    from keyleaf.cli.audit_epoch import begin_epoch

    note, checkpoint = begin_epoch(log.place_of(state), reason)
    if as_json:
        print_json({"origin": checkpoint.origin, "size": checkpoint.size, "checkpoint": note})
        return
    console().print(f"a new epoch has begun: {escape(checkpoint.origin)}")


def _put(record: Record, as_json: bool) -> None:
    text = json.dumps(log.as_data(record), ensure_ascii=False) if as_json else log.line(record)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _tell(report: Report, as_json: bool, *, alone: bool, keyless: bool) -> None:
    if as_json:
        first = {"epoch": report.first[0], "seq": report.first[1]} if report.first else None
        print_json(
            {
                "fits": report.fits,
                "problem": report.problem,
                "first": first,
                "records": report.records,
                "epochs": {str(number): size for number, size in report.sizes.items()},
                "checkpoints": report.checkpoints,
                "anchors": report.anchors,
                "unsigned": report.unsigned,
                "lost": report.lost,
            }
        )
        return
    out = console()
    if not report.fits:
        where = f"record {report.first[1]} of epoch {report.first[0]}: " if report.first else ""
        out.print(f"[bold red]does not fit[/] {escape(where + report.problem)}")
        return
    anchors = f", {report.anchors} kept outside the database" if report.anchors else ""
    out.print(f"[green]fits[/] {report.records} records, {report.checkpoints} signed checkpoints{anchors}")
    for sentence in report.lost:
        out.print(f"[yellow]declared:[/] {escape(sentence)}")
    if report.unsigned:
        out.print(f"[dim]{report.unsigned} records follow the last checkpoint; no signature vouches for them yet[/]")
    if alone:
        out.print("[dim]no --anchor was given: whoever could change this machine could roll all of it back[/]")
    if keyless:
        out.print("[yellow]the key is the copy's own word: give the real one with --vkey[/]")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}", hint=getattr(error, "strerror", "") or "it is no text") from None


@contextlib.contextmanager
def _writing(path: Path | None) -> Iterator[IO[str]]:
    """A private file that is there as a whole or not at all; None for standard output."""
    if path is None:
        yield sys.stdout
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}", hint=error.strerror or "") from None
    finally:
        partial.unlink(missing_ok=True)
