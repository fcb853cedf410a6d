"""Pages of a list that are asked for before it is their turn."""

import asyncio
import random
from typing import Any

import pytest

from imgsync.adapters.moysklad.rows import READ_AHEAD, RoomAhead, rows_of
from imgsync.domain.errors import ApiError

pytestmark = pytest.mark.anyio
LIMIT = 10


class Rows:
    """A list of the API whose answers come in an order of the test's: `answer` gives the next, of
    those that are asked for, as the list is at that moment."""

    def __init__(self, count: int) -> None:
        self.ids = [f"p{n}" for n in range(count)]
        self.asked: list[int] = []
        self.most = 0
        self.cancelled = 0
        self._waiting: list[tuple[int, asyncio.Future[Any]]] = []

    async def get(self, offset: int) -> Any:
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append(offset)
        self._waiting.append((offset, answered))
        self.most = max(self.most, len(self._waiting))
        try:
            return await answered
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self._waiting = [one for one in self._waiting if one[1] is not answered]

    @property
    def waiting(self) -> int:
        return sum(not answered.done() for _, answered in self._waiting)

    def answer(self, number: int = 0, error: Exception | None = None) -> None:
        left = [one for one in self._waiting if not one[1].done()]
        offset, answered = left[number]
        if error is not None:
            answered.set_exception(error)
            return
        rows = [{"id": one} for one in self.ids[offset : offset + LIMIT]]
        answered.set_result({"rows": rows, "meta": {"size": len(self.ids)}})


async def settle() -> None:
    """Whatever can go on without an answer has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ids_of(rows: Rows, room: RoomAhead) -> list[str]:
    return [row["id"] async for page, _ in rows_of("x", LIMIT, rows.get, room) for row in page]


async def test_the_next_pages_are_asked_for_while_one_is_waited_for() -> None:
    rows, room = Rows(100), RoomAhead()
    reading = asyncio.create_task(ids_of(rows, room))
    await settle()
    assert rows.asked == [0]  # how long the list is, nobody knows yet
    rows.answer()
    await settle()
    assert rows.asked == [0, 10, 20, 30, 40]
    for number in (3, 2, 1):  # those whose turn it is not
        rows.answer(number)
    await settle()
    assert rows.asked[5:] == []  # no more than so many are ahead, answered or not
    while not reading.done():
        rows.answer()
        await settle()
    assert await reading == rows.ids
    assert sorted(rows.asked) == list(range(0, 100, LIMIT))
    assert rows.most == READ_AHEAD + 1
    assert room == RoomAhead()


async def test_whoever_reads_one_page_has_asked_for_one() -> None:
    rows = Rows(100)
    pages = rows_of("x", LIMIT, rows.get, RoomAhead())
    reading = asyncio.ensure_future(anext(pages))
    await settle()
    rows.answer()
    await reading
    await settle()
    assert rows.asked == [0]
    await pages.aclose()  # type: ignore[attr-defined]


async def test_lists_share_the_room_for_what_is_ahead() -> None:
    room = RoomAhead(4)
    lists = [Rows(200) for _ in range(3)]
    reading = [asyncio.create_task(ids_of(rows, room)) for rows in lists]
    await settle()
    for rows in lists:
        rows.answer()
    await settle()
    assert sum(len(rows.asked) for rows in lists) == 3 + 3 + 4
    while any(rows.waiting for rows in lists):
        for rows in lists:
            if rows.waiting:
                rows.answer()
        await settle()
    assert [await one for one in reading] == [rows.ids for rows in lists]
    assert room.free == 4


@pytest.mark.parametrize("how", ["closed", "cancelled", "failed"])
async def test_nothing_goes_on_for_a_reader_who_has_left(how: str) -> None:
    rows, room = Rows(100), RoomAhead()
    reading = asyncio.create_task(ids_of(rows, room))
    await settle()
    rows.answer()
    await settle()
    if how == "failed":
        rows.answer(0, ApiError("no more"))
        with pytest.raises(ApiError, match="no more"):
            await reading
    else:
        if how == "closed":
            rows.answer()
            await settle()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    await settle()
    assert rows.waiting == 0
    assert rows.cancelled >= READ_AHEAD
    assert room == RoomAhead()


@pytest.mark.parametrize("change", ["deleted", "added"])
@pytest.mark.parametrize("seed", range(40))
async def test_no_row_is_missed_in_whatever_order_answers_come(seed: int, change: str) -> None:
    """Rows are deleted, or put in anywhere, between any two answers."""
    chance = random.Random(f"{seed} {change}")  # noqa: S311 (no secret)
    rows = Rows(chance.randrange(35, 160))
    always = set(rows.ids)
    reading = asyncio.create_task(ids_of(rows, RoomAhead(chance.choice([0, 2, 24]))))
    for number in range(10_000):
        await settle()
        if reading.done():
            break
        rows.answer(chance.randrange(rows.waiting))
        if number < 30 and chance.random() < 0.4:
            for more in range(chance.randrange(1, 4)):
                if change == "deleted":
                    always.discard(rows.ids.pop(chance.randrange(len(rows.ids))))
                else:
                    rows.ids.insert(chance.randrange(len(rows.ids)), f"new{number}.{more}")
    assert always <= set(await reading)
