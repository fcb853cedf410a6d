"""Port to the images that could not be copied.

Errors of all: StoreError where the store cannot be used, NoRoomError where its disk is full.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from imgsync.domain.diff import EntityKey
from imgsync.domain.failures import FailedCount, FailedEntity, FailedImage, Failure


class FailedImages(Protocol):
    """Failed images by child entity and main's image id, one row each. The times are the store's.

    Text may lose NUL and lone surrogates where the store cannot hold them.
    """

    async def note(
        self,
        entity: FailedEntity,
        failures: Sequence[Failure],
        *,
        untried: Collection[str] = (),
        alone: bool = True,
    ) -> list[FailedImage]:
        """How an attempt at the entity ended, in one transaction; what is kept of it now, oldest
        first.

        An image that failed before has an attempt more, from 1 where its version is another; it has
        the new reason, and its next attempt after `delay_after` so many, none where it is settled
        or not tried `alone`. Those of which there is no failure passed, or are wanted no more, and
        go; the images `untried` (main's ids) stay as they are.
        """
        ...

    async def of(self, key: EntityKey) -> list[FailedImage]:
        """Those of an entity, oldest first."""
        ...

    async def leave(self, key: EntityKey) -> None:
        """Those of the entity are not tried by themselves any more, until they are noted anew."""
        ...

    async def ask(self, ids: Collection[int]) -> None:
        """Those of these ids, settled ones too, are to be tried now: that is their next attempt,
        until they are noted anew. At most 1,000 are named at once."""
        ...

    async def find(
        self,
        *,
        child_ids: Collection[str] = (),
        cause: str | None = None,
        text: str = "",
        settled: bool | None = None,
        limit: int = 100,
        after: int = 0,
    ) -> list[FailedImage]:
        """Oldest first, those with a larger id than `after`: of these children, or of all where
        none is named, of this cause, and whose reason, cause, file name or entity's name or code
        has the `text` in it, whichever the case of its ASCII letters; that of others may matter."""
        ...

    async def groups(
        self,
        *,
        child_ids: Collection[str] = (),
        cause: str | None = None,
        text: str = "",
        limit: int = 100,
        after: int = 0,
    ) -> list[list[FailedImage]]:
        """As `find`, those together that are `alike`: an image of main that is broken fails on
        each child. Of each group all that are meant, oldest first; the groups by their oldest,
        those whose oldest has a larger id than `after`."""
        ...

    async def get_many(self, ids: Collection[int]) -> list[FailedImage]:
        """Those of these ids that there are, oldest first; at most 1,000 are asked for at once."""
        ...

    async def counts(self, child_ids: Collection[str] = ()) -> list[FailedCount]:
        """By child and cause, in their order; of these children, or of all where none is named."""
        ...

    async def forget(self, child_account_id: str) -> int:
        """Drops those of a child; how many they were."""
        ...
