"""Ways out through what an engine keeps of an instance in the clear, and through what orchestrations pass on.

An orchestration gets at a value only where an earlier activity left it in the worker's memory.
"""

from __future__ import annotations

from typing import Any

from hostile.ways import in_base64, way
from hostile.worker import here
from keyleaf import Secret

for _flow, _name in {
    "status": "the custom status",
    "status in base64": "the custom status, in base64",
    "child": "the input of a sub-orchestration",
    "return": "the result of an orchestration",
    "raise": "the error of an orchestration",
    "type": "the type of an orchestration's error",
    "exit": "SystemExit of an orchestration",
    "base": "a BaseException of an orchestration",
    "child error": "the error of a sub-orchestration",
}.items():
    way("orchestration", _name, flow=_flow)(lambda value, secret: "done")
# DBOS does not keep what an activity is given.
way("orchestration", "the input of an activity", flow="activity", place="nowhere")(lambda value, secret: "done")
# Names that cannot be names are refused whatever they hold; one of letters and digits could be one.
way("orchestration", "the name of an event", flow="event", place="nowhere")(lambda value, secret: "done")


@way("instance", "a tag")
async def _tag(value: str, secret: Secret) -> str:
    return await here().start("nothing", tags={"customer": value})


@way("instance", "a key of a tag")
async def _tag_key(value: str, secret: Secret) -> str:
    return await here().start("nothing", tags={value: "1"})


@way("instance", "a tag in base64")
async def _tag_base64(value: str, secret: Secret) -> str:
    return await here().start("nothing", tags={"customer": in_base64(value, 1)})


@way("instance", "its id")
async def _id(value: str, secret: Secret) -> str:
    return await here().start("nothing", instance=f"job {value}")


@way("instance", "its id in hexadecimal")
async def _id_hexadecimal(value: str, secret: Secret) -> str:
    return await here().start("nothing", instance=value.encode().hex())


@way("instance", "its input")
async def _input(value: str, secret: Secret) -> str:
    return await here().start("echo", value)


@way("instance", "the payload of an event")
async def _event(value: str, secret: Secret) -> str:
    instance = await here().start("listens")
    try:
        await here().signal(instance, "go", {"key": value})
    except Exception:
        await here().end(instance)
        raise
    return instance


@way("instance", "the name of an event")
async def _event_name(value: str, secret: Secret) -> str:
    instance = await here().start("listens")
    try:
        await here().signal(instance, value, 1)
    finally:
        await here().signal(instance, "go", 1)
    return instance


def _reason(verb: str) -> Any:
    async def run(value: str, secret: Secret) -> str:
        instance = await here().start("listens")
        try:
            await getattr(here(), verb)(instance, f"because of {value}")
        except Exception:
            await here().end(instance)
            raise
        return instance

    return run


way("instance", "the reason of a cancellation")(_reason("cancel"))
way("instance", "the reason of a termination")(_reason("terminate"))
