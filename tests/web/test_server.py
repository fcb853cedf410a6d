"""The web server beside a loop that is busy: what it takes apart, and what it asks of that loop."""

import asyncio
import http.client
import json
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from imgsync.domain.model import Account, TokenKind
from imgsync.domain.webhooks import RECEPTION_PATH, RECEPTION_SECRET
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web import server as web_server
from imgsync.entrypoints.web.server import Apart, WebPart

pytestmark = [pytest.mark.anyio, pytest.mark.database]
_PATIENCE = 60.0
_SECRET = "s3cret-of-the-reception"
_ID = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
async def container(sqlite_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=sqlite_url))
    await made.accounts().add(Account("m", "Main", TokenKind.USER, "token"))
    await made.web_secrets().put(RECEPTION_SECRET, _SECRET)
    yield made
    await close(made)


class Served:
    def __init__(self, container: Container) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.stop = asyncio.Event()
        self.running = asyncio.create_task(WebPart(container, self.listening).run(self.stop))

    def asked(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Blocks its caller until the answer is there, as all work does that is no coroutine."""
        port = self.listening.getsockname()[1]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async def page(self, path: str) -> tuple[int, bytes]:
        return await asyncio.to_thread(self.asked, "GET", path)


@pytest.fixture
async def served(container: Container) -> AsyncIterator[Served]:
    made = Served(container)
    yield made
    made.stop.set()
    await asyncio.wait_for(made.running, _PATIENCE)
    made.listening.close()


def event() -> bytes:
    href = f"https://api.moysklad.ru/api/remap/1.2/entity/product/{_ID}"
    meta = {"type": "product", "href": href}
    return json.dumps({"events": [{"meta": meta, "action": "UPDATE", "accountId": "m"}]}).encode()


async def test_a_webhook_is_taken_while_the_loop_of_the_process_stands_still(
    served: Served, container: Container
) -> None:
    assert (await served.page("/healthz")) == (200, b"ok\n")
    # Nothing else runs in this loop until the answer is there.
    assert served.asked("POST", f"{RECEPTION_PATH}{_SECRET}?requestId=1", event())[0] == 204
    assert served.asked("POST", f"{RECEPTION_PATH}{_SECRET}?requestId=1", event())[0] == 204
    assert served.asked("POST", f"{RECEPTION_PATH}wrong", event())[0] == 404
    assert (await container.event_store().backlog()).events == 1
    await asyncio.sleep(0)  # what was counted is told to this loop
    await container.meter().flush()
    used = (await container.figures()()).used
    assert [(one.events, one.dropped) for one in used] == [(2, 1)]


async def test_pages_are_answered_in_the_loop_of_the_process(served: Served) -> None:
    status, body = await served.page("/")
    assert status == 200
    assert b"<html" in body
    assert (await served.page("/static/imgsync.css"))[0] == 200
    assert (await served.page("/no-such-page"))[0] == 404


async def test_one_that_leaves_ends_what_was_done_for_it() -> None:
    """A long answer is cancelled in the loop in which it is made."""
    home, begun, ended = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        assert asyncio.get_running_loop() is home
        assert await receive() == {"type": "http.disconnect"}
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def receive() -> dict[str, Any]:
        assert asyncio.get_running_loop() is not home
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        raise AssertionError("nothing is to be sent")

    async def there() -> None:
        scope = {"type": "http", "method": "GET", "path": "/"}
        asked = asyncio.ensure_future(Apart(long, home)(scope, receive, send))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(begun.wait(), home))
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    await asyncio.wait_for(asyncio.to_thread(asyncio.run, there()), _PATIENCE)
    await asyncio.wait_for(ended.wait(), _PATIENCE)


async def test_the_end_of_the_part_is_that_of_its_thread(container: Container) -> None:
    """Told to stop, or cancelled; the socket stays open for the next."""
    for cancelled in (False, True):
        served = Served(container)
        assert (await served.page("/healthz"))[0] == 200
        assert sys.getswitchinterval() <= web_server._TURN_SECONDS
        if cancelled:
            served.running.cancel()
        served.stop.set()
        await asyncio.wait_for(
            asyncio.gather(served.running, return_exceptions=cancelled), _PATIENCE
        )
        assert sys.getswitchinterval() > web_server._TURN_SECONDS
        again = asyncio.create_task(
            WebPart(container, served.listening).run(stop := asyncio.Event())
        )
        assert (await served.page("/healthz"))[0] == 200
        stop.set()
        await asyncio.wait_for(again, _PATIENCE)
        served.listening.close()
