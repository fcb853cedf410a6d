"""Elements of image lists in request bodies (section Images)."""

import base64
import binascii
from typing import Any

from imgsync.adapters.emulator.accounts import EmulatedEntity
from imgsync.adapters.emulator.errors import api_error
from imgsync.adapters.emulator.images import ImageElement, KeptImage, NewImage, image_type
from imgsync.adapters.emulator.limits import EmulatorLimits
from imgsync.adapters.emulator.links import Links


class ElementParser:
    """Reads elements of one entity's list; decodes uploads, so call it off the event loop."""

    def __init__(self, limits: EmulatorLimits, links: Links, entity: EmulatedEntity) -> None:
        self._limits = limits
        self._links = links
        self._entity = entity

    def elements(self, data: Any) -> list[ImageElement]:
        """A JSON array of ``{"meta"}`` and ``{"filename","content"}``. ApiError 2005, 51001…"""
        if not isinstance(data, list):
            raise api_error(2005, detail="an array")
        return [self._element(item) for item in data]

    def upload(self, data: Any) -> NewImage:
        """``{"filename","content"}``. ApiError 2005, 51001, 51002, 51004 or 51005."""
        if not isinstance(data, dict):
            raise api_error(2005, detail="an object")
        filename = data.get("filename")
        if not isinstance(filename, str) or not filename.strip() or not _is_text(filename):
            raise api_error(51005, parameter="filename")
        text = data.get("content")
        if not isinstance(text, str) or not text:
            raise api_error(51001, parameter="content")
        return NewImage.create(filename, self._decode(text))

    def image_ids(self, data: Any) -> list[str]:
        """Image ids of a JSON array of ``{"meta"}``."""
        if not isinstance(data, list):
            raise api_error(2005, detail="an array")
        return [self._links.image_id(href_of(item), self._entity) for item in data]

    def _element(self, item: Any) -> ImageElement:
        if isinstance(item, dict) and "meta" in item:
            return KeptImage(self._links.image_id(href_of(item), self._entity))
        return self.upload(item)

    def _decode(self, text: str) -> bytes:
        maximum = self._limits.max_image_bytes
        padding = text.count("=", len(text) - 2)
        if len(text) // 4 * 3 - padding > maximum:
            raise api_error(51004, maximum=maximum // 1024**2)
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise api_error(51002, parameter="content") from None
        if image_type(content) is None:
            raise api_error(51002, parameter="content")
        return content


def _is_text(text: str) -> bool:
    """False for lone surrogates, which JSON can hold and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def href_of(item: Any) -> object:
    """meta.href of an element; ApiError 2010 where there is no meta."""
    meta = item.get("meta") if isinstance(item, dict) else None
    if not isinstance(meta, dict):
        raise api_error(2010, parameter="meta")
    return meta.get("href")
