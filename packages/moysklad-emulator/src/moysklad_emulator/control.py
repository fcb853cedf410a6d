"""Control over HTTP for another process. No authorisation: loopback only."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from moysklad_emulator.orders import CallOrder, FaultOrder, SolutionOrder
from moysklad_emulator.seeding import Seed, explained
from moysklad_emulator.state import Emulator
from moysklad_emulator.vendor import Vendor

Handler = Callable[[Request], Awaitable[Response]]


class Control:
    """Handlers of commands to the emulator; a bad body is answered 400 with ``{"error"}``."""

    def __init__(self, emulator: Emulator, vendor: Vendor) -> None:
        self._emulator = emulator
        self._vendor = vendor

    def application(self) -> Starlette:
        """GET stats; POST stats/reset; POST seed; POST clock (``{"days"}`` to pass); GET and POST
        dialect (some switches); GET faults (how many wait), POST faults (one order or an array of
        them), DELETE faults; POST solutions (a new one), POST solutions/calls (what happens to
        one).
        """
        table: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "stats", self.stats),
            ("POST", "stats/reset", self.reset_stats),
            ("POST", "seed", self.seed),
            ("POST", "clock", self.pass_days),
            ("GET", "dialect", self.dialect),
            ("POST", "dialect", self.change_dialect),
            ("GET", "faults", self.faults),
            ("POST", "faults", self.add_faults),
            ("DELETE", "faults", self.clear_faults),
            ("POST", "solutions", self.add_solution),
            ("POST", "solutions/calls", self.call_solution),
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

    async def pass_days(self, request: Request) -> Response:
        order = json.loads(await request.body())
        days = order.get("days") if isinstance(order, dict) else None
        if isinstance(days, bool) or not isinstance(days, int | float):
            raise ValueError("clock: an object with the number of days is wanted")
        self._emulator.clock.pass_days(days)
        return JSONResponse({"day": self._emulator.clock.day()})

    async def add_solution(self, request: Request) -> Response:
        order = SolutionOrder.model_validate_json(await request.body())
        solution = self._vendor.add(**order.model_dump())
        return JSONResponse({"app_id": solution.app_id})

    async def call_solution(self, request: Request) -> Response:
        order = CallOrder.model_validate_json(await request.body())
        called = await self._vendor.call_async(
            order.app_id, order.account_id, order.cause, spoilt=order.spoilt
        )
        return JSONResponse(asdict(called))

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
