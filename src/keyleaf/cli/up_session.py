"""One run of ``keyleaf up``: converge, start, follow, show."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rich.live import Live
from rich.markup import escape

from keyleaf.cli.present import console, print_findings, print_json
from keyleaf.cli.session import Options, Session, connect, read_connection, remember_tree
from keyleaf.cli.up_asked import Asked
from keyleaf.cli.up_proof import Proof, prove
from keyleaf.cli.up_reads import Reads
from keyleaf.cli.up_remembered import recall, remember
from keyleaf.cli.up_round import Converged, converge
from keyleaf.cli.up_server import EmbeddedServer
from keyleaf.cli.up_source import SourceTree
from keyleaf.cli.up_view import as_data, live_tree
from keyleaf.core.errors import KeyleafError
from keyleaf.runtime import (
    Endpoints,
    ServiceAccountIssuer,
    Supervisor,
    SystemTimer,
    TokenKeeper,
    VaultFetcher,
    run_spec,
)

_SETTLING = 90.0
_HEAD_START = 3.0
_READS_EVERY = 1.0


class UpSession:
    """One run of the command."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._out = console(stderr=asked.as_json)
        self._live = self._out.is_terminal and not asked.once and not asked.as_json
        self._began = asked.began
        self._source = SourceTree(asked.path, asked.revision, asked.state)
        self._reads = Reads(asked.state, time.time())
        self._changed = asyncio.Event()
        self._round: Converged | None = None
        self._at_rest = False  # and said so

    async def run(self, server: EmbeddedServer) -> int:
        """The exit code; or it runs until it is cancelled. ``server`` has been started and may not be ready yet."""
        warming = asyncio.create_task(asyncio.to_thread(_import_sdks))
        reading = asyncio.create_task(asyncio.to_thread(self._source.read))
        try:
            await server.ready()
            self._say(f"the embedded Azure is ready ({self._since()})")
            tree, root = await reading
            connection = read_connection(self._asked.state) or {}
            known = recall(self._asked.state, tree, connection)
            async with self._supervised(str(connection["issuer"]), known or Endpoints("", "", "")) as (
                supervisor,
                fetcher,
            ):
                spec = run_spec(tree, str(root))
                if known is not None:
                    # The processor is theirs first: what Azure says is asked for once they have started.
                    await supervisor.apply(spec, known)
                    self._at_rest = await supervisor.settled(_HEAD_START)
                    if self._at_rest:
                        self._say(f"every application has come to rest ({self._since()})")
                await warming
                session = await asyncio.to_thread(self._connect)
                self._round = await asyncio.to_thread(self._converge, session, tree)
                remember_tree(session.local, self._asked.path, self._asked.revision)
                remember(self._asked.state, tree, self._round.endpoints)
                fetcher.use(self._round.endpoints)
                await supervisor.apply(spec, self._round.endpoints)
                if self._asked.once:
                    return await self._finish(session, supervisor, fetcher)
                await self._follow(session, supervisor, fetcher, server)
                return 1
        finally:
            for task in (warming, reading):
                task.cancel()

    def _connect(self) -> Session:
        options = Options(self._asked.state, bind=self._asked.bind, create_vaults=True)
        return connect(options=options, path=self._asked.path)

    def _converge(self, session: Session, tree: Any) -> Converged:
        found = converge(session, tree, seed=self._asked.seed)
        if found.changed or found.seeded:
            self._say(f"{found.changed} changes made in Azure, {len(found.seeded)} secrets seeded ({self._since()})")
        else:
            self._say(f"Azure is what Git declares: nothing to change ({self._since()})")
        return found

    @contextlib.asynccontextmanager
    async def _supervised(
        self, issuer_url: str, endpoints: Endpoints
    ) -> AsyncIterator[tuple[Supervisor, VaultFetcher]]:
        timer = SystemTimer()
        issuer = ServiceAccountIssuer.open(self._asked.state / "oidc" / "local", issuer_url)
        tokens = TokenKeeper(issuer, timer)
        fetcher = VaultFetcher(endpoints, tokens, timer)
        supervisor = Supervisor(self._asked.state, tokens, fetcher, timer=timer, changed=self._changed.set)
        await supervisor.start()
        try:
            yield supervisor, fetcher
        finally:
            await supervisor.stop()

    async def _finish(self, session: Session, supervisor: Supervisor, fetcher: VaultFetcher) -> int:
        """``--once``: wait, prove, print."""
        assert self._round is not None
        await supervisor.settled(_SETTLING)
        if not self._at_rest:
            self._say(f"every application has come to rest ({self._since()})")
        await asyncio.to_thread(self._reads.update)
        data = as_data(self._round, supervisor, self._reads)
        shown = live_tree(self._round, supervisor, self._reads, [])
        proof = await prove(self._round, supervisor, fetcher)
        if self._asked.as_json:
            print_json({**data, "proof": proof.as_data()})
        else:
            self._out.print(shown)
            print_findings(self._round.plan.findings)
            self._print_proof(proof)
        return 0 if proof.holds else 1

    async def _follow(
        self, session: Session, supervisor: Supervisor, fetcher: VaultFetcher, server: EmbeddedServer
    ) -> None:
        """Show what happens and carry every change of the tree through, until the embedded Azure ends."""
        following = asyncio.create_task(self._carry_changes(session, supervisor, fetcher))
        showing = asyncio.create_task(self._show(supervisor))
        ended = asyncio.create_task(server.wait())
        tasks: set[asyncio.Task[Any]] = {following, showing, ended}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (following, showing):
                if task.done():
                    task.result()
            self._say(f"the embedded Azure has ended; its log is {self._asked.state / 'logs' / 'server.log'}")
        finally:
            for one in tasks:
                one.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_changes(self, session: Session, supervisor: Supervisor, fetcher: VaultFetcher) -> None:
        async for _ in self._source.changes():
            began = time.monotonic()
            try:
                tree, root = await asyncio.to_thread(self._source.read)
                self._round = await asyncio.to_thread(converge, session, tree, seed=self._asked.seed)
            except KeyleafError as error:
                self._say(f"the change is not carried out: {error}")
                continue
            fetcher.use(self._round.endpoints)
            remember(self._asked.state, tree, self._round.endpoints)
            changes = await supervisor.apply(run_spec(tree, str(root)), self._round.endpoints)
            touched = (*changes.started, *changes.restarted, *changes.stopped)
            if touched or self._round.changed:
                names = ", ".join(key.split("/", 1)[0] for key in touched) or "nothing restarts"
                self._say(f"change carried out in {time.monotonic() - began:.2f} s: {names}")
            self._changed.set()

    async def _show(self, supervisor: Supervisor) -> None:
        assert self._round is not None
        await asyncio.to_thread(self._reads.update)
        if not self._live:
            await self._show_lines(supervisor)
        footer = self._footer()
        with Live(
            live_tree(self._round, supervisor, self._reads, footer), console=self._out, auto_refresh=False
        ) as live:
            while True:
                live.update(live_tree(self._round, supervisor, self._reads, footer), refresh=True)
                await self._next_change()

    async def _show_lines(self, supervisor: Supervisor) -> None:
        """One line for each change of an application's health; the address and what to try once all have settled."""
        seen: dict[str, str] = {}
        told = False
        while True:
            assert self._round is not None
            for app in self._round.tree.applications:
                health, message = supervisor.health(app)
                if any(s.spec.application == app for s in supervisor.status()) and seen.get(app) != health:
                    seen[app] = health
                    self._say(f"{app}: {health}{f' ({message})' if message else ''}")
            if not told and await supervisor.settled(0):
                told = True
                if not self._at_rest:
                    self._say(f"every application has come to rest ({self._since()})")
                for line in self._footer():
                    self._out.print(line)
            await self._next_change()

    async def _next_change(self) -> None:
        """Wait for a change of the processes or in the audit log; then a moment, so that a burst is shown once."""
        self._changed.clear()
        while not self._changed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READS_EVERY):
                    await self._changed.wait()
            if await asyncio.to_thread(self._reads.update):
                break
        await asyncio.sleep(0.1)

    def _footer(self) -> list[str]:
        """The addresses, and three things to try."""
        assert self._round is not None
        where = "" if self._asked.state == Path(".keyleaf").absolute() else f" --state {self._asked.state}"
        lines = ["", f"[bold]Azure[/]  {escape(self._round.endpoints.authority)}"]
        lines += [
            f"[bold]vault[/]  {escape(url)}  [dim]{escape(n)}[/]" for n, url in self._round.endpoints.vaults.items()
        ]
        grants = self._round.plan.desired.grants
        if grants:
            first = grants[0]
            other = next((g for g in grants if g.identity != first.identity and g.pair != first.pair), first)
            lines += [
                "[bold]try[/]",
                f"  keyleaf who {first.vault}/{first.secret}{where}",
                f"  keyleaf why {other.identity} {first.vault}/{first.secret}{where}",
                f"  keyleaf run{where} --as {first.application} -- env",
            ]
        return lines

    def _print_proof(self, proof: Proof) -> None:
        for app, health, message in proof.unhealthy:
            self._out.print(f"[red]{escape(app)} is {health}[/] {escape(message)}")
        if proof.pending:
            self._out.print(f"[red]{proof.pending} changes are still to be made in Azure[/]")
        for attempt in proof.matrix:
            if not attempt.right:
                wanted = 200 if attempt.declared else 403
                self._out.print(
                    f"[red]{escape(attempt.identity)} got {attempt.status} instead of {wanted} for "
                    f"{escape(attempt.vault)}/{escape(attempt.secret)}[/]"
                )
        told = proof.as_data()["matrix"]
        self._out.print(
            f"{told['declared_read']} declared reads answered, {told['undeclared_refused']} undeclared ones refused "
            f"with 403, of {told['pairs']} pairs of identity and secret"
        )
        verdict = "[bold green]proved[/]" if proof.holds else "[bold red]not proved[/]"
        self._out.print(f"{verdict} in {self._since()}")

    def _say(self, text: str) -> None:
        self._out.print(f"[dim]keyleaf:[/] {escape(text)}")

    def _since(self) -> str:
        return f"{time.monotonic() - self._began:.1f} s"


def _import_sdks() -> None:
    """Microsoft's SDKs take long to import: it happens while the embedded Azure starts."""

    import keyleaf.cloud  # noqa: F401
