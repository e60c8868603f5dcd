"""Orchestrations that the tests of every engine run."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta

import msgspec

from keyleaf import (
    ActivityFailed,
    EventTimeout,
    InstanceCancelled,
    Retry,
    Secret,
    activity,
    activity_info,
    compensating,
    first,
    gather,
    instance_id,
    now,
    orchestration,
    random,
    secret,
    set_status,
    sleep,
    uuid,
    wait_for_event,
)
from keyleaf.orchestrate.definitions import Registry

FLOWS = Registry()
PORTAL = "payments/portal"


class Order(msgspec.Struct):
    """What the flows work on."""

    number: int
    lines: list[str] = []
    due: datetime | None = None


class Receipt(msgspec.Struct):
    """What charging gives."""

    order: int
    paid: bool


class Journal:
    """What activities did, across all instances of a test."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.entries: list[tuple[str, str, str]] = []

    def write(self, entry: str) -> None:
        """Note that the running activity did something."""
        info = activity_info()
        with self._lock:
            self.entries.append((info.instance, entry, info.idempotency_key))

    def of(self, instance: str) -> list[str]:
        """What was done for an instance, in order."""
        with self._lock:
            return [entry for owner, entry, _ in self.entries if owner == instance]


JOURNAL = Journal()


@activity(registry=FLOWS)
async def charge(order: Order) -> Receipt:
    """Charge, without a secret."""
    JOURNAL.write(f"charge {order.number}")
    return Receipt(order.number, True)


@activity(registry=FLOWS)
def reserve(line: str) -> str:
    """Reserve a line; not async."""
    JOURNAL.write(f"reserve {line}")
    return f"reserved {line}"


@activity(registry=FLOWS)
async def refund(order: Order) -> None:
    """Undo a charge."""
    JOURNAL.write(f"refund {order.number}")


class Flaky(Exception):
    """Goes away after a few attempts."""


@activity(registry=FLOWS, retry=Retry(max_attempts=4, first=0.05, factor=1.0))
async def flaky(failures: int) -> int:
    """Fails as often as it is told."""
    JOURNAL.write("flaky")
    if activity_info().attempt <= failures:
        raise Flaky(f"attempt {activity_info().attempt}")
    return activity_info().attempt


@activity(registry=FLOWS, retry=Retry(max_attempts=4, first=0.05, on=(Flaky,)))
def broken() -> None:
    """Fails in a way that is not worth a retry."""
    JOURNAL.write("broken")
    raise ValueError("for good")


@activity(registry=FLOWS, timeout=0.1)
async def slow() -> None:
    """Takes longer than it may."""
    await asyncio.sleep(30)


@activity(registry=FLOWS)
async def long() -> str:
    """Takes long, and can be cancelled."""
    JOURNAL.write("long begins")
    await asyncio.sleep(30)
    return "done"


@activity(registry=FLOWS, secrets={"key": secret(PORTAL)})
async def with_secret(key: Secret) -> int:
    """Uses a secret."""
    return len(key.reveal())


class Rejected(Exception):
    """The service does not accept the credential."""


ACCEPTED: set[str] = set()
"""Values that the service of the tests accepts."""


@activity(
    registry=FLOWS,
    secrets={"key": secret(PORTAL)},
    authentication_errors=(Rejected,),
    retry=Retry(max_attempts=1),
)
async def sign_in(key: Secret) -> str:
    """Signs in to a service that may have rotated its password."""
    JOURNAL.write("sign in")
    if key.reveal() not in ACCEPTED:
        raise Rejected("401")
    return "signed in"


@orchestration(registry=FLOWS)
async def fulfil(order: Order) -> str:
    """Steps, fan-out, sub-orchestration, approval."""
    receipt = await charge(order)
    set_status("charged")
    reserved = await gather(*[reserve(line) for line in order.lines])
    packed = await pack(order.number)
    approval = await wait_for_event("approved", timeout=timedelta(hours=24), type=str)
    return f"{receipt.paid} {reserved} {packed} by {approval}"


