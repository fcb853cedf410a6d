"""Elements of image lists in request bodies (section Images)."""

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Any

from moysklad_emulator.accounts import EmulatedEntity
from moysklad_emulator.dialect import Dialect
from moysklad_emulator.encoded import is_whole, recoded
from moysklad_emulator.errors import api_error, not_found
from moysklad_emulator.images import ImageElement, KeptImage, NewImage, image_type
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.links import Links

_UPLOAD_FIELDS = frozenset({"filename", "content"})
_ROW_FIELDS = frozenset({"meta", "filename", "title", "size", "updated", "miniature", "tiny"})
"""What an image of an answer has: a client may send it back as it came."""


class ElementParser:
    """Reads elements of one entity's list; decodes uploads, so call it off the event loop.

    `entity`: None for a new one, which has nothing to keep.
    """

    def __init__(
        self,
        limits: EmulatorLimits,
        links: Links,
        dialect: Dialect,
        entity: EmulatedEntity | None,
    ) -> None:
        self._limits = limits
        self._links = links
        self._dialect = dialect
        self._entity = entity

    def elements(self, data: Any, *, keep: bool = True) -> list[ImageElement]:
        """A JSON array of ``{"meta"}`` and ``{"filename","content"}``. ApiError 2005, 51001…

        `keep`: whether an image may be kept by its meta; else it lacks a content (51001).
        """
        if not isinstance(data, list):
            raise api_error(2005, detail="an array")
        return [self._element(item, keep) for item in data]

    def upload(self, data: Any) -> NewImage:
        """``{"filename","content"}``. ApiError 1007, 2005, 3040, 51001, 51002, 51004 or 51005."""
        if not isinstance(data, dict):
            raise api_error(2005, detail="an object")
        refuse_unknown(data, _UPLOAD_FIELDS)
        filename = data.get("filename")
        if not isinstance(filename, str) or not filename.strip():
            raise api_error(51005, parameter="filename")
        if len(filename) > self._limits.max_text:
            raise api_error(3040, parameter="filename", maximum=self._limits.max_text)
        text = data.get("content")
        if not isinstance(text, str) or not text:
            raise api_error(51001, parameter="content")
        return NewImage.create(filename, self._decode(text))

    def image_ids(self, data: Any) -> list[str]:
        """Image ids of a JSON array of ``{"meta"}``."""
        if not isinstance(data, list):
            raise api_error(2005, detail="an array")
        return [self._image_id(item) for item in data]

    def _element(self, item: Any, keep: bool) -> ImageElement:
        if not isinstance(item, dict) or "meta" not in item:
            return self.upload(item)
        if not keep:
            raise api_error(51001, parameter="content")
        return KeptImage(self._image_id(item))

    def _image_id(self, item: Any) -> str:
        href = href_of(item, "image")
        refuse_unknown(item, _ROW_FIELDS)
        if self._entity is None:
            raise not_found("image", str(href))
        return self._links.image_id(href, self._entity)

    def _decode(self, text: str) -> bytes:
        megabytes = self._dialect.image_megabytes
        padding = text.count("=", len(text) - 2)
        if len(text) // 4 * 3 - padding > megabytes * 1024**2:
            raise api_error(51004, maximum=megabytes)
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise api_error(51002, parameter="content") from None
        if image_type(content, more_formats=self._dialect.more_formats) is None:
            raise api_error(51002, parameter="content")
        if self._dialect.whole_pictures and not is_whole(content):
            raise api_error(51002, parameter="content")
        return recoded(content) if self._dialect.recodes else content


def refuse_unknown(item: Mapping[str, Any], known: Collection[str]) -> None:
    """ApiError 1007 for a field that the emulator does not play."""
    for name in item:
        if name not in known:
            raise api_error(1007, parameter=name)


def href_of(item: Any, *types: str) -> object:
    """meta.href of an element of one of these types; ApiError 2010, 2011 or 2024."""
    meta = item.get("meta") if isinstance(item, dict) else None
    if not isinstance(meta, dict) or "href" not in meta:
        raise api_error(2010, parameter="meta")
    if not isinstance(meta.get("type"), str):
        raise api_error(2011, parameter="meta")
    if types and meta["type"] not in types:
        raise api_error(2024, parameter="meta", detail=" or ".join(types))
    return meta["href"]
