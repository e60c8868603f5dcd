"""The module that a worker runs: for each way and each kind of value an activity and an orchestration."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from hostile import ways_of_errors, ways_of_instances, ways_of_output, ways_of_results  # noqa: F401 (they enter ways)
from hostile.canaries import KINDS, secret_name
from hostile.ways import STASH, WAYS, Way, in_base64
from hostile.worker import prepare
from keyleaf import Retry, Secret, activity, orchestration, secret, set_status, wait_for_event

prepare()


@activity
async def takes(value: str) -> str:
    """An activity that does nothing."""
    return "taken"


@orchestration
async def nothing() -> str:
    """An orchestration that does nothing."""
    return "nothing"


@orchestration
async def echo(value: str) -> str:
    """An orchestration that is given a value."""
    return await takes(value)


@orchestration
async def fails_with(name: str) -> str:
    """A sub-orchestration that gets at a value by itself."""
    raise ValueError(STASH.find(name))


@orchestration
async def listens() -> None:
    """An orchestration that waits."""
    await wait_for_event("go")


class Leaves(BaseException):
    """Not an Exception."""


def flow_name(way: Way, kind: str) -> str:
    """The orchestration, and the activity, of a way and a kind."""
    return f"way-{way.number:03d}-{kind}"


def _flow(done: Any, flow: str, name: str) -> Any:
    async def run() -> str:
        await done()
        if flow == "status":
            set_status(f"signed in with {STASH.find(name)}")
        elif flow == "status in base64":
            set_status(in_base64(STASH.find(name), 1))
        elif flow == "activity":
            await takes(STASH.find(name))
        elif flow == "child":
            await echo(STASH.find(name))
        elif flow == "return":
            return STASH.find(name)
        elif flow == "raise":
            raise ValueError(STASH.find(name))
        elif flow == "type":
            raise type(STASH.find(name), (Exception,), {})("refused")
        elif flow == "exit":
            raise SystemExit(STASH.find(name))
        elif flow == "base":
            raise Leaves(STASH.find(name))
        elif flow == "child error":
            await fails_with(name)
        elif flow == "event":
            await wait_for_event(STASH.find(name), timeout=timedelta(seconds=1))
        return "done"

    return run


def _activity(way: Way, name: str) -> Any:
    inner = way.function
    if inner.__code__.co_flags & 0x80:  # async

        async def run_async(key: Secret) -> Any:
            STASH.leave(name, key.reveal())
            return await inner(key.reveal(), key)

        return run_async

    def run(key: Secret) -> Any:
        STASH.leave(name, key.reveal())
        return inner(key.reveal(), key)

    return run


def declare(names: set[str]) -> None:
    """Declare these."""
    for way in WAYS:
        for kind in way.kinds or KINDS:
            name = flow_name(way, kind)
            if name not in names:
                continue
            declared = activity(
                _activity(way, name),
                name=name,
                secrets={"key": secret(f"canaries/{secret_name(kind, way.number)}")},
                retry=Retry(max_attempts=way.attempts, first=0.01),
                timeout=way.timeout,
            )
            orchestration(_flow(declared, way.flow, name), name=name)


if "HOSTILE_FLOWS" in os.environ:
    declare(set(Path(os.environ["HOSTILE_FLOWS"]).read_text().split()))
