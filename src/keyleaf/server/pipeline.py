"""The one way of a request: challenge, token, decision, transaction, handler, record, commit, answer.

- A vault challenges before it looks at anything else: the client's first request has neither token nor body.
- A change commits together with its audit record. Everything else waits for the group commit of its record.
- A record names the generation that its request was decided under; if that has passed, the request starts again.
- No answer leaves without its record. If the log cannot be written, the answer is 503 and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from msgspec import UNSET
from sqlalchemy import Connection

from keyleaf.access import Decision, PolicyDecision, authorization_failed, forbidden_by_policy, forbidden_by_rbac
from keyleaf.core.activity_header import ACTIVITY_HEADER, LONGEST_REQUEST_ID, REQUEST_ID_HEADER, kept
from keyleaf.core.clock import Clock, Randomness, random_guid
from keyleaf.core.errors import LedgerError, ServiceError, StateError
from keyleaf.core.operation import Call, Demand, Operation, Principal, Reply
from keyleaf.identity import TokenError, TokenVerifier
from keyleaf.ledger import Ledger, Record, StaleGeneration
from keyleaf.server.answers import Answer, answer, challenge, error_answer
from keyleaf.server.caches import Caches, remember_read
from keyleaf.server.endpoints import Endpoint, Endpoints, graph_audiences
from keyleaf.server.requests import (
    Disconnected,
    Receive,
    Scope,
    Send,
    bearer,
    largest_body,
    read_body,
    read_headers,
)
from keyleaf.server.router import Router, check_api_version, read_query, split_path
from keyleaf.store import Database, Keyring, raw_connection
from keyleaf.vault import VaultRow

log = logging.getLogger("keyleaf.server")

TRIES = 4
WORKERS = 16
Surface = Literal["vault", "arm", "login", "graph", "imds"]
_SECRET_GET = "SecretGet"  # noqa: S105 (the name of an operation)


@dataclass(slots=True)
class _Request:
    """One request on its way."""

    endpoint: Endpoint | None
    method: str
    raw_path: bytes
    raw_query: bytes
    headers: dict[str, str]
    caller: str
    request_id: str
    arrived: float
    started: float
    operation: str = "Unknown"
    body: bytes = b""
    surface: Surface = "arm"


@dataclass(slots=True)
class _Outcome:
    """What came of one try: the answer, its record, and whether the record is committed already."""

    answer: Answer
    record: Record
    generation: int | None
    committed: bool = False


class Pipeline:
    """Serves every surface of one process."""

    def __init__(
        self,
        *,
        database: Database,
        keyring: Keyring,
        ledger: Ledger,
        verifier: TokenVerifier,
        endpoints: Endpoints,
        operations: Sequence[Operation],
        tenant: str,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self.database = database
        self.keyring = keyring
        self.ledger = ledger
        self.verifier = verifier
        self.endpoints = endpoints
        self.tenant = tenant
        self.clock = clock
        self.randomness = randomness
        self.caches = Caches(ledger.generation)
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="keyleaf-worker")
        surfaces: tuple[Surface, ...] = ("vault", "arm", "login", "graph", "imds")
        self._routers = {name: Router(o for o in operations if o.surface == name) for name in surfaces}

    def close(self) -> None:
        """Let the running requests end."""
        self._threads.shutdown()

    def renew(self, generation: int) -> None:
        """A change has been committed: from now on nothing is decided from what was known before it."""
        if generation > self.caches.generation:
            self.caches = Caches(generation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = _Request(
            endpoint=None,
            method=scope["method"],
            raw_path=scope.get("raw_path") or b"/",
            raw_query=scope["query_string"],
            headers={},
            caller=scope["client"][0] if scope.get("client") else "",
            request_id=random_guid(self.randomness),
            arrived=self.clock.now(),
            started=time.perf_counter(),
        )
        try:
            done = await self._serve(request, scope, receive)
        except Disconnected:
            return
        await send({"type": "http.response.start", "status": done.status, "headers": done.headers})
        await send({"type": "http.response.body", "body": done.body})

    async def _serve(self, request: _Request, scope: Scope, receive: Receive) -> Answer:
        try:
            request.headers = read_headers(scope)
            request.endpoint = self.endpoints.find(
                scope["server"][1], request.headers.get("host", "").encode("latin-1")
            )
            request.surface = _surface(request)
            token = bearer(request.headers)
            if request.endpoint.kind == "vault" and not token:
                raise self._unauthenticated(request)
            request.body = await read_body(receive, request.headers, largest_body(request.raw_path))
        except ServiceError as error:
            return await self._settle(request, self._refused(request, error, None, None, None))
        for _ in range(TRIES):
            caches = self.caches
            loop = asyncio.get_running_loop()
            outcome = await loop.run_in_executor(self._threads, self._attempt, request, token, caches)
            if outcome.committed:
                return outcome.answer
            try:
                return await self._settle(request, outcome)
            except StaleGeneration as stale:
                self.renew(stale.current)
        # Changes come faster than this request can be decided: the last decision stands, a moment old.
        outcome.generation = None
        return await self._settle(request, outcome)

    async def _settle(self, request: _Request, outcome: _Outcome) -> Answer:
        """Wait until the record is durable, then let the answer go."""
        try:
            await self.ledger.append(outcome.record, generation=outcome.generation)
        except LedgerError as error:
            log.error("%s", error)
            refusal = ServiceError(503, "ServiceUnavailable", "The audit log cannot be written; nothing is answered.")
            return error_answer(refusal, request.endpoint, request.request_id)
        return outcome.answer

    def _attempt(self, request: _Request, token: str, caches: Caches) -> _Outcome:
        """One try, in a worker thread."""
        principal: Principal | None = None
        demand: Demand | None = None
        decision: Decision | PolicyDecision | None = None
        try:
            router = self._routers[request.surface]
            operation: Operation | None = None
            failure: ServiceError | None = None
            values: dict[str, str] = {}
            try:
                operation, values = router.find(request.method, split_path(request.raw_path))
                request.operation = operation.name
            except ServiceError as error:
                failure = error
            if operation is None or operation.access != "public":
                with self.database.read() as connection:
                    principal = self._authenticate(connection, request, token, caches)
            if failure is not None or operation is None:
                raise failure or ServiceError(404, "NotFound", "No operation of this service has this path.")
            call = self._call(request, principal, values)
            with self.database.write() if operation.mutates else self.database.read() as connection:
                if operation.mutates:
                    self.ledger.hold(raw_connection(connection))
                    current = self.ledger.current_generation(raw_connection(connection))
                    if current != caches.generation:
                        # Something changed, here or in another process, before the head was ours. Nothing can change
                        # any more until this commits, so who is asking and what they may do is looked up again here.
                        caches = Caches(current)
                        if operation.access != "public":
                            principal = self._authenticate(connection, request, token, caches)
                            call = self._call(request, principal, values)
                if operation.access == "demand" and operation.demand is not None and principal is not None:
                    vault = caches.vault(connection, call.vault) if call.vault else None
                    demand = operation.demand(connection, call)
                    decision = caches.decide(connection, demand, principal, vault)
                    if not decision.allowed:
                        raise _forbidden(principal, demand, decision, vault)
                    if operation.name == _SECRET_GET and vault is not None:
                        remember_read(connection, self.keyring, caches, call, vault, principal, decision, demand)
                reply = operation.handler(connection, call)
                done = answer(reply.status, reply.body, reply.headers, request.endpoint, request.request_id)
                record = self._record(request, reply.status, reply.principal or principal, demand, decision, reply)
                if operation.mutates:
                    appended = self.ledger.append_within(raw_connection(connection), [record])
            if operation.mutates:
                self.renew(appended.generation)
                return _Outcome(done, record, None, committed=True)
            return _Outcome(done, record, caches.generation)
        except ServiceError as error:
            return self._refused(request, error, principal, demand, decision, caches.generation)
        except StateError as error:
            log.error("request %s: %s", request.request_id, error)
            refusal = ServiceError(503, "ServiceUnavailable", f"The request {request.request_id} cannot be served now.")
            return self._refused(request, refusal, principal, demand, decision)
        except Exception as error:
            # The type and the place, never the message: a driver's message may quote what it was given.
            log.error("request %s failed: %s at %s", request.request_id, type(error).__name__, _place(error))
            refusal = ServiceError(500, "InternalServerError", f"The request {request.request_id} failed.")
            return self._refused(request, refusal, principal, demand, decision)

    def _authenticate(self, connection: Connection, request: _Request, token: str, caches: Caches) -> Principal:
        endpoint = request.endpoint
        if endpoint is None or not token:
            raise self._unauthenticated(request)
        audiences = graph_audiences(endpoint.base) if request.surface == "graph" else endpoint.audiences
        try:
            return self.verifier.verify(
                token, audiences, request.arrived, lambda object_id: caches.principal(connection, object_id)
            )
        except ServiceError as error:
            error.headers["WWW-Authenticate"] = challenge(endpoint, self.endpoints.authority, self.tenant, error)
            raise

    def _unauthenticated(self, request: _Request) -> ServiceError:
        error = ServiceError(401, "Unauthorized", "AKV10000: Request is missing a Bearer or PoP token.")
        if request.endpoint is not None:
            if request.endpoint.kind == "management":
                error = ServiceError(
                    401, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing."
                )
            error.headers["WWW-Authenticate"] = challenge(
                request.endpoint, self.endpoints.authority, self.tenant, error
            )
        return error

    def _call(self, request: _Request, principal: Principal | None, values: dict[str, str]) -> Call:
        assert request.endpoint is not None
        query = read_query(request.raw_query)
        if request.surface in ("vault", "arm"):
            check_api_version(query)
        return Call(
            method=request.method,
            principal=principal,
            path=values,
            query=query,
            headers=request.headers,
            body=request.body,
            base=request.endpoint.base,
            vault=request.endpoint.vault,
            now=request.arrived,
            request_id=request.request_id,
            caller=request.caller,
        )

    def _refused(
        self,
        request: _Request,
        error: ServiceError,
        principal: Principal | None,
        demand: Demand | None,
        decision: Decision | PolicyDecision | None,
        generation: int | None = None,
    ) -> _Outcome:
        record = self._record(request, error.status, principal, demand, decision, None, error)
        return _Outcome(error_answer(error, request.endpoint, request.request_id), record, generation)

    def _record(
        self,
        request: _Request,
        status: int,
        principal: Principal | None,
        demand: Demand | None,
        decision: Decision | PolicyDecision | None,
        reply: Reply | None,
        error: ServiceError | None = None,
    ) -> Record:
        identity = principal.object_id if principal else ""
        client = principal.client_id if principal else ""
        if isinstance(error, TokenError):
            identity, client = identity or error.object_id, client or error.client_id
        resource = demand.scope.path if demand else (reply.resource if reply else "")
        if not resource and isinstance(error, TokenError):
            resource = error.resource
        activity = request.headers.get(ACTIVITY_HEADER, "")
        client_request = request.headers.get(REQUEST_ID_HEADER, "")
        return Record(
            activity=kept(activity.encode("latin-1")) if activity else UNSET,
            client_request_id=kept(client_request.encode("latin-1"), LONGEST_REQUEST_ID) if activity else UNSET,
            time=int(request.arrived * 1_000_000),
            request_id=request.request_id,
            tenant=self.tenant,
            identity=identity,
            client_id=client,
            identity_resource=principal.resource_id if principal else "",
            application=principal.application if principal else "",
            operation=request.operation,
            resource=resource,
            version=reply.version if reply else "",
            decision=_verdict(status, principal, decision, error),
            reason=_reason(decision, error),
            assignment=decision.assignment_id if decision else "",
            status=status,
            error=f"{error.code}/{error.inner}".rstrip("/") if error else "",
            latency_us=int((time.perf_counter() - request.started) * 1_000_000),
            caller=request.caller,
            user_agent=request.headers.get("user-agent", ""),
            method=request.method,
            path=request.raw_path.decode("latin-1"),
        )


def _surface(request: _Request) -> Surface:
    if request.endpoint is not None and request.endpoint.kind == "vault":
        return "vault"
    first = request.raw_path[1:].split(b"/", 1)[0].lower()
    if first in (b"subscriptions", b"providers", b"resources"):
        return "arm"
    if first == b"v1.0":
        return "graph"
    return "imds" if first in (b"msi", b"metadata") else "login"


def _forbidden(
    principal: Principal, demand: Demand, decision: Decision | PolicyDecision, vault: VaultRow | None
) -> ServiceError:
    if vault is None:
        return ServiceError(403, "AuthorizationFailed", authorization_failed(principal, demand.action, demand.scope))
    if isinstance(decision, PolicyDecision):
        text = forbidden_by_policy(principal, decision.permission, vault.name, vault.location)
        return ServiceError(403, "Forbidden", text, inner="AccessDenied")
    text = forbidden_by_rbac(principal, demand, vault.name, vault.location)
    return ServiceError(403, "Forbidden", text, inner="ForbiddenByRbac")


def _verdict(
    status: int,
    principal: Principal | None,
    decision: Decision | PolicyDecision | None,
    error: ServiceError | None,
) -> str:
    if decision is not None:
        return "allowed" if decision.allowed else "denied"
    if status == 401 or isinstance(error, TokenError):
        return "unauthenticated"
    return "none" if principal is None else "allowed" if status < 400 else "none"


def _reason(decision: Decision | PolicyDecision | None, error: ServiceError | None) -> str:
    if decision is not None:
        return decision.explain() if not decision.allowed else decision.role
    if error is None:
        return ""
    return error.message if error.status in (401, 403) or isinstance(error, TokenError) else ""


def _place(error: Exception) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
