"""What every API request passes before its endpoint: header checks, access, limits, faults."""

from collections.abc import Hashable, Mapping

from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from moysklad_emulator.accounts import Credentials, EmulatedUser
from moysklad_emulator.checks import (
    QUIET_HEADER,
    CheckMiddleware,
    check_accept,
    check_accept_encoding,
    check_header_size,
    check_own_headers,
)
from moysklad_emulator.connections import Connections
from moysklad_emulator.credentials import parse_authorization
from moysklad_emulator.errors import ApiError, api_error
from moysklad_emulator.events import Events
from moysklad_emulator.exchange import Exchange, ExchangeMiddleware, FaultMiddleware
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.links import API_PREFIX
from moysklad_emulator.rate import RateBucket
from moysklad_emulator.state import Emulator

CONTROL_PREFIX = "/_emulator"
_TOO_MANY_REQUESTS = 429


class ApiGate:
    """Starlette's middleware around the API's endpoints.

    `routes`: the endpoints', for the names of requests in the counters.
    """

    def __init__(self, emulator: Emulator, routes: list[Route]) -> None:
        self._emulator = emulator
        self._routes = routes

    @property
    def _limits(self) -> EmulatorLimits:
        return self._emulator.limits

    def outer(self, connections: Connections) -> list[Middleware]:
        """Around the application and its handlers of errors: what counts every answer."""
        return [
            Middleware(_TrailingSlashMiddleware),
            Middleware(
                ExchangeMiddleware,
                connections=connections,
                drain_limit=self._limits.max_body_bytes,
                on_end=self._end,
                headers=self._headers,
            ),
        ]

    def inner(self) -> list[Middleware]:
        """Within the handlers of errors: what may refuse a request, in the order of its checks."""
        return [
            Middleware(CheckMiddleware, check=self._check_headers),
            Middleware(AuthenticationMiddleware, backend=_Access(self._emulator.credentials)),
            Middleware(CheckMiddleware, check=self._admit),
            Middleware(_EventsMiddleware, events=self._emulator.events),
            Middleware(FaultMiddleware, faults=self._emulator.faults, where="api"),
        ]

    def _check_headers(self, request: HTTPConnection) -> None:
        check_header_size(request.scope, self._limits)
        check_accept_encoding(request.headers)

    def _admit(self, request: HTTPConnection) -> None:
        """Takes slots and spends units; ApiError where the request is refused."""
        user: EmulatedUser = request.user.emulated
        if not user.api_access:
            raise api_error(1061)
        if not (user.slots.free and user.account.slots.free):
            raise api_error(1073)
        if not user.bucket.try_spend(user.weight):
            raise self._rate_error(user)
        request.state.units = user.weight
        user.slots.take()
        user.account.slots.take()
        request.state.holds_slots = True
        self._emulator.recorder.record_parallel(user.id, user.slots.used)
        check_accept(request.headers)
        check_own_headers(request.headers)

    def _rate_error(self, user: EmulatedUser) -> ApiError:
        if self._emulator.dialect.rate_headers == "none":
            return api_error(1049)
        wait = str(user.bucket.milliseconds_until(user.weight))
        return api_error(1049, headers={"X-Lognex-Reset": wait, "X-Lognex-Retry-After": wait})

    def _headers(self, scope: Scope) -> Mapping[str, str]:
        """Rate headers; those of a full bucket where the user is unknown."""
        limits, counted, user = self._limits, self._emulator.dialect.rate_headers, _user(scope)
        if counted == "none":
            return {}
        bucket = user.bucket if user else RateBucket(limits.rate_units, 0)
        unit = user.weight if user and counted == "requests" else 1
        return {
            "X-RateLimit-Limit": str(limits.rate_units // unit),
            "X-RateLimit-Remaining": str(bucket.remaining // unit),
            "X-Lognex-Retry-TimeInterval": str(round(limits.rate_interval * 1000)),
        }

    def _end(self, exchange: Exchange) -> None:
        """Gives the slots back and counts the answer."""
        user = _user(exchange.scope)
        if user is not None and exchange.scope["state"].get("holds_slots"):
            user.slots.give_back()
            user.account.slots.give_back()
        if user is not None and exchange.status is not None:
            put_to = exchange.path if exchange.method == "PUT" else None
            user.record(exchange.status, _identity(exchange.scope), put_to)
        if user is not None:
            units = exchange.scope["state"].get("units", 0)
            throttled = exchange.status == _TOO_MANY_REQUESTS
            recorder, account_id = self._emulator.recorder, user.account.id
            recorder.record_use(account_id, units, throttled=throttled)
            recorder.record_bytes(account_id, exchange.bytes_in, exchange.bytes_out)
        self._emulator.recorder.record_api(
            exchange.method,
            self._route(exchange.scope),
            exchange.status,
            exchange.bytes_in,
            exchange.bytes_out,
        )

    def _route(self, scope: Scope) -> str:
        # Starlette's router tells nobody what it has found, and a refused request never gets there.
        for route in self._routes:
            if route.matches(scope)[0] is not Match.NONE:
                return route.path.removeprefix(API_PREFIX + "/")
        return "(unknown)"


class Caller(SimpleUser):
    """``request.user`` of an API request."""

    def __init__(self, emulated: EmulatedUser) -> None:
        super().__init__(emulated.id)
        self.emulated = emulated


class _Access(AuthenticationBackend):
    """Finds the user of a request; ApiError 1056 where there is none."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser]:
        given = parse_authorization(conn.headers.get("authorization"))
        user = given and self._credentials.find(*given)
        if not user:
            raise api_error(1056)
        return AuthCredentials(), Caller(user)


class _EventsMiddleware:
    """Tells webhooks what a request has changed, before its answer goes out: a program may hear of
    a change before it has the answer.
    """

    def __init__(self, app: ASGIApp, *, events: Events) -> None:
        self._app = app
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HTTPConnection(scope)
        user: EmulatedUser = request.user.emulated
        quiet = request.headers.getlist(QUIET_HEADER)
        with self._events.of_request(user.uid, quiet) as tell:

            async def send_told(message: Message) -> None:
                tell()
                await send(message)

            await self._app(scope, receive, send_told)


class _TrailingSlashMiddleware:
    """A trailing slash changes nothing. Starlette's router would redirect, which the API does not;
    and paths of faults and counters must be the same either way.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app({**scope, "path": scope["path"].rstrip("/") or "/"}, receive, send)


def _user(scope: Scope) -> EmulatedUser | None:
    """Who makes the request; None before that is known."""
    caller: Caller | None = scope.get("user")
    return caller.emulated if caller else None


def _identity(scope: Scope) -> Hashable:
    """Requests of equal method, URL and body are identical; an unread body is like no other."""
    url = f"{scope['path']}?{scope['query_string'].decode('latin-1')}"
    unread = 0 if scope["method"] in ("GET", "HEAD", "DELETE") else object()
    return scope["method"], url, scope["state"].get("body_checksum", unread)
