"""What an engine keeps of an activity: a clear header about the attempts, and a sealed body.

The header can be read by whoever may see the engine's store (``keyleaf flow show`` draws it): which secrets were used
in which version by which identity, never a value. The body is the result or the scrubbed error, sealed as a payload.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Kind = Literal["value", "error", "blocked", "cancelled"]


class SecretUse(msgspec.Struct, frozen=True, omit_defaults=True):
    """One secret that an attempt was given.

    Attributes:
        name: ``vault/name``.
        version: the version read.
        request_id: client request id of the read: the record in the audit log has it.
        identity: client id of the managed identity that read.
    """

    name: str
    version: str
    request_id: str = ""
    identity: str = ""


class AttemptNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """One run of an activity's function, or one wait for its secrets.

    Attributes:
        number: counts from 1; a run with a fresh secret keeps the number of the run before.
        started, ended: seconds since 1970.
        outcome: ``ok``, ``failed``, ``stale secret``, ``blocked`` or ``cancelled``.
        error: qualified type of the exception, or the reason why it is blocked.
        secrets: what it was given.
        wait: seconds until the next try, if there is one.
    """

    number: int
    started: float
    ended: float
    outcome: str
    error: str = ""
    secrets: tuple[SecretUse, ...] = ()
    wait: float = 0.0


class Blocked(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why an activity waits for a secret, and whom to ask."""

    secret: str
    reason: str
    owner: str = ""
    since: float = 0.0
    deadline: float = 0.0


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """The recorded outcome of an activity, a sub-orchestration or a timer.

    Attributes:
        kind: what ``body`` holds.
        activity: its name.
        index: the place of the call among the calls of the orchestration, from 1.
        started, ended: seconds since 1970.
        worker: the executor that ran it.
        body: sealed JSON: the value, or an :class:`ErrorBody`.
        retry_in: seconds after which a failed or blocked attempt is worth repeating; negative: never.
        blocked: set while it waits for a secret.
        notes: every attempt.
    """

    kind: Kind
    activity: str
    index: int
    started: float
    ended: float
    worker: str = ""
    body: str = ""
    retry_in: float = -1.0
    blocked: Blocked | None = None
    notes: tuple[AttemptNote, ...] = ()


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it is kept: scrubbed of secrets, without local variables."""

    type: str
    message: str
    details: str = ""
    activity: str = ""
    attempts: int = 1


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Envelope)


def pack(envelope: Envelope) -> str:
    """The envelope as text for the engine."""
    return _ENCODER.encode(envelope).decode()


def unpack(text: str) -> Envelope:
    """The envelope in ``text``.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return _DECODER.decode(text)


def pack_any(value: Any) -> str:
    """Any of this module's shapes as JSON text."""
    return _ENCODER.encode(value).decode()
