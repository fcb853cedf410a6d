"""The probe: what each dialect of the API does is found out right, and nothing is left behind."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from PIL import Image

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.application.probe import (
    FORMATS,
    MOST_BYTES,
    SCRATCH_CODE,
    SCRATCH_NAME,
    Probe,
    ProbeReport,
    png,
)
from imgsync.domain.errors import (
    AccountParkedError,
    NoRoomError,
    PermissionDeniedError,
    WrongAccountError,
    WrongRoleError,
)
from imgsync.domain.formats import image_format
from imgsync.domain.model import (
    NO_END,
    Abilities,
    Account,
    AccountRole,
    EntityPage,
    EntityType,
    Parking,
    TokenKind,
)
from imgsync.testing import MemoryMoySklad, MemoryMoySkladFactory
from imgsync.testing.memory import MemoryAbilities, MemoryAccounts, MemorySettings
from moysklad_emulator import Dialect, EmulatedAccount, Emulator, EmulatorLimits, EmulatorServer
from moysklad_emulator.dialect import SWITCHES

pytestmark = pytest.mark.slow
TOKEN = "secret-token"
MIB = 1024 * 1024


@dataclass
class Room:
    """A child on an emulator, and a probe of it."""

    server: EmulatorServer
    child: EmulatedAccount
    accounts: MemoryAccounts
    abilities: MemoryAbilities
    factory: HttpMoySkladFactory
    account: Account = field(init=False)

    def __post_init__(self) -> None:
        self.account = Account(self.child.id, "Omsk", TokenKind.SOLUTION, TOKEN)

    async def probe(self, *, sizes: bool = False) -> ProbeReport:
        probe = Probe(
            self.accounts,
            MemorySettings(),
            self.abilities,
            self.factory,
            SystemClock(),
            with_sizes=sizes,
        )
        return await probe(self.account)

    @property
    def faults(self) -> Any:
        return self.server.emulator.faults

    def products(self) -> list[str | None]:
        return [entity.name for entity in self.child.entities("product")]


@contextmanager
def emulator(**switches: Any) -> Iterator[EmulatorServer]:
    limits = EmulatorLimits(rate_units=100_000)
    with EmulatorServer(Emulator(limits, dialect=Dialect(**switches))) as server:
        yield server


@asynccontextmanager
async def room(**switches: Any) -> AsyncIterator[Room]:
    with emulator(**switches) as server:
        child = server.emulator.add_account("Omsk")
        child.add_user(token=TOKEN, kind="solution")
        child.add_entity("product", name="Lamp", external_code="lamp")
        factory = HttpMoySkladFactory(server.api_url, [], SystemClock())
        found = Room(server, child, MemoryAccounts(), MemoryAbilities(), factory)
        await found.accounts.add(found.account)
        try:
            yield found
        finally:
            await found.factory.close()  # which may be a second one


def expected(dialect: Dialect) -> dict[str, Any]:
    """What a probe without sizes is to find in a dialect."""
    bulk = dialect.bulk_images == "set"
    answers: dict[str, Any] = {
        "order": True,
        "order_of_kept": True,
        "recodes": dialect.recodes,
        "images_move_updated": dialect.images_move_updated,
        "keeping_moves_updated": dialect.keeping_moves_updated,
        "refused_list": dialect.refused_array,
        "bulk": bulk,
        "head": dialect.head,
        "permanent_links": dialect.permanent_links,
    }
    if bulk:
        answers["bulk_keeps"] = dialect.keep_in_entities
    return answers | dict.fromkeys(FORMATS, dialect.more_formats and not dialect.whole_pictures)


@pytest.mark.parametrize(
    ("switch", "value"),
    [(switch, value) for switch, values in SWITCHES.items() for value in values],
)
@pytest.mark.anyio
async def test_every_switch_of_the_dialect_is_found_out(switch: str, value: Any) -> None:
    async with room(**{switch: value}) as here:
        report = await here.probe()
        assert report.answers == expected(here.server.emulator.dialect)
        assert (report.stopped, report.left) == ("", "")
        stored = await here.abilities.get(here.child.id)
        assert stored.with_shown(report.abilities) == stored
        assert stored.bulk is report.answers["bulk"]
        assert here.products() == ["Lamp"]


@pytest.mark.parametrize("megabytes", [3, 5, 10])
@pytest.mark.parametrize("status", ["mixed", 413])
@pytest.mark.anyio
async def test_the_size_limit_is_found_to_the_byte(megabytes: int, status: Any) -> None:
    async with room(image_megabytes=megabytes, image_error_status=status) as here:
        report = await here.probe(sizes=True)
        assert report.answers["accepted_image_bytes"] == megabytes * MIB
        assert report.answers["refused_image_bytes"] == megabytes * MIB + 1
        assert report.sent_bytes <= MOST_BYTES
        stored = await here.abilities.get(here.child.id)
        assert stored.accepted_image_bytes == megabytes * MIB
        assert stored.refused_image_bytes == megabytes * MIB + 1
        assert here.products() == ["Lamp"]


@pytest.mark.anyio
async def test_a_limit_that_nobody_guesses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, as the emulator plays the likely ones."""
    for limit in (2_000_000, 4_321_000, 6_666_666, 9_100_000, 13_000_000, 50_000_000):
        account = Account("child", "Omsk", TokenKind.SOLUTION, TOKEN)
        factory = MemoryMoySkladFactory({"child": MemoryMoySklad(takes_image_bytes=limit)})
        probe = Probe(MemoryAccounts(), MemorySettings(), MemoryAbilities(), factory, SystemClock())
        report = await probe(account)
        accepted = report.answers.get("accepted_image_bytes")
        refused = report.answers.get("refused_image_bytes")
        assert isinstance(accepted, int)
        assert isinstance(refused, int) == (limit < 14_000_000)
        assert accepted <= limit
        if isinstance(refused, int):
            assert limit < refused
            assert refused - accepted <= 4_000_000
        assert report.sent_bytes <= MOST_BYTES
        assert factory.accounts["child"].entities == {"product": {}}


