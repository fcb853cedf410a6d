"""Port to the MoySklad API."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Protocol

from imgsync.domain.accounts import Account
from imgsync.domain.encoding import Element
from imgsync.domain.entity_types import EntityType
from imgsync.domain.images import RemoteImage
from imgsync.domain.matching import Entity

ReadContent = Callable[[str], Iterator[bytes]]
"""Bytes of the file of an `Upload`, by its key, in chunks; called anew for every repetition."""


class WritePermit(Protocol):
    """The right to change a child entity, which a worker holds by the lease of its task."""

    async def confirm(self) -> float:
        """Seconds that one write may last from now on; asked right before each write.

        LeaseLostError where the right is gone, or cannot be confirmed in time.
        """
        ...


class MoySkladPort(Protocol):
    """The API of one account. Errors: AuthorisationError, NotFoundError, ApiError,
    UnavailableError after the adapter's own retries."""

    def list_entities(
        self, entity_type: EntityType, *, with_images: bool
    ) -> AsyncIterator[list[Entity]]:
        """Pages of all entities of a type; pages of 100 with images, of 1000 without."""
        ...

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        """The entity's images in order."""
        ...

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        """Sets the whole list in one request; returns it, one image per element.

        ImageRejectedError where the API refuses an image; whether the list is then unchanged is
        not documented. LeaseLostError of the permit, which is confirmed right before the request
        goes out; a request that outlasts it is broken off. WrongAccountError where the
        credentials are another account's; nothing is sent then.
        """
        ...

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        """Deletes the images with these meta.hrefs in one request; of an image that stands twice,
        the first. Those that are gone already are no error. The permit is as in `set_images`."""
        ...

    async def content_length(self, url: str) -> int | None:
        """Bytes at a download address by HEAD; None where the server does not tell.

        ForbiddenUrlError for an address that the policy refuses.
        """
        ...

    async def download(
        self, url: str, write: Callable[[bytes], None], restart: Callable[[], None], max_bytes: int
    ) -> None:
        """Streams a file into `write`; calls `restart` before it begins anew after a failure.

        ImageTooLargeError past `max_bytes`, ImageError where the image is gone,
        ForbiddenUrlError, and UnavailableError after 60 s or repeated failures.
        """
        ...


class MoySkladFactory(Protocol):
    """Gives the port of an account, one and the same for one account (they share its pace)."""

    def for_account(self, account: Account) -> MoySkladPort: ...

    async def close(self) -> None:
        """Closes every connection."""
        ...
