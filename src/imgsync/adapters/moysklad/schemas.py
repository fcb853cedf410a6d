"""The parts of the API's answers that imgsync reads (API documentation, Images and Products).

The vendor's schema lets much be null or missing; a row in an unexpected shape costs only itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from imgsync.domain.errors import ApiError
from imgsync.domain.model import Entity, RemoteImage

_MAX_SHOWN = 200
_LARGEST_SIZE = 2**53


def _text(value: object) -> object:
    return "" if value is None else value


def _size(value: object) -> object:
    """A count of bytes or rows; None where there is no sensible one."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 <= value <= _LARGEST_SIZE else None  # type: ignore[operator]


Text = Annotated[str, BeforeValidator(_text)]
Size = Annotated[int | None, BeforeValidator(_size)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ImageMeta(_Model):
    href: str
    downloadHref: Text = ""  # noqa: N815 (the API's name)


class ImageModel(_Model):
    meta: ImageMeta
    filename: Text = ""
    title: Text = ""
    size: Size = None
    updated: Text = ""

    def image(self) -> RemoteImage:
        return RemoteImage(
            self.meta.href,
            self.filename or self.title,
            self.size or 0,
            self.updated,
            self.meta.downloadHref,
        )


class PageMeta(_Model):
    size: Size = None


class Page(_Model):
    """A list; its rows are read one by one."""

    meta: PageMeta | None = None
    rows: list[Any] | None = None

    @property
    def size(self) -> int | None:
        return self.meta.size if self.meta else None


class EntityModel(_Model):
    id: str
    accountId: str | None = None  # noqa: N815
    name: Text = ""
    externalCode: str | None = None  # noqa: N815
    code: str | None = None
    article: str | None = None
    images: Page | None = None

    def entity(self, images: "Images") -> Entity:
        return Entity(
            self.id,
            self.name,
            self.externalCode,
            self.code,
            self.article,
            tuple(images.images),
            unreadable=tuple(images.unreadable),
            images_known=images.known,
        )


@dataclass(frozen=True, slots=True)
class Images:
    """An image list as far as it can be read; `known` is False where the API does not tell it."""

    images: list[RemoteImage]
    unreadable: list[str]
    known: bool = True

    @classmethod
    def of(cls, rows: Sequence[Any]) -> "Images":
        images, unreadable = [], []
        for number, row in enumerate(rows, 1):
            try:
                images.append(parse(ImageModel, row).image())
            except ApiError as error:
                name = row.get("filename") if isinstance(row, dict) else None
                which = (
                    f"image '{name[:_MAX_SHOWN]}'" if isinstance(name, str) else f"image {number}"
                )
                unreadable.append(f"{which}: {error}")
        return cls(images, unreadable)


_M = TypeVar("_M", bound=BaseModel)


def parse(model: type[_M], value: Any) -> _M:
    """The answer as a model; ApiError naming the field where it has another shape."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise ApiError(f"unexpected answer of the API: {where}: {first['msg']}") from None


def name_of(type_name: str, row: Any, number: int) -> str:
    """What a row is called for the user, as far as it can be read: by name, code or id."""
    for field in ("name", "code", "id"):
        value = row.get(field) if isinstance(row, dict) else None
        if isinstance(value, str) and value.strip():
            return f"{type_name} '{value[:_MAX_SHOWN]}'"
    return f"{type_name} number {number} of the list"