@pytest.mark.parametrize("size", [200, 1000, 9999, 10_001, 3_000_000])
def test_a_picture_is_whole_and_has_its_size(size: int) -> None:
    picture = png(7, size)
    assert len(picture) == size
    with Image.open(io.BytesIO(picture)) as image:
        image.load()
    assert picture != png(8, size)


@pytest.mark.parametrize("name", FORMATS)
def test_the_pictures_of_other_formats_are_such(name: str) -> None:
    with Image.open(io.BytesIO(FORMATS[name])) as image:
        image.load()
        assert image.format == name.upper()
    assert image_format(FORMATS[name]) == name


@pytest.mark.anyio
async def test_what_a_killed_probe_left_is_deleted_and_nothing_else() -> None:
    async with room() as here:
        name = f"{SCRATCH_NAME} 2026-01-01"
        for _ in range(2):
            here.child.add_entity("product", name=name, external_code=SCRATCH_CODE)
        here.child.add_entity("product", name="Mine", external_code=SCRATCH_CODE)
        here.child.add_entity("product", name=f"{SCRATCH_NAME} of mine", external_code="mine")
        await here.probe()
        assert sorted(map(str, here.products())) == ["Lamp", "Mine", f"{SCRATCH_NAME} of mine"]


@pytest.mark.parametrize(
    "effect", [{"cut_to": 20}, {"drop_after_bytes": 0}, {"status": 429, "code": 1049}]
)
@pytest.mark.parametrize("path", [r"entity/product$", r"images$", r"entity/product/[^/]*$"])
@pytest.mark.anyio
async def test_answers_that_are_lost_or_late(effect: dict[str, Any], path: str) -> None:
    """A request whose answer was lost was done: a product made twice is deleted twice."""
    async with room() as here:
        here.faults.add(method="ANY", path_regex=path, times=2, **effect)
        report = await here.probe()
        assert report.answers == expected(here.server.emulator.dialect)
        assert here.products() == ["Lamp"]


@pytest.mark.anyio
async def test_without_the_right_to_make_products_nothing_is_done() -> None:
    async with room() as here:
        here.faults.add(method="POST", path_regex="entity/product$", status=403)
        with pytest.raises(PermissionDeniedError):
            await here.probe()
        assert here.products() == ["Lamp"]
        assert await here.abilities.get(here.child.id) == Abilities()


@pytest.mark.parametrize(
    ("fault", "stopped"),
    [
        ({"status": 403}, "no right to change images"),
        ({"status": 401, "code": 1056}, "Authorisation"),
    ],
)
@pytest.mark.anyio
async def test_refused_half_way(fault: dict[str, Any], stopped: str) -> None:
    async with room() as here:
        here.faults.add(method="POST", path_regex="images$", **fault)
        report = await here.probe()
        assert report.stopped == stopped
        assert report.answers == {}
        if report.left:  # nothing is sent any more with credentials that were refused
            assert stopped == "Authorisation"
            assert SCRATCH_NAME in str(here.products())
        else:
            assert here.products() == ["Lamp"]


@pytest.mark.anyio
async def test_a_full_storage_ends_it() -> None:
    async with room() as here:
        here.child.storage_quota = 5000
        report = await here.probe()
        assert report.stopped == "the account's storage is full (51003)" or report.answers["order"]
        here.child.storage_quota = 1
        report = await here.probe()
        assert report.stopped == "the account's storage is full (51003)"
        assert here.products() == ["Lamp"]


