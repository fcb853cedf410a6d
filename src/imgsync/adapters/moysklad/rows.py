"""Rows of the API's answers that imgsync reads (API documentation, Images and Products), and lists
of them, page by page.

The vendor's schema lets much be null or missing; a row in an unexpected shape costs only itself. A
list has an end whatever the answers claim.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from imgsync.domain.errors import ApiError
from imgsync.domain.model import Entity, RemoteImage
from imgsync.domain.webhooks import Webhook

_MAX_SHOWN = 200
_LARGEST_SIZE = 2**53
_GROWTH = 10_000
"""Rows by which a list may grow while it is read."""

_MOST_ROWS = 3_000_000
"""Rows of a list that does not tell its size."""

READ_AHEAD = 3
"""Pages of a list that are asked for before it is their turn: with the one whose turn it is, four
of the five requests that an account takes at once."""

_MOST_AHEAD = 24
"""Pages that the lists of a process hold ahead together: a page of a hundred entities with images
takes some three megabytes once it is read."""

MAX_WEBHOOKS = 1000
"""In one request."""

GetPage = Callable[[int], Awaitable[Any]]
"""The answer that begins at an offset."""

_M = TypeVar("_M", bound=BaseModel)


def _text(value: object) -> object:
    return "" if value is None else value


def _size(value: object) -> object:
    """A count of bytes or rows; None where there is no sensible one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 <= value <= _LARGEST_SIZE else None  # type: ignore[operator]


def _text_or_nothing(value: object) -> str:
    return value if isinstance(value, str) else ""


