"""Open pages learn that something has changed, and cost nothing else."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from imgsync.domain.errors import StoreError
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web import live, sessions
from imgsync.entrypoints.web.live import Watch

pytestmark = pytest.mark.anyio
PATIENCE = 30.0


class Looks:
    """What a watch sees, as a test has it."""

    def __init__(self) -> None:
        self.what = "one"
        self.count = 0
        self.fails = False

    async def __call__(self) -> str:
        self.count += 1
        if self.fails:
            raise StoreError("away")
        return self.what


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not true():  # noqa: ASYNC110 (a look tells nobody of itself)
            await asyncio.sleep(0.005)


async def test_all_listeners_share_the_looks_and_without_one_there_is_none() -> None:
    looks = Looks()
    watch = Watch(looks, seconds=0.01)
    async with AsyncExitStack() as stack:
        for _ in range(50):
            await stack.enter_async_context(watch.listening())
        first = await asyncio.gather(*(watch.changed(None) for _ in range(50)))
        assert set(first) == {"one"}
        # All of them were told by the same look.
        assert looks.count <= 2
        waiting = [asyncio.create_task(watch.changed("one")) for _ in range(50)]
        await until(lambda: looks.count > 5)
        assert not any(task.done() for task in waiting)
        looks.what = "two"
        async with asyncio.timeout(PATIENCE):
            assert set(await asyncio.gather(*waiting)) == {"two"}
    seen = looks.count
    await asyncio.sleep(0.1)
    assert looks.count == seen


async def test_a_look_that_fails_is_tried_again_later() -> None:
    looks = Looks()
    watch = Watch(looks, seconds=0.01)
    async with watch.listening():
        await watch.changed(None)
        looks.fails, looks.what = True, "two"
        before = looks.count
        await until(lambda: looks.count > before)
        assert watch.seen == "one"
        looks.fails = False
        async with asyncio.timeout(PATIENCE):
            assert await watch.changed("one") == "two"


async def test_one_that_was_told_before_is_told_of_what_is_new_only() -> None:
    watch = Watch(Looks(), seconds=0.01)
    async with watch.listening():
        await until(lambda: watch.seen == "one")
        told = asyncio.create_task(watch.changed("one"))
        assert await watch.changed("older") == "one"
        await asyncio.sleep(0.05)
        assert not told.done()
        told.cancel()


@pytest.fixture
async def container(tmp_path_factory: pytest.TempPathFactory, sqlite_url: str) -> Container:
    temp = tmp_path_factory.mktemp("temp")
    return Container(config=fixed_config(database_url=sqlite_url, temp_dir=temp))


@pytest.mark.database
async def test_the_stream_ends_when_the_server_stops_and_when_the_session_does(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.05)
    looks, stopping = Looks(), asyncio.Event()
    watch = Watch(looks, seconds=0.01)
    try:
        open_to_all = live.stream(container, watch, None, None, stopping)
        async with asyncio.timeout(PATIENCE):
            assert "retry:" in await anext(open_to_all)
            assert "event: changed" in await anext(open_to_all)
            assert (await anext(open_to_all)).startswith(":")  # nobody needs a password yet

            await container.web_secrets().put(sessions.PASSWORD, sessions.hash_of("x" * 12))
            with pytest.raises(StopAsyncIteration):
                await anext(open_to_all)
            assert watch.listeners == 0

            gate = await sessions.gate(container.web_secrets())
            let_in = live.stream(container, watch, gate.new()[1], "one", stopping)
            assert "retry:" in await anext(let_in)
            assert (await anext(let_in)).startswith(":")  # it was told of "one" before
            looks.what = "two"
            while (said := await anext(let_in))[0] == ":":
                pass
            assert "id: two\n" in said
            stopping.set()
            assert [said async for said in let_in if not said.startswith(":")] == []
        assert watch.listeners == 0
    finally:
        await close(container)


@pytest.mark.database
async def test_no_more_listen_than_there_is_room_for(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_LISTENERS", 2)
    watch = Watch(Looks(), seconds=0.01)
    try:
        streams = [live.stream(container, watch, None, None, None) for _ in range(3)]
        async with asyncio.timeout(PATIENCE):
            for one in streams:
                assert "retry:" in await anext(one)
            for one in streams[:2]:
                assert "event: changed" in await anext(one)
            with pytest.raises(StopAsyncIteration):
                await anext(streams[2])
        assert watch.listeners == 2
        for one in streams[:2]:
            await one.aclose()
        assert watch.listeners == 0
    finally:
        await close(container)
