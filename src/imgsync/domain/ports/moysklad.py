"""Port to the MoySklad API."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from imgsync.domain.errors import ImgsyncError
from imgsync.domain.model import (
    Abilities,
    Account,
    Element,
    EntityPage,
    EntityType,
    Identity,
    MatchField,
    RemoteImage,
)
from imgsync.domain.packing import RequestRoom
from imgsync.domain.ports.storage import TempFile
from imgsync.domain.webhooks import Webhook

ReadContent = Callable[[str], AsyncIterator[bytes]]
"""Bytes of the file of an `Upload`, by its key, in chunks; called anew for every repetition."""


class WritePermit(Protocol):
    """The right to change a child entity, which a worker holds by the lease of its task."""

    async def confirm(self) -> float:
        """Seconds that one write may last from now on; asked right before each write.

        LeaseLostError where the right is gone, or cannot be confirmed in time.
        """
        ...


@dataclass(frozen=True, slots=True)
class ImageSet:
    """One entity's whole list, to be set together with others."""

    entity_id: str
    elements: Sequence[Element]
    read: ReadContent
    permit: WritePermit


@dataclass(frozen=True, slots=True)
class BulkRoom:
    """What one request that sets the lists of many entities can hold.

    `size_of` tells how many of the `max_bytes` some sets take together; a few more than they do,
    as it does not ask for their type.
    """

    max_bytes: int
    max_entities: int
    size_of: Callable[[Sequence[ImageSet]], int]

    def holds(self, sets: Sequence[ImageSet]) -> bool:
        return len(sets) <= self.max_entities and self.size_of(sets) <= self.max_bytes


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What the API takes: elements of one request that sets a list, bytes of one image file,
    requests of one account at once, sets of one request for many entities.

    `source_bytes`: the most of a file that is downloaded, to be made into one that it takes.
    """

    request: RequestRoom
    image_bytes: int
    parallel_requests: int
    bulk: BulkRoom
    source_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RateInUse:
    """Of the `limit` units of a rate limit, how many the last `seconds` took. `weight`: units that
    a request costs, None until an answer has shown it."""

    units: int
    limit: int
    seconds: float
    weight: int | None = None


class ImageLists(Protocol):
    """The image lists of an account's entities; the methods are those of `MoySkladPort`."""

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]: ...

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]: ...

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None: ...


