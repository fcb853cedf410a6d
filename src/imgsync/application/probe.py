"""Finds out what MoySklad's documents leave open of an account, on a scratch product of its own.

Nothing that is a person's is touched. The product is deleted in every end; one that a killed probe
left is told by its external code and name, and deleted by the next.
"""

import asyncio
import logging
import random
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from imgsync.domain.errors import (
    AccountParkedError,
    ApiError,
    ImageRejectedError,
    ImgsyncError,
    LargeImageError,
    NoImageError,
    NoRoomError,
    NotFoundError,
    ParkingError,
    PermissionDeniedError,
    RequestTooLargeError,
    StorageFullError,
    StoreError,
    UnavailableError,
    WrongAccountError,
    WrongRoleError,
)
from imgsync.domain.model import (
    Abilities,
    Account,
    AccountRole,
    Element,
    Entity,
    EntityType,
    Keep,
    MatchField,
    RemoteImage,
    TokenKind,
    Upload,
)
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.moysklad import ImageSet, MoySkladFactory, MoySkladPort
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    AccountRepository,
    SettingsRepository,
)
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)

SCRATCH_CODE, SCRATCH_NAME = "imgsync-probe", "imgsync probe"
"""The external code of every scratch product, and how its name begins."""

MOST_BYTES = 80_000_000
"""That are sent to find the size limit, in base64."""

_LONGEST_SECONDS = 900.0
_DELETE_SECONDS = 45.0
_WRITE_SECONDS = 240.0
_PRODUCT = EntityType("product")

_MIB = 1024 * 1024
_LIMITS = (3_000_000, 3 * _MIB, 5_000_000, 5 * _MIB, 8_000_000, 8 * _MIB, 10_000_000, 10 * _MIB)
_SIZES = sorted({size for limit in _LIMITS for size in (limit, limit + 1)} | {14_000_000})
"""Bytes of pictures by which the limit is found by halves: likely limits, and a byte more. The
largest is as much as a request holds."""

_NEAR_ENOUGH = 250_000

_ENDS = (ParkingError, UnavailableError, WrongAccountError, NotFoundError, PermissionDeniedError)
"""After these no further question is asked: the account, its API or the product is gone."""

_GIF = b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;"
_BMP = (
    b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\1\0\0\0\1\0\0\0\1\0\x18\0\0\0\0\0\4\0\0\0"
    + bytes(16)
    + b"\x20\x40\x80\0"
)
_WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88\xfe\x07\0"
FORMATS = {"gif": _GIF, "bmp": _BMP, "webp": _WEBP}
"""The smallest pictures of these formats."""


@dataclass(slots=True)
class ProbeReport:
    """What was found; None: not. It names no account, no address and no secret.

    `answers`: by question; `sent_bytes`: of pictures, in base64. `stopped`: the kind of error that
    ended it early, '' for none; `trouble`: its text, and `left`: why the scratch product could not
    be deleted: both are for the user, and may name the account.
    """

    token_kind: TokenKind
    answers: dict[str, bool | int | str | None] = field(default_factory=dict)
    sent_bytes: int = 0
    seconds: float = 0.0
    weight: int | None = None
    stopped: str = ""
    trouble: str = ""
    left: str = ""

    @property
    def abilities(self) -> Abilities:
        """Those that the answers tell."""

        def said(name: str) -> bool | None:
            value = self.answers.get(name)
            return value if isinstance(value, bool) else None

        def size(name: str) -> int | None:
            value = self.answers.get(name)
            return value if isinstance(value, int) and not isinstance(value, bool) else None

        return Abilities(
            bulk=said("bulk"),
            bulk_keeps=said("bulk_keeps"),
            permanent_links=said("permanent_links"),
            images_move_updated=said("images_move_updated"),
            accepted_image_bytes=size("accepted_image_bytes"),
            refused_image_bytes=size("refused_image_bytes"),
            refused_formats=frozenset(name for name in FORMATS if said(name) is False),
            head=said("head"),
        )


class _Permit:
    """Implements `WritePermit`: the product is nobody else's."""

    async def confirm(self) -> float:
        return _WRITE_SECONDS


