"""Control over HTTP for another process. No authorisation: loopback only."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from moysklad_emulator.orders import FaultOrder
from moysklad_emulator.seeding import Seed, explained
from moysklad_emulator.state import Emulator

Handler = Callable[[Request], Awaitable[Response]]


class Control:
    """Handlers of commands to the emulator; a bad body is answered 400 with ``{"error"}``."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def application(self) -> Starlette:
        """GET stats; POST stats/reset; POST seed; GET and POST dialect (some switches); GET
        faults (how many wait), POST faults (one order or an array of them), DELETE faults.
        """
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "stats", self.stats),
            ("POST", "stats/reset", self.reset_stats),
            ("POST", "seed", self.seed),
            ("GET", "dialect", self.dialect),
            ("POST", "dialect", self.change_dialect),
            ("GET", "faults", self.faults),
            ("POST", "faults", self.add_faults),
            ("DELETE", "faults", self.clear_faults),
        )
        return Starlette(
            routes=[
                Route(f"/{path}", handler, methods=[method]) for method, path, handler in table
            ],
            exception_handlers=dict.fromkeys((ValueError, OSError, RecursionError), _on_bad_body),
        )

    async def stats(self, _: Request) -> Response:
        return JSONResponse(self._emulator.stats.as_json())

    async def reset_stats(self, _: Request) -> Response:
        self._emulator.reset_stats()
        return JSONResponse({})

    async def seed(self, request: Request) -> Response:
        seed = Seed.model_validate_json(await request.body())
        return JSONResponse(await asyncio.to_thread(seed.apply, self._emulator))

    async def dialect(self, _: Request) -> Response:
        return JSONResponse(self._emulator.dialect.as_dict())

    async def change_dialect(self, request: Request) -> Response:
        switches = json.loads(await request.body())
        if not isinstance(switches, dict):
            raise ValueError("dialect: an object of switches is wanted")
        self._emulator.dialect = self._emulator.dialect.changed(switches)
        return await self.dialect(request)

    async def faults(self, _: Request) -> Response:
        return JSONResponse({"waiting": self._emulator.faults.waiting()})

    async def add_faults(self, request: Request) -> Response:
        data: Any = json.loads(await request.body())
        orders = [FaultOrder.model_validate(item) for item in _as_list(data)]
        for order in orders:
            order.add_to(self._emulator.faults)
        return await self.faults(request)

    async def clear_faults(self, request: Request) -> Response:
        self._emulator.faults.clear()
        return await self.faults(request)


def _as_list(data: Any) -> list[Any]:
    return data if isinstance(data, list) else [data]


async def _on_bad_body(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": explained(error)}, 400)