@pytest.mark.anyio
async def test_the_product_is_deleted_when_the_probe_is_cancelled() -> None:
    async with room() as here:
        held = here.faults.add(method="POST", path_regex="images$", hold_after=0)
        task = asyncio.create_task(here.probe())
        assert await asyncio.to_thread(held.holding.wait, 60)
        assert len(here.products()) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        held.release()
        assert here.products() == ["Lamp"]


@pytest.mark.anyio
async def test_a_product_that_cannot_be_deleted_is_told() -> None:
    async with room() as here:
        here.faults.add(method="DELETE", status=403, times=1)
        report = await here.probe()
        assert "403" in report.left
        assert len(here.products()) == 2
        assert report.answers == expected(here.server.emulator.dialect)
        async with room_again(here):
            report = await here.probe()
        assert report.left == ""
        assert here.products() == ["Lamp"]


@asynccontextmanager
async def room_again(here: Room) -> AsyncIterator[None]:
    """Another process, which has not seen the refusal."""
    await here.factory.close()
    here.factory = HttpMoySkladFactory(here.server.api_url, [], SystemClock())
    yield


@pytest.mark.anyio
async def test_an_api_that_is_gone_half_way() -> None:
    """What was found by then is kept."""
    async with room() as here:
        # The first such request makes the product, the others set lists of many.
        here.faults.add(method="POST", path_regex="entity/product$", times=1, delay=0.01)
        here.faults.add(method="POST", path_regex="entity/product$", status=503, times=20)
        report = await here.probe()
        assert report.stopped == "the API was not available"
        assert report.answers["order"] is True
        assert "bulk" not in report.answers
        assert here.products() == ["Lamp"]
        assert (await here.abilities.get(here.child.id)).images_move_updated is True


@pytest.mark.anyio
async def test_a_list_that_lags_behind_hides_no_product() -> None:
    class Lagging(MemoryMoySklad):
        async def list_entities(
            self, entity_type: EntityType, *, with_images: bool, **options: Any
        ) -> AsyncIterator[EntityPage]:
            if "having" not in options:
                async for page in super().list_entities(
                    entity_type, with_images=with_images, **options
                ):
                    yield page

    account = Account("child", "Omsk", TokenKind.SOLUTION, TOKEN)
    factory = MemoryMoySkladFactory({"child": Lagging()})
    await Probe(
        MemoryAccounts(),
        MemorySettings(),
        MemoryAbilities(),
        factory,
        SystemClock(),
        with_sizes=False,
    )(account)
    assert factory.accounts["child"].entities == {"product": {}}


@pytest.mark.anyio
async def test_answers_that_cannot_be_stored_are_told() -> None:
    class Full(MemoryAbilities):
        async def learn(self, account_id: str, shown: Abilities) -> None:
            raise NoRoomError("the disk is full")

    account = Account("child", "Omsk", TokenKind.SOLUTION, TOKEN)
    probe = Probe(
        MemoryAccounts(),
        MemorySettings(),
        Full(),
        MemoryMoySkladFactory(),
        SystemClock(),
        with_sizes=False,
    )
    report = await probe(account)
    assert report.stopped == "the answers could not be stored"
    assert report.trouble == "the disk is full"
    assert report.answers["bulk"] is True


@pytest.mark.anyio
async def test_a_product_that_somebody_deletes_meanwhile() -> None:
    async with room() as here:
        fault = here.faults.add(method="POST", path_regex="images$", hold_after=0)
        task = asyncio.create_task(here.probe())
        assert await asyncio.to_thread(fault.holding.wait, 60)
        for entity in here.child.entities("product"):
            if entity.name != "Lamp":
                here.child.delete_entity(entity)
        fault.release()
        report = await task

        assert report.stopped == "the scratch product was deleted meanwhile"


@pytest.mark.anyio
async def test_wrong_accounts() -> None:
    async with room() as here:
        await here.accounts.park(here.account.id, Parking("no token", NO_END))
        with pytest.raises(AccountParkedError, match="no token"):
            await here.probe()
        here.account = Account("0" * 8, "Other", TokenKind.SOLUTION, TOKEN)
        with pytest.raises(WrongAccountError):
            await here.probe()
        main = AccountRole.MAIN
        here.account = Account(here.child.id, "Main", TokenKind.SOLUTION, TOKEN, role=main)
        with pytest.raises(WrongRoleError, match="main account"):
            await here.probe()
        assert here.server.emulator.stats.requests["POST", "entity/{type}"] == 0


@pytest.mark.anyio
async def test_a_format_that_is_taken_now_is_refused_no_more() -> None:
    async with room(more_formats=True) as here:
        await here.abilities.learn(
            here.child.id, Abilities(refused_formats=frozenset({"gif", "tiff"}), head=False)
        )
        await here.probe()
        known = await here.abilities.get(here.child.id)
        assert known.refused_formats == frozenset({"tiff"})
        assert known.head is True
