"""Instances of orchestrations as people and programs see them. Nothing here needs the payload key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from keyleaf.orchestrate.driver import LIMIT_OF
from keyleaf.orchestrate.engines.base import ENDED, InstanceView, StepView, Waiting
from keyleaf.orchestrate.envelope import AttemptNote, Envelope, SecretUse
from keyleaf.orchestrate.outcomes import Message, event_purpose

if TYPE_CHECKING:
    from keyleaf.orchestrate.payload import PayloadCodec

LIST_COLUMNS = ("instance", "orchestration", "state", "started", "took", "waits for", "status")
_STYLES = {"completed": "green", "failed": "bold red", "cancelled": "yellow", "terminated": "yellow"}
_MARKS = {"value": "[green]✓[/]", "error": "[bold red]✗[/]", "cancelled": "[yellow]−[/]", "blocked": "[yellow]…[/]"}
_BAR = 12


def state_of(view: InstanceView) -> str:
    """The state, with what matters most about it."""
    return "blocked on secret" if view.blocked else view.state


def seconds(value: float) -> str:
    """A length of time for people."""
    if value < 10:
        return f"{max(value, 0.0) * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h" if value < 172800 else f"{value / 86400:.0f} d"


def iso(moment: float) -> str:
    """Seconds since 1970 as UTC time; empty for 0."""
    if not moment:
        return ""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def list_row(view: InstanceView, now: float) -> tuple[str, ...]:
    """One instance as cells."""
    ended = view.updated if view.state in ENDED else now
    waiting = waits_of(view)
    waits = ", ".join(_printable(f"{each.kind} {each.name}") for each in waiting[:2])
    more = f" +{len(waiting) - 2}" if len(waiting) > 2 else ""
    return (
        _printable(view.instance),
        f"{view.name}@{view.version}",
        state_of(view),
        iso(view.created)[:19].replace("T", " "),
        seconds(ended - view.created),
        waits + more,
        _printable(view.status),
    )


def waits_of(view: InstanceView) -> list[Waiting]:
    """What it waits for; the time limit of a wait for an event is told with the event."""
    limits = {each.name: each for each in view.waiting if each.kind == "timer"}
    found: list[Waiting] = []
    for each in view.waiting:
        limit = limits.pop(f"{LIMIT_OF}{each.name}", None) if each.kind == "event" else None
        found.append(replace(each, until=limit.until) if limit is not None else each)
    return [each for each in found if each.kind != "timer" or each.name in limits]


def as_data(view: InstanceView) -> dict[str, Any]:
    """An instance as plain data, for ``--json``: times in ISO 8601, payloads left out."""
    return {
        "instance": view.instance,
        "orchestration": view.name,
        "version": view.version,
        "state": view.state,
        "blocked": [
            {**msgspec.to_builtins(each), "since": iso(each.since), "deadline": iso(each.deadline)}
            for each in view.blocked
        ],
        "created": iso(view.created),
        "updated": iso(view.updated),
        "status": view.status,
        "tags": dict(view.tags),
        "parent": view.parent,
        "worker": view.worker,
        "waiting": [
            {"kind": each.kind, "name": each.name, "since": iso(each.since), "until": iso(each.until)}
            | ({"detail": each.detail} if each.detail else {})
            for each in waits_of(view)
        ],
        "progress": {name: {"done": done, "begun": begun} for name, (done, begun) in view.progress.items()},
    }


def step_as_data(view: InstanceView, step: StepView, codec: PayloadCodec | None = None) -> dict[str, Any]:
    """A recorded step as plain data, with its payload if there is a key."""
    envelope = step.envelopes[-1] if step.envelopes else None
    data: dict[str, Any] = {
        "index": step.index,
        "kind": step.kind,
        "name": step.name,
        "outcome": envelope.kind if envelope is not None else "value",
        "started": iso(step.started),
        "ended": iso(step.ended),
        "seconds": round(max(step.ended - step.started, 0.0), 6),
        "worker": envelope.worker if envelope is not None else "",
        "attempts": [
            {
                "number": note.number,
                "started": iso(note.started),
                "ended": iso(note.ended),
                "outcome": note.outcome,
                "error": note.error,
                "secrets": [msgspec.to_builtins(use) for use in note.secrets],
            }
            for note in notes_of(step)
        ],
    }
    if step.kind == "child":
        data["instance"] = f"{view.instance}.{step.index}"
    if codec is not None:
        data["payload"] = payload_of(view, step, codec)
    return data


def notes_of(step: StepView) -> tuple[AttemptNote, ...]:
    """All attempts of a step."""
    return tuple(note for envelope in step.envelopes for note in envelope.notes)


def payload_of(view: InstanceView, step: StepView, codec: PayloadCodec) -> Any:
    """The value of a step, or its error. Raises StateError for another key than it was sealed with."""
    if step.kind == "event":
        message = msgspec.json.decode(step.texts[0], type=Message)
        return msgspec.json.decode(codec.open(message.body, event_purpose(view.instance, step.name)))
    if step.kind not in ("activity", "child") or not step.envelopes:
        return None
    return opened(step.envelopes[-1], view.instance, step, codec)


def opened(envelope: Envelope, instance: str, step: StepView, codec: PayloadCodec) -> Any:
    """The body of an envelope."""
    if envelope.kind == "cancelled":
        return envelope.body
    if step.kind == "child":
        purpose = f"{instance}.{step.index}/output"
    else:
        purpose = f"{instance}/{step.index}/{'error' if envelope.kind == 'error' else 'output'}"
    return msgspec.json.decode(codec.open(envelope.body, purpose))


def secrets_read(steps: Iterable[StepView]) -> list[tuple[StepView, AttemptNote, SecretUse]]:
    """Every use of a secret, in order."""
    return [(step, note, use) for step in steps for note in notes_of(step) for use in note.secrets]


def drawing(
    view: InstanceView, steps: Sequence[StepView], now: float, *, flow: str = "", payloads: PayloadCodec | None = None
) -> Group:
    """The instance as ``show`` draws it."""
    ended = view.updated if view.state in ENDED else now
    state = state_of(view)
    style = _STYLES.get(view.state, "bold yellow" if view.blocked else "cyan")
    parts: list[Any] = [
        Text.from_markup(
            f"[bold]{_shown(view.instance)}[/]  {_shown(view.name)} [dim]version[/] {_shown(view.version)}"
            f"  [{style}]{state}[/]  [dim]{iso(view.created)}, {seconds(ended - view.created)}[/]"
        )
    ]
    for label, text in (
        ("flow", flow),
        ("status", view.status),
        ("tags", ", ".join(f"{key}={value}" for key, value in view.tags.items())),
        ("part of", view.parent),
        ("worker", view.worker),
    ):
        if text:
            parts.append(Text.from_markup(f"  [dim]{label}[/] {_shown(text)}"))
    carried = view.start.carried if view.start is not None else None
    if carried is not None:
        parts.append(
            Text.from_markup(f"  [dim]steps before {carried.before} are those of[/] {_shown(carried.instance)}")
        )
    if steps:
        parts += [Text(), _steps_table(view, steps, max(ended - view.created, 0.001), payloads)]
    for name, (done, begun) in view.progress.items():
        if view.state not in ENDED and done < begun:
            filled = round(_BAR * 2 * done / begun) if begun else 0
            parts.append(
                Text.from_markup(f"  {_shown(name)} {'█' * filled}{'░' * (_BAR * 2 - filled)} {done}/{begun} done")
            )
    parts += _waits(view, now)
    used = secrets_read(steps)
    if used:
        parts.append(Text.from_markup("\n  [dim]in the audit log:[/]"))
        for request in dict.fromkeys(use.request_id for _, _, use in used if use.request_id):
            parts.append(Text.from_markup(f"    keyleaf audit query --request-id {_shown(request)}"))
    if view.error.startswith("engine: "):
        parts.append(Text.from_markup(f"\n  [bold red]{_shown(view.error)}[/]"))
    return Group(*parts)


def _steps_table(view: InstanceView, steps: Sequence[StepView], whole: float, payloads: PayloadCodec | None) -> Table:
    table = Table("", "#", "step", "after", "took", "", "attempts", "secrets", box=None, pad_edge=False)
    table.columns[2].overflow = table.columns[6].overflow = table.columns[7].overflow = "fold"
    for step in steps:
        if step.kind == "choice":
            continue
        envelope = step.envelopes[-1] if step.envelopes else None
        mark = _MARKS[envelope.kind if envelope is not None else "value"]
        begin = min(max(step.started - view.created, 0.0) / whole, 1.0)
        length = max(step.ended - step.started, 0.0) / whole
        left = min(int(begin * _BAR), _BAR - 1)
        filled = max(1, min(round(length * _BAR), _BAR - left))
        name = _shown(step.name) if step.kind == "activity" else f"{step.kind} {_shown(step.name)}"
        if step.kind == "child":
            name += f" [dim]{_shown(view.instance)}.{step.index}[/]"
        notes = notes_of(step)
        attempts = str(len(notes)) if len(notes) == 1 and notes[0].outcome == "ok" else ""
        if not attempts:
            attempts = "; ".join(_attempt(note) for note in notes)
        uses = dict.fromkeys(_use(use) for note in notes for use in note.secrets)
        table.add_row(
            mark,
            str(step.index),
            name,
            seconds(step.started - view.created),
            seconds(step.ended - step.started),
            f"[dim]{' ' * left}[/][cyan]{'━' * filled}[/]",
            attempts,
            "\n".join(uses),
        )
        if payloads is not None:
            payload = payload_of(view, step, payloads)
            table.add_row("", "", f"[dim]{_shown(msgspec.json.encode(payload).decode())}[/]", "", "", "", "", "")
    return table


def _attempt(note: AttemptNote) -> str:
    return f"{note.number} {_shown(note.outcome)}" + (f" ({_shown(note.error)})" if note.error else "")


def _use(use: SecretUse) -> str:
    by = f" [dim]by[/] {_shown(use.identity[:8])}" if use.identity else ""
    return f"{_shown(use.name)}@{_shown(use.version[:8])}{by}"


def _waits(view: InstanceView, now: float) -> list[Text]:
    lines: list[Text] = []
    for blocked in view.blocked:
        ask = f"; ask {_shown(blocked.owner)}" if blocked.owner else ""
        until = f", gives up in {seconds(blocked.deadline - now)}" if blocked.deadline else ""
        lines.append(
            Text.from_markup(
                f"\n  [bold yellow]blocked on secret[/] {_shown(blocked.secret)}: {_shown(blocked.reason)}{ask}{until}"
            )
        )
    for each in waits_of(view):
        if each.kind == "secret":
            continue
        until = f", at most {seconds(each.until - now)} more" if each.until else ""
        detail = f": {_shown(each.detail)}" if each.detail else ""
        lines.append(
            Text.from_markup(
                f"  [cyan]waits for {each.kind}[/] {_shown(each.name)}"
                f" [dim]for {seconds(now - each.since)}{until}[/]{detail}"
            )
        )
    return lines


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _shown(text: str) -> str:
    return escape(_printable(text))
