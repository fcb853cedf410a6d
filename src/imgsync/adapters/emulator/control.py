"""Control over HTTP for another process: counters and seeding. No authorisation: loopback only."""

import asyncio

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from imgsync.adapters.emulator.gate import CONTROL_PREFIX
from imgsync.adapters.emulator.seeding import Seed
from imgsync.adapters.emulator.state import Emulator


def control_application(emulator: Emulator) -> Starlette:
    """GET stats; POST stats/reset; POST seed (400 with ``{"error"}`` for a bad one)."""

    async def stats(_: Request) -> Response:
        return JSONResponse(emulator.stats.as_json())

    async def reset(_: Request) -> Response:
        emulator.reset_stats()
        return JSONResponse({})

    async def seed(request: Request) -> Response:
        body = await request.body()
        try:
            result = await asyncio.to_thread(_seed, emulator, body)
        except (ValidationError, ValueError, OSError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(result)

    return Starlette(
        routes=[
            Route(f"{CONTROL_PREFIX}/stats", stats, methods=["GET"]),
            Route(f"{CONTROL_PREFIX}/stats/reset", reset, methods=["POST"]),
            Route(f"{CONTROL_PREFIX}/seed", seed, methods=["POST"]),
        ]
    )


def _seed(emulator: Emulator, body: bytes) -> object:
    return Seed.model_validate_json(body).apply(emulator)
