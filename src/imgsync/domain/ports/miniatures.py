"""Port to miniatures that were made before."""

from typing import Protocol

MOST_MINIATURE_BYTES = 200_000
"""A miniature that is larger is not kept."""


class MiniatureStore(Protocol):
    """Small JPEG and PNG files by a text of at most 500 characters. What is lost is made anew: no
    method raises an error for a disk that fails, nothing is kept then."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, content: bytes) -> None:
        """Keeps it, in place of what was there; of more than the store may hold, the least recently
        used go."""
        ...

    async def clean(self) -> int:
        """Deletes what nobody has used for long; how many those were."""
        ...


class ShownPictures(Protocol):
    """Which pictures the pages show: those that the last comparison of a child or a failed image
    names. StoreError where the store cannot be used."""

    async def __call__(
        self, account_id: str, entity_type: str, entity_id: str, image_id: str
    ) -> bool: ...
