"""Makes the miniature of an image of an account, for a page."""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from imgsync.domain.errors import (
    ImgsyncError,
    UnknownAccountError,
)
from imgsync.domain.formats import is_sendable
from imgsync.domain.model import (
    ENTITY_ID,
    Account,
    EntityType,
    EntityTypes,
    RemoteImage,
    SourceImage,
)
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.miniatures import MiniatureStore
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.pictures import PictureCheck, PictureEditor
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.ports.storage import (
    ContentKey,
    ContentStore,
    SharedFile,
    TempFile,
    Turn,
    Workspace,
)

SIDE = 160
"""Pixels of a miniature's longer side, at most."""

_QUALITY = 80
_SMALLEST_SIDE = 32
"""In one of MoySklad's that is smaller nobody sees anything: the picture itself is taken."""

_MOST_MINIATURE_BYTES = 5_000_000
_AT_ONCE = 2
"""Miniatures that are made at once: copies go first."""

_MOST_WAITING = 200
_LISTED = timedelta(seconds=60)
"""How long an entity's list is believed."""

_MOST_LISTED = 500
_MOST_USELESS, _NOT_ASKED = 3, timedelta(minutes=10)
"""Miniatures in a row that were refused or of no use, after which an account is not asked for them
for so long: each costs a request, and failing ones are counted against the account."""

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_MADE_BY = "1"
"""To be raised with every change after which other miniatures come out."""


class NoMiniatureError(ImgsyncError):
    """There is no such image, or it must not be shown."""


class BusyError(ImgsyncError):
    """Too many miniatures are waited for."""


@dataclass(frozen=True, slots=True)
class Miniature:
    """`content` is a JPEG or PNG file; `tag` changes with the image's version."""

    content: bytes
    tag: str

    @property
    def media_type(self) -> str:
        return "image/png" if self.content.startswith(b"\x89PNG") else "image/jpeg"


