"""Every example of docs/api.md is run against a server, on both databases, and each answer held
against what is described."""

import asyncio
import os
import re
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from dependency_injector import providers

from imgsync.domain.failures import FailedEntity, Failure
from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web.api.resources import operations
from imgsync.entrypoints.web.serving import app_of
from imgsync.testing import MemoryMoySklad
from imgsync.testing.moysklad import MemoryMoySkladFactory
from tests.application.world import png
from tests.web.described import Describing

pytestmark = [pytest.mark.anyio, pytest.mark.process]
PATIENCE = 120
DOCUMENT = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
ACCOUNTS = {
    "Main": "5f1b8d1e-0000-0000-0000-000000000001",
    "Moscow": "5f1b8d1e-0000-0000-0000-000000000002",
    "Tver": "5f1b8d1e-0000-0000-0000-00000000000a",
    "Omsk": "5f1b8d1e-0000-0000-0000-00000000000b",
}
TRANSLATED = "curl_by_httpx.py"
HAS_CURL = shutil.which("curl") is not None
RUNS = [
    ("sqlite_url", "curl" if HAS_CURL else TRANSLATED),
    ("postgresql_url", "curl" if HAS_CURL else TRANSLATED),
    *([("sqlite_url", TRANSLATED)] if HAS_CURL else []),
]
"""A machine without curl runs the same lines all the same."""


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


@dataclass
class Recording:
    """Between a server and its application: all answers, as a client sees them."""

    app: Callable[..., Awaitable[None]]
    answers: list[httpx.Response] = field(default_factory=list)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body, start = bytearray(), dict[str, Any]()

        async def sending(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            body.extend(message.get("body", b""))
            if message["type"] == "http.response.body" and not message.get("more_body"):
                query = scope["query_string"].decode()
                url = f"http://localhost{scope['raw_path'].decode()}?{query}"
                request = httpx.Request(scope["method"], url)
                answer = httpx.Response(
                    start["status"], headers=start["headers"], content=bytes(body), request=request
                )
                self.answers.append(answer)
            await send(message)

        await self.app(scope, receive, sending)


@dataclass
class Served:
    container: Container
    recording: Recording
    describing: Describing
    environment: dict[str, str]

    async def run(self, *command: str, given: str) -> str:
        """What it prints, once it has ended well."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
        )
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate(given.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, f"{given}\n{err.decode()}"
        return out.decode()

    async def check(self) -> None:
        """Every answer is one that is described, and every operation was asked for."""
        for answer in self.recording.answers:
            if not answer.request.url.path.endswith("/openapi.json"):
                await self.describing(answer)
        names = {one.name for one in operations(self.container)}
        assert {name for name, status in self.describing.seen if status < 400} == names
        wrong = [
            (answer.request.url, answer.text)
            for answer in self.recording.answers
            if answer.is_error
        ]
        assert [httpx.URL(url).path for url, _ in wrong] == ["/api/v1/sync"], wrong


@asynccontextmanager
async def serving(database_url: str, programs: Path) -> AsyncIterator[Served]:
    """Main with a lamp that its children lack; Moscow and Tver are linked, and an image of Moscow
    has failed."""
    shops = {id_: MemoryMoySklad() for id_ in ACCOUNTS.values()}
    for id_, shop in shops.items():
        images = [("a.png", png(1))] if id_ == ACCOUNTS["Main"] else []
        shop.add("product", "Lamp", images, external_code="x")
    container = Container(config=fixed_config(database_url=database_url))
    container.moysklad.override(providers.Object(MemoryMoySkladFactory(dict(shops))))
    for name, id_ in ACCOUNTS.items():
        await container.accounts().add(Account(id_, name, TokenKind.SOLUTION, "s3cret"))
    for name in ("Moscow", "Tver"):
        all_images = LinkSettings(sync_images_all=True)
        await container.settings().link(ACCOUNTS["Main"], ACCOUNTS[name], all_images)
    entity = FailedEntity(ACCOUNTS["Main"], ACCOUNTS["Moscow"], "product", "m", "c", "Lamp")
    failure = Failure("i", "lamp.bmp", "v", "refused", "no picture", settled=True)
    await container.failed_images().note(entity, [failure])
    key = await container.add_api_key()("warehouse", may_write=True)
    app = app_of(container)
    recording = Recording(app)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(recording, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        environment = {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "API": f"http://127.0.0.1:{listening.getsockname()[1]}/api/v1",
            "KEY": key,
            "NO_PROXY": "*",
        }
        yield Served(container, recording, Describing(app), environment)
    finally:
        server.should_exit = True
        await task
        await container.syncing().stop()
        await close(container)


@pytest.mark.parametrize(("database", "program"), RUNS)
async def test_every_curl_line_does_what_is_described(
    request: pytest.FixtureRequest, tmp_path: Path, database: str, program: str
) -> None:
    database_url: str = request.getfixturevalue(database)
    if program != "curl":
        script = Path(__file__).with_name(program).read_text(encoding="utf-8")
        curl = tmp_path / "curl"
        curl.write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
        curl.chmod(0o700)
    blocks = examples("sh")
    async with serving(database_url, tmp_path) as served:
        for block in blocks:
            before = len(served.recording.answers)
            await served.run("bash", "-euo", "pipefail", given=block)
            lines = block.count("curl -s") + block.count("for attempt in 1 2")
            assert len(served.recording.answers) - before == lines, block
        await served.check()
        twice = [one for one in served.recording.answers if one.request.url.path.endswith("/check")]
        assert twice[0].json() == twice[1].json()


async def test_every_python_example_does_what_is_described(
    database_url: str, tmp_path: Path
) -> None:
    async with serving(database_url, tmp_path) as served:
        printed = await served.run(sys.executable, "-", given="\n".join(examples("python")))
        await served.check()
    assert "422 The body is not what is taken here [{'pointer': '#/children', " in printed
    assert "missing Lamp  True" in printed


async def test_its_statuses_are_those_of_the_description(tmp_path: Path) -> None:
    container = Container(config=fixed_config(database_url=f"sqlite:///{tmp_path}/none.db"))
    told = {status for one in operations(container) for status in one.statuses}
    rows = re.findall(r"^\| ([0-9, ]+) \|", DOCUMENT, re.MULTILINE)
    assert {int(status) for row in rows for status in row.split(",")} == told
