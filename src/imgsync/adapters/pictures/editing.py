"""Edits pictures with Pillow, in processes of their own (`workers`)."""

from imgsync.adapters.pictures.workers import Workers
from imgsync.domain.errors import EditError
from imgsync.domain.formats import is_sendable

VERSION = "1"
"""To be raised with every change after which other bytes come out."""


class PillowEditor:
    """Implements `PictureEditor`."""

    def __init__(self, workers: Workers | None = None) -> None:
        self._workers = workers or Workers()

    @property
    def version(self) -> str:
        return VERSION

    def convert(self, content: bytes, *, drop_metadata: bool) -> bytes:
        return self._made(content, "convert", drop_metadata=drop_metadata)

    def optimise(
        self, content: bytes, *, max_side: int | None, quality: int | None, drop_metadata: bool
    ) -> bytes | None:
        _refuse_unsendable(content)
        answer = self._workers.ask(
            content, "optimise", max_side=max_side, quality=quality, drop_metadata=drop_metadata
        )
        if answer.told["result"] == "none":
            return None
        return _checked(answer.content)

    def fit(self, content: bytes, *, max_bytes: int, drop_metadata: bool) -> bytes:
        _refuse_unsendable(content)
        if len(content) <= max_bytes:
            return content
        made = self._made(content, "fit", max_bytes=max_bytes, drop_metadata=drop_metadata)
        if len(made) > max_bytes:
            raise EditError("the process for the picture made none that fits")
        return made

    def close(self) -> None:
        """Ends the processes that wait for work."""
        self._workers.close()

    def _made(self, content: bytes, verb: str, **arguments: object) -> bytes:
        return _checked(self._workers.ask(content, verb, **arguments).content)


def _refuse_unsendable(content: bytes) -> None:
    if not is_sendable(content):
        raise EditError("only JPEG and PNG files are made smaller: it has to be converted first")


def _checked(made: bytes) -> bytes:
    if not is_sendable(made):
        raise EditError("the process for the picture made neither a JPEG nor a PNG file")
    return made
