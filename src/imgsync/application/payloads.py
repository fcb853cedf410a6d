"""Task payloads: the batch format, the legacy one-image format, and the registry plugins extend."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from imgsync.domain.errors import PayloadError, PluginError
from imgsync.domain.model import (
    ENTITY_ID,
    Adopt,
    RemoteImage,
    SourceImage,
    SyncRequest,
    is_http_address,
)

EntityId = Annotated[str, StringConstraints(strip_whitespace=True, pattern=ENTITY_ID)]

RawPayload = Mapping[str, Any]
"""A payload as decoded from JSON."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def _printable(value: str) -> str:
    if not value.isprintable():
        raise ValueError("has characters that cannot be printed")
    return value


AccountId = Annotated[Text, AfterValidator(_printable)]


def _http_address(value: str) -> str:
    if not is_http_address(value):
        raise ValueError("must be an absolute http or https address")
    return value


Address = Annotated[Text, AfterValidator(_http_address)]


def _text_or_nothing(value: object) -> str:
    return value if isinstance(value, str) else ""


Name = Annotated[str, BeforeValidator(_text_or_nothing)]
"""A name for messages only, so that no value of it spoils a payload."""


class PayloadFormat(Protocol):
    """A format of task payloads. Register one through the hook `imgsync_payload_formats`."""

    @property
    def name(self) -> str:
        """Unique name, shown by `imgsync plugins`."""
        ...

    def matches(self, payload: RawPayload) -> bool:
        """True where the payload is of this format, valid or not."""
        ...

    def parse(self, payload: RawPayload) -> SyncRequest:
        """The request in the payload; PayloadError names the field that is wrong."""
        ...


class PayloadFormats:
    """The registered formats; the first that matches reads the payload."""

    def __init__(self, formats: Iterable[PayloadFormat]) -> None:
        self._formats = list(formats)
        names = [f.name for f in self._formats]
        for name in names:
            if names.count(name) > 1:
                raise PluginError(f"payload format '{name}' is registered twice")

    @property
    def names(self) -> list[str]:
        return [f.name for f in self._formats]

    def parse(self, payload: object) -> SyncRequest:
        """The request in a decoded JSON value; PayloadError where no format fits it.

        A format whose `matches` fails with PluginError is passed over; its error is raised where
        no other format takes the payload.
        """
        if not isinstance(payload, Mapping):
            raise PayloadError("payload", f"must be a JSON object, not {type(payload).__name__}")
        failed: PluginError | None = None
        for payload_format in self._formats:
            try:
                takes_it = payload_format.matches(payload)
            except PluginError as error:
                failed = failed or error
                continue
            if takes_it:
                return payload_format.parse(payload)
        if failed is not None:
            raise failed
        raise PayloadError("images", "missing (or 'image_url' in the legacy format)")


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _image_id(href: object) -> str | None:
    """Of an ``…/images/{id}``."""
    parts = href.partition("?")[0].split("/") if isinstance(href, str) else []
    return parts[-1] or None if parts[-2:-1] == ["images"] else None


class _Meta(_Model):
    downloadHref: Address  # noqa: N815 (the API's name)
    downloadPermanentHref: Any = None  # noqa: N815
    href: Any = None

    @property
    def permanent_href(self) -> str | None:
        """Where it is none, the image can be had all the same."""
        found = self.downloadPermanentHref
        return found if isinstance(found, str) and is_http_address(found) else None

    @property
    def image_id(self) -> str | None:
        return _image_id(self.href)


class _Image(_Model):
    meta: _Meta
    filename: Text
    size: Annotated[int, Field(ge=0)] | None = None
    updated: Text | None = None


class _Request(_Model):
    main_account_id: AccountId
    child_account_id: AccountId
    parent_entity_type: Text
    parent_entity_id: EntityId
    child_entity_id: EntityId
    name: Name = ""

    def request(self, images: tuple[SourceImage, ...]) -> SyncRequest:
        return SyncRequest(
            self.main_account_id,
            self.child_account_id,
            self.parent_entity_type,
            self.parent_entity_id,
            self.child_entity_id,
            images,
            self.name,
        )


_M = TypeVar("_M", bound=_Request)


class _Batch(_Request):
    images: tuple[_Image, ...]


class _Legacy(_Request):
    image_url: Address
    filename: Text


def _read_batch(payload: RawPayload) -> SyncRequest:
    model = _validate(_Batch, payload)
    return model.request(
        tuple(
            SourceImage(
                i.meta.downloadHref,
                i.filename,
                i.size,
                i.updated,
                i.meta.permanent_href,
                i.meta.image_id,
            )
            for i in model.images
        )
    )


