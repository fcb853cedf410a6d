"""Gets ready what fills a child's list: fetches it, makes it smaller, or finds it there already."""

import asyncio
from collections.abc import Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from imgsync.application.fetch import ImageFetcher
from imgsync.domain.diff import (
    Adopt,
    FailureCause,
    ImageOutcome,
    SetTo,
    SyncRecord,
    is_filled,
    kept_by_content,
    without_surplus,
)
from imgsync.domain.errors import ImageError, NoRoomError, UnavailableError
from imgsync.domain.limits import size_limit
from imgsync.domain.model import Abilities, Element, Keep, RemoteImage, Upload
from imgsync.domain.ports.moysklad import MoySkladPort
from imgsync.domain.ports.storage import Workspace
from imgsync.domain.replace import Replacement
from imgsync.domain.text import file_size

_T = TypeVar("_T")


@dataclass(slots=True)
class Filling:
    """Fills the list of one entity of `child`, which is `current` now and `record` tells of.

    `fits`: files are made as small as the account wants them. `known`: what it has shown.
    """

    child: MoySkladPort
    fetcher: ImageFetcher
    workspace: Workspace
    change: SetTo
    record: SyncRecord | None
    current: Sequence[RemoteImage]
    adopt: Adopt
    fits: bool
    known: Abilities
    _rest: list[ImageOutcome] = field(init=False)
    _digests: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self._rest = list(self.change.outcomes)
        known = self.record.copied if self.record else ()
        by_id = {c.child_image_id: c.content.uploaded for c in known if c.content is not None}
        self._digests = {i.href: by_id[i.id] for i in self.current if i.id in by_id}
        self._note_limit()

    @property
    def limit(self) -> int:
        """Bytes of the largest file that is sent; 0 where even the smallest was refused."""
        return size_limit(self.known, self.child.limits.image_bytes)

    def may_shrink(self, refused: int) -> bool:
        """Whether files can be made smaller, where one of so many bytes is refused as too large."""
        known = self.known.with_shown(Abilities(refused_image_bytes=refused))
        return self.fits and size_limit(known, self.child.limits.image_bytes) > 0

    async def begin(self) -> list[ImageOutcome]:
        """The first outcomes, with what fills the list as far as it can be had."""
        return await self._fill([])

    async def go_on(
        self, outcomes: Sequence[ImageOutcome], replacement: Replacement
    ) -> list[ImageOutcome] | None:
        """With the next images of main in place of those that were refused; None where the list is
        full, or there is none that could be had."""
        ended = [outcome.after(replacement) for outcome in outcomes]
        if not self._rest or is_filled(ended, self.change.most):
            return None
        more = (await self._fill(ended))[len(ended) :]
        return [*outcomes, *more] if any(o.problem is None for o in more) else None

    async def shrink(
        self, outcomes: Sequence[ImageOutcome], refused: int, placed: Collection[str]
    ) -> list[ImageOutcome]:
        """With smaller files, as one of `refused` bytes was too large, of all that are to be sent
        and are not in `placed` (keys)."""
        self.known = self.known.with_shown(Abilities(refused_image_bytes=refused))
        self._note_limit()
        # Where even the smallest likely limit was refused, smaller files may be taken all the same.
        limit = self.limit or refused - 1

        def is_to_shrink(outcome: ImageOutcome) -> bool:
            file = outcome.element
            return (
                outcome.problem is None
                and isinstance(file, Upload)
                and file.key not in placed
                and file.size > limit
            )

        large = [o for o in outcomes if is_to_shrink(o)]
        fetched = await self.fetcher.fetch([replace(o, element=None, note="") for o in large])
        smaller = iter([_checked(outcome, limit) for outcome in fetched])
        made = [next(smaller) if is_to_shrink(o) else o for o in outcomes]
        if all(outcome.problem is not None for outcome in made) and self._rest:
            made = await self._fill(made)
        return await self._kept(made)

    def _note_limit(self) -> None:
        if self.fits and self.limit:
            self.fetcher.max_bytes = self.limit

    async def _fill(self, outcomes: list[ImageOutcome]) -> list[ImageOutcome]:
        most = self.change.most
        while self._rest and not is_filled(outcomes, most):
            missing = most - sum(o.problem is None for o in outcomes)
            batch, self._rest = self._rest[:missing], self._rest[missing:]
            outcomes = [*outcomes, *await self.fetcher.fetch(batch)]
        return await self._kept(without_surplus(outcomes, most))

    async def _kept(self, outcomes: Sequence[ImageOutcome]) -> list[ImageOutcome]:
        if self.adopt is Adopt.HASH:
            await self._read_child(outcomes)
        return kept_by_content(outcomes, self._digests)

    async def _read_child(self, outcomes: Sequence[ImageOutcome]) -> None:
        """Downloads the images of the child that may be what is to be sent."""
        sizes = {o.element.size for o in outcomes if isinstance(o.element, Upload)}
        gate = asyncio.Semaphore(self.child.limits.parallel_requests)
        unread = {
            image.href: image
            for image in self.current
            if image.href not in self._digests and (not image.size or image.size in sizes)
        }

        async def read(image: RemoteImage) -> None:
            async with gate:
                digest = await digest_of(self.child, self.workspace, image)
            if digest is not None:
                self._digests[image.href] = digest

        if sizes:
            await side_by_side(map(read, unread.values()))


async def side_by_side(some: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of all, in order; the first error of one ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in some]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def digest_of(account: MoySkladPort, workspace: Workspace, image: RemoteImage) -> str | None:
    """The SHA-256 of an image, in hexadecimal; None where it cannot be had now."""
    if not image.download_href:
        return None
    with suppress(ImageError, UnavailableError):
        file = await account.download(
            image.download_href,
            lambda: workspace.create(image.filename),
            account.limits.source_bytes,
            image.size or None,
        )
        try:
            return file.digest
        finally:
            with suppress(NoRoomError):
                await file.discard()
    return None


def _checked(outcome: ImageOutcome, limit: int) -> ImageOutcome:
    """A file that is no smaller than the one which was refused is not sent again."""
    file = outcome.element
    if not isinstance(file, Upload) or file.size <= limit:
        return outcome
    told = f"{file_size(file.size)} is more than the account takes"
    return outcome.failed(told, cause=FailureCause.TOO_LARGE, settled=True)


def wanted_now(
    outcomes: Sequence[ImageOutcome], replacement: Replacement, most: int
) -> list[Element]:
    """The list that is to be set next, after some of it has been set: what was placed is kept, and
    what was refused is not sent again."""
    there = set(replacement.final_hrefs)
    wanted: list[tuple[Element, bool]] = []
    for outcome in outcomes:
        element = outcome.element
        is_surplus = outcome.problem is not None
        if isinstance(element, Upload):
            placed = replacement.placed.get(element.key)
            if placed is not None:
                element = Keep(placed)
            elif element.key in replacement.rejected:
                element, is_surplus = outcome.earlier, True
                if element is not None and element.href not in there:
                    element = None
            elif element.replaces not in there:
                element = replace(element, replaces=None)
        if element is not None:
            wanted.append((element, is_surplus))
    if len(wanted) > most:
        return [element for element, is_surplus in wanted if not is_surplus]
    return [element for element, _ in wanted]


def lost_any(outcomes: Sequence[ImageOutcome], left: Collection[str]) -> bool:
    """Whether an image to keep, whose file is not at hand, is none of those that are left."""
    return any(isinstance(o.element, Keep) and o.element.href not in left for o in outcomes)
