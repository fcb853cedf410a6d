"""What runs side by side: that a part which fails, ends or hangs is seen, and costs no other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from imgsync.application.pulse import Pulses, beat
from imgsync.application.react import React
from imgsync.application.schedule import Scheduler
from imgsync.entrypoints.cli import parts, serve
from imgsync.entrypoints.cli.parts import Part, run_side_by_side
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from tests.application.world import World

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 60.0


@dataclass
class Runs:
    """A part that does as it is told."""

    does: Callable[[asyncio.Event], Awaitable[None]]

    async def run(self, stop: asyncio.Event) -> None:
        await self.does(stop)


@asynccontextmanager
async def running(pulses: Pulses, *given: Part) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_side_by_side(given, stop, pulses))
    try:
        yield
    finally:
        stop.set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seen(pulses: Pulses, *expected: str) -> None:
    """Returns once those, and no other, are the parts that something is wrong with."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not _is_as(pulses.troubles(), expected):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _is_as(troubles: list[str], expected: tuple[str, ...]) -> bool:
    return len(troubles) == len(expected) and all(
        trouble.startswith(one)
        for trouble, one in zip(sorted(troubles), sorted(expected), strict=True)
    )


async def beats(stop: asyncio.Event) -> None:
    while not stop.is_set():
        beat()
        await asyncio.sleep(0.01)


async def hangs(stop: asyncio.Event) -> None:
    beat()
    await asyncio.Event().wait()


async def test_a_part_that_hangs_is_named_and_others_are_not() -> None:
    pulses = Pulses()
    async with running(
        pulses,
        Part("the worker", Runs(beats), 30.0),
        Part("the schedule", Runs(hangs), 0.1),
        Part("the web server", Runs(hangs)),
    ):
        await seen(pulses, "the schedule hangs: it has not been heard of for 0 s")
    assert pulses.troubles() == []


async def test_a_part_that_fails_is_named_until_it_is_heard_of_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "_FIRST_PAUSE", 0.2)
    pulses, may_begin = Pulses(), asyncio.Event()

    async def fails_once(stop: asyncio.Event) -> None:
        if not may_begin.is_set():
            raise RuntimeError("no luck")
        await beats(stop)

    async def ends(stop: asyncio.Event) -> None:
        return

    async with running(
        pulses, Part("the worker", Runs(fails_once), 30.0), Part("the photographer", Runs(ends))
    ):
        worker, photographer = "the worker has failed", "the photographer has failed"
        await seen(pulses, worker, photographer)
        may_begin.set()
        await seen(pulses, photographer)


class Hanging:
    """In place of whatever is asked for something: never answers."""

    def __getattr__(self, name: str) -> Any:
        async def never(*_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

        return never


async def schedule_that_hangs(stop: asyncio.Event) -> None:
    hanging: Any = Hanging()
    names = ("schedule", "settings", "find_links", "enqueue", "check", "note_runs", "clock", "zone")
    await Scheduler(**dict.fromkeys(names, hanging)).run(stop)


async def reaction_that_hangs(stop: asyncio.Event) -> None:
    hanging: Any = Hanging()
    names = ("events", "accounts", "settings", "find_links", "enqueue", "note_runs", "history")
    rest = ("proofs", "ended", "clock")
    await React(**dict.fromkeys((*names, *rest), hanging)).run(stop)


@pytest.mark.parametrize("does", [schedule_that_hangs, reaction_that_hangs])
async def test_the_loops_of_the_service_are_heard_of_until_what_they_ask_hangs(
    does: Callable[[asyncio.Event], Awaitable[None]],
) -> None:
    pulses = Pulses()
    async with running(pulses, Part("it", Runs(does), 0.1)):
        await seen(pulses, "it hangs")


async def test_a_worker_is_heard_of_until_its_queue_hangs() -> None:
    world, pulses, let_go = World(), Pulses(), asyncio.Event()
    claims = 0

    async def claim(**_: Any) -> list[Any]:
        nonlocal claims
        claims += 1
        if claims > 20:
            await let_go.wait()
        return []

    world.queue.claim = claim  # type: ignore[method-assign]

    async def works(stop: asyncio.Event) -> None:
        await world.worker().run()

    try:
        async with running(pulses, Part("the worker", Runs(works), 0.1)):
            await seen(pulses, "the worker hangs")
            assert claims == 21
            let_go.set()
            await seen(pulses)
    finally:
        let_go.set()


@pytest.mark.database
async def test_the_service_looks_after_its_loops(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Part] = []

    async def noted(given: list[Part], stop: asyncio.Event, pulses: Pulses) -> None:
        found.extend(given)
        assert pulses is container.pulses()

    monkeypatch.setattr(serve, "run_side_by_side", noted)
    container = Container(config=fixed_config(database_url=sqlite_url))
    try:
        await serve.run_service(container, "127.0.0.1", 0, lambda _: ())
    finally:
        await close(container)
    looked_after = {part.name for part in found if part.heard_of is not None}
    assert looked_after == {"the worker", "the schedule", "the reaction to webhooks"}