class MoySkladPort(Protocol):
    """The API of one account. Errors: AuthorisationError, AccountParkedError, NotFoundError,
    PermissionDeniedError, ApiError, UnavailableError after the adapter's own retries.

    An identical request that was refused for good within the last ten minutes is not sent again:
    its error is raised anew.
    """

    @property
    def limits(self) -> ApiLimits: ...

    @property
    def shown(self) -> Abilities:
        """What the answers to this port's calls have shown by themselves: permanent links and
        their hosts, HEAD, sizes and formats of images. The rest is for its callers to find out."""
        ...

    def list_entities(
        self,
        entity_type: EntityType,
        *,
        with_images: bool,
        permanent_links: bool = False,
        updated_since: datetime | None = None,
        having: tuple[MatchField, Sequence[str]] | None = None,
        ids: Collection[str] | None = None,
    ) -> AsyncIterator[EntityPage]:
        """Pages of all entities of a type, archived ones too; as large as the API gives them.

        `permanent_links`: with those of the images, where the account has such. `updated_since`:
        those alone whose `updated` is not before it, an aware time; ApiError where the type has no
        `updated`. `having`: those that have one of these values in that field, and maybe others,
        as not every value can be asked for. `ids`: those alone; what there is not is left out.

        Each entity comes once. ApiError for a list that repeats itself, ends before the size that
        it names or goes on without end. WrongAccountError where the rows are another account's.
        """
        ...

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        """The entity's images in order. A row that cannot be read is left out and logged.

        ApiError where the list has rows and none can be read, or does not tell whether it has any.
        """
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

    async def set_many(
        self, entity_type: EntityType, sets: Sequence[ImageSet]
    ) -> list[list[RemoteImage] | ImgsyncError]:
        """Sets the lists of many entities in one request. One result for each set, in order: the
        entity's images as the answer shows them, or the error of that entity alone. Nothing says
        that the API sets what it is sent: the images may be those that were there before.

        Errors of one: ImageRejectedError, StorageFullError, NotFoundError as in `set_images`;
        LeaseLostError where its permit cannot be confirmed, and the others are sent without it;
        ApiError also where the answer does not tell the list, which has to be listed anew then.

        All permits are confirmed right before the request, and the shortest bounds it. Raised, for
        all of them: LeaseLostError where it would have outlasted that one; RequestTooLargeError
        for more than `limits.bulk` holds, and where the API takes no such request or not in its
        time; else the error of an answer that refuses the whole. What was set is not known then,
        but to set it again does no harm.
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

    async def create_entity(self, entity_type: EntityType, name: str, external_code: str) -> str:
        """Makes an entity without images, and returns its id. Where an answer is lost there may be
        two, which their external code tells. WrongAccountError where the credentials are another
        account's, and nothing is sent; PermissionDeniedError without the right."""
        ...

    async def delete_entity(self, entity_type: EntityType, entity_id: str) -> None:
        """Deletes an entity with its images; one that is gone already is no error. Errors as those
        of `create_entity`."""
        ...

    async def webhooks(self) -> list[Webhook]:
        """The account's webhooks: all, or those that these credentials may see.

        NoWebhookRightError where they may see none. WrongAccountError where the rows are another
        account's; ApiError for a list as `list_entities` refuses it.
        """
        ...

    async def save_webhooks(self, webhooks: Sequence[Webhook]) -> list[ImgsyncError | None]:
        """Makes those without an id, and gives those with one their url, `fields` and `enabled`;
        at most 1,000 in one request. One result for each, in order: None where it is saved, or
        the error of that one alone.

        Errors of one: WebhookExistsError, WebhookLimitError, NoWebhookRightError, NoWebhooksError,
        NotFoundError for an id that is gone, ApiError. Raised for all: NoWebhookRightError,
        NoWebhooksError; WrongAccountError where the credentials are another account's, and
        nothing is sent. After another error it is not known which are saved.
        """
        ...

    async def delete_webhooks(self, webhook_ids: Sequence[str]) -> None:
        """Deletes webhooks, at most 1,000, in one request. Those that are gone already are no
        error; the first error of another is raised, after all were tried."""
        ...

    def trust(self, hosts: Collection[str]) -> None:
        """From now on, addresses on these hosts may be asked for as those that configuration
        allows: the API itself named the hosts in permanent links of this account
        (`Abilities.permanent_hosts`). Those that it named to this port are trusted already."""
        ...

    async def content_length(self, url: str) -> int | None:
        """Bytes at a download address by HEAD; None where the server does not tell.

        ForbiddenUrlError for an address that the policy refuses.
        """
        ...

    async def storage_of(self, url: str) -> str:
        """The host, with its port where it is not the usual one, that the file at a download
        address comes from; its server is asked, and nothing of the file is read. Errors as those
        of `download`."""
        ...

    async def download(
        self,
        url: str,
        create: Callable[[], Awaitable[TempFile]],
        max_bytes: int,
        size: int | None = None,
        *,
        is_permanent: bool = False,
    ) -> TempFile:
        """Downloads into a file that `create` makes, and returns it closed. Every try after a
        failure writes a file of its own; that of a failed try is discarded.

        `size`: bytes that the file has where that is known; a file of another size is a failed
        try, and at last an UnavailableError that names both. ImageTooLargeError past `max_bytes`,
        ImageError where the image is gone, ForbiddenUrlError, and UnavailableError after 60 s or
        repeated failures.

        `is_permanent`: it is a permanent link, of an image that has an address of the API too: one
        try, and none while its host fails again and again.
        """
        ...


class MoySkladFactory(Protocol):
    """Gives the port of an account, one and the same for the same id and credentials.

    Accounts share no connection; those with the same credentials share a pace.
    """

    def for_account(self, account: Account) -> MoySkladPort: ...

    async def identify(self, secret: str, login: str | None = None) -> Identity:
        """Whose credentials these are: a token, or a password with its login.

        AuthorisationError where they are refused, ApiError where the API shows no entity that
        tells the account, UnavailableError where it cannot be asked.
        """
        ...

    @property
    def has_spare(self) -> bool:
        """Whether each account that was asked for would send one request more at once."""
        ...

    async def weight(self, account: Account) -> int | None:
        """Units of the rate limit that a request of the account costs, as far as answers have
        shown it. StoreError."""
        ...

    async def rate(self, account: Account) -> RateInUse | None:
        """How much of the account's rate limit all programs take now, as far as is known; None
        where nothing was sent with its credentials. StoreError."""
        ...

    async def close(self) -> None:
        """Closes every connection."""
        ...
