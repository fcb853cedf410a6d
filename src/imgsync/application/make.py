"""Makes the file that a child receives of a picture: as it came, or transformed once for all who
want the same."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import BytesIO

from imgsync.domain.errors import ImageTooLargeError, NotAnImageError
from imgsync.domain.formats import SENDABLE, image_format, renamed, safe_suffix
from imgsync.domain.model import SyncRequest, Upload
from imgsync.domain.pictures import (
    AS_BY_DEFAULT,
    ImageContent,
    PictureFacts,
    PictureSettings,
    fitted,
    format_name,
    plan,
)
from imgsync.domain.ports.runner import ImageTransform
from imgsync.domain.ports.storage import MAX_NOTE, ContentKey, SharedFile, TempFile, Turn, Workspace

_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.5
PATIENCE_SECONDS = 300.0
"""Another may wait for the rate limit long; a store that names one for ever is not believed."""

_PIECE_BYTES = 192 * 1024


@dataclass(frozen=True, slots=True)
class Source:
    """A whole picture in a workspace: its file, SHA-256 in hexadecimal, and what is known of it."""

    file: Upload
    digest: str
    facts: PictureFacts


@dataclass(frozen=True, slots=True)
class Made:
    """The file to upload, its content, and what is told of how it was made ('': nothing)."""

    file: Upload
    content: ImageContent
    note: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a child wants its pictures: by these settings of the link, and of at most `max_bytes`
    where they are to be made to fit. `request`: for whom; plugins are told.

    `image_bytes`, `source_bytes`: the most of a file that is sent at all, and of one that may be
    made into such a file.
    """

    image_bytes: int
    source_bytes: int
    max_bytes: int
    settings: PictureSettings = AS_BY_DEFAULT
    transform: ImageTransform | None = None
    request: SyncRequest | None = None

    def most(self, filename: str) -> int:
        """Bytes of a source image that is worth its download."""
        if self.transform is None:
            return self.image_bytes
        settings = self.settings
        may_shrink = settings.fit or self.transform.versions
        if may_shrink or settings.max_side is not None or settings.quality is not None:
            return self.source_bytes
        # What is no JPEG or PNG by its name becomes much smaller, as a BMP does.
        converts = settings.convert and safe_suffix(filename) not in (".jpg", ".jpeg", ".png")
        return self.source_bytes if converts else self.image_bytes


@dataclass(frozen=True, slots=True)
class MakePicture:
    """Makes what is `wanted` of the pictures of an account within a workspace."""

    account_id: str
    workspace: Workspace
    wanted: Wanted

    async def __call__(self, source: Source) -> Made:
        """ImageError or PluginError where no such file can be made."""
        wanted, facts = self.wanted, source.facts
        transform = wanted.transform
        if transform is None:
            return self._as_it_came(source)
        if facts.format not in SENDABLE and not (wanted.settings.convert or transform.versions):
            return self._as_it_came(source)
        now = plan(wanted.settings, facts, transform.versions)
        is_to_fit = wanted.settings.fit and facts.size > wanted.max_bytes
        if not now and not is_to_fit:
            return self._as_it_came(source)
        if transform.versions:
            # A plugin is given the request, and may make another picture for each child.
            return await self._transformed(transform, source, now, None)
        how = fitted(now, wanted.settings) if wanted.settings.fit else now
        made = f"{how} of at most {wanted.max_bytes} bytes by {transform.own_version}"
        key = ContentKey.made_of(self.account_id, source.digest, facts.size, made)
        found = await acquired(self.workspace, key)
        if found is not None:
            known = await self._known(found, source, now)
            return known or await self._transformed(transform, source, now, None)
        try:
            return await self._transformed(transform, source, now, key)
        finally:
            await self.workspace.pass_turn(key)

    def _as_it_came(self, source: Source) -> Made:
        facts = source.facts
        if facts.format not in SENDABLE:
            raise NotAnImageError(
                f"{format_name(facts.format)}: MoySklad takes JPEG and PNG only, and to convert is "
                "off for this child ('imgsync settings set --convert')"
            )
        if facts.size > self.wanted.image_bytes:
            raise ImageTooLargeError(facts.size, self.wanted.image_bytes)
        return Made(source.file, ImageContent(source.digest, source.digest, facts))

    async def _known(self, found: SharedFile, source: Source, now: str) -> Made | None:
        """What another task made, by what it told of it; None where that cannot be read."""
        image_format, _, rest = found.note.partition(" ")
        is_fitted, _, note = rest.partition(" ")
        if image_format not in SENDABLE or is_fitted not in ("0", "1"):
            return None
        digest = found.digest or await digest_of(self.workspace.read(found.key))
        name = renamed(source.file.filename, image_format)
        return self._made(
            Upload(found.key, name, found.size), digest, source, now, is_fitted == "1", note
        )

    async def _transformed(
        self, transform: ImageTransform, source: Source, now: str, key: ContentKey | None
    ) -> Made:
        """`key`: under which others find it; None where it is this task's own."""
        wanted, facts, name = self.wanted, source.facts, source.file.filename
        if wanted.request is None:
            raise ValueError("a transformation is told for whom it is")
        async with transform.room(facts.size):
            content = await self._read(source.file.key)
            made = await transform(
                content, name, facts, wanted.settings, wanted.max_bytes, wanted.request
            )
            found = image_format(made.content) or ""
            if made.content is content and (key is None or found not in SENDABLE):
                return self._as_it_came(source)
            file = await self._written(made.content, name)
        note = ", ".join(made.steps)[: MAX_NOTE - 20]
        if key is not None:
            told = f"{found} {int(made.is_fitted)} {note}".rstrip()
            await self.workspace.share(key, file.key, is_picture=True, note=told)
        upload = Upload(file.key, renamed(name, found), file.size)
        return self._made(upload, file.digest, source, now, made.is_fitted, note)

    def _made(
        self, file: Upload, digest: str, source: Source, now: str, is_fitted: bool, note: str
    ) -> Made:
        if file.size > self.wanted.image_bytes:
            raise ImageTooLargeError(file.size, self.wanted.image_bytes)
        how = fitted(now, self.wanted.settings) if is_fitted else now
        return Made(file, ImageContent(source.digest, digest, source.facts, how), note)

    async def _read(self, key: str) -> bytes:
        """The whole file, which is never in memory twice: it may have 64 MB."""
        content = BytesIO()
        async for chunk in self.workspace.read(key):
            content.write(chunk)
        return content.getvalue()

    async def _written(self, content: bytes, filename: str) -> TempFile:
        file = await self.workspace.create(filename)
        try:
            for start in range(0, len(content), _PIECE_BYTES):
                await file.write(content[start : start + _PIECE_BYTES])
            await file.close()
        except BaseException:
            await file.discard()
            raise
        return file


async def acquired(
    workspace: Workspace, key: ContentKey, patience: float = PATIENCE_SECONDS
) -> SharedFile | None:
    """The shared file; None where this task has to bring it."""
    pause, time = _SHORTEST_PAUSE_SECONDS, asyncio.get_running_loop().time
    began = time()  # a store may take long to answer, too
    while (found := await workspace.acquire(key)) is Turn.THEIRS:
        if time() - began > patience:
            return None  # whatever keeps the other, it shall not keep this task
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
    return found if isinstance(found, SharedFile) else None


async def digest_of(chunks: AsyncIterator[bytes]) -> str:
    """SHA-256 in hexadecimal."""
    digest = hashlib.sha256()
    async for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