@dataclass(slots=True)
class Probe:
    """Tries what an account can do, and stores it. `with_sizes`: the size limit too, which takes
    most of the traffic."""

    accounts: AccountRepository
    settings: SettingsRepository
    abilities: AbilityRepository
    moysklad: MoySkladFactory
    clock: Clock
    with_sizes: bool = True
    elapsed: Callable[[], float] = uptime

    async def __call__(
        self, account: Account, tell: Callable[[str], None] = lambda _: None
    ) -> ProbeReport:
        """`tell` hears which question is asked. Raised, before anything is made: WrongRoleError
        for a main account, AccountParkedError; PermissionDeniedError, ApiError and the like where
        the scratch product is refused. Cancelled, it deletes the product first."""
        # A role may be unknown, as where the account was stored anew.
        mains = {link.main_id for link in await self.settings.links()}
        if account.role is AccountRole.MAIN or account.id in mains:
            text = f"Account '{account.name}' is a main account, to which nothing is written"
            raise WrongRoleError(text, account.id, "child")
        if (parking := await self.accounts.parking(account.id)) is not None:
            raise AccountParkedError(
                f"account '{account.name}' takes no requests now: {parking.reason}", account.id
            )
        port = self.moysklad.for_account(account)
        report = ProbeReport(account.token_kind)
        began = self.elapsed()
        await _delete_scratch(port)
        product = None
        try:
            name = f"{SCRATCH_NAME} {self.clock.now():%Y-%m-%d %H:%M:%S} UTC, may be deleted"
            product = await port.create_entity(_PRODUCT, name, SCRATCH_CODE)
            asking = _Asking(port, product, report, self.elapsed, began + _LONGEST_SECONDS)
            await _ask_all(asking, tell, with_sizes=self.with_sizes)
        finally:
            report.left = await _deleted_at_last(port, product)
        report.seconds = self.elapsed() - began
        report.weight = await self.moysklad.weight(account)
        try:
            await self._store(account, port, report)
        except (StoreError, NoRoomError) as error:  # the report is worth its minutes even so
            report.stopped = report.stopped or "the answers could not be stored"
            report.trouble = report.trouble or str(error)
        return report

    async def _store(self, account: Account, port: MoySkladPort, report: ProbeReport) -> None:
        found = replace(port.shown, refused_formats=frozenset()).with_shown(report.abilities)
        known = await self.abilities.get(account.id)
        taken = {name for name in FORMATS if report.answers.get(name) is True}
        if known.refused_formats & taken:
            # What was refused once is merged for ever, and has been taken now.
            await self.abilities.forget(account.id)
            still = replace(known, refused_formats=known.refused_formats - taken)
            found = still.with_shown(found)
        await self.abilities.learn(account.id, found)


async def _ask_all(asking: "_Asking", tell: Callable[[str], None], *, with_sizes: bool) -> None:
    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("the order of images", asking.order),
        ("a refused list", asking.refusal),
        ("many entities in one request", asking.bulk),
        ("HEAD and permanent links", asking.links),
        ("GIF, BMP and WEBP", asking.formats),
    ]
    if with_sizes:
        steps.append(("the size limit", asking.sizes))
    for what, step in steps:
        tell(what)
        try:
            await step()
        except _ENDS as error:
            report = asking.report
            report.stopped, report.trouble = _kind(error), str(error)
            return
        except ImgsyncError as error:
            _log.info("%s: not found out: %s", what, error)


def _kind(error: ImgsyncError) -> str:
    if isinstance(error, StorageFullError):
        return "the account's storage is full (51003)"
    if isinstance(error, PermissionDeniedError):
        return "no right to change images"
    if isinstance(error, NotFoundError):
        return "the scratch product was deleted meanwhile"
    if isinstance(error, UnavailableError):
        return "the API was not available"
    return type(error).__name__.removesuffix("Error")