def version_tag(updated: str) -> str:
    """Another text for another version of an image (`RemoteImage.updated`): 12 hexadecimal
    digits."""
    return hashlib.sha256(updated.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(slots=True)
class Miniatures:
    """Miniatures of images of linked accounts.

    One costs its account's rate limit a request for the entity's list, which serves all images of
    it for a minute, and one or two for the file; none where it was made before, or where the
    picture itself is in the content store. `address` tells where MoySklad has a miniature of an
    image; `editor` is made once there is something to make.
    """

    accounts: AccountRepository
    settings: SettingsRepository
    moysklad: MoySkladFactory
    entity_types: EntityTypes
    storage: ContentStore
    pictures: PictureCheck
    editor: Callable[[], PictureEditor]
    made: MiniatureStore
    clock: Clock
    address: Callable[[RemoteImage], str]
    _turns: asyncio.Semaphore = field(init=False)
    _under_way: dict[str, asyncio.Task[Miniature]] = field(init=False, default_factory=dict)
    _lists: dict[tuple[str, str, str], tuple[datetime, list[RemoteImage]]] = field(
        init=False, default_factory=dict
    )
    _useless: dict[str, tuple[int, datetime]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def __call__(
        self, account_id: str, entity_type: str, entity_id: str, image_id: str, tag: str = ""
    ) -> Miniature:
        """NoMiniatureError for an account that is in no link, and for an image that is none of the
        entity's; BusyError; else the errors of the API, of the image and of the editor.

        `tag`: the version that the page has seen (`version_tag`); of another one the newest is
        given.
        """
        if not re.fullmatch(ENTITY_ID, entity_id) or not re.fullmatch(ENTITY_ID, image_id):
            raise NoMiniatureError("no such image")
        try:
            kind = self.entity_types.get(entity_type)
            account = await self._linked(account_id)
        except ImgsyncError as error:
            raise NoMiniatureError(str(error)) from error
        if tag and (content := await self.made.get(_key(account_id, image_id, tag))):
            return Miniature(content, tag)
        key = f"{account_id}/{entity_type}/{entity_id}/{image_id}"
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= _MOST_WAITING:
                raise BusyError("too many miniatures are waited for")
            task = asyncio.create_task(self._in_turn(account, kind, entity_id, image_id))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
            task.add_done_callback(_heard)
        # Whoever leaves the page ends it for nobody else.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Ends what is under way."""
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _linked(self, account_id: str) -> Account:
        for link in await self.settings.links():
            if account_id in (link.main_id, link.child_id):
                return await self.accounts.get(account_id)
        raise UnknownAccountError(account_id)

    async def _in_turn(
        self, account: Account, kind: EntityType, entity_id: str, image_id: str
    ) -> Miniature:
        async with self._turns:
            image = await self._listed(account, kind, entity_id, image_id)
            tag = version_tag(image.updated)
            key = _key(account.id, image_id, tag)
            content = await self.made.get(key)
            if content is None:
                content = await self._make(account, image)
                await self.made.put(key, content)
            return Miniature(content, tag)

    async def _listed(
        self, account: Account, kind: EntityType, entity_id: str, image_id: str
    ) -> RemoteImage:
        key, now = (account.id, kind.name, entity_id), self.clock.now()
        at, images = self._lists.get(key, (None, []))
        if at is None or not timedelta(0) <= now - at < _LISTED:
            if parking := await self.accounts.parking(account.id):
                raise NoMiniatureError(parking.reason)
            images = await self.moysklad.for_account(account).list_images(kind, entity_id)
            self._lists.pop(key, None)
            self._lists[key] = (now, images)
            while len(self._lists) > _MOST_LISTED:
                del self._lists[next(iter(self._lists))]
        found = next((image for image in images if image.id == image_id), None)
        if found is None:
            raise NoMiniatureError("no such image")
        return found

    async def _make(self, account: Account, image: RemoteImage) -> bytes:
        port = self.moysklad.for_account(account)
        async with self.storage.workspace() as workspace:
            shared = await _shared(workspace, account.id, image)
            if shared is not None:
                return await self._shrunk(await _content(workspace, shared.key))
            if not self._gives_none(account.id):
                small = await self._small(workspace, port, image)
                self._note(account.id, is_useful=small is not None)
                if small is not None:
                    return await self._shrunk(small)
            content = await _download(
                workspace, port, image.download_href, port.limits.source_bytes, image.size or None
            )
            return await self._shrunk(content)

    async def _small(
        self, workspace: Workspace, port: MoySkladPort, image: RemoteImage
    ) -> bytes | None:
        """MoySklad's own miniature; None where it has none of this image, or one of no use."""
        try:
            content = await _download(workspace, port, self.address(image), _MOST_MINIATURE_BYTES)
            return content if await self._is_seen(content) else None
        except ImgsyncError as error:
            if error.retryable:
                raise
            return None

    def _gives_none(self, account_id: str) -> bool:
        return self._useless.get(account_id, (0, _LONG_AGO))[0] >= _MOST_USELESS and (
            self.clock.now() - self._useless[account_id][1] < _NOT_ASKED
        )

    def _note(self, account_id: str, *, is_useful: bool) -> None:
        before = self._useless.get(account_id, (0, _LONG_AGO))[0]
        self._useless[account_id] = (0 if is_useful else before + 1, self.clock.now())

    async def _is_seen(self, content: bytes) -> bool:
        async def pieces() -> AsyncIterator[bytes]:
            yield content

        facts = (await self.pictures.check(pieces)).facts
        return facts is not None and max(facts.width, facts.height) >= _SMALLEST_SIDE

    async def _shrunk(self, content: bytes) -> bytes:
        """Always made anew: what a browser gets is no other's file."""

        def make() -> bytes:
            editor = self.editor()
            sendable = (
                content if is_sendable(content) else editor.convert(content, drop_metadata=True)
            )
            made = editor.optimise(sendable, max_side=SIDE, quality=_QUALITY, drop_metadata=True)
            return sendable if made is None else made

        return await asyncio.to_thread(make)


def _key(account_id: str, image_id: str, tag: str) -> str:
    return f"{_MADE_BY} {SIDE} {account_id} {image_id} {tag}"


def _heard(task: "asyncio.Task[Miniature]") -> None:
    """Where everybody has left the page, nobody asks for its error."""
    if not task.cancelled():
        task.exception()


async def _shared(workspace: Workspace, account_id: str, image: RemoteImage) -> SharedFile | None:
    """The picture itself, where it was copied lately."""
    (source,) = SourceImage.all_listed([image]) or (None,)
    content_key = source and ContentKey.of(account_id, source)
    if not content_key:
        return None
    found = await workspace.acquire(content_key)
    if isinstance(found, SharedFile):
        return found
    if found is Turn.OURS:
        await workspace.pass_turn(content_key)
    return None


async def _download(
    workspace: Workspace, port: MoySkladPort, url: str, max_bytes: int, size: int | None = None
) -> bytes:
    async def create() -> TempFile:
        return await workspace.create("miniature")

    file = await port.download(url, create, max_bytes, size)
    return await _content(workspace, file.key)


async def _content(workspace: Workspace, key: str) -> bytes:
    return b"".join([piece async for piece in workspace.read(key)])
