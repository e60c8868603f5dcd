"""From ``KEYLEAF_ORCHESTRATOR`` to an engine."""

from __future__ import annotations

from urllib.parse import urlsplit

from keyleaf.core.errors import InputError
from keyleaf.orchestrate.engines.base import Control, Engine

_HINT = "use sqlite:///file, postgresql://host/name or durabletask://host:port"


def open_orchestrator(url: str) -> Engine:
    """The engine that ``url`` names, to run instances with.

    Raises:
        InputError: the URL is missing or names no engine.
        EngineUnreachable: it does not answer.
    """
    scheme = _scheme(url)
    if scheme == "durabletask":
        from keyleaf.orchestrate.engines.durable_engine import DurableEngine

        return DurableEngine(url)
    from keyleaf.orchestrate.engines.dbos_engine import DbosEngine

    return DbosEngine(url)


def open_control(url: str) -> Control:
    """What looks at instances and acts on them, without running any. Raises as :func:`open_orchestrator`."""
    if _scheme(url) == "durabletask":
        from keyleaf.orchestrate.engines.durable_control import DurableControl

        return DurableControl(url)
    from keyleaf.orchestrate.engines.dbos_control import DbosControl
    from keyleaf.orchestrate.engines.dbos_store import open_engine

    return DbosControl(open_engine(url, create=False))


def _scheme(url: str) -> str:
    if not url:
        raise InputError("KEYLEAF_ORCHESTRATOR is not set", hint=_HINT)
    scheme = urlsplit(url).scheme.split("+")[0]
    if scheme not in ("sqlite", "postgresql", "postgres", "durabletask"):
        raise InputError(f"no engine is called {scheme!r}" if scheme else "the engine's URL has no scheme", hint=_HINT)
    return scheme
