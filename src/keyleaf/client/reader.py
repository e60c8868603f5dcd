"""Reads secrets just in time, for many activities at once, without ever keeping one.

* **Freshness.** A fetch never gets the value of a request that was sent before the fetch began. No value is kept: the
  next fetch asks again.
* **Coalescing.** Fetches of the same secret and version share a request. A batch opens with its first fetch and leaves
  when everything that was expected when it opened has arrived or was given up, or after 50 ms without an arrival, or
  after 2 s in all. With nothing expected it leaves in the next turn of the loop, with all that arrived in this one.
* **One at a time.** While a request for a secret is on its way, later fetches of it form the next batch, which leaves
  when the first has returned.
* **Names.** Each request names the activities and instances that it serves, and has an id of its own.
* **Circuit breaker.** One for each vault. 429, 5xx, no connection and no answer open it for as long as Retry-After
  says, or for an exponential backoff with full jitter if that is longer. A failed sign-in opens it too, for
  ``recheck`` seconds. While it is open, every fetch fails at once. Then one request is let through: success closes
  the breaker, failure opens it again.
* **Slow start.** After the breaker has closed, 2 requests a second leave, and twice as many after each second up to
  256; then there is no limit. A fetch that would have to wait longer than ``patience`` fails at once.
* **At most 2 requests a second** therefore leave for a vault that is away or throttling, whatever the number of
  fetches.
* **Remembered refusals.** Disabled, missing, forbidden, expired, not yet valid: for ``recheck`` seconds after such an
  answer, fetches of the same secret share it without a request; the first one after that asks again.
* **Policy.** Whether an expired value is used is each reference's own rule: with ``expired="block"`` the fetch fails,
  with ``"use"`` it gets the value, from the same request.
* **Silence.** No message, log line or exception holds a value, or a text that a server sent.

A reader lives on one asyncio loop and is not safe to share between threads.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

from keyleaf.client.addresses import VaultAddresses
from keyleaf.client.admission import Admission, Refusal
from keyleaf.client.batch import Batch, Member
from keyleaf.client.breaker import BreakerSettings, retry_after_seconds
from keyleaf.client.callers import ACTIVITY_HEADER, REQUEST_ID_HEADER, Caller, activity_header
from keyleaf.client.reading import Reading, judge
from keyleaf.client.reference import SecretReference
from keyleaf.client.unavailable import SecretUnavailable
from keyleaf.client.vault import VaultAnswer, VaultConnection
from keyleaf.core.clock import Clock, Randomness, SystemRandomness, random_guid


@dataclass(frozen=True)
class ReaderSettings:
    """Times in seconds.

    Attributes:
        quiet: a batch that waits for expected fetches leaves after so long without an arrival.
        gather: and after so long in all.
        patience: how long a fetch lets itself be held by a slow start.
        recheck: how long a refusal of the vault is remembered, at least; with jitter up to twice that.
        timeout: a request without an answer after so long counts as not answered.
        breaker: times of the circuit breakers.
    """

    quiet: float = 0.05
    gather: float = 2.0
    patience: float = 1.0
    recheck: float = 1.0
    timeout: float = 10.0
    breaker: BreakerSettings = field(default_factory=BreakerSettings)


class Expectation:
    """Fetches that are on their way: batches of their secrets wait for them. Close it when they will not come."""

    def __init__(self, lines: Sequence[_Line]) -> None:
        self._lines = list(lines)
        for line in self._lines:
            line.expected.add(self)

    def close(self) -> None:
        """Nothing more will come; may be called again."""
        lines, self._lines = self._lines, []
        for line in lines:
            line.arrived(self)

    def __enter__(self) -> Expectation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class _Remembered:
    """A refusal of the vault; with ``spares_use`` it does not hold for references that use expired values."""

    refusal: Refusal
    until: float
    spares_use: bool


@dataclass(eq=False)
class _Line:
    """What the reader knows of one secret at one version: who waits for it, never its value."""

    vault_url: str
    name: str
    version: str
    expected: set[Expectation] = field(default_factory=set)
    batch: Batch | None = None
    busy: bool = False
    refused: _Remembered | None = None

    def arrived(self, expectation: Expectation | None) -> None:
        """One that was expected is here, or will not come."""
        if expectation in self.expected:
            self.expected.discard(expectation)
            if self.batch is not None:
                self.batch.not_awaiting(expectation)

    def remembered(self, reference: SecretReference, now: float) -> Refusal | None:
        """The vault's refusal, with the rest of its time, where it is fresh and holds for ``reference``."""
        if self.refused is None or now >= self.refused.until:
            return None
        if self.refused.spares_use and reference.expired == "use":
            return None
        return replace(self.refused.refusal, retry_after=self.refused.until - now)


