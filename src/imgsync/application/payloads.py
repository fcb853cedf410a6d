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
from imgsync.domain.model import ENTITY_ID, SourceImage, SyncRequest, is_http_address

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


class _Meta(_Model):
    downloadHref: Address  # noqa: N815 (the API's name)


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
        tuple(SourceImage(i.meta.downloadHref, i.filename, i.size, i.updated) for i in model.images)
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
images: [{meta: {downloadHref}, filename, size?, updated?}], name?}``; size in bytes, updated as
the API gives it, name for messages. No images: to be cleared. `entity_type` is read where
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
                "meta": {"downloadHref": image.download_href},
                "filename": image.filename,
                "size": image.size,
                "updated": image.updated,
            }
            for image in request.images
        ],
        "name": request.name,
    }


_STORED = "sync_request"
_STORED_VERSION = 1


def stored_payload(request: SyncRequest) -> dict[str, Any]:
    """A request as the queue holds it. `stored_request` reads it back without asking any format.

    It is the batch payload with a mark: a worker that does not know the mark, and whoever looks at
    the table, can read it too.
    """
    return {_STORED: _STORED_VERSION, **batch_payload(request)}


def stored_request(payload: object) -> SyncRequest | None:
    """The request of a payload that `stored_payload` made; None for any other.

    PayloadError where it has the mark and is not whole.
    """
    if not isinstance(payload, Mapping) or payload.get(_STORED) != _STORED_VERSION:
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
                )
                for image in payload["images"]
            ),
            payload["name"],
        )
    except (KeyError, TypeError) as error:
        raise PayloadError("sync_request", f"is not whole ({error})") from None


def _validate(model: type[_M], payload: RawPayload) -> _M:
    fields = dict(payload)
    if fields.get("parent_entity_type") is None and "entity_type" in fields:
        fields["parent_entity_type"] = fields["entity_type"]
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise PayloadError(".".join(map(str, first["loc"])), first["msg"]) from None
