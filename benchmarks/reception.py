"""How quickly events of webhooks are taken, while workers copy and while they have nothing to do.

`python -m benchmarks.reception baseline` is the route that the others are held against: it answers
204, and does nothing.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.catalogue import MAIN, Catalogue, account_id, child_name, opened
from benchmarks.tables import NONE, Answer
from imgsync.application.enqueue import Enqueue
from imgsync.domain.diff import Adopt
from imgsync.domain.model import Account, Link, LinkSettings, TokenKind
from imgsync.domain.tasks import TaskStatus
from imgsync.domain.webhooks import RECEPTION_PATH, RECEPTION_SECRET
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container, close

RATE, SECONDS = 200.0, 20.0
"""Requests a second, and for how long."""
LIMIT_SECONDS = 0.1
GOAL = 0.99
"""Least share of the requests that are taken within that."""
_RATE_INTERVAL = 3.0
_CATALOGUE = Catalogue(entities=1000, images=4, image_bytes=12_000)
_SECRET = "of-the-benchmark"  # noqa: S105
_WARM_UP_SECONDS = 3.0
_PATIENCE_SECONDS = 30.0
_COPY_SECONDS = 300.0
_BASELINE = "benchmarks.reception"


@dataclass
class Load:
    """Requests by how they were answered. `seconds`: from the moment at which each was due, so that
    one that could not be sent in time counts as slow as it was."""

    seconds: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def share(self) -> float:
        """Of those answered 204 within the limit."""
        within = sum(taken <= LIMIT_SECONDS for taken in self.seconds)
        return within / (len(self.seconds) + self.failed)

    def milliseconds(self, share: float) -> float:
        """Within which this share of the answers came."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@dataclass
class _Connections:
    """Connections that are kept, one for each request under way."""

    url: str
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = field(default_factory=list)

    async def post(self, path: str, body: bytes) -> int:
        """The status. A connection that was kept may have been closed meanwhile."""
        while self.idle:
            try:
                return await self._post(path, body)
            except (OSError, asyncio.IncompleteReadError):
                continue
        return await self._post(path, body)

    async def _post(self, path: str, body: bytes) -> int:
        address = urlsplit(self.url)
        if self.idle:
            reader, writer = self.idle.pop()
        else:
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        if status == HTTPStatus.NO_CONTENT:
            self.idle.append((reader, writer))
        else:
            writer.close()
        return status

    def close(self) -> None:
        for _, writer in self.idle:
            writer.close()


async def send(url: str, ids: Sequence[str], *, rate: float, seconds: float) -> Load:
    """Sends that many requests, one event each, whether or not earlier ones are answered."""
    load, connections = Load(), _Connections(url)
    begun = time.monotonic()

    async def one(number: int) -> None:
        due = begun + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        body = json.dumps({"events": [_event(ids[number % len(ids)])]}).encode()
        path = f"{RECEPTION_PATH}{_SECRET}?requestId={uuid.uuid4()}"
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                status = await connections.post(path, body)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status = 0
        if status == HTTPStatus.NO_CONTENT:
            load.seconds.append(time.monotonic() - due)
        else:
            load.failed += 1

    await asyncio.gather(*(one(number) for number in range(int(rate * seconds))))
    connections.close()
    return load


def _event(entity_id: str) -> dict[str, object]:
    href = f"https://api.moysklad.ru/api/remap/1.2/entity/product/{entity_id}"
    meta = {"type": "product", "href": href}
    return {"meta": meta, "action": "UPDATE", "accountId": account_id(MAIN)}


@dataclass(frozen=True, slots=True)
class Measured:
    """`copied`: entities whose images were copied meanwhile."""

    load: Load
    copied: int = 0


def measure_baseline(*, rate: float = RATE, seconds: float = SECONDS) -> Measured:
    with _serving(("-m", _BASELINE, "baseline"), {}) as url:
        return Measured(asyncio.run(send(url, [str(uuid.uuid4())], rate=rate, seconds=seconds)))


def measure(
    *,
    copies: bool,
    apart: bool = False,
    rate: float = RATE,
    seconds: float = SECONDS,
    catalogue: Catalogue = _CATALOGUE,
) -> Measured:
    """At a serve with a worker, which copies a whole catalogue, or has nothing to do; `apart`: the
    worker is a process of its own. The children are compared with main afterwards."""
    entities = Catalogue(
        catalogue.entities, catalogue.images, catalogue.image_bytes, copied=not copies
    )
    with (
        tempfile.TemporaryDirectory(prefix="imgsync-reception-") as folder,
        opened(entities, rate_interval=_RATE_INTERVAL) as shop,
    ):
        environment = {
            "IMGSYNC_API_URL": shop.emulator.api_url,
            "IMGSYNC_DATABASE_URL": f"sqlite:///{Path(folder) / 'q.db'}",
            "IMGSYNC_TEMP_DIR": str(Path(folder) / "temp"),
        }
        asyncio.run(_prepare(environment, copies=copies))
        ids = shop.main_ids()
        serve = ("-m", "imgsync", "serve", "--port", "0", "--no-schedule")
        with (
            _serving((*serve, "--no-worker") if apart else serve, environment) as url,
            _working(environment) if apart else nullcontext(),
        ):
            # Not measured: the first seconds, in which all is loaded.
            asyncio.run(send(url, ids, rate=rate, seconds=min(_WARM_UP_SECONDS, seconds)))
            before = asyncio.run(_done(environment))
            load = asyncio.run(send(url, ids, rate=rate, seconds=seconds))
            after = asyncio.run(_done(environment))
            _wait(lambda: asyncio.run(_is_idle(environment)))
        shop.judge()
    return Measured(load, after - before)


