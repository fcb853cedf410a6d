"""What the answers of an account show of what it can do, gathered along the way."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from imgsync.domain.errors import ImgsyncError, LargeImageError, NoImageError
from imgsync.domain.formats import SENDABLE, SIGNATURE_BYTES, image_format
from imgsync.domain.model import Abilities, Element, RemoteImage, Upload
from imgsync.domain.ports.moysklad import ReadContent

_MOST_HOSTS = 20


class Shown:
    """`abilities`: what was seen so far."""

    def __init__(self) -> None:
        self.abilities = Abilities()

    def saw_links(
        self, rows: Iterable[Any], named: Callable[[Iterable[str]], frozenset[str]]
    ) -> None:
        """Notes the permanent links in rows of entities for which they were asked; `named` gives
        the hosts of those that may be used."""
        hrefs = [_permanent_href(image) for row in rows for image in _images(row)]
        if not hrefs:
            return
        given = [href for href in hrefs if href]
        self.saw(Abilities(permanent_links=bool(given)))
        new = named(given) - self.abilities.permanent_hosts
        room = max(0, _MOST_HOSTS - len(self.abilities.permanent_hosts))
        self.saw(Abilities(permanent_hosts=frozenset(sorted(new)[:room])))

    def set_as_sent(self, elements: Sequence[Element], images: Sequence[RemoteImage]) -> None:
        """Notes the largest upload that the list which came back has whole."""
        if len(elements) != len(images):
            return
        taken = [
            element.size
            for element, image in zip(elements, images, strict=True)
            if isinstance(element, Upload) and element.size == image.size
        ]
        self.saw(Abilities(accepted_image_bytes=max(taken, default=None)))

    async def refused(
        self, elements: Sequence[Element], read: ReadContent, error: ImgsyncError
    ) -> None:
        """Notes what an error says of the images of a list.

        Where one is too large, the largest is. Which is no image, is known where there is but one;
        and one in a documented format is none because it is damaged.
        """
        uploads = [element for element in elements if isinstance(element, Upload)]
        if not uploads:
            return
        if isinstance(error, LargeImageError):
            largest = max(upload.size for upload in uploads)
            self.saw(Abilities(refused_image_bytes=largest))
        if isinstance(error, NoImageError) and len(uploads) == 1:
            head = b""
            async for chunk in read(uploads[0].key):
                head += chunk[:SIGNATURE_BYTES]
                if len(head) >= SIGNATURE_BYTES:
                    break
            if name := _other_format(head):
                self.saw(Abilities(refused_formats=frozenset({name})))

    def saw(self, shown: Abilities) -> None:
        self.abilities = self.abilities.with_shown(shown)


def _images(row: Any) -> list[Any]:
    images = row.get("images") if isinstance(row, dict) else None
    rows = images.get("rows") if isinstance(images, dict) else None
    return rows if isinstance(rows, list) else []


def _permanent_href(image: Any) -> str:
    meta = image.get("meta") if isinstance(image, dict) else None
    href = meta.get("downloadPermanentHref") if isinstance(meta, dict) else None
    return href if isinstance(href, str) else ""


def _other_format(head: bytes) -> str | None:
    """A format by its signature, other than those that are documented."""
    name = image_format(head)
    return None if name in SENDABLE else name
