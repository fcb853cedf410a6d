"""The suite of the ports `MoySkladPort` and `MoySkladFactory`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ForbiddenUrlError,
    ImageError,
    ImageRejectedError,
    ImageTooLargeError,
    LeaseLostError,
    NotFoundError,
    RequestTooLargeError,
    UnavailableError,
    WebhookExistsError,
    WebhookLimitError,
)
from imgsync.domain.model import (
    Abilities,
    Account,
    Element,
    EntityType,
    Keep,
    MatchField,
    TokenKind,
    Upload,
)
from imgsync.domain.ports.moysklad import (
    ImageSet,
    MoySkladFactory,
    MoySkladPort,
    ReadContent,
    WritePermit,
)
from imgsync.domain.webhooks import Webhook
from imgsync.testing.contracts.contract import Contract
from imgsync.testing.memory import MemoryContentStore, MemoryTempFile, MemoryWorkspace
from imgsync.testing.moysklad import UNLIMITED, picture

_PRODUCT, _CARD = EntityType("product"), EntityType("contentcard")
_UNKNOWN = "f2728180-6afd-4d37-8a13-f3b48069bbb6"
_THREE = [(f"{n}.png", picture(n, 1000 + n)) for n in range(3)]
_NO_FILES: dict[str, bytes] = {}
_FILES = {str(n): picture(10 + n, 2000 + n) for n in range(4)} | {"bad": b"this is no image"}


class Backend(Protocol):
    """An account that can be filled and looked into beside its port."""

    factory: MoySkladFactory
    account: Account

    def add(
        self, kind: str, name: str, images: Sequence[tuple[str, bytes]] = (), **codes: str
    ) -> str:
        """The id of a new entity with these images, each a file name and its bytes.

        `codes`: its external_code, code and article.
        """
        ...

    def images(self, kind: str, entity_id: str) -> list[tuple[str, bytes]]:
        """What the entity's images are, in order."""
        ...

    def unknown_image_href(self, kind: str, entity_id: str) -> str:
        """A meta.href as the entity's images have them, of an image that is not there."""
        ...

    def unknown_download_href(self) -> str:
        """A download address, of an image that is not there."""
        ...

    def requests(self) -> int | None:
        """How many requests the API was sent so far; None where there are none to count."""
        ...


def _reader(files: dict[str, bytes]) -> ReadContent:
    """Content in chunks that do not end on a multiple of three bytes."""

    async def read(key: str) -> AsyncIterator[bytes]:
        data = files[key]
        for start in range(0, len(data), 700):
            yield data[start : start + 700]

    return read


def _upload(key: str) -> Upload:
    return Upload(key, f"{key}.png", len(_FILES.get(key, b"")))


def _set(
    entity_id: str, elements: Sequence[Element | str], permit: WritePermit = UNLIMITED
) -> ImageSet:
    """Texts are keys of `_FILES` to upload."""
    whole = [_upload(e) if isinstance(e, str) else e for e in elements]
    return ImageSet(entity_id, whole, _reader(_FILES), permit)


def _hook(
    action: str = "CREATE",
    *,
    kind: str = "product",
    url: str = "https://sync.example/hook",
    fields: bool = False,
) -> Webhook:
    return Webhook("", url, kind, action, fields)


class _Type:
    """Equal to a class and those below it."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type) and issubclass(other, self._kind)

    def __hash__(self) -> int:
        return hash(self._kind)

    def __repr__(self) -> str:
        return self._kind.__name__


@dataclass
class _Permit:
    """Gives its answer at each `confirm`; `asked` counts them."""

    answer: float | Exception
    asked: int = 0

    async def confirm(self) -> float:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class _Target:
    """Where downloads go; `made` are the files of all tries."""

    def __init__(self) -> None:
        self.workspace = MemoryWorkspace(MemoryContentStore())
        self.made: list[MemoryTempFile] = []

    async def create(self) -> MemoryTempFile:
        self.made.append(await self.workspace.create("a.png"))
        return self.made[-1]

    async def fetch(
        self,
        port: MoySkladPort,
        url: str,
        max_bytes: int = 10_000,
        size: int | None = None,
        *,
        is_permanent: bool = False,
    ) -> bytes:
        """The file that is returned, which is the only one that is left."""
        file = await port.download(url, self.create, max_bytes, size, is_permanent=is_permanent)
        assert list(self.workspace.files) == [file.key]
        data = b"".join([chunk async for chunk in self.workspace.read(file.key)])
        await file.discard()
        return data


async def _fetch(
    port: MoySkladPort,
    url: str,
    max_bytes: int = 10_000,
    size: int | None = None,
    *,
    is_permanent: bool = False,
) -> bytes:
    target = _Target()
    try:
        return await target.fetch(port, url, max_bytes, size, is_permanent=is_permanent)
    finally:
        assert target.workspace.files == {}, "the file of a failed try was not discarded"


async def _links(port: MoySkladPort, *, permanent_links: bool) -> list[str]:
    """The permanent links of all products' images."""
    pages = port.list_entities(_PRODUCT, with_images=True, permanent_links=permanent_links)
    images = [image async for page in pages for entity in page.entities for image in entity.images]
    return [image.permanent_href for image in images if image.permanent_href]


