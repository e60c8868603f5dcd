"""``keyleaf flow``: start, watch and steer orchestrations, on whichever engine they run."""

from __future__ import annotations

import json
import secrets as token_source
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.markup import escape

from keyleaf.cli import azure_options as o
from keyleaf.cli.flow_input import json_object, json_text, moment, tag_of
from keyleaf.cli.flow_place import Place, find, only, places
from keyleaf.cli.present import console, print_json, print_table
from keyleaf.core.errors import InputError

if TYPE_CHECKING:
    from keyleaf.orchestrate.engines.base import InstanceView, StepView
    from keyleaf.orchestrate.payload import PayloadCodec

flow = typer.Typer(help="Start, watch and steer orchestrations.", no_args_is_help=True)

Instance = Annotated[str, typer.Argument(metavar="INSTANCE", help="The id of an instance.")]
Flow = Annotated[str, typer.Option("--flow", help="The Orchestration of the tree: NAMESPACE/NAME, or NAME.")]
Engine = Annotated[
    str, typer.Option("--orchestrator", help="The engine's URL, outside a tree. Or $KEYLEAF_ORCHESTRATOR.")
]
Module = Annotated[str, typer.Option("--module", help="The module that has the orchestration, outside a tree.")]
ModulePath = Annotated[str, typer.Option("--path", help="The folder that the module is in.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the instance, in the clear.")]
_EVERY = 0.5


