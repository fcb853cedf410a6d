"""The built-in plugin `convert`: a picture in a format that MoySklad does not take becomes JPEG, or
PNG where it has transparency."""

from collections.abc import Callable

from imgsync.domain.formats import SENDABLE
from imgsync.domain.pictures import PictureFacts, PictureSettings, format_name
from imgsync.domain.ports.pictures import PictureEditor
from imgsync.plugins.hookspecs import hookimpl

NAME = "convert"


class Convert:
    """A plugin, by the editor that it asks for when there is something to convert."""

    def __init__(self, editor: Callable[[], PictureEditor]) -> None:
        self._editor = editor

    @hookimpl(tryfirst=True)
    def imgsync_transform_image(
        self, content: bytes, facts: PictureFacts, settings: PictureSettings
    ) -> bytes | None:
        if not settings.convert or facts.format in SENDABLE:
            return None
        return self._editor().convert(content, drop_metadata=settings.drop_metadata)

    @hookimpl
    def imgsync_transform_version(self) -> str:
        return self._editor().version


def tells(before: PictureFacts, after: PictureFacts) -> str:
    return f"converted from {format_name(before.format)} to {format_name(after.format)}"
