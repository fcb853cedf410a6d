"""The file storage: serves image bytes without authorisation (section Links to files)."""

import asyncio
import base64

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from moysklad_emulator.checks import CheckMiddleware
from moysklad_emulator.connections import Connections
from moysklad_emulator.exchange import Exchange, ExchangeMiddleware, FaultMiddleware
from moysklad_emulator.links import Links
from moysklad_emulator.state import Emulator

_MINIATURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)
_ROUTES = ("temporary", "permanent", "miniature")


class Storage:
    """Handlers of the storage port."""

    def __init__(self, emulator: Emulator, links: Links) -> None:
        self._emulator = emulator
        self._links = links

    def application(self, connections: Connections) -> ASGIApp:
        """The application, whose every answer is counted."""
        handlers = (self._temporary, self._permanent, self._miniature)
        routes = [
            Route(f"/{name}/{{account}}/{{image}}", handler, methods=["GET"])
            for name, handler in zip(_ROUTES, handlers, strict=True)
        ]
        middleware = [
            Middleware(CheckMiddleware, check=self._refuse_authorization),
            Middleware(FaultMiddleware, faults=self._emulator.faults, where="storage"),
            Middleware(CheckMiddleware, check=self._refuse_head),
        ]
        return ExchangeMiddleware(
            Starlette(routes=[Mount("", routes=routes, middleware=middleware)]),
            connections=connections,
            drain_limit=self._emulator.limits.max_body_bytes,
            on_end=self._record,
        )

    def _refuse_authorization(self, request: HTTPConnection) -> None:
        if "authorization" in request.headers:
            self._emulator.recorder.record_leak()
            raise HTTPException(400, "Authorization is not allowed here\n")

    def _refuse_head(self, request: HTTPConnection) -> None:
        if request.scope["method"] == "HEAD" and not self._emulator.dialect.head:
            raise HTTPException(405, "HEAD is not allowed\n")

    async def _temporary(self, request: Request) -> Response:
        names = ("expires", "nonce", "signature")
        parts = [request.query_params.get(name, "") for name in names]
        account_id, image_id = request.path_params["account"], request.path_params["image"]
        if not self._links.is_valid(account_id, image_id, *parts):
            raise HTTPException(403, "expired or unknown\n")
        return await self._file(request)

    async def _permanent(self, request: Request) -> Response:
        return await self._file(request)

    async def _miniature(self, request: Request) -> Response:
        account = self._emulator.account(request.path_params["account"])
        if account is None or account.image(request.path_params["image"]) is None:
            raise HTTPException(403, "unknown\n")
        return Response(_MINIATURE, media_type="image/png")

    async def _file(self, request: Request) -> Response:
        names = request.path_params["account"], request.path_params["image"]
        found = await asyncio.to_thread(self._emulator.file_of, *names)
        if found is None:
            raise HTTPException(403, "unknown\n")
        image, content = found
        return Response(content, media_type=image.media_type)

    def _record(self, exchange: Exchange) -> None:
        _, first, *rest = exchange.path.split("/")
        route = f"storage/{first}" if first in _ROUTES else "(unknown)"
        account = self._emulator.account(rest[0]) if rest else None
        if account is not None:
            self._emulator.recorder.record_bytes(account.id, exchange.bytes_in, exchange.bytes_out)
        self._emulator.recorder.record_storage(
            exchange.method, route, exchange.status, exchange.bytes_in, exchange.bytes_out
        )