@orchestration(registry=FLOWS)
async def pack(number: int) -> str:
    """A sub-orchestration."""
    await sleep(0.05)
    return f"box {number}"


@orchestration(registry=FLOWS)
async def four(number: int) -> int:
    """Four activities in a row."""
    for _ in range(4):
        number = await add_one(number)
    return number


@activity(registry=FLOWS)
async def add_one(number: int) -> int:
    """Adds one."""
    JOURNAL.write(f"add {number}")
    return number + 1


@orchestration(registry=FLOWS)
async def retries(failures: int) -> int:
    """Retries with a limit."""
    return int(await flaky(failures))


@orchestration(registry=FLOWS)
async def gives_up() -> str:
    """An activity that fails for good."""
    try:
        await broken()
    except ActivityFailed as error:
        return f"{error.activity} {error.error_type} after {error.attempts}: {error.message}"
    return "no"


@orchestration(registry=FLOWS)
async def fails() -> None:
    """An orchestration that fails."""
    await broken()


@orchestration(registry=FLOWS)
async def parent_of_failing() -> str:
    """Sees the failure of a sub-orchestration."""
    try:
        await fails()
    except Exception as error:
        return type(error).__name__
    return "no"


@orchestration(registry=FLOWS)
async def too_slow() -> str:
    """An activity with a time limit."""
    try:
        await slow()
    except ActivityFailed as error:
        return error.error_type
    return "no"


@orchestration(registry=FLOWS)
async def no_event() -> str:
    """An event that does not come."""
    try:
        await wait_for_event("never", timeout=0.1)
    except EventTimeout as error:
        return f"timeout of {error.event}"
    return "no"


@orchestration(registry=FLOWS)
async def events_in_turn() -> list[int]:
    """Two events of one name, and a race that an event loses."""
    timer, event = sleep(0.05), wait_for_event("number")
    winner = await first(timer, event)
    assert winner is timer
    return [await wait_for_event("number", type=int), await wait_for_event("number", type=int)]


@orchestration(registry=FLOWS)
async def typed_event() -> str:
    """An event of the wrong type."""
    try:
        await wait_for_event("number", type=int)
    except Exception as error:
        return str(error)
    return "no"


@orchestration(registry=FLOWS)
async def races() -> str:
    """The quicker of two."""
    quick, slow_one = sleep(0.05), sleep(20)
    winner = await first(slow_one, quick)
    return "quick" if winner is quick else "slow"


@orchestration(registry=FLOWS)
async def booking(order: Order, fail: bool) -> str:
    """A saga."""
    async with compensating() as undo:
        await charge(order)
        undo.add(refund, order)
        if fail:
            await broken()
        await wait_for_event("go")
    return "booked"


@orchestration(registry=FLOWS)
async def patient() -> str:
    """Waits for an activity that takes long."""
    try:
        return str(await long())
    except InstanceCancelled:
        await reserve("what is left")
        raise


@orchestration(registry=FLOWS)
async def repeatable() -> list[str]:
    """What is the same at every replay."""
    begun = now()
    await sleep(0.05)
    return [str(uuid()), f"{random().random():.6f}", instance_id(), str(now() >= begun)]


@orchestration(registry=FLOWS)
async def uses_secret() -> int:
    """Needs a secret."""
    return int(await with_secret())


@orchestration(registry=FLOWS)
async def signs_in() -> str:
    """Needs a secret that may have been rotated."""
    return str(await sign_in())


@orchestration(registry=FLOWS)
async def fans_out(width: int) -> int:
    """Many activities that want one secret."""
    return sum(await gather(*[with_secret() for _ in range(width)]))


@orchestration(registry=FLOWS, timeout=0.3)
async def limited() -> None:
    """Has less time than it needs."""
    await sleep(30)


@orchestration(registry=FLOWS)
async def partly_fails() -> list[str]:
    """A fan-out of which one part fails."""
    found = await gather(reserve("a"), broken(), reserve("b"), return_exceptions=True)
    return [type(each).__name__ if isinstance(each, Exception) else each for each in found]