@flow.command("start")
def start(
    orchestration: Annotated[str, typer.Argument(metavar="ORCHESTRATION", help="Its name.")],
    given: Annotated[
        str, typer.Option("--input", help="JSON object of the arguments by name; @FILE reads a file, - standard input.")
    ] = "{}",
    instance: Annotated[str, typer.Option("--id", help="The instance's id; the same start again is the same.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="KEY=VALUE to find it by; may be given more than once.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended, and show its result.")] = False,
    flow_name: Flow = "",
    orchestrator: Engine = "",
    module: Module = "",
    path: ModulePath = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Start an instance. The input is checked against the orchestration's own types before anything is kept."""
    from keyleaf.orchestrate.errors import InstanceInUse
    from keyleaf.orchestrate.worker import new_start, require_same_start

    tags = dict(tag_of(text) for text in tag or ())
    data = json_object(given)
    with places(state, flow_name, orchestrator, module, path) as found:
        place = only(found)
        registry = place.registry()
        definition = registry.orchestration(orchestration)
        codec = place.codec()
        chosen = instance or f"{definition.name}-{token_source.token_hex(8)}"
        arguments = definition.parameters.decode(data, f"{chosen}: the input of orchestration {definition.name}")
        begun = new_start(definition, chosen, (), arguments, tags, codec, time.time())
        queue = definition.queue.name if definition.queue is not None else ""
        try:
            place.control.start(chosen, begun, queue)
        except InstanceInUse:
            require_same_start(place.control, codec, chosen, begun)
        if not wait:
            if as_json:
                print_json({"instance": chosen})
            else:
                console().print(escape(chosen))
            return
        view = _until_ended(place, chosen)
        _tell_end(view, codec, registry, as_json)


@flow.command("list")
def list_instances(
    states: Annotated[
        list[str] | None, typer.Option("--state-is", help="pending, running, completed …; may be given more than once.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Of the orchestration.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be given more than once.")] = None,
    prefix: Annotated[str, typer.Option(help="What the id begins with.")] = "",
    since: Annotated[str, typer.Option(help="Started after: a time, or an age such as 90m or 7d.")] = "",
    until: Annotated[str, typer.Option(help="Started before, likewise.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many of each flow, newest first.")] = 50,
    flow_name: Flow = "",
    orchestrator: Engine = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """List instances, newest first. ``--state-is blocked`` finds those that wait for a secret."""
    from keyleaf.cli.flow_show import LIST_COLUMNS, as_data, list_row
    from keyleaf.orchestrate.engines.base import STATES, Query
    from keyleaf.orchestrate.errors import EngineUnreachable

    if state is not None and str(state) in (*STATES, "blocked") and not state.exists():
        raise InputError("--state is the state directory", hint=f"instances are chosen by --state-is {state}")
    asked = tuple(states or ())
    for each in asked:
        if each not in (*STATES, "blocked"):
            raise InputError(f"no instance is ever {each}", hint=f"one of {', '.join(STATES)}, blocked")
    wanted = tuple(each for each in STATES if each in asked or (each == "running" and "blocked" in asked))
    query = Query(wanted, name, moment(since, "--since"), moment(until, "--until"), (), prefix, limit)
    query = Query(**{**query.__dict__, "tags": tuple(tag_of(text) for text in tag or ())})
    rows: list[tuple[str, InstanceView]] = []
    with places(state, flow_name, orchestrator, "", "") as found:
        for place in found:
            try:
                views = place.control.list(query)
            except EngineUnreachable as error:
                if len(found) == 1:
                    raise
                console(stderr=True).print(f"[yellow]{escape(place.flow)}: {escape(str(error))}[/]")
                continue
            if "blocked" in asked:
                views = [view for view in views if view.blocked or view.state in set(asked)]
            rows += [(place.flow, view) for view in views]
    rows.sort(key=lambda row: row[1].created, reverse=True)
    if as_json:
        print_json([{"flow": place, **as_data(view)} if place else as_data(view) for place, view in rows])
        return
    now = time.time()
    several = len({place for place, _ in rows}) > 1
    columns = ("flow", *LIST_COLUMNS) if several else LIST_COLUMNS
    print_table(columns, [(place, *list_row(view, now)) if several else list_row(view, now) for place, view in rows])


@flow.command("show")
def show(
    instance: Instance,
    follow: Annotated[bool, typer.Option("--follow", help="Go on showing until it has ended.")] = False,
    payloads: Annotated[
        bool, typer.Option("--payloads", help="Open inputs and results, with the payload key from the vault.")
    ] = False,
    flow_name: Flow = "",
    orchestrator: Engine = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Show the steps of an instance: durations, attempts, secret versions and identities used, what it waits for."""
    from keyleaf.cli.flow_show import drawing

    with places(state, flow_name, orchestrator, "", "") as found:
        place, view = find(found, instance)
        codec = place.codec() if payloads else None
        steps = place.control.steps(instance)
        if follow and not as_json:
            view, steps = _follow(place, view, steps, codec)
            if console().is_terminal:
                return
        if as_json:
            if follow:
                view = _until_ended(place, instance)
                steps = place.control.steps(instance)
            print_json(_whole(place, view, steps, codec))
            return
        console().print(drawing(view, steps, time.time(), flow=place.flow, payloads=codec))
        if codec is not None:
            _print_ends(view, codec)


@flow.command("signal")
def signal(
    instance: Instance,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's name.")],
    value: Annotated[str, typer.Option("--value", help="JSON; @FILE reads a file, - standard input.")] = "null",
    flow_name: Flow = "",
    orchestrator: Engine = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Send an external event. One that comes before the instance waits for it is kept until it does."""
    from keyleaf.orchestrate.worker import send_event

    decoded = json.loads(json_text(value, "--value"))
    with places(state, flow_name, orchestrator, "", "") as found:
        place, view = find(found, instance)
        view = send_event(place.control, place.codec(), instance, event, decoded, time.time())
    awaited = any(each.kind == "event" and each.name == event for each in view.waiting)
    if not awaited:
        console(stderr=True).print(
            f"[yellow]{escape(instance)} was not seen waiting for {escape(event)}: the event is kept for it[/]"
        )
    if as_json:
        print_json({"instance": instance, "event": event, "awaited": awaited})


@flow.command("cancel")
def cancel(
    instance: Instance,
    reason: Reason = "",
    flow_name: Flow = "",
    orchestrator: Engine = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Ask an instance to end; it may undo things first."""
    _act("cancel", instance, reason, flow_name, orchestrator, as_json, state)


@flow.command("terminate")
def terminate(
    instance: Instance,
    reason: Reason = "",
    flow_name: Flow = "",
    orchestrator: Engine = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """End an instance where it stands. Nothing is undone."""
    _act("terminate", instance, reason, flow_name, orchestrator, as_json, state)


@flow.command("suspend")
def suspend(
    instance: Instance,
    reason: Reason = "",
    flow_name: Flow = "",
    orchestrator: Engine = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Stop an instance at its next step until it is resumed."""
    _act("suspend", instance, reason, flow_name, orchestrator, as_json, state)


@flow.command("resume")
def resume(
    instance: Instance, flow_name: Flow = "", orchestrator: Engine = "", as_json: o.Json = False, state: o.State = None
) -> None:
    """Let a suspended instance go on."""
    _act("resume", instance, "", flow_name, orchestrator, as_json, state)


@flow.command("restart")
def restart(
    instance: Instance,
    step: Annotated[str, typer.Option("--from", help="The first step to run again: its number or its name.")],
    new: Annotated[str, typer.Option("--id", help="The id of the new instance.")] = "",
    flow_name: Flow = "",
    orchestrator: Engine = "",
    module: Module = "",
    path: ModulePath = "",
    as_json: o.Json = False,
    state: o.State = None,
) -> None:
    """Start a new instance with the input of one that has ended and its results before a step."""
    from keyleaf.orchestrate.worker import restart as restart_instance

    with places(state, flow_name, orchestrator, module, path) as found:
        place, _ = find(found, instance)
        registry = place.registry() if place.module else None
        begun = restart_instance(place.control, registry, place.codec(), instance, step, new, time.time())
    if as_json:
        print_json({"instance": begun, "restarted": instance})
    else:
        console().print(escape(begun))


def _act(
    verb: str, instance: str, reason: str, flow_name: str, orchestrator: str, as_json: bool, state: Path | None
) -> None:
    from keyleaf.orchestrate.worker import act

    with places(state, flow_name, orchestrator, "", "") as found:
        place, _ = find(found, instance)
        act(place.control, instance, verb, reason)
    if as_json:
        print_json({"instance": instance, "asked": verb})


def _until_ended(place: Place, instance: str) -> InstanceView:
    from keyleaf.orchestrate.engines.base import ENDED
    from keyleaf.orchestrate.errors import InstanceNotFound

    while True:
        view = place.control.get(instance)
        if view is None:
            raise InstanceNotFound(f"{instance} is gone")
        if view.state in ENDED:
            return view
        time.sleep(_EVERY / 5)


def _follow(
    place: Place, view: InstanceView, steps: list[StepView], codec: PayloadCodec | None
) -> tuple[InstanceView, list[StepView]]:
    """Show it until it has ended: drawn again and again on a terminal, elsewhere a line for each new step."""
    from keyleaf.cli.flow_show import drawing, seconds, state_of
    from keyleaf.orchestrate.engines.base import ENDED

    out = console()
    if out.is_terminal:
        with Live(console=out, auto_refresh=False) as live:
            while True:
                picture = drawing(view, steps, time.time(), flow=place.flow, payloads=codec)
                live.update(picture, refresh=True)
                if view.state in ENDED:
                    return view, steps
                time.sleep(_EVERY)
                view, steps = place.control.get(view.instance) or view, place.control.steps(view.instance)
    told: set[int] = set()
    state = ""
    while True:
        for step in steps:
            if step.index not in told and step.kind != "choice":
                told.add(step.index)
                out.print(
                    f"{escape(view.instance)}: {step.index} {step.kind} {escape(step.name)}"
                    f" {seconds(step.ended - step.started)}"
                )
        if state != state_of(view):
            state = state_of(view)
            out.print(f"{escape(view.instance)}: {state}")
        if view.state in ENDED:
            return view, steps
        time.sleep(_EVERY)
        view, steps = place.control.get(view.instance) or view, place.control.steps(view.instance)


def _whole(place: Place, view: InstanceView, steps: list[StepView], codec: PayloadCodec | None) -> dict[str, Any]:
    from keyleaf.cli.flow_show import as_data, secrets_read, step_as_data

    data = {"flow": place.flow, **as_data(view)} if place.flow else as_data(view)
    data["steps"] = [step_as_data(view, step, codec) for step in steps if step.kind != "choice"]
    data["audit"] = [
        {"request_id": use.request_id, "secret": use.name, "version": use.version, "step": step.index}
        for step, _, use in secrets_read(steps)
    ]
    if codec is not None:
        data |= _ends(view, codec)
    return data


def _ends(view: InstanceView, codec: PayloadCodec) -> dict[str, Any]:
    """Input and result of an instance, opened."""
    import msgspec

    from keyleaf.orchestrate.driver import input_purpose, output_purpose
    from keyleaf.orchestrate.envelope import unpack

    found: dict[str, Any] = {}
    if view.start is not None:
        found["input"] = msgspec.json.decode(codec.open(view.start.payload, input_purpose(view.instance)))
    text = view.result or view.error
    if text and not text.startswith("engine: "):
        ended = unpack(text)
        opened = msgspec.json.decode(codec.open(ended.body, output_purpose(view.instance)))
        found["result" if ended.kind == "value" else "error"] = opened
    return found


def _print_ends(view: InstanceView, codec: PayloadCodec) -> None:
    for name, value in _ends(view, codec).items():
        console().print(f"  [dim]{name}[/] {escape(json.dumps(value, ensure_ascii=False))}")


def _tell_end(view: InstanceView, codec: PayloadCodec, registry: Any, as_json: bool) -> None:
    from keyleaf.orchestrate.worker import result_of

    if as_json:
        print_json({"instance": view.instance, "state": view.state, **_ends(view, codec)})
        if view.state != "completed":
            raise typer.Exit(1)
        return
    result_of(view, codec, registry)  # raises for one that failed: its error is the one line
    console(stderr=True).print(f"[dim]{escape(view.instance)} completed[/]")
    console().print(escape(json.dumps(_ends(view, codec).get("result"), ensure_ascii=False)))
