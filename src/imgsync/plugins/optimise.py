"""The built-in plugin `optimise`: no picture is larger, or better, than the settings say."""

from collections.abc import Callable

from imgsync.domain.formats import SENDABLE
from imgsync.domain.pictures import PictureFacts, PictureSettings, is_over_side
from imgsync.domain.ports.pictures import PictureEditor
from imgsync.plugins.hookspecs import hookimpl

NAME = "optimise"


class Optimise:
    """A plugin, by the editor that it asks for when there is something to make smaller."""

    def __init__(self, editor: Callable[[], PictureEditor]) -> None:
        self._editor = editor

    @hookimpl(trylast=True)
    def imgsync_transform_image(
        self, content: bytes, facts: PictureFacts, settings: PictureSettings
    ) -> bytes | None:
        max_side = settings.max_side if is_over_side(settings, facts) else None
        quality = settings.quality if facts.format == "jpg" else None
        if facts.format not in SENDABLE or (max_side is None and quality is None):
            return None
        # The quality that was wanted counts for a PNG that is scaled too, should it become JPEG.
        return self._editor().optimise(
            content,
            max_side=max_side,
            quality=settings.quality,
            drop_metadata=settings.drop_metadata,
        )

    @hookimpl
    def imgsync_transform_version(self) -> str:
        return self._editor().version


def tells(before: PictureFacts, after: PictureFacts) -> str:
    """Nothing: the settings ask for it."""
    return ""