Text = Annotated[str, BeforeValidator(_text)]
Untrusted = Annotated[str, BeforeValidator(_text_or_nothing)]
"""A text that no row is lost for."""
Size = Annotated[int | None, BeforeValidator(_size)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ImageMeta(_Model):
    href: str
    downloadHref: Text = ""  # noqa: N815 (the API's name)
    downloadPermanentHref: Untrusted = ""  # noqa: N815


class ImageModel(_Model):
    meta: ImageMeta
    filename: Text = ""
    title: Text = ""
    size: Size = None
    updated: Text = ""

    def image(self) -> RemoteImage:
        return RemoteImage(
            self.meta.href,
            self.filename or self.title,
            self.size or 0,
            self.updated,
            self.meta.downloadHref,
            self.meta.downloadPermanentHref,
        )


class PageMeta(_Model):
    size: Size = None


class Page(_Model):
    """A list; its rows are read one by one."""

    meta: PageMeta | None = None
    rows: list[Any] | None = None

    @property
    def size(self) -> int | None:
        return self.meta.size if self.meta else None


class ParentMeta(_Model):
    href: Untrusted = ""


class Parent(_Model):
    """What a variant or a content card is of."""

    meta: ParentMeta | None = None

    @property
    def named(self) -> tuple[str, str] | None:
        """Type and id of a meta.href ``…/entity/{type}/{id}``."""
        parts = self.meta.href.partition("?")[0].rstrip("/").split("/") if self.meta else []
        return (parts[-2], parts[-1]) if parts[-3:-2] == ["entity"] else None


def _object(value: object) -> object:
    return value if isinstance(value, dict) and isinstance(value.get("meta"), dict) else None


ParentField = Annotated[Parent | None, BeforeValidator(_object)]
"""In another shape it is not known: that must not cost the entity."""


class EntityModel(_Model):
    id: str
    accountId: str | None = None  # noqa: N815
    name: Text = ""
    externalCode: str | None = None  # noqa: N815
    code: str | None = None
    article: str | None = None
    images: Page | None = None
    archived: Annotated[bool, BeforeValidator(lambda value: value is True)] = False
    updated: Untrusted = ""
    pathName: Untrusted = ""  # noqa: N815
    product: ParentField = None
    assortment: ParentField = None

    def entity(self, images: "Images") -> Entity:
        return Entity(
            self.id,
            self.name,
            self.externalCode,
            self.code,
            self.article,
            tuple(images.images),
            unreadable=tuple(images.unreadable),
            images_known=images.known,
            archived=self.archived,
            folder=self.pathName,
            updated=self.updated,
            parent=parent.named if (parent := self.product or self.assortment) else None,
        )


@dataclass(frozen=True, slots=True)
class Images:
    """An image list as far as it can be read; `known` is False where the API does not tell it."""

    images: list[RemoteImage]
    unreadable: list[str]
    known: bool = True

    @classmethod
    def of(cls, rows: Sequence[Any]) -> "Images":
        images, unreadable = [], []
        for number, row in enumerate(rows, 1):
            try:
                images.append(parse(ImageModel, row).image())
            except ApiError as error:
                name = row.get("filename") if isinstance(row, dict) else None
                which = (
                    f"image '{name[:_MAX_SHOWN]}'" if isinstance(name, str) else f"image {number}"
                )
                unreadable.append(f"{which}: {error}")
        return cls(images, unreadable)


def parse(model: type[_M], value: Any) -> _M:
    """The answer as a model; ApiError naming the field where it has another shape."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise ApiError(f"unexpected answer of the API: {where}: {first['msg']}") from None


def name_of(type_name: str, row: Any, number: int) -> str:
    """What a row is called for the user, as far as it can be read: by name, code or id."""
    for field in ("name", "code", "id"):
        value = row.get(field) if isinstance(row, dict) else None
        if isinstance(value, str) and value.strip():
            return f"{type_name} '{value[:_MAX_SHOWN]}'"
    return f"{type_name} number {number} of the list"


class WebhookModel(_Model):
    id: str = Field(min_length=1)
    url: Untrusted = ""
    entityType: Untrusted = ""  # noqa: N815 (the API's name)
    action: Untrusted = ""
    diffType: Untrusted = ""  # noqa: N815
    enabled: bool = True
    accountId: Untrusted = ""  # noqa: N815

    def webhook(self) -> Webhook:
        return Webhook(
            self.id,
            self.url,
            self.entityType,
            self.action,
            fields=self.diffType == "FIELDS",
            enabled=self.enabled,
        )


@dataclass(slots=True)
class RoomAhead:
    """For how many pages more there is room that nobody waits for yet; lists share it."""

    free: int = _MOST_AHEAD


async def rows_of(
    what: str, limit: int, get: GetPage, room: RoomAhead | None = None
) -> AsyncIterator[tuple[list[Any], int | None]]:
    """Pages of rows, each row once, with the size that the list tells; `what` names it in errors.
    Where that becomes less while it is read, what has moved up is read again.

    With `room` a list that tells its size, and whose `limit` stays, is read ahead: while a page is
    waited for, the next ones are asked for too, but not before the reader wants a second page.

    ApiError where the list repeats itself, ends before the size that it names, or never ends.
    """
    async with aclosing(_Ahead(get, limit, room or RoomAhead(0))) as pages:
        async for found in _checked_rows(what, limit, pages):
            yield found


class _Ahead:
    """Asks for the pages that will be next.

    What a list tells is judged in its order, whichever answer came first. That is as safe as one
    after another: where a row was deleted or put in between two pages, the later of which was
    answered first, the size falls from one to the next just as it does where it was answered last,
    and then the rest is read anew. Whenever the size is another one, everything that was read ahead
    is dropped, and the next page is read alone.
    """

    def __init__(self, get: GetPage, limit: int, room: RoomAhead) -> None:
        self._get = get
        self._limit = limit
        self._room = room
        self._asked: dict[int, asyncio.Task[Any]] = {}

    async def page(self, offset: int, size: int) -> Any:
        """The answer that begins at `offset`, which was not taken yet. Others are asked for up to
        row `size`, as far as there is room."""
        if self._asked and offset not in self._asked:
            await self.drop()
        here = self._asked.pop(offset, None)
        if here is not None:
            self._room.free += 1  # somebody waits for it now
        most = offset + (READ_AHEAD + 1) * self._limit
        starts = range(offset + self._limit, min(size, most), self._limit)
        if here is None:
            if not starts:
                return await self._get(offset)
            here = asyncio.ensure_future(self._get(offset))
        for start in starts:
            if start not in self._asked and self._room.free > 0:
                self._room.free -= 1
                self._asked[start] = asyncio.ensure_future(self._get(start))
        return await here

    async def drop(self) -> None:
        """Nothing is under way any more."""
        left = list(self._asked.values())
        self._asked.clear()
        self._room.free += len(left)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    aclose = drop


async def _checked_rows(
    what: str, limit: int, pages: _Ahead
) -> AsyncIterator[tuple[list[Any], int | None]]:
    offset, most, came = 0, None, 0
    told, is_again = None, False
    before: set[str] = set()
    end = 0
    while True:
        page = parse(Page, await pages.page(offset, end))
        if page.rows is None and page.size != 0:
            raise ApiError(f"unexpected answer of the API: the list of {what} has no rows")
        rows = page.rows or []
        size = page.size
        if most is None:
            most = _MOST_ROWS if size is None else size + size // 10 + _GROWTH
        gone = 0 if told is None or size is None else told - size
        moves = told is not None and size != told
        if moves:
            await pages.drop()
        told = size
        # Of pages that are shorter than what was asked for, nobody knows where the next begins.
        end = size if size is not None and len(rows) == limit and not moves else 0
        if gone > 0 and offset:
            # Rows were deleted meanwhile, and those behind them have moved up, past this page.
            offset, is_again, came = max(0, offset - gone), True, came + limit
        else:
            fresh, before = _without(rows, before)
            offset, came = offset + len(rows), came + len(rows)
            if rows and not fresh and not is_again:
                raise ApiError(
                    f"the list of {what} repeats itself at row {offset}; it is not trusted"
                )
            is_again = False
            if fresh:
                yield fresh, size
            if size is not None and offset >= size:
                return
            if size is None and len(rows) < limit:
                return
            if not rows:
                raise ApiError(
                    f"the list of {what} ends at row {offset} although it says to have {size}; "
                    "it is not trusted"
                )
        if came > most:
            raise ApiError(f"the list of {what} does not end: {came} rows came")


def _without(rows: list[Any], before: set[str]) -> tuple[list[Any], set[str]]:
    """The rows that neither come twice nor came in the page before, and the ids of this page.

    A row that was added meanwhile moves the others on by one, so that the last comes again.
    """
    ids = [row.get("id") if isinstance(row, dict) else None for row in rows]
    seen = {row_id for row_id in ids if isinstance(row_id, str)}
    if len(seen) == len(rows) and seen.isdisjoint(before):
        return rows, seen  # of nearly all pages
    fresh, seen = [], set()
    for row, row_id in zip(rows, ids, strict=True):
        if isinstance(row_id, str):
            if row_id in before or row_id in seen:
                continue
            seen.add(row_id)
        fresh.append(row)
    return fresh, seen