def _container(environment: dict[str, str]) -> Container:
    names = {name.removeprefix("IMGSYNC_").lower(): value for name, value in environment.items()}
    return Container(config=FixedConfig(**names))  # type: ignore[arg-type]


async def _prepare(environment: dict[str, str], *, copies: bool) -> None:
    container = _container(environment)
    try:
        main, child = _account(MAIN), _account(child_name(0))
        settings = LinkSettings(sync_images_all=True)
        for account in (main, child):
            await container.accounts().add(account)
        await container.settings().link(main.id, child.id, settings)
        await container.web_secrets().put(RECEPTION_SECRET, _SECRET)
        enqueue: Enqueue = container.enqueue()
        link = Link(main, child, settings)
        await enqueue([link], adopt=Adopt.NONE if copies else Adopt.SIZE)
    finally:
        await close(container)


async def _done(environment: dict[str, str]) -> int:
    container = _container(environment)
    try:
        return int((await container.queue().counts())[TaskStatus.COMPLETED])
    finally:
        await close(container)


async def _is_idle(environment: dict[str, str]) -> bool:
    container = _container(environment)
    try:
        counts = await container.queue().counts()
        waiting = await container.event_store().backlog()
        return not (counts[TaskStatus.PENDING] + counts[TaskStatus.PROCESSING] + waiting.events)
    finally:
        await close(container)


def _account(name: str) -> Account:
    return Account(account_id(name), name, TokenKind.SOLUTION, name)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _COPY_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not come to its end")
        time.sleep(1)


@contextmanager
def _serving(program: Sequence[str], environment: dict[str, str]) -> Iterator[str]:
    """The address of a process that says ``Serving on`` it."""
    with subprocess.Popen(
        [sys.executable, *program],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"IMGSYNC_LOG_LEVEL": "ERROR"} | environment,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.startswith("Serving on "):
                raise RuntimeError("a server of the benchmark did not start")
            yield line.split()[-1].rstrip("/")
        finally:
            process.terminate()


@contextmanager
def _working(environment: dict[str, str]) -> Iterator[None]:
    """A worker in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "imgsync", "worker"],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"IMGSYNC_LOG_LEVEL": "ERROR"} | environment,
    ) as process:
        try:
            yield
            if process.poll() is not None:
                raise RuntimeError("the worker of the benchmark ended by itself")
        finally:
            process.terminate()


def answer(rate: float = RATE, seconds: float = SECONDS) -> Answer:
    shown = Answer(
        f"How quickly are events of webhooks taken, {rate:.0f} requests a second for "
        f"{seconds:.0f} s?",
        (
            "Server",
            "Within 100 ms",
            "Goal",
            "Median ms",
            "95 %",
            "99 %",
            "Most",
            "Failed",
            "Entities copied meanwhile",
        ),
        notes=(
            "From the moment at which a request is due to its answer 204; MoySklad gives it "
            "1,500 ms. Each carries one event of one of main's products, which is surveyed. The "
            "database is SQLite; the API's pace is 45 requests in 3 s. The minimal route answers "
            "and does nothing.",
        ),
    )
    for name, measured in (
        ("minimal route", measure_baseline(rate=rate, seconds=seconds)),
        ("serve, worker idle", measure(copies=False, rate=rate, seconds=seconds)),
        ("serve, worker copying", measure(copies=True, rate=rate, seconds=seconds)),
        (
            "serve --no-worker, a worker beside it copying",
            measure(copies=True, apart=True, rate=rate, seconds=seconds),
        ),
    ):
        load = measured.load
        shown.add(
            name,
            f"{load.share:.2%}",
            NONE if name == "minimal route" else f"≥ {GOAL:.0%}",
            *(f"{load.milliseconds(share):.1f}" for share in (0.5, 0.95, 0.99, 1)),
            str(load.failed),
            NONE if name == "minimal route" else str(measured.copied),
        )
    return shown


def _serve_baseline() -> None:
    async def taken(_: Request) -> Response:
        return Response(status_code=204)

    app = Starlette(routes=[Route(RECEPTION_PATH + "{secret}", taken, methods=["POST"])])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(f"Serving on http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    if sys.argv[1:] == ["baseline"]:
        _serve_baseline()
    else:
        answer().show(markdown=False)