@dataclass(slots=True)
class _Asking:
    """The questions, each of which leaves its answers in the report."""

    port: MoySkladPort
    product: str
    report: ProbeReport
    elapsed: Callable[[], float]
    until: float
    _files: dict[str, bytes] = field(default_factory=dict)
    _number: int = 0

    async def order(self) -> None:
        """And whether a change of images, or only to keep one, moves `updated`."""
        before = (await self._entity()).updated
        three = [self._picture(1000) for _ in range(3)]
        await self._set(three)
        listed = await self._list()
        names = [image.filename for image in listed]
        self._answer("order", names == [upload.filename for upload in three])
        self._answer("recodes", any(i.size != u.size for i, u in zip(listed, three, strict=False)))
        after = (await self._entity()).updated
        self._answer("images_move_updated", after != before if before and after else None)
        kept = [listed[2], listed[0]]
        await self._set([Keep(image.href) for image in kept])
        now = await self._list()
        self._answer("order_of_kept", _hrefs(now) == _hrefs(kept))
        if _hrefs(now) == _hrefs(kept):
            moved = [image.updated for image in now] != [image.updated for image in kept]
            self._answer("keeping_moves_updated", moved)

    async def refusal(self) -> None:
        await self._set([self._picture(1000), self._picture(1000)])
        before = await self._list()
        bad = self._upload("no-image.png", b"this is no image " * 100)
        try:
            await self._set([*(Keep(image.href) for image in before), bad])
        except ImageRejectedError:
            after = _hrefs(await self._list())
            said = "keeps" if after == _hrefs(before) else "changes" if after else "drops"
            self._answer("refused_list", said)
        else:
            self._answer("refused_list", "takes what is no image")

    async def bulk(self) -> None:
        await self._set([])
        first = self._picture(1000)
        takes = await self._set_as_many([first], [first.filename])
        self._answer("bulk", takes)
        if not takes:
            return
        (there,) = await self._list()
        second = self._picture(1000)
        keeps = await self._set_as_many(
            [Keep(there.href), second], [first.filename, second.filename]
        )
        self._answer("bulk_keeps", keeps)

    async def links(self) -> None:
        await self._set([self._picture(1000)])
        (image,) = await self._list()
        length = await self.port.content_length(image.download_href)
        self._answer("head", True if length is not None else self.port.shown.head)
        entity = await self._entity(permanent_links=True)
        if entity.images:
            given = any(image.permanent_href for image in entity.images)
            self._answer("permanent_links", given)

    async def formats(self) -> None:
        for name, content in FORMATS.items():
            try:
                await self._set([self._upload(f"picture.{name}", content)])
            except NoImageError:
                self._answer(name, False)
            except ImageRejectedError:
                continue
            else:
                self._answer(name, True)

    async def sizes(self) -> None:
        """By halves between likely limits, then between the two that are nearest."""
        low, high = -1, len(_SIZES)
        accepted, refused = 1000, _SIZES[-1] + 1
        while high - low > 1 and self._may_send(_SIZES[(low + high) // 2]):
            middle = (low + high) // 2
            if await self._takes(_SIZES[middle]):
                low, accepted = middle, _SIZES[middle]
            else:
                high, refused = middle, _SIZES[middle]
        if high == len(_SIZES):
            return
        while refused - accepted > _NEAR_ENOUGH and self._may_send((accepted + refused) // 2):
            middle = (accepted + refused) // 2
            if await self._takes(middle):
                accepted = middle
            else:
                refused = middle

    def _may_send(self, size: int) -> bool:
        within = self.report.sent_bytes + _encoded(size) <= MOST_BYTES
        return within and self.elapsed() < self.until

    async def _takes(self, size: int) -> bool:
        try:
            await self._set([self._picture(size)])
        except LargeImageError:
            self._answer("refused_image_bytes", size)
            return False
        except RequestTooLargeError:
            return False  # which tells of the request, and not of the image
        largest = self.report.answers.get("accepted_image_bytes") or 0
        self._answer("accepted_image_bytes", max(int(largest), size))
        return True

    def _answer(self, question: str, answer: bool | int | str | None) -> None:
        self.report.answers[question] = answer

    def _picture(self, size: int) -> Upload:
        self._number += 1
        return self._upload(f"{self._number}.png", png(self._number, size))

    def _upload(self, filename: str, content: bytes) -> Upload:
        self._files[filename] = content
        return Upload(filename, filename, len(content))

    async def _read(self, key: str) -> AsyncIterator[bytes]:
        content = self._files[key]
        for start in range(0, len(content), 60_000):
            yield content[start : start + 60_000]

    async def _set(self, elements: Sequence[Element]) -> None:
        self._count(elements)
        try:
            await self.port.set_images(_PRODUCT, self.product, elements, self._read, _Permit())
        finally:
            self._files.clear()

    async def _set_as_many(self, elements: Sequence[Element], wanted: list[str]) -> bool:
        """Whether a request for many entities makes the list the wanted one, and says so."""
        self._count(elements)
        one = ImageSet(self.product, elements, self._read, _Permit())
        try:
            (result,) = await self.port.set_many(_PRODUCT, [one])
        except (ApiError, ImageRejectedError):
            return False
        finally:
            self._files.clear()
        if isinstance(result, _ENDS):
            raise result
        if isinstance(result, ImgsyncError):
            return False
        names = [image.filename for image in await self._list()]
        return names == wanted == [image.filename for image in result]

    def _count(self, elements: Sequence[Element]) -> None:
        uploads = [element for element in elements if isinstance(element, Upload)]
        self.report.sent_bytes += sum(_encoded(upload.size) for upload in uploads)

    async def _list(self) -> list[RemoteImage]:
        return await self.port.list_images(_PRODUCT, self.product)

    async def _entity(self, *, permanent_links: bool = False) -> Entity:
        pages = self.port.list_entities(
            _PRODUCT, with_images=True, permanent_links=permanent_links, ids={self.product}
        )
        found = [entity async for page in pages for entity in page.entities]
        if not found:
            raise NotFoundError("the scratch product is not in the list of products")
        return found[0]


async def _delete_scratch(port: MoySkladPort) -> None:
    """Every product of a probe, whoever made it: a killed one, or a second try of a request whose
    answer was lost. One of another probe that runs now is deleted as well, which that one tells."""
    code = MatchField.EXTERNAL_CODE, [SCRATCH_CODE]
    pages = port.list_entities(_PRODUCT, with_images=False, having=code)
    found = [entity async for page in pages for entity in page.entities]
    for entity in found:
        if entity.external_code == SCRATCH_CODE and entity.name.startswith(f"{SCRATCH_NAME} "):
            await port.delete_entity(_PRODUCT, entity.id)


async def _deleted_at_last(port: MoySkladPort, product: str | None) -> str:
    """Why not, '' where it is gone. An error here must not hide the one that led here.

    The known one is deleted whatever the list of products tells, which may lag behind.
    """
    try:
        async with asyncio.timeout(_DELETE_SECONDS):
            if product is not None:
                await port.delete_entity(_PRODUCT, product)
            await _delete_scratch(port)
    except (ImgsyncError, TimeoutError) as error:
        said = str(error) or f"no answer within {_DELETE_SECONDS:g} s"
        _log.warning("the scratch product could not be deleted, the next probe will: %s", said)
        return said
    return ""


def _hrefs(images: Sequence[RemoteImage]) -> list[str]:
    return [image.href for image in images]


def _encoded(size: int) -> int:
    return 4 * ((size + 2) // 3)


_ROW_PIXELS = 512


def png(number: int, size: int) -> bytes:
    """A whole PNG of exactly `size` bytes, of 200 or more: noise, another for each number."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    noise = random.Random(f"{number}/{size}")  # noqa: S311 (no secret)
    width = _ROW_PIXELS if size > 10_000 else 1
    row = 1 + 3 * width
    # Stored blocks of deflate hold up to 65,535 bytes and have five more each.
    rows = max(1, (size - 200) * 65_535 // 65_560 // row - 1)
    pixels = b"".join(b"\0" + noise.randbytes(row - 1) for _ in range(rows))
    header = struct.pack(">IIBBBBB", width, rows, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    end = chunk(b"IDAT", zlib.compress(pixels, 0)) + chunk(b"IEND", b"")
    padding = size - len(start) - len(end) - len(chunk(b"paDd", b""))
    return start + chunk(b"paDd", noise.randbytes(padding)) + end
