"""What every API request passes before its endpoint: header checks, access, limits, faults."""

from collections.abc import Hashable, Mapping

from starlette.datastructures import Headers
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from moysklad_emulator.accounts import EmulatedUser
from moysklad_emulator.answers import error_answer
from moysklad_emulator.checks import (
    check_accept,
    check_accept_encoding,
    check_header_size,
    check_own_headers,
)
from moysklad_emulator.connections import Connections
from moysklad_emulator.credentials import parse_authorization
from moysklad_emulator.errors import ApiError, api_error
from moysklad_emulator.exchange import Exchange
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.links import API_PREFIX
from moysklad_emulator.rate import RateBucket
from moysklad_emulator.state import Emulator

CONTROL_PREFIX = "/_emulator"


class ApiGate:
    """ASGI application around the API's endpoints; `control` gets the paths below /_emulator."""

    def __init__(
        self,
        emulator: Emulator,
        endpoints: ASGIApp,
        routes: list[Route],
        control: ASGIApp,
        connections: Connections,
    ) -> None:
        self._emulator = emulator
        self._endpoints = endpoints
        self._routes = routes
        self._control = control
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"].startswith(CONTROL_PREFIX + "/"):
            await self._control(scope, receive, send)
            return
        scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        visit = _Visit(self._emulator, scope, self._routes)
        exchange = Exchange(
            scope,
            receive,
            send,
            self._connections,
            drain_limit=self._emulator.limits.max_body_bytes,
            on_end=visit.end,
            headers=visit.headers,
        )
        await exchange.conclude(self._answer(visit, exchange))

    async def _answer(self, visit: "_Visit", exchange: Exchange) -> None:
        try:
            visit.admit()
        except ApiError as error:
            await exchange.run(error_answer(error))
            return
        fault = self._emulator.faults.take("api", exchange.method, exchange.path)
        if fault is not None and await exchange.inject(fault):
            return
        await exchange.run(self._endpoints)


class _Visit:
    """A request on its way through the gate: who makes it, and what it holds."""

    def __init__(self, emulator: Emulator, scope: Scope, routes: list[Route]) -> None:
        self._emulator = emulator
        self._scope = scope
        self._routes = routes
        self._user: EmulatedUser | None = None
        self._holds_slots = False

    @property
    def _limits(self) -> EmulatorLimits:
        return self._emulator.limits

    def admit(self) -> None:
        """Takes slots and spends units; ApiError where the request is refused."""
        headers = Headers(scope=self._scope)
        check_header_size(self._scope, self._limits)
        check_accept_encoding(headers)
        self._user = user = self._authenticate(headers)
        self._scope.setdefault("state", {})["user"] = user
        if not user.api_access:
            raise api_error(1061)
        if not (user.slots.free and user.account.slots.free):
            raise api_error(1073)
        if not user.bucket.try_spend(user.weight):
            raise self._rate_error(user)
        self._take_slots(user)
        check_accept(headers)
        check_own_headers(headers)

    def headers(self) -> Mapping[str, str]:
        """Rate headers; those of a full bucket where the user is unknown."""
        limits, counted = self._limits, self._emulator.dialect.rate_headers
        if counted == "none":
            return {}
        bucket = self._user.bucket if self._user else RateBucket(limits.rate_units, 0)
        unit = self._user.weight if self._user and counted == "requests" else 1
        return {
            "X-RateLimit-Limit": str(limits.rate_units // unit),
            "X-RateLimit-Remaining": str(bucket.remaining // unit),
            "X-Lognex-Retry-TimeInterval": str(round(limits.rate_interval * 1000)),
        }

    def end(self, exchange: Exchange) -> None:
        """Gives the slots back and counts the answer."""
        user = self._user
        if user is not None and self._holds_slots:
            user.slots.give_back()
            user.account.slots.give_back()
        if user is not None and exchange.status is not None:
            put_to = exchange.path if exchange.method == "PUT" else None
            user.record(exchange.status, self._identity(), put_to)
        self._emulator.recorder.record_api(
            exchange.method,
            self._route(),
            exchange.status,
            exchange.bytes_in,
            exchange.bytes_out,
        )

    def _rate_error(self, user: EmulatedUser) -> ApiError:
        if self._emulator.dialect.rate_headers == "none":
            return api_error(1049)
        wait = str(user.bucket.milliseconds_until(user.weight))
        return api_error(1049, headers={"X-Lognex-Reset": wait, "X-Lognex-Retry-After": wait})

    def _authenticate(self, headers: Headers) -> EmulatedUser:
        credentials = parse_authorization(headers.get("authorization"))
        user = credentials and self._emulator.credentials.find(*credentials)
        if not user:
            raise api_error(1056)
        return user

    def _take_slots(self, user: EmulatedUser) -> None:
        user.slots.take()
        user.account.slots.take()
        self._holds_slots = True
        self._emulator.recorder.record_parallel(user.id, user.slots.used)

    def _identity(self) -> Hashable:
        """Requests of equal method, URL and body are identical; an unread body is like no other."""
        url = f"{self._scope['path']}?{self._scope['query_string'].decode('latin-1')}"
        unread = 0 if self._scope["method"] in ("GET", "HEAD", "DELETE") else object()
        body = self._scope["state"].get("body_checksum", unread)
        return self._scope["method"], url, body

    def _route(self) -> str:
        for route in self._routes:
            if route.matches(self._scope)[0] is not Match.NONE:
                return route.path.removeprefix(API_PREFIX + "/")
        return "(unknown)"
