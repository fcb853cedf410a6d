"""The parts of the API's answers that imgsync reads (API documentation, Images and Products)."""

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from imgsync.domain.errors import ApiError
from imgsync.domain.images import RemoteImage
from imgsync.domain.matching import Entity


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class ImageMeta(_Model):
    href: str
    downloadHref: str = ""  # noqa: N815 (the API's name)


class ImageModel(_Model):
    meta: ImageMeta
    filename: str
    size: int
    updated: str

    def image(self) -> RemoteImage:
        return RemoteImage(
            self.meta.href, self.filename, self.size, self.updated, self.meta.downloadHref
        )


class PageMeta(_Model):
    size: int = 0


class ImagePage(_Model):
    meta: PageMeta = PageMeta()
    rows: list[ImageModel] = []


class EntityModel(_Model):
    id: str
    name: str = ""
    externalCode: str | None = None  # noqa: N815
    code: str | None = None
    article: str | None = None
    images: ImagePage = ImagePage()

    def entity(self, images: list[RemoteImage]) -> Entity:
        return Entity(self.id, self.name, self.externalCode, self.code, self.article, tuple(images))


class EntityListPage(_Model):
    meta: PageMeta
    rows: list[EntityModel]


class ImageList(_Model):
    images: list[ImageModel]


_M = TypeVar("_M", bound=BaseModel)


def parse(model: type[_M], value: Any) -> _M:
    """The answer as a model; ApiError naming the field where it has another shape."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        raise ApiError(f"unexpected answer of the API: {where}: {first['msg']}") from None
