"""Disks that are slow: the event loop goes on, and a task that is cancelled leaves nothing."""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgsync.adapters.files import local
from imgsync.adapters.files.local import LocalContentStore, LocalTempFile, LocalWorkspace

pytestmark = pytest.mark.anyio


def slow(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        time.sleep(0.3)
        return function(*args)

    return call


@pytest.mark.parametrize(("size", "most"), [(1, 0), (100_000, 0), (1_000_000, 6)])
async def test_small_chunks_are_gathered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, most: int
) -> None:
    hops = 0
    to_thread = asyncio.to_thread

    async def counted(*args: Any) -> Any:
        nonlocal hops
        hops += 1
        return await to_thread(*args)

    async with LocalContentStore(tmp_path).workspace() as workspace:
        file = await workspace.create("a.png")
        monkeypatch.setattr(asyncio, "to_thread", counted)
        for start in range(0, size, 1000):
            await file.write(b"x" * min(1000, size - start))
        assert hops <= most
        hops = 0
        await file.close()
        assert [len(piece) async for piece in workspace.read(file.key)][:-1] == [
            196_608 for _ in range(size // 196_608)
        ]
        assert hops <= most + 2


@pytest.mark.slow
async def test_a_slow_disk_does_not_hold_the_loop_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_write", "_finish", "_drop"):
        monkeypatch.setattr(LocalTempFile, name, slow(getattr(LocalTempFile, name)))
    monkeypatch.setattr(local, "_piece", slow(getattr(local, "_piece")))  # noqa: B009
    monkeypatch.setattr(local, "_make_held", slow(local._make_held))
    monkeypatch.setattr(LocalWorkspace, "_remove", slow(LocalWorkspace._remove))
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    watching = asyncio.create_task(watch())
    async with LocalContentStore(tmp_path).workspace() as workspace:
        file = await workspace.create("a.png")
        await file.write(bytes(200_000))
        await file.close()
        assert sum([len(piece) async for piece in workspace.read(file.key)]) == 200_000
        await file.discard()
    watching.cancel()
    assert longest < 0.25


@pytest.mark.slow
@pytest.mark.parametrize("point", ["begin", "create", "write", "close", "read"])
async def test_a_task_that_is_cancelled_at_the_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """Its thread goes on, and what it does comes before the folder is removed, or not at all."""
    name = {"write": "_write", "close": "_finish"}.get(point)
    if point == "read":
        monkeypatch.setattr(local, "_piece", slow(getattr(local, "_piece")))  # noqa: B009
    elif point == "begin":
        monkeypatch.setattr(LocalWorkspace, "_create", slow(LocalWorkspace._create))
    elif name is None:
        monkeypatch.setattr(local, "_make_held", slow(local._make_held))
    else:
        monkeypatch.setattr(LocalTempFile, name, slow(getattr(LocalTempFile, name)))
    reached = asyncio.Event()

    async def work() -> None:
        async with LocalContentStore(tmp_path).workspace() as workspace:
            if point in ("begin", "create"):
                reached.set()
            file = await workspace.create("a.png")
            reached.set()
            await file.write(bytes(200_000))
            await file.close()
            assert [piece async for piece in workspace.read(file.key)]

    open_before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        task = asyncio.create_task(work())
        await reached.wait()
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert os.listdir(tmp_path) == []
    await asyncio.sleep(0.4)
    assert os.listdir(tmp_path) == []
    assert len(os.listdir("/proc/self/fd")) <= open_before