def _read_legacy(payload: RawPayload) -> SyncRequest:
    model = _validate(_Legacy, payload)
    return model.request((SourceImage(model.image_url, model.filename),))


@dataclass(frozen=True, slots=True)
class _KeyedFormat:
    """A format told by the presence of one key."""

    name: str
    key: str
    read: Callable[[RawPayload], SyncRequest]

    def matches(self, payload: RawPayload) -> bool:
        return self.key in payload

    def parse(self, payload: RawPayload) -> SyncRequest:
        return self.read(payload)


BATCH: PayloadFormat = _KeyedFormat("batch", "images", _read_batch)
"""``{main_account_id, child_account_id, parent_entity_type, parent_entity_id, child_entity_id,
images: [{meta: {downloadHref, downloadPermanentHref?, href?}, filename, size?, updated?}],
name?}``; size in bytes, updated as the API gives it, name for messages. `href` tells the image's id
where `downloadHref` does not. No images: to be cleared. `entity_type` is read where
`parent_entity_type` is missing."""

LEGACY: PayloadFormat = _KeyedFormat("legacy", "image_url", _read_legacy)
"""The same ids with one ``image_url`` and ``filename``."""


def batch_payload(request: SyncRequest) -> dict[str, Any]:
    """The batch payload of a request, as it is stored in the queue."""
    return {
        "main_account_id": request.main_account_id,
        "child_account_id": request.child_account_id,
        "parent_entity_type": request.entity_type,
        "parent_entity_id": request.main_entity_id,
        "child_entity_id": request.child_entity_id,
        "images": [
            {
                "meta": _meta(image),
                "filename": image.filename,
                "size": image.size,
                "updated": image.updated,
            }
            for image in request.images
        ],
        "name": request.name,
    }


def _meta(image: SourceImage) -> dict[str, str]:
    meta = {"downloadHref": image.download_href}
    if image.permanent_href is not None:
        meta["downloadPermanentHref"] = image.permanent_href
    if image.given_id is not None:
        meta["href"] = f"images/{image.given_id}"
    return meta


_STORED = "sync_request"
_STORED_VERSIONS = (1, 2)
_CHILD_IMAGE = ("href", "filename", "size", "updated", "download_href")


def stored_payload(request: SyncRequest) -> dict[str, Any]:
    """A request as the queue holds it. `stored_request` reads it back without asking any format.

    It is the batch payload with a mark, and the child's list where that is known: a worker that
    does not know the mark, and whoever looks at the table, can read it too.
    """
    child = request.child_images
    listed = None if child is None else [[getattr(i, n) for n in _CHILD_IMAGE] for i in child]
    stored = {_STORED: _STORED_VERSIONS[-1], **batch_payload(request), "child_images": listed}
    if request.code:
        stored["code"] = request.code
    # Where it is the usual one, the row stays as small as it is.
    return stored if request.adopt is Adopt.SIZE else stored | {"adopt": request.adopt.value}


def stored_request(payload: object) -> SyncRequest | None:
    """The request of a payload that `stored_payload` made; None for any other.

    PayloadError where it has the mark and is not whole.
    """
    if not isinstance(payload, Mapping) or payload.get(_STORED) not in _STORED_VERSIONS:
        return None
    try:
        return SyncRequest(
            payload["main_account_id"],
            payload["child_account_id"],
            payload["parent_entity_type"],
            payload["parent_entity_id"],
            payload["child_entity_id"],
            tuple(
                SourceImage(
                    image["meta"]["downloadHref"],
                    image["filename"],
                    image["size"],
                    image["updated"],
                    image["meta"].get("downloadPermanentHref"),
                    _image_id(image["meta"].get("href")),
                )
                for image in payload["images"]
            ),
            payload["name"],
            _child_images(payload.get("child_images")),
            Adopt(payload.get("adopt", Adopt.SIZE)),
            code=_text_or_nothing(payload.get("code")),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PayloadError("sync_request", f"is not whole ({error})") from None


def _child_images(listed: object) -> tuple[RemoteImage, ...] | None:
    """What the survey saw; in any other shape it is not known, and the copy asks."""
    if not isinstance(listed, list):
        return None
    images = []
    for row in listed:
        if not isinstance(row, list) or [type(v) for v in row] != [str, str, int, str, str]:
            return None
        images.append(RemoteImage(*row))
    return tuple(images)


def _validate(model: type[_M], payload: RawPayload) -> _M:
    fields = dict(payload)
    if fields.get("parent_entity_type") is None and "entity_type" in fields:
        fields["parent_entity_type"] = fields["entity_type"]
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise PayloadError(".".join(map(str, first["loc"])), first["msg"]) from None
