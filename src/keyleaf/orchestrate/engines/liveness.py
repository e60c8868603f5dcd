"""Who is alive: a session-level advisory lock on Postgres for each worker.

Rules:
    - A worker holds the advisory lock of its name from before it takes work until its session ends. Postgres lets go
      of the lock when the session ends, however it ends.
    - Each worker looks every second which workers own pending instances. Where the lock of one can be had in two looks
      in a row, that worker is dead (one that lives and lost its session alone takes its lock again in between): its
      instances are handed back to the queue. The look is repeated until none is left, so an error in the middle
      strands nothing (https://github.com/dbos-inc/dbos-transact-py/issues/716).
    - A restart of Postgres ends all sessions at once, those of living workers too. So nobody is judged before the
      server has been up for GRACE seconds, in which the living take their locks again.
    - On SQLite there is one process: what a dead one left is taken over when the next one starts.
    - A living worker looks for its own, too: an instance that it owns and does not run was stranded by an error of the
      database (an answer lost on the way, for one) and is handed back after STRANDED looks in a row. DBOS's owner
      tokens keep a run that is late from writing anything.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable

import sqlalchemy as sa

from keyleaf.orchestrate.engines.dbos_store import DATABASE_FAILED, VERSION, reason_of, statement

LOG = logging.getLogger("keyleaf.orchestrate")

GRACE = 2.5
"""Seconds after a start of Postgres in which nobody is taken for dead."""

STRANDED = 3
"""Looks in a row that an instance is found without a run before it is handed back: it may be about to begin."""

_EVERY = 1.0
_OWNERS = (
    "SELECT DISTINCT executor_id FROM dbos.workflow_status"
    " WHERE status = 'PENDING' AND application_version = :version AND executor_id IS NOT NULL"
)
_OWNED = (
    "SELECT workflow_uuid FROM dbos.workflow_status"
    " WHERE status = 'PENDING' AND application_version = :version AND executor_id = :worker"
)
_UP = sa.text("SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())")


def lock_key(worker: str) -> int:
    """The advisory lock's number for a worker: 63 bits of a digest of its name."""
    digest = hashlib.sha256(f"keyleaf worker {worker}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1


class Liveness:
    """Shows that this worker lives, and hands on what dead ones own.

    Args:
        recover: hands back all pending instances of workers.
        hand_back: hands back one instance of this worker.
        runs: the instances that this process runs.
    """

    def __init__(
        self,
        database: sa.Engine,
        worker: str,
        recover: Callable[[list[str]], None],
        hand_back: Callable[[str], None],
        runs: Callable[[], set[str]],
    ) -> None:
        self._database = database
        self._worker = worker
        self._recover = recover
        self._hand_back = hand_back
        self._runs = runs
        self._without_run: dict[str, int] = {}
        self._suspects: set[str] = set()
        self._holding = threading.Lock()
        self._ended = False
        self._postgres = database.dialect.name == "postgresql"
        self._session: sa.Connection | None = None
        self._job: asyncio.Task[None] | None = None

    def hold(self) -> None:
        """Take this worker's lock, on a session of its own."""
        with self._holding:
            self._ended = False
            self._hold()

    def _hold(self) -> None:
        if not self._postgres or self._ended:
            return
        session = self._database.connect().execution_options(isolation_level="AUTOCOMMIT")
        session.execute(sa.text("SET idle_session_timeout = 0"))
        session.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": lock_key(self._worker)})
        self._session = session

    def begin(self) -> None:
        """Start to look after the others."""
        self._job = asyncio.get_running_loop().create_task(self._look_forever())

    async def end(self) -> None:
        """Stop, and let go of the lock."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)
        await asyncio.to_thread(self._let_go)

    def _let_go(self) -> None:
        with self._holding:  # a look that is on its way must not take the lock again
            self._ended = True
            if self._session is not None:
                session, self._session = self._session, None
                session.invalidate()
                session.close()

    async def _look_forever(self) -> None:
        while True:
            try:
                found = set(await asyncio.to_thread(self._look))
                dead = sorted(found & self._suspects) if self._postgres else sorted(found)
                self._suspects = found
                if dead:
                    LOG.warning("taking over the instances of %s", ", ".join(dead))
                    await asyncio.to_thread(self._recover, dead)
                await self._look_at_own()
            except DATABASE_FAILED as error:
                LOG.warning("the engine's database failed: %s", reason_of(error))
            except Exception:  # whatever it was: nobody else looks after what dead workers own
                LOG.exception("the look after other workers failed; it is repeated")
            await asyncio.sleep(_EVERY)

    async def _look_at_own(self) -> None:
        """Hand back what this worker owns and does not run."""
        before = self._runs()
        owned = await asyncio.to_thread(self._owned)
        idle = owned - before - self._runs()
        self._without_run = {instance: self._without_run.get(instance, 0) + 1 for instance in idle}
        for instance in [each for each, looks in self._without_run.items() if looks >= STRANDED]:
            LOG.warning("%s was stranded by an error of the engine's database: it begins again", instance)
            await asyncio.to_thread(self._hand_back, instance)
            del self._without_run[instance]

    def _owned(self) -> set[str]:
        query = statement(_OWNED, self._database)
        with self._database.connect() as connection:
            return set(connection.execute(query, {"version": VERSION, "worker": self._worker}).scalars())

    def _look(self) -> list[str]:
        """The dead workers that own instances."""
        if self._postgres:
            self._hold_again()
        with self._database.connect() as connection:
            owners = connection.execute(statement(_OWNERS, self._database), {"version": VERSION}).scalars().all()
            others = [owner for owner in owners if owner != self._worker]
            if not self._postgres:
                return others
            if not others or float(connection.execute(_UP).scalar_one()) < GRACE:
                return []
            return [owner for owner in others if self._is_dead(connection, owner)]

    def _hold_again(self) -> None:
        """Take the lock again if the session that held it is gone."""
        with self._holding:
            try:
                if self._session is not None:
                    self._session.execute(sa.text("SELECT 1"))
                    return
            except sa.exc.SQLAlchemyError:
                self._session = None
            self._hold()

    def _is_dead(self, connection: sa.Connection, worker: str) -> bool:
        key = {"key": lock_key(worker)}
        if not connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), key).scalar_one():
            return False
        connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), key)
        return True