class SecretReader:
    """Fetches secrets from vaults; the rules are at the top of this file.

    Args:
        connection: sends the requests; the reader closes it.
        addresses: where vaults are.
        clock: wall time for expiry and Retry-After dates, monotonic time for everything else.
        jitter: 0 to 1, for backoffs.
        randomness: for request ids.
    """

    def __init__(
        self,
        connection: VaultConnection,
        addresses: VaultAddresses,
        *,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
        randomness: Randomness | None = None,
        settings: ReaderSettings | None = None,
    ) -> None:
        self._connection = connection
        self._addresses = addresses
        self._clock = clock
        self._jitter = jitter
        self._randomness = randomness or SystemRandomness()
        self._settings = settings or ReaderSettings()
        self._lines: dict[tuple[str, str, str], _Line] = {}
        self._admissions: dict[str, Admission] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def expect(self, references: Sequence[SecretReference]) -> Expectation:
        """Say that an activity that wants these is on its way: hand what this returns to its fetches, or close it.

        Raises:
            InputError: a reference names no vault, and there is no default one.
        """
        return Expectation(list(dict.fromkeys(self._line(reference) for reference in references)))

    async def fetch(
        self, reference: SecretReference, *, caller: Caller, expectation: Expectation | None = None
    ) -> Reading:
        """The secret as the vault has it now.

        Raises:
            SecretUnavailable: it cannot be had now; says why, and when to come again.
            InputError: the reference names no vault, and there is no default one.
        """
        line = self._line(reference)
        line.arrived(expectation)
        if self._closed:
            raise _unavailable(_CLOSED, reference)
        refusal = self._admission(line).refusal() or line.remembered(reference, self._clock.monotonic())
        if refusal is not None:
            raise _unavailable(refusal, reference)
        if line.batch is None:
            line.batch = Batch(
                line.expected,
                clock=self._clock,
                quiet=self._settings.quiet,
                gather=self._settings.gather,
                ready=lambda: self._depart(line),
            )
        return await line.batch.join(reference, caller)

    async def close(self) -> None:
        """Give up what is on its way (its fetches fail as ``away``), and close the connection."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in self._lines.values():
            if line.batch is not None:
                line.batch.stop()
                line.batch.settle(lambda member: _unavailable(_CLOSED, member.reference))
                line.batch = None
        await self._connection.close()

    def _line(self, reference: SecretReference) -> _Line:
        key = (self._addresses.url(reference), reference.name.lower(), reference.version)
        if key not in self._lines:
            self._lines[key] = _Line(key[0], reference.name, reference.version)
        return self._lines[key]

    def _admission(self, line: _Line) -> Admission:
        if line.vault_url not in self._admissions:
            self._admissions[line.vault_url] = Admission(
                line.vault_url,
                clock=self._clock,
                jitter=self._jitter,
                settings=self._settings.breaker,
                patience=self._settings.patience,
            )
        return self._admissions[line.vault_url]

    def _depart(self, line: _Line) -> None:
        """The line's batch has gathered: it leaves now, or after the request that is on its way."""
        if not line.busy and not self._closed:
            line.busy = True
            task = asyncio.get_running_loop().create_task(self._serve(line))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, line: _Line) -> None:
        try:
            while line.batch is not None and line.batch.gathered:
                await self._send(line, line.batch)
        finally:
            line.busy = False

    async def _send(self, line: _Line, batch: Batch) -> None:
        """One request for one batch, which takes fetches in until the request leaves."""
        now = self._clock.monotonic()
        batch.settle(lambda member: _refused(line.remembered(member.reference, now), member))
        admission = self._admission(line)
        ticket = await admission.enter() if batch.waiting() else None
        line.batch = None
        if isinstance(ticket, Refusal):
            batch.settle(lambda member: _unavailable(ticket, member.reference))
        elif ticket is not None:
            members = batch.waiting()
            try:
                if members:
                    await self._exchange(line, members, admission, ticket)
            finally:
                # Without effect where the request has had its result.
                admission.dropped(ticket)
                batch.settle(lambda member: _unavailable(_CLOSED, member.reference))

    async def _exchange(self, line: _Line, members: list[Member], admission: Admission, ticket: int) -> None:
        """Send the request, learn from its answer, and give each fetch its result."""
        headers = {
            REQUEST_ID_HEADER: random_guid(self._randomness),
            ACTIVITY_HEADER: activity_header(member.caller for member in members),
        }
        answer = await self._answer(line, headers)
        reason = judge(answer, self._clock.now())
        refusal: Refusal | None = None
        if reason in ("throttled", "away"):
            wait = retry_after_seconds(answer.retry_after, self._clock.now())
            refusal = admission.failed(ticket, reason, answer.detail, wait=wait)
        elif reason == "sign-in failed":
            refusal = admission.failed(ticket, reason, answer.detail, wait=self._recheck(), grow=False)
        else:
            admission.answered(ticket)
            line.refused = None
            if reason is not None:
                detail = (answer.inner or f"HTTP {answer.status}") if reason == "forbidden" else ""
                refusal = Refusal(reason, self._recheck(), detail)
                until = self._clock.monotonic() + refusal.retry_after
                line.refused = _Remembered(refusal, until, spares_use=answer.secret is not None and reason == "expired")
        for member in members:
            uses = answer.secret is not None and (
                refusal is None or (refusal.reason == "expired" and member.reference.expired == "use")
            )
            if uses and answer.secret is not None:
                member.settle(
                    Reading(
                        secret=answer.secret,
                        reference=member.reference,
                        version=answer.version,
                        request_id=headers[REQUEST_ID_HEADER],
                        expires_on=answer.expires_on,
                        enabled=answer.enabled,
                        shared=len(members),
                    )
                )
            elif refusal is not None:
                member.settle(_unavailable(refusal, member.reference))

    async def _answer(self, line: _Line, headers: Mapping[str, str]) -> VaultAnswer:
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._connection.get(line.vault_url, line.name, line.version, headers)
        except TimeoutError:
            return VaultAnswer("away", detail=f"no answer in {self._settings.timeout:g} s")
        except Exception as error:  # whatever a connection raises, nobody may be left waiting
            return VaultAnswer("away", detail=type(error).__name__)

    def _recheck(self) -> float:
        return self._settings.recheck * (1 + self._jitter())


_CLOSED = Refusal("away", 0.0, "the reader was closed")


def _unavailable(refusal: Refusal, reference: SecretReference) -> SecretUnavailable:
    return SecretUnavailable(refusal.reason, reference, retry_after=refusal.retry_after, detail=refusal.detail)


def _refused(refusal: Refusal | None, member: Member) -> SecretUnavailable | None:
    return None if refusal is None else _unavailable(refusal, member.reference)
