"""From a request to an operation and back: keys, repeats, bodies, trouble."""

import hashlib
import json
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from imgsync.application.apikeys import opened_by
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.ports.repeats import Answered, Standing
from imgsync.entrypoints.web.api.operations import Call, Operation, described
from imgsync.entrypoints.web.api.problems import ProblemError, problem, status_of
from imgsync.entrypoints.web.api.reading import read_body, read_bytes, read_json, read_query
from imgsync.entrypoints.web.api.resources import operations

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

ROOT = "/api/"
_ROOT = ROOT + "v1"
_MOST_FAILURES = 20
_FAILURES_SECONDS = 60.0
_MOST_ADDRESSES = 1000
_LEASE = timedelta(minutes=2)
_KEEP = timedelta(days=1)
_KEY = re.compile(r'"([ !#-~]{1,255})"|([!#-~]{1,255})')
"""As the draft of the header has it, and without the quotes too."""


def routes(container: "Container") -> list[BaseRoute]:
    """All operations, and what describes them."""
    front = _Front(container)
    listed = operations(container)
    description = described(_ROOT, listed)

    async def describe(_: Request) -> Response:
        return JSONResponse(description)

    return [
        Route(_ROOT + "/openapi.json", describe),
        *(
            Route(_ROOT + one.path, front.answering(one), methods=[one.method], name=one.name)
            for one in listed
        ),
    ]


class _Failures:
    """Wrong keys by address, in this process: a guess of 256 bits is hopeless, a flood is not."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def is_over(self, address: str) -> bool:
        since = time.monotonic() - _FAILURES_SECONDS
        kept = [at for at in self._failed.get(address, ()) if at > since]
        return len(kept) >= _MOST_FAILURES

    def note(self, address: str) -> None:
        kept = [*self._failed.pop(address, ())[-_MOST_FAILURES:], time.monotonic()]
        self._failed[address] = kept
        while len(self._failed) > _MOST_ADDRESSES:
            self._failed.popitem(last=False)


class _Front:
    """What every request passes before the operation sees it."""

    def __init__(self, container: "Container") -> None:
        self._container = container
        self._failures = _Failures()

    def answering(self, one: Operation) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                await self._check_key(request, one)
                answered = await self._once(request, one)
            except ProblemError as error:
                return problem(error.status, str(error), error.errors)
            except ImgsyncError as error:
                return problem(status_of(error), str(error))
            headers = {"Location": answered.location} if answered.location else None
            return Response(answered.body, answered.status, headers, "application/json")

        return answer

    async def _check_key(self, request: Request, one: Operation) -> None:
        address = request.client.host if request.client else "?"
        if self._failures.is_over(address):
            raise ProblemError(429, "Too many requests with wrong keys; try again in a minute")
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = None
        if scheme.casefold() == "bearer":
            key = await opened_by(self._container.api_keys(), given.strip())
        if key is None:
            self._failures.note(address)
            raise ProblemError(401, "Give a key: Authorization: Bearer KEY")
        if one.changes and not key.may_write:
            raise ProblemError(403, f"The key '{key.name}' may only read")
        request.state.who = f"key {key.name}"

    async def _once(self, request: Request, one: Operation) -> Answered:
        """The answer; of a request that was sent before under the same key, the answer to that."""
        body = await read_bytes(request) if one.changes else b""
        given = request.headers.getlist("idempotency-key") if one.method == "POST" else []
        if not given:
            return await self._done(request, one, body)
        found = _KEY.fullmatch(given[0].strip())
        if found is None or len(given) > 1:
            raise ProblemError(400, "Idempotency-Key is one text of 1 to 255 ASCII characters")
        # Of nobody else's key: two programs may choose the same.
        key = _digest(request.state.who, found[1] or found[2])
        fingerprint = _digest(request.method, str(request.url.path), request.url.query, body)
        token, repeats = secrets.token_hex(16), self._container.repeats()
        stands = await repeats.begin(key, fingerprint, token, lease=_LEASE, keep=_KEEP)
        match stands:
            case Answered():
                return stands
            case Standing.OTHER:
                raise ProblemError(422, "This Idempotency-Key was given with another request")
            case Standing.UNDER_WAY:
                raise ProblemError(409, "A request with this Idempotency-Key is under way")
        try:
            answered = await self._done(request, one, body)
        except (ProblemError, ImgsyncError):
            await repeats.drop(key, token)
            raise
        await repeats.end(key, token, answered)
        return answered

    @staticmethod
    async def _done(request: Request, one: Operation, body: bytes) -> Answered:
        call = Call(request, query=read_query(one.asks, request.query_params))
        if one.takes is not None:
            value = read_json(body)
            call.body = read_body(one.takes, value) if one.reads else value
        told = await one.answer(call)
        # In ASCII: a payload of another program may hold what is no text in UTF-8.
        text = json.dumps(told, allow_nan=False)
        location = None if call.location is None else _ROOT + call.location
        return Answered(one.status, text, location)


def _digest(*parts: str | bytes) -> str:
    """Of all parts, and where each ends."""
    hashed = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        hashed.update(b"%d:" % len(data) + data)
    return hashed.hexdigest()
