"""Images as the API lists them and as task payloads name them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_NAMELESS = "image"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image of an entity as GET …/images lists it.

    `href` is meta.href (needed to keep the image), `size` is bytes (0 where the API does not tell),
    `updated` the API's own text, such as ``2019-01-24 16:55:24.567`` (Moscow time; '' untold).
    """

    href: str
    filename: str
    size: int
    updated: str
    download_href: str

    @property
    def id(self) -> str:
        """Id of the image, the last segment of `href`."""
        return last_segment(self.href)

    def is_of(self, entity_id: str) -> bool:
        """Whether `href`, ``…/{entity id}/images/{id}``, names this entity."""
        return entity_id in urlsplit(self.href).path.split("/")


@dataclass(frozen=True, slots=True)
class ImageFingerprint:
    """What tells whether a source image changed: its id, size in bytes and updated time."""

    id: str
    size: int
    updated: str


@dataclass(frozen=True, slots=True)
class SourceImage:
    """An image to copy, as a payload names it; `size` (bytes) and `updated` may be unknown."""

    download_href: str
    filename: str
    size: int | None = None
    updated: str | None = None

    @property
    def id(self) -> str | None:
        """Image id where `download_href` is MoySklad's ``…/download/{id}``, else None."""
        path = urlsplit(self.download_href).path
        if "/download/" not in path:
            return None
        found = last_segment(path)
        return found if _UUID.fullmatch(found) else None

    @property
    def fingerprint(self) -> ImageFingerprint | None:
        """The fingerprint, or None while any part of it is unknown."""
        if self.id is None or not self.size or not self.updated:
            return None
        return ImageFingerprint(self.id, self.size, self.updated)

    @classmethod
    def all_listed(cls, images: Iterable[RemoteImage]) -> "tuple[SourceImage, ...]":
        """The images that the main account lists, but those that cannot be downloaded."""
        return tuple(
            cls(image.download_href.strip(), image.filename.strip() or _NAMELESS).described_by(
                image
            )
            for image in images
            if image.download_href.strip()
        )

    def described_by(self, listed: RemoteImage) -> "SourceImage":
        """This image with size and updated time as the main account lists them."""
        return SourceImage(
            self.download_href, self.filename, listed.size or None, listed.updated or None
        )


def last_segment(url: str) -> str:
    """Last path segment of a URL, without query or fragment."""
    return urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1]
