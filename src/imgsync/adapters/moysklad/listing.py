"""Reading a list page by page, with an end whatever the answers claim."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from imgsync.adapters.moysklad.schemas import Page, parse
from imgsync.domain.errors import ApiError

GetPage = Callable[[int], Awaitable[Any]]
"""The answer that begins at an offset."""

_GROWTH = 10_000
"""Rows by which a list may grow while it is read."""

_MOST_ROWS = 3_000_000
"""Rows of a list that does not tell its size."""


async def rows_of(what: str, limit: int, get: GetPage) -> AsyncIterator[list[Any]]:
    """Pages of rows, each row once; `what` names the list in errors.

    ApiError where the list repeats itself, ends before the size that it names, or never ends.
    """
    offset, most = 0, None
    before: set[str] = set()
    while True:
        page = parse(Page, await get(offset))
        if page.rows is None and page.size != 0:
            raise ApiError(f"unexpected answer of the API: the list of {what} has no rows")
        rows = page.rows or []
        size = page.size
        if most is None:
            most = _MOST_ROWS if size is None else size + size // 10 + _GROWTH
        fresh, before = _without(rows, before)
        offset += len(rows)
        if rows and not fresh:
            raise ApiError(f"the list of {what} repeats itself at row {offset}; it is not trusted")
        if fresh:
            yield fresh
        if size is not None and offset >= size:
            return
        if size is None and len(rows) < limit:
            return
        if not rows:
            raise ApiError(
                f"the list of {what} ends at row {offset} although it says to have {size}; "
                "it is not trusted"
            )
        if offset > most:
            raise ApiError(f"the list of {what} does not end: {offset} rows came")


def _without(rows: list[Any], before: set[str]) -> tuple[list[Any], set[str]]:
    """The rows that neither come twice nor came in the page before, and the ids of this page.

    A row that was added meanwhile moves the others on by one, so that the last comes again.
    """
    fresh, seen = [], set[str]()
    for row in rows:
        row_id = row.get("id") if isinstance(row, dict) else None
        if isinstance(row_id, str):
            if row_id in before or row_id in seen:
                continue
            seen.add(row_id)
        fresh.append(row)
    return fresh, seen
