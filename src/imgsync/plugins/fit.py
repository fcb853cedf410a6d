"""The built-in plugin `fit`: a picture over the account's limit is made smaller, as it would be
refused."""

from collections.abc import Callable

from imgsync.domain.formats import SENDABLE
from imgsync.domain.pictures import PictureFacts, PictureSettings
from imgsync.domain.ports.pictures import PictureEditor
from imgsync.domain.text import file_sizes
from imgsync.plugins.hookspecs import hookimpl

NAME = "fit"


class Fit:
    """A plugin, by the editor that it asks for when there is something to make smaller."""

    def __init__(self, editor: Callable[[], PictureEditor]) -> None:
        self._editor = editor

    @hookimpl(trylast=True)
    def imgsync_transform_image(
        self, content: bytes, facts: PictureFacts, settings: PictureSettings, max_bytes: int
    ) -> bytes | None:
        if not settings.fit or len(content) <= max_bytes or facts.format not in SENDABLE:
            return None
        return self._editor().fit(
            content, max_bytes=max_bytes, drop_metadata=settings.drop_metadata
        )

    @hookimpl
    def imgsync_transform_version(self) -> str:
        return self._editor().version


def tells(before: PictureFacts, after: PictureFacts) -> str:
    return f"scaled {file_sizes(before.size, after.size)}"
