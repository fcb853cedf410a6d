"""Whether the process lives, and whether it can work."""

import asyncio
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from imgsync.adapters.sql.migrations import HEAD
from imgsync.domain.errors import ImgsyncError

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_PATIENCE_SECONDS = 2.0


def routes(container: "Container") -> list[BaseRoute]:
    health = _Health(container)

    async def alive(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    return [Route("/healthz", alive), Route("/readyz", health.ready)]


class _Health:
    """Those who ask together share what is read: a database that hangs holds one of its threads,
    however often it is asked for."""

    def __init__(self, container: "Container") -> None:
        self._container = container
        self._reading: asyncio.Task[str] | None = None

    async def ready(self, request: Request) -> Response:
        reasons = [*await self._of_database(), *self._container.pulses().troubles()]
        return JSONResponse(
            {"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200
        )

    async def _of_database(self) -> list[str]:
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                trouble = await asyncio.shield(self._reading)
        except TimeoutError:
            trouble = f"the database does not answer within {_PATIENCE_SECONDS:g} s"
        return [trouble] if trouble else []

    async def _read(self) -> str:
        """Why it cannot be used; without its address, as whoever asks need not be known."""
        try:
            revision = await self._container.figures().revision()
        except ImgsyncError:
            return "the database cannot be used"
        if revision != HEAD:
            return f"the database is of revision {revision}, and this imgsync of {HEAD}"
        return ""