class MoySkladContract(Contract):
    """Proves a `MoySkladFactory` and the `MoySkladPort`s that it gives. A test class gives the
    fixture `backend`."""

    @pytest.fixture
    def backend(self) -> Any:
        """To be overridden: a `Backend` without any entity; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'backend'")

    @pytest.fixture
    async def port(self, backend: Backend) -> AsyncIterator[MoySkladPort]:
        yield backend.factory.for_account(backend.account)
        await backend.factory.close()

    async def test_an_account_has_one_port(self, backend: Backend, port: MoySkladPort) -> None:
        assert backend.factory.for_account(backend.account) is port
        assert backend.factory.for_account(replace(backend.account)) is port

    async def test_accounts_have_ports_of_their_own(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        another = Account(_UNKNOWN, "Another", TokenKind.SOLUTION, "another-token")
        assert backend.factory.for_account(another) is not port

    async def test_the_limits_hold_an_image(self, port: MoySkladPort) -> None:
        limits = port.limits
        assert limits.image_bytes > 0
        assert limits.parallel_requests > 0
        small: list[Element] = [Upload("k", "a.png", 1000), Keep("https://x/images/1")]
        assert limits.request.holds(small)
        assert not limits.request.holds([Upload("k", "a.png", limits.request.max_bytes)])

    async def test_the_account_of_credentials_is_told(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        backend.add("product", "Lamp")
        identity = await backend.factory.identify(backend.account.secret)
        assert identity.account_id == backend.account.id

    async def test_unknown_credentials_are_refused(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        for secret, login in (("unknown", None), ("unknown", "nobody@shop")):
            with pytest.raises(AuthorisationError):
                await backend.factory.identify(secret, login)

    # Lists

    async def test_images_are_listed_in_order(self, backend: Backend, port: MoySkladPort) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        images = await port.list_images(_PRODUCT, entity_id)
        assert [(i.filename, i.size) for i in images] == [(n, len(c)) for n, c in _THREE]
        assert len({i.id for i in images}) == 3
        assert all(i.href.endswith(i.id) and i.updated and i.download_href for i in images)
        assert all(image.is_of(entity_id) for image in images)

    async def test_entities_come_with_their_fields_and_images(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE, external_code="x", code="c", article="a")
        backend.add("bundle", "Set")
        pages = [page async for page in port.list_entities(_PRODUCT, with_images=True)]
        (entity,) = (entity for page in pages for entity in page.entities)
        assert (entity.id, entity.name) == (entity_id, "Lamp")
        assert (entity.external_code, entity.code, entity.article) == ("x", "c", "a")
        assert entity.images_known
        assert list(entity.images) == await port.list_images(_PRODUCT, entity_id)

    async def test_images_come_only_where_they_are_asked_for(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        backend.add("product", "Lamp", _THREE)
        pages = [page async for page in port.list_entities(_PRODUCT, with_images=False)]
        assert [entity.images for page in pages for entity in page.entities] == [()]

    @pytest.mark.parametrize("with_images", [True, False])
    async def test_every_entity_comes_once_in_pages(
        self, backend: Backend, port: MoySkladPort, with_images: bool
    ) -> None:
        ids = [backend.add("product", str(n)) for n in range(205)]
        found = [page async for page in port.list_entities(_PRODUCT, with_images=with_images)]
        sizes = [len(page.entities) for page in found]
        assert sizes == ([100, 100, 5] if with_images else [205])
        assert [entity.id for page in found for entity in page.entities] == ids
        assert not any(page.unreadable for page in found)

    async def test_entities_can_be_asked_for_by_the_values_of_a_field(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        """Others may come too where a value cannot be asked for; none is missing or twice."""
        plain = [backend.add("product", "P", external_code=f"code {n}") for n in range(205)]
        odd_values = ["a;b", "~x", " y", "z\\", "\u0451/&=?#", "code 1;archived=true", "x" * 7000]
        odd = [backend.add("product", "P", external_code=value) for value in odd_values]

        async def found(*values: str) -> list[str]:
            having = (MatchField.EXTERNAL_CODE, values)
            pages = port.list_entities(_PRODUCT, with_images=True, having=having)
            return [entity.id async for page in pages for entity in page.entities]

        assert await found("code 7", "code 8", "code", "nothing") == plain[7:9]
        assert await found(odd_values[4]) == [odd[4]]
        assert await found() == []
        assert sorted(await found(*(f"code {n}" for n in range(205)))) == sorted(plain)
        for value, entity_id in zip(odd_values, odd, strict=True):
            assert {entity_id} <= set(await found(value, "code 3")) >= {plain[3]}
        pages = port.list_entities(_PRODUCT, with_images=True, having=(MatchField.NAME, ["P"]))
        ids = [entity.id async for page in pages for entity in page.entities]
        assert ids == [*plain, *odd]

    async def test_entities_can_be_asked_for_by_their_ids(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        ids = [backend.add("product", str(n), _THREE[: n % 2]) for n in range(205)]
        nobody = "00000000-0000-4000-8000-000000000000"

        async def found(*given: str, with_images: bool = True) -> list[str]:
            pages = port.list_entities(_PRODUCT, with_images=with_images, ids=given)
            return [entity.id async for page in pages for entity in page.entities]

        assert await found(ids[7], nobody, ids[8], ids[7], "no;id") == ids[7:9]
        assert await found(nobody) == []
        assert await found() == []
        assert sorted(await found(*ids)) == sorted(ids)
        assert await found(ids[204], with_images=False) == [ids[204]]
        (page,) = [p async for p in port.list_entities(_PRODUCT, with_images=True, ids=[ids[9]])]
        assert len(page.entities[0].images) == 1

    async def test_entities_can_be_asked_for_by_when_they_changed(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        for n in range(3):
            backend.add("product", str(n), _THREE)

        async def found(since: datetime) -> list[str]:
            pages = port.list_entities(_PRODUCT, with_images=True, updated_since=since)
            return [entity.name async for page in pages for entity in page.entities]

        all_of_them = [page async for page in port.list_entities(_PRODUCT, with_images=True)]
        times = [entity.updated for page in all_of_them for entity in page.entities]
        if not all(times):
            pytest.skip("this backend does not tell when an entity changed")
        moscow = timezone(timedelta(hours=3))
        last = datetime.fromisoformat(times[-1]).replace(tzinfo=moscow)
        assert await found(last - timedelta(days=1)) == ["0", "1", "2"]
        assert "2" in await found(last.astimezone(UTC))
        assert await found(last + timedelta(seconds=1)) == []
        with pytest.raises(ApiError):
            await anext(port.list_entities(_CARD, with_images=True, updated_since=last))

    async def test_an_account_without_entities_has_no_pages(self, port: MoySkladPort) -> None:
        assert [page async for page in port.list_entities(_PRODUCT, with_images=True)] == []

    async def test_an_unknown_entity_is_not_found(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        backend.add("product", "Lamp")
        with pytest.raises(NotFoundError):
            await port.list_images(_PRODUCT, _UNKNOWN)
        with pytest.raises(NotFoundError):
            await port.set_images(_PRODUCT, _UNKNOWN, [], _reader(_NO_FILES), UNLIMITED)
        href = backend.unknown_image_href("product", _UNKNOWN)
        with pytest.raises(NotFoundError):
            await port.delete_images(_PRODUCT, _UNKNOWN, [href], UNLIMITED)

    async def test_what_was_refused_for_good_is_not_sent_again(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        backend.add("product", "Lamp")
        with pytest.raises(NotFoundError) as first:
            await port.list_images(_PRODUCT, _UNKNOWN)
        before = backend.requests()
        if before is None:
            pytest.skip("this backend has no requests to count")
        with pytest.raises(NotFoundError) as second:
            await port.list_images(_PRODUCT, _UNKNOWN)
        assert str(second.value) == str(first.value)
        assert backend.requests() == before

    # Setting and deleting

    async def test_set_images_sets_the_whole_list_in_order(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        old = await port.list_images(_PRODUCT, entity_id)
        new = picture(9, 2000)
        elements: list[Element] = [
            Keep(old[2].href),
            Upload("k", "новое.png", len(new)),
            Keep(old[0].href),
        ]
        images = await port.set_images(
            _PRODUCT, entity_id, elements, _reader({"k": new}), UNLIMITED
        )
        assert backend.images("product", entity_id) == [_THREE[2], ("новое.png", new), _THREE[0]]
        assert images == await port.list_images(_PRODUCT, entity_id)
        assert (images[0].id, images[2].id) == (old[2].id, old[0].id)

    async def test_an_empty_list_removes_all(self, backend: Backend, port: MoySkladPort) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        left = await port.set_images(_PRODUCT, entity_id, [], _reader(_NO_FILES), UNLIMITED)
        assert left == []
        assert backend.images("product", entity_id) == []

    async def test_a_refused_image_leaves_the_list_as_it_was(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        """Which is not documented: another backend of the same port may say otherwise."""
        entity_id = backend.add("product", "Lamp", _THREE)
        files = {"good": picture(7), "bad": b"this is no image"}
        elements: list[Element] = [
            Upload("good", "g.png", len(files["good"])),
            Upload("bad", "b.png", len(files["bad"])),
        ]
        with pytest.raises(ImageRejectedError):
            await port.set_images(_PRODUCT, entity_id, elements, _reader(files), UNLIMITED)
        assert backend.images("product", entity_id) == _THREE

    async def test_more_images_than_allowed_are_refused(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp")
        files = {str(n): picture(n) for n in range(11)}
        elements: list[Element] = [Upload(k, f"{k}.png", len(c)) for k, c in files.items()]
        with pytest.raises(ImageRejectedError):
            await port.set_images(_PRODUCT, entity_id, elements, _reader(files), UNLIMITED)
        assert backend.images("product", entity_id) == []

    async def test_keeping_an_image_that_is_not_there_changes_nothing(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        gone = Keep(backend.unknown_image_href("product", entity_id))
        with pytest.raises(NotFoundError):
            await port.set_images(_PRODUCT, entity_id, [gone], _reader(_NO_FILES), UNLIMITED)
        assert backend.images("product", entity_id) == _THREE

    async def test_an_image_over_ten_megabytes_is_refused(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        most = 10 * 1024 * 1024
        largest = picture(1, most)
        for content in (largest, picture(1, most + 1)):
            setting = port.set_images(
                _PRODUCT,
                entity_id,
                [Upload("k", "a.png", len(content))],
                _reader({"k": content}),
                UNLIMITED,
            )
            if len(content) > most:
                with pytest.raises(ImageRejectedError):
                    await setting
            else:
                await setting
        assert backend.images("product", entity_id) == [("a.png", largest)]

    async def test_equal_name_and_content_are_one_image_and_others_are_not(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        like, unlike = picture(1, 500), picture(1, 499) + b"x"
        entity_id = backend.add(
            "product",
            "Lamp",
            [("a.png", like), ("a.png", like), ("b.png", like), ("a.png", unlike)],
        )
        ids = [image.id for image in await port.list_images(_PRODUCT, entity_id)]
        assert ids[0] == ids[1]
        assert len(set(ids)) == 3

    async def test_delete_images_deletes_only_these(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        images = await port.list_images(_PRODUCT, entity_id)
        hrefs = [images[0].href, images[2].href]
        await port.delete_images(_PRODUCT, entity_id, hrefs, UNLIMITED)
        assert backend.images("product", entity_id) == [_THREE[1]]

    async def test_of_an_image_that_stands_twice_the_first_is_deleted(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", [_THREE[0], _THREE[1], _THREE[0]])
        images = await port.list_images(_PRODUCT, entity_id)
        assert images[0].id == images[2].id
        await port.delete_images(_PRODUCT, entity_id, [images[0].href], UNLIMITED)
        assert backend.images("product", entity_id) == [_THREE[1], _THREE[0]]

    async def test_images_that_are_gone_already_do_not_keep_the_others(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        images = await port.list_images(_PRODUCT, entity_id)
        gone = backend.unknown_image_href("product", entity_id)
        await port.delete_images(_PRODUCT, entity_id, [gone, images[1].href], UNLIMITED)
        assert backend.images("product", entity_id) == [_THREE[0], _THREE[2]]
        await port.delete_images(_PRODUCT, entity_id, [gone], UNLIMITED)
        assert len(backend.images("product", entity_id)) == 2

    async def test_each_write_has_its_permit_confirmed(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        (first, *_) = await port.list_images(_PRODUCT, entity_id)
        permit = _Permit(60.0)
        await port.set_images(_PRODUCT, entity_id, [Keep(first.href)], _reader(_NO_FILES), permit)
        assert permit.asked == 1
        await port.delete_images(_PRODUCT, entity_id, [first.href], permit)
        assert permit.asked == 2

    async def test_without_a_permit_nothing_is_written(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        (first, *_) = await port.list_images(_PRODUCT, entity_id)
        for answer in (LeaseLostError("the lease is lost"), 0.0, -5.0):
            with pytest.raises(LeaseLostError):
                await port.set_images(_PRODUCT, entity_id, [], _reader(_NO_FILES), _Permit(answer))
            with pytest.raises(LeaseLostError):
                await port.delete_images(_PRODUCT, entity_id, [first.href], _Permit(answer))
        assert backend.images("product", entity_id) == _THREE

    async def test_a_write_that_outlasts_its_permit_is_broken_off(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        content = picture(5, 3000)

        async def slow(key: str) -> AsyncIterator[bytes]:
            for start in range(0, len(content), 1000):
                yield content[start : start + 1000]
                await asyncio.sleep(0.4)

        # Whatever asks whose the account is has been asked by now.
        await port.delete_images(_PRODUCT, entity_id, [], UNLIMITED)
        with pytest.raises(LeaseLostError):
            await port.set_images(
                _PRODUCT, entity_id, [Upload("k", "a.png", len(content))], slow, _Permit(0.3)
            )
        await asyncio.sleep(0.1)
        assert backend.images("product", entity_id) == _THREE

    # Many entities in one request

    async def test_the_room_for_many_lists(self, port: MoySkladPort) -> None:
        room = port.limits.bulk
        assert room.max_entities > 1
        one = _set(_UNKNOWN, ["k"])
        assert room.holds([one] * room.max_entities)
        assert not room.holds([one] * (room.max_entities + 1))
        large = Upload("k", "a.png", room.max_bytes // 4 * 3 // 2)
        assert room.holds([replace(one, elements=[large])])
        assert not room.holds([replace(one, elements=[large])] * 2)
        longer = replace(one, elements=[*one.elements, Keep("https://x/images/1")])
        assert room.size_of([one]) < room.size_of([longer]) < room.size_of([one, one, longer])
        assert room.size_of([one]) > port.limits.request.size_of(one.elements)

    async def test_many_lists_are_set_in_order(self, backend: Backend, port: MoySkladPort) -> None:
        ids = [backend.add("product", str(n), _THREE if n == 1 else []) for n in range(4)]
        old = await port.list_images(_PRODUCT, ids[1])
        elements: list[list[Element]] = [
            [_upload("0"), _upload("1")],
            [Keep(old[2].href), _upload("2"), Keep(old[0].href)],
            [],
            [_upload("3"), _upload("0")],
        ]
        sets = [_set(i, e) for i, e in zip(ids, elements, strict=True)]
        found = await port.set_many(_PRODUCT, sets)
        for entity_id, images in zip(ids, found, strict=True):
            assert images == await port.list_images(_PRODUCT, entity_id)
        new = [(f"{n}.png", _FILES[str(n)]) for n in range(4)]
        assert [backend.images("product", entity_id) for entity_id in ids] == [
            [new[0], new[1]],
            [_THREE[2], new[2], _THREE[0]],
            [],
            [new[3], new[0]],
        ]

    async def test_an_empty_list_of_many_removes_all(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        ids = [backend.add("product", str(n), _THREE) for n in range(2)]
        found = await port.set_many(_PRODUCT, [_set(i, []) for i in ids])
        assert found == [[], []]
        assert [backend.images("product", i) for i in ids] == [[], []]

    async def test_no_lists_are_no_request(self, backend: Backend, port: MoySkladPort) -> None:
        before = backend.requests()
        assert await port.set_many(_PRODUCT, []) == []
        assert backend.requests() == before

    async def test_many_lists_are_one_request(self, backend: Backend, port: MoySkladPort) -> None:
        ids = [backend.add("product", str(n)) for n in range(port.limits.bulk.max_entities)]
        await port.set_images(_PRODUCT, ids[0], [], _reader(_NO_FILES), UNLIMITED)
        before = backend.requests()
        if before is None:
            pytest.skip("this backend has no requests to count")
        found = await port.set_many(_PRODUCT, [_set(i, ["0"]) for i in ids])
        assert backend.requests() == before + 1
        assert all(isinstance(images, list) and len(images) == 1 for images in found)

    async def test_what_is_refused_costs_only_itself(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        ids = [backend.add("product", str(n), _THREE) for n in range(4)]
        gone = Keep(backend.unknown_image_href("product", ids[3]))
        sets = [
            _set(ids[0], ["0", "1"]),
            _set(ids[1], ["2", "bad"]),
            _set(_UNKNOWN, ["3"]),
            _set(ids[3], [gone]),
            _set(ids[2], ["3"]),
        ]
        found = await port.set_many(_PRODUCT, sets)
        assert [images if isinstance(images, list) else type(images) for images in found] == [
            await port.list_images(_PRODUCT, ids[0]),
            _Type(ImageRejectedError),
            _Type(NotFoundError),
            _Type(NotFoundError),
            await port.list_images(_PRODUCT, ids[2]),
        ]
        assert backend.images("product", ids[0]) == [("0.png", _FILES["0"]), ("1.png", _FILES["1"])]
        assert backend.images("product", ids[2]) == [("3.png", _FILES["3"])]
        assert [backend.images("product", i) for i in (ids[1], ids[3])] == [_THREE, _THREE]

    async def test_more_lists_than_there_is_room_for_are_not_sent(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        room = port.limits.bulk
        too_many = [_set(entity_id, [])] * (room.max_entities + 1)
        too_large = [_set(entity_id, [Upload("k", "a.png", room.max_bytes)])]
        before = backend.requests()
        for sets in (too_many, too_large):
            permit = _Permit(60.0)
            with pytest.raises(RequestTooLargeError):
                await port.set_many(_PRODUCT, [replace(one, permit=permit) for one in sets])
            assert permit.asked == 0
        assert backend.requests() == before
        assert backend.images("product", entity_id) == _THREE

    async def test_each_of_many_lists_has_its_permit_confirmed(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        ids = [backend.add("product", str(n)) for n in range(3)]
        permits = [_Permit(60.0) for _ in ids]
        await port.set_many(
            _PRODUCT, [_set(i, ["0"], p) for i, p in zip(ids, permits, strict=True)]
        )
        assert [permit.asked for permit in permits] == [1, 1, 1]

    async def test_many_permits_are_confirmed_side_by_side(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        """One after another, the first would be over before the last is there."""
        asked = 0
        all_asked = asyncio.Event()

        class Waits:
            async def confirm(self) -> float:
                nonlocal asked
                asked += 1
                if asked == 3:
                    all_asked.set()
                async with asyncio.timeout(5):
                    await all_asked.wait()
                return 60.0

        ids = [backend.add("product", str(n)) for n in range(3)]
        found = await port.set_many(_PRODUCT, [_set(i, ["0"], Waits()) for i in ids])
        assert all(isinstance(images, list) for images in found)

    async def test_of_many_lists_those_without_a_permit_are_left_out(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        ids = [backend.add("product", str(n), _THREE) for n in range(5)]
        answers: list[float | Exception] = [
            LeaseLostError("the lease is lost"),
            60.0,
            0.0,
            60.0,
            -5.0,
        ]
        sets = [_set(i, ["0"], _Permit(a)) for i, a in zip(ids, answers, strict=True)]
        found = await port.set_many(_PRODUCT, sets)
        assert [isinstance(images, LeaseLostError) for images in found] == [
            answer != 60.0 for answer in answers
        ]
        new = [("0.png", _FILES["0"])]
        left = [new if answer == 60.0 else _THREE for answer in answers]
        assert [backend.images("product", entity_id) for entity_id in ids] == left

    async def test_without_any_permit_no_lists_are_sent(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        ids = [backend.add("product", str(n), _THREE) for n in range(2)]
        await port.delete_images(_PRODUCT, ids[0], [], UNLIMITED)
        before = backend.requests()
        lost = LeaseLostError("the lease is lost")
        found = await port.set_many(_PRODUCT, [_set(i, ["0"], _Permit(lost)) for i in ids])
        assert [type(error) for error in found] == [
            _Type(LeaseLostError),
            _Type(LeaseLostError),
        ]
        assert backend.requests() == before
        assert [backend.images("product", i) for i in ids] == [_THREE, _THREE]

    async def test_many_lists_that_outlast_the_shortest_permit_are_broken_off(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        ids = [backend.add("product", str(n), _THREE) for n in range(3)]
        content = picture(5, 3000)

        async def slow(key: str) -> AsyncIterator[bytes]:
            for start in range(0, len(content), 1000):
                yield content[start : start + 1000]
                await asyncio.sleep(0.4)

        # Whatever asks whose the account is has been asked by now.
        await port.delete_images(_PRODUCT, ids[0], [], UNLIMITED)
        upload = [Upload("k", "a.png", len(content))]
        sets = [
            ImageSet(entity_id, upload, slow, _Permit(seconds))
            for entity_id, seconds in zip(ids, (60.0, 0.3, 60.0), strict=True)
        ]
        with pytest.raises(LeaseLostError):
            await port.set_many(_PRODUCT, sets)
        await asyncio.sleep(0.1)
        assert [backend.images("product", entity_id) for entity_id in ids] == [_THREE] * 3

    # What the answers show

    async def test_nothing_is_shown_before_it_is_seen(self, port: MoySkladPort) -> None:
        assert port.shown == Abilities()

    async def test_lengths_that_are_told_are_shown(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        (first, *_) = await port.list_images(_PRODUCT, entity_id)
        assert await port.content_length(backend.unknown_download_href()) is None
        assert port.shown.head is None
        assert await port.content_length(first.download_href) == first.size
        assert port.shown.head is True

    async def test_an_entity_is_made_and_deleted(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        other = backend.add("product", "Lamp", _THREE, external_code="other")
        made = await port.create_entity(_PRODUCT, "Scratch", "scratch")
        assert backend.images("product", made) == []
        code = MatchField.EXTERNAL_CODE, ["scratch"]
        pages = port.list_entities(_PRODUCT, with_images=False, having=code)
        found = [e async for page in pages for e in page.entities if e.external_code == "scratch"]
        assert [(entity.id, entity.name) for entity in found] == [(made, "Scratch")]
        await port.set_images(_PRODUCT, made, [_upload("0")], _reader(_FILES), UNLIMITED)
        await port.delete_entity(_PRODUCT, made)
        with pytest.raises(NotFoundError):
            await port.list_images(_PRODUCT, made)
        await port.delete_entity(_PRODUCT, made)
        await port.delete_entity(_PRODUCT, _UNKNOWN)
        assert backend.images("product", other) == _THREE

    async def test_the_host_of_an_image_is_told(self, backend: Backend, port: MoySkladPort) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        (first, *_) = await port.list_images(_PRODUCT, entity_id)
        host = await port.storage_of(first.download_href)
        assert urlsplit(f"//{host}").hostname
        assert "/" not in host
        with pytest.raises(ImageError):
            await port.storage_of(backend.unknown_download_href())
        with pytest.raises(ForbiddenUrlError):
            await port.storage_of("https://elsewhere.example/1")

    @pytest.mark.parametrize("many", [True, False])
    async def test_the_sizes_of_images_are_shown(
        self, backend: Backend, port: MoySkladPort, many: bool
    ) -> None:
        entity_id = backend.add("product", "Lamp")
        most = 10 * 1024 * 1024
        small, large = picture(1, 5000), picture(1, most + 1)
        files = {"small": small, "large": large, "bad": b"no image" * 1000}
        for names in (["small"], ["small", "large"], ["bad"]):
            elements = [Upload(name, f"{name}.png", len(files[name])) for name in names]
            if many:
                one = ImageSet(entity_id, elements, _reader(files), UNLIMITED)
                await port.set_many(_PRODUCT, [one])
            else:
                with contextlib.suppress(ImageRejectedError):
                    await port.set_images(_PRODUCT, entity_id, elements, _reader(files), UNLIMITED)
        assert port.shown.accepted_image_bytes == len(small)
        assert port.shown.refused_image_bytes == len(large)
        assert port.shown.refused_formats == frozenset()

    # Downloads

    async def test_a_listed_image_can_be_downloaded(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        (first, *_) = await port.list_images(_PRODUCT, entity_id)
        assert await port.content_length(first.download_href) == first.size
        assert await _fetch(port, first.download_href) == _THREE[0][1]
        assert await _fetch(port, first.download_href, max_bytes=first.size) == _THREE[0][1]
        assert await _fetch(port, first.download_href, size=first.size) == _THREE[0][1]

    async def test_permanent_links_come_where_they_are_asked_for(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        backend.add("product", "Lamp", _THREE)
        assert await _links(port, permanent_links=False) == []
        assert (port.shown.permanent_links, port.shown.permanent_hosts) == (None, frozenset())
        links = await _links(port, permanent_links=True)
        if not links:  # it is an account without
            assert port.shown.permanent_links is not True
            return
        assert port.shown.permanent_links
        assert len(links) == len(_THREE)
        for link, (_, content) in zip(links, _THREE, strict=True):
            authority = urlsplit(link).netloc
            assert authority in port.shown.permanent_hosts
            assert await _fetch(port, link, is_permanent=True) == content
        with pytest.raises(UnavailableError):
            await _fetch(port, links[0], size=7, is_permanent=True)

    async def test_a_file_of_another_size_than_known_is_no_download(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        (first, *_) = await port.list_images(_PRODUCT, entity_id)
        with pytest.raises(UnavailableError, match=f"{first.size} bytes came in place of its 7"):
            await _fetch(port, first.download_href, size=7)

    async def test_a_download_over_the_limit_is_refused(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        entity_id = backend.add("product", "Lamp", _THREE)
        (first, *_) = await port.list_images(_PRODUCT, entity_id)
        with pytest.raises(ImageTooLargeError):
            await _fetch(port, first.download_href, max_bytes=first.size - 1)

    async def test_an_image_that_is_gone_has_no_length_and_no_content(
        self, backend: Backend, port: MoySkladPort
    ) -> None:
        gone = backend.unknown_download_href()
        assert await port.content_length(gone) is None
        with pytest.raises(ImageError):
            await _fetch(port, gone)

    async def test_a_foreign_host_is_forbidden(self, port: MoySkladPort) -> None:
        with pytest.raises(ForbiddenUrlError):
            await _fetch(port, "https://evil.example/x.png")
        with pytest.raises(ForbiddenUrlError):
            await port.content_length("https://evil.example/x.png")
        port.trust({"cdn.example"})
        with pytest.raises(ForbiddenUrlError):
            await _fetch(port, "https://evil.example/x.png", is_permanent=True)
        with pytest.raises(ForbiddenUrlError):
            await _fetch(port, "https://cdn.example:22/x.png", is_permanent=True)

    async def test_webhooks_are_made_and_listed(self, port: MoySkladPort) -> None:
        assert await port.webhooks() == []
        wanted = [_hook("CREATE"), _hook("UPDATE", fields=True), _hook("DELETE"), _hook(kind="x")]
        *saved, unknown = await port.save_webhooks(wanted)
        assert saved == [None, None, None]
        assert unknown is None or type(unknown) is ApiError
        found = {hook.subject: hook for hook in await port.webhooks()}
        for hook in wanted[:3]:
            stored = found[hook.subject]
            assert stored.id
            assert replace(stored, id="") == hook

    async def test_a_webhook_comes_once(self, port: MoySkladPort) -> None:
        one, other = _hook("CREATE"), _hook("DELETE")
        assert await port.save_webhooks([one]) == [None]
        again, saved = await port.save_webhooks([one, other])
        assert isinstance(again, WebhookExistsError)
        assert saved is None
        assert sorted(hook.action for hook in await port.webhooks()) == ["CREATE", "DELETE"]

    async def test_webhooks_of_one_type_and_action_have_a_limit(self, port: MoySkladPort) -> None:
        many = [_hook("CREATE", url=f"https://{n}.example/hook") for n in range(6)]
        results = await port.save_webhooks(many)
        assert results[0] is None
        assert isinstance(results[-1], WebhookLimitError)
        urls = {hook.url for hook in await port.webhooks()}
        assert urls == {h.url for h, error in zip(many, results, strict=True) if error is None}

    async def test_a_webhook_is_changed(self, port: MoySkladPort) -> None:
        await port.save_webhooks([_hook("UPDATE"), _hook("DELETE")])
        before = {hook.action: hook for hook in await port.webhooks()}
        moved = replace(
            before["UPDATE"], url="https://new.example/hook", fields=True, enabled=False
        )
        gone = replace(before["DELETE"], id=_UNKNOWN)
        saved, error = await port.save_webhooks([moved, gone])
        assert saved is None
        assert isinstance(error, NotFoundError)
        after = {hook.action: hook for hook in await port.webhooks()}
        assert after == before | {"UPDATE": moved}
        assert await port.save_webhooks([replace(moved, enabled=True)]) == [None]
        (on,) = [hook for hook in await port.webhooks() if hook.action == "UPDATE"]
        assert on == replace(moved, enabled=True)

    async def test_webhooks_are_deleted(self, port: MoySkladPort) -> None:
        await port.save_webhooks([_hook("CREATE"), _hook("UPDATE"), _hook("DELETE")])
        by_action = {hook.action: hook.id for hook in await port.webhooks()}
        await port.delete_webhooks([by_action["CREATE"], _UNKNOWN, by_action["DELETE"]])
        assert [hook.action for hook in await port.webhooks()] == ["UPDATE"]
