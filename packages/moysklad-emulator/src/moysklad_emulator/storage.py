"""The file storage: serves image bytes without authorisation (section Links to files)."""

import asyncio
import base64

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from moysklad_emulator.connections import Connections
from moysklad_emulator.exchange import Exchange
from moysklad_emulator.links import Links
from moysklad_emulator.state import Emulator

_MINIATURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII="
)
_ROUTES = ("temporary", "permanent", "miniature")


class Storage:
    """ASGI application of the storage port."""

    def __init__(self, emulator: Emulator, links: Links, connections: Connections) -> None:
        self._emulator = emulator
        self._links = links
        self._connections = connections
        handlers = (self._temporary, self._permanent, self._miniature)
        self._app = Starlette(
            routes=[
                Route(f"/{name}/{{account}}/{{image}}", handler, methods=["GET"])
                for name, handler in zip(_ROUTES, handlers, strict=True)
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = Exchange(
            scope,
            receive,
            send,
            self._connections,
            drain_limit=self._emulator.limits.max_body_bytes,
            on_end=self._record,
        )
        await exchange.conclude(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        if "authorization" in Headers(scope=exchange.scope):
            self._emulator.recorder.record_leak()
            await exchange.run(_refusal(400, "Authorization is not allowed here"))
            return
        fault = self._emulator.faults.take("storage", exchange.method, exchange.path)
        if fault is not None and await exchange.inject(fault):
            return
        if exchange.method == "HEAD" and not self._emulator.dialect.head:
            await exchange.run(_refusal(405, "HEAD is not allowed"))
            return
        await exchange.run(self._app)

    async def _temporary(self, request: Request) -> Response:
        names = ("expires", "nonce", "signature")
        parts = [request.query_params.get(name, "") for name in names]
        account_id, image_id = request.path_params["account"], request.path_params["image"]
        if not self._links.is_valid(account_id, image_id, *parts):
            return _refusal(403, "expired or unknown")
        return await self._file(request)

    async def _permanent(self, request: Request) -> Response:
        return await self._file(request)

    async def _miniature(self, request: Request) -> Response:
        account = self._emulator.account(request.path_params["account"])
        if account is None or account.image(request.path_params["image"]) is None:
            return _refusal(403, "unknown")
        return Response(_MINIATURE, media_type="image/png")

    async def _file(self, request: Request) -> Response:
        names = request.path_params["account"], request.path_params["image"]
        found = await asyncio.to_thread(self._emulator.file_of, *names)
        if found is None:
            return _refusal(403, "unknown")
        image, content = found
        return Response(content, media_type=image.media_type)

    def _record(self, exchange: Exchange) -> None:
        first = exchange.path.split("/")[1]
        route = f"storage/{first}" if first in _ROUTES else "(unknown)"
        self._emulator.recorder.record_storage(
            exchange.method, route, exchange.status, exchange.bytes_in, exchange.bytes_out
        )


def _refusal(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status)
