"""Surveying several children at once: folders, children that fail, what it reads, memory."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest

from imgsync.application.check import Check
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.survey import Difference, NotSurveyed, Surveyed
from imgsync.domain.errors import AuthorisationError, ImgsyncError, UnavailableError
from imgsync.domain.model import Account, Link, LinkSettings, TokenKind
from imgsync.testing import MemoryMoySklad
from tests.application.world import TYPES, World, png

pytestmark = pytest.mark.anyio
ONE = [("a.png", png(0))]
ALL = LinkSettings(sync_images_all=True)


class Shops(World):
    """A main account with some children, each with the counterparts of all its entities."""

    def __init__(self, children: int = 3) -> None:
        super().__init__()
        self.children = {str(n): MemoryMoySklad() for n in range(children)}
        for name, account in self.children.items():
            self.store.accounts[name] = Account(name, name, TokenKind.SOLUTION, "token")
            self.store.settings[name] = ALL
            self.factory.accounts[name] = account
        self.links = [self.link_of(name) for name in self.children]
        self.plan_tasks = Enqueue(self.survey, self.queue)

    def link_of(self, child: str, settings: LinkSettings = ALL) -> Link:
        self.store.settings[child] = settings
        return Link(self.store.accounts["main"], self.store.accounts[child], settings)

    def product(
        self, name: str, folder: str = "", images: Sequence[tuple[str, bytes]] = ONE
    ) -> str:
        main_id = self.main.add("product", name, images, external_code=name)
        of_type = self.main.entities["product"]
        of_type[main_id] = replace(of_type[main_id], folder=folder)
        for account in self.children.values():
            account.add("product", name, external_code=name)
        return main_id

    def image_names(self, child: str, kind: str = "product") -> dict[str, list[str]]:
        entities = self.children[child].entities.get(kind, {}).values()
        return {e.name: [i.filename for i in e.images] for e in entities}

    def lists(self) -> list[int]:
        """Pages read of main and of each child since the last call."""
        accounts = [self.main, *self.children.values()]
        counts = [account.count("list_entities") for account in accounts]
        for account in accounts:
            account.calls.clear()
        return counts

    async def sync(self) -> EnqueueOutcome:  # type: ignore[override]
        outcome = await self.plan_tasks(self.links)
        await self.worker(4).run(drain=True)
        return outcome

    async def found(self, extras: bool = False) -> list[Surveyed | NotSurveyed]:
        return [one async for one in self.survey(self.links, extras=extras)]


async def test_each_child_receives_the_folders_of_its_link() -> None:
    shops = Shops()
    for name, folder in (
        ("in", "Light/Lamps"), ("below", "Light/Lamps/Desk"), ("beside", "Light"),
        ("alike", "Light/Lamps old"), ("other", "Lamps of others/Lamps"), ("none", ""),
    ):  # fmt: skip
        shops.product(name, folder)
    chosen = {"0": ("Light/Lamps",), "1": ("Lamps", "Light/Lamps old"), "2": ()}
    shops.links = [shops.link_of(c, replace(ALL, folders=f)) for c, f in chosen.items()]
    await shops.sync()
    got = {c: {name for name, images in shops.image_names(c).items() if images} for c in chosen}
    assert got == {
        "0": {"in", "below"},
        "1": {"in", "below", "alike", "other"},
        "2": {"in", "below", "beside", "alike", "other", "none"},
    }
    assert [f.difference for f in await shops.found() if isinstance(f, Surveyed)] == [
        Difference.EQUAL
    ] * 12


async def test_a_folder_that_main_has_nothing_in_is_told_once() -> None:
    """Its name may be misspelled: nothing is copied, and nothing differs."""
    shops = Shops()
    shops.product("in", "Мебель/Стулья")
    chosen = {"0": ("Мебел",), "1": ("Мебел", "стулья"), "2": ("Стулья",)}
    shops.links = [shops.link_of(c, replace(ALL, folders=f)) for c, f in chosen.items()]
    outcome = await shops.plan_tasks(shops.links)
    report = await Check(shops.survey)(shops.links)
    of_main = "Nothing of main account 'main' is in the product folder"
    for log in (outcome.log, report.log):
        assert log.empty_folders == [
            f"{of_main} 'Мебел' that the links of '0' and '1' name",
            f"{of_main} 'стулья' that the link of '1' names",
        ]
    assert outcome.as_dict()["empty_folders"] == outcome.log.empty_folders


async def test_what_is_of_a_product_is_in_its_folder_whichever_is_read_first() -> None:
    shops = Shops(2)
    parents = {name: shops.product(name, name, []) for name in ("Lamps", "Chairs")}
    for kind in ("bundle", "variant"):
        for name, parent in parents.items():
            main_id = shops.main.add(kind, name, ONE, external_code=name)
            of_type = shops.main.entities[kind]
            of_type[main_id] = replace(of_type[main_id], parent=("product", parent))
            for account in shops.children.values():
                account.add(kind, name, external_code=name)
    folders = replace(ALL, folders=("Lamps",))
    shops.links = [
        shops.link_of("0", folders),
        shops.link_of("1", replace(folders, types=("variant",))),
    ]
    await shops.sync()
    only_lamps = {"Lamps": ["a.png"], "Chairs": []}
    assert shops.image_names("0", "variant") == shops.image_names("0", "bundle") == only_lamps
    assert shops.image_names("1", "variant") == only_lamps
    assert shops.image_names("1", "bundle") == {"Lamps": [], "Chairs": []}
    # Without the type of the parents, these are read for it.
    shops.links = [shops.link_of("1", replace(folders, types=("variant",)))]
    found = [f for f in await shops.found() if isinstance(f, Surveyed)]
    assert [(f.name, f.difference) for f in found] == [("Lamps", Difference.EQUAL)]


@pytest.mark.parametrize("archived", [False, True])
async def test_of_several_with_one_code_the_same_wins_in_every_order(archived: bool) -> None:
    """The API promises no order of its lists; pictures must not change sides with it."""
    shops = Shops(1)
    shops.product("one", images=[("one.png", png(1))])
    for name in ("two", "three"):
        image = (f"{name}.png", png(len(name)))
        shops.main.add("product", name, [image], external_code="one")
    of_main = shops.main.entities["product"]
    mine = min(of_main)
    others = [shops.main.add("product", name, external_code="one") for name in ("none", "other")]
    await shops.sync()
    if archived:
        of_main |= {i: replace(of_main[i], archived=True) for i in list(of_main)}
    for order in (sorted(of_main), sorted(of_main, reverse=True), [*others, *of_main]):
        shops.main.entities["product"] = {i: of_main[i] for i in order}
        outcome = await shops.sync()
        assert (outcome.entities, outcome.unchanged, outcome.skipped.count) == (0, 1, 2)
        assert shops.image_names("0")["one"] == [of_main[mine].images[0].filename]
    # Of those that have images: one that has none asks for no counterpart.
    shops.main.entities["product"] |= {mine: replace(of_main[mine], images=())}
    await shops.sync()
    left = min(of_main.keys() - {mine, *others})
    assert shops.image_names("0")["one"] == [of_main[left].images[0].filename]


async def test_what_is_in_the_archive_takes_no_counterpart_of_what_is_in_use() -> None:
    shops = Shops(1)
    of_type = shops.main.entities.setdefault("product", {})

    def archive(name: str, images: Sequence[tuple[str, bytes]]) -> None:
        old = shops.main.add("product", f"old {name}", images, external_code=name)
        of_type[old] = replace(of_type[old], archived=True)

    for name in ("Empty", "Untold", "Outside"):
        shops.product(name, "" if name == "Outside" else "Lamps")
    shops.links = [shops.link_of("0", replace(ALL, folders=("Lamps",)))]
    await shops.sync()
    live = {entity.name: entity for entity in of_type.values()}
    for name, unreadable in (("Empty", ()), ("Untold", ("image 1: no href",))):
        of_type[live[name].id] = replace(live[name], images=(), unreadable=unreadable)
    for name in live:
        archive(name, [] if name == "Untold" else [("old.png", png(9))])
    for entity in list(of_type.values()):
        of_type[entity.id] = replace(entity, folder=entity.folder or "Lamps")
    of_type[live["Outside"].id] = live["Outside"]
    await shops.sync()
    assert shops.image_names("0") == {"Empty": [], "Untold": ["a.png"], "Outside": []}


async def test_a_type_of_a_link_that_nobody_registers_is_told() -> None:
    shops = Shops(2)
    shops.product("Lamp")
    shops.links[0] = shops.link_of("0", replace(ALL, types=("product", "tyre")))
    outcome = await shops.sync()
    assert shops.image_names("1") == {"Lamp": ["a.png"]}
    assert [(f.link.child.id, str(f.error)) for f in outcome.failed] == [
        ("0", "unknown entity type 'tyre' (known: product, bundle, variant)")
    ]


async def test_a_child_that_does_not_tell_its_images_is_not_called_equal() -> None:
    shops = Shops(1)
    emptied = shops.product("Emptied")
    shops.product("Lamp")
    shops.product("Never any", images=[])
    await shops.sync()
    shops.main.entities["product"][emptied] = replace(
        shops.main.entities["product"][emptied], images=()
    )
    of_child = shops.children["0"].entities["product"]
    of_child |= {i: replace(e, images=(), images_known=False) for i, e in of_child.items()}
    found = [one for one in await shops.found(extras=True) if isinstance(one, Surveyed)]
    assert {one.name: one.difference for one in found} == {
        "Emptied": Difference.UNMATCHED,
        "Lamp": Difference.UNMATCHED,
        "Never any": Difference.EQUAL,
    }


async def test_the_tasks_of_a_survey_are_done_by_children_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("imgsync.application.work._CLAIM_IDS", 40)
    shops = Shops(4)
    for n in range(33):
        shops.product(str(n))
    ids = (await shops.plan_tasks(shops.links)).task_ids
    done: list[str | None] = []
    await shops.worker(1).run(
        drain=True, only=ids, report=lambda ended: done.append(ended.task.account_id)
    )
    assert len(done) == 4 * 33
    for child in shops.children:
        assert 8 <= done[:33].count(child) <= 9  # of the first part of the ids


async def test_what_leaves_the_folder_keeps_its_images_and_is_not_called_equal() -> None:
    shops = Shops(1)
    main_id = shops.product("Lamp", "Lamps")
    shops.links = [shops.link_of("0", replace(ALL, folders=("Lamps",)))]
    await shops.sync()
    of_type = shops.main.entities["product"]
    of_type[main_id] = replace(of_type[main_id], folder="Chairs", images=())
    outcome = await shops.sync()
    assert (outcome.unchanged, outcome.clears, list(outcome.task_ids)) == (0, 0, [])
    assert shops.image_names("0") == {"Lamp": ["a.png"]}
    assert await shops.found(extras=True) == []


@pytest.mark.slow
@pytest.mark.parametrize("error", [UnavailableError("503"), AuthorisationError("401")])
@pytest.mark.parametrize("page", [1, 2])
async def test_a_child_that_cannot_be_read_costs_itself_only(
    error: ImgsyncError, page: int
) -> None:
    shops = Shops(4)
    for n in range(150):
        shops.product(str(n))
    gone = [shops.product(f"gone {n}") for n in range(2)]
    await shops.sync()
    of_type = shops.main.entities["product"]
    for main_id in gone:
        of_type[main_id] = replace(of_type[main_id], images=())
    added = shops.main.add("bundle", "New", ONE, external_code="new")
    for account in shops.children.values():
        account.add("bundle", "New", external_code="new")
    assert added
    shops.lists()
    for name in ("1", "2"):
        shops.children[name].fail = lambda call, child=shops.children[name]: (  # type: ignore[misc]
            error if call == "list_entities" and child.count(call) >= page else None
        )
    outcome = await shops.sync()
    assert {(f.link.child.id, f.error) for f in outcome.failed} == {("1", error), ("2", error)}
    assert (outcome.in_part, outcome.clears, outcome.entities) == (True, 4, 2)
    for name in ("0", "3"):
        assert shops.image_names(name)["gone 0"] == []
        assert shops.image_names(name, "bundle") == {"New": ["a.png"]}
    for name in ("1", "2"):
        assert shops.image_names(name)["gone 0"] == ["a.png"]
        assert shops.image_names(name, "bundle") == {"New": []}  # of its later types nothing
    assert shops.main.count("list_entities") == 3  # two pages of products, one of bundles


@pytest.mark.slow
async def test_no_child_is_called_equal_where_main_breaks_off() -> None:
    shops = Shops(3)
    for n in range(250):
        shops.product(str(n))
    await shops.sync()
    shops.lists()
    error = UnavailableError("503")
    shops.main.fail = lambda call: error if shops.main.count("list_entities") == 3 else None
    found = await shops.found()
    assert found == [NotSurveyed(link, error) for link in shops.links]
    shops.main.calls.clear()
    with pytest.raises(UnavailableError):
        await shops.plan_tasks(shops.links)


async def test_a_child_whose_every_type_fails_is_told_once() -> None:
    shops = Shops(2)
    for kind in ("product", "bundle"):
        for account in (shops.main, *shops.children.values()):
            account.add(kind, "A", ONE, external_code="x")
    error = UnavailableError("503")
    shops.children["0"].fail = lambda call: error
    found = [f for f in await shops.found() if isinstance(f, NotSurveyed)]
    assert found == [NotSurveyed(shops.links[0], error)]


@pytest.mark.slow
async def test_pages_of_twenty_children() -> None:
    """One page per hundred entities of main, of all children together, and of each child."""
    shops = Shops(20)
    for n in range(110):
        shops.product(str(n))
    first = await shops.sync()
    assert first.entities == 110 * 20
    assert shops.lists() == [2] * (1 + 20)
    nothing = await shops.sync()
    assert (nothing.unchanged, list(nothing.task_ids)) == (110 * 20, [])
    assert shops.lists() == [2] * (1 + 20)
    assert await shops.queue.claim(lease=shops.worker().lease) == []
    of_type = shops.main.entities["product"]
    for main_id in list(of_type)[:3]:
        new = shops.main.add("variant", "-", [("b.png", png(1))])
        image = shops.main.entities["variant"].pop(new).images[0]
        of_type[main_id] = replace(of_type[main_id], images=(image,))
    some = await shops.sync()
    assert (some.entities, len(some.task_ids)) == (3 * 20,) * 2
    for account in shops.children.values():
        assert (account.count("list_images"), account.count("set_")) == (0, 1)
        assert account.count("set_many") == 1
    assert shops.main.count("list_images") == 0
    assert shops.lists() == [2] * (1 + 20)


_MEMORY = """
import asyncio, re
from pathlib import Path
from tests.application.test_survey import survey_of
for entities in (2_000, 20_000):
    # Not ru_maxrss, which begins with that of the process that started this one.
    found = asyncio.run(survey_of(entities, 2))
    print(*found, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


async def survey_of(entities: int, children: int) -> tuple[int, int]:
    """(surveyed, equal) of accounts whose entities are made up page by page."""
    from collections.abc import AsyncIterator
    from typing import Any

    from imgsync.application.survey import Survey
    from imgsync.domain.diff import CopiedImage, SyncRecord
    from imgsync.domain.model import (
        Abilities,
        Entity,
        EntityPage,
        EntityType,
        RemoteImage,
        SourceImage,
    )
    from imgsync.testing import MemoryAbilities, MemoryAccounts, MemoryMoySkladFactory, MemoryStore

    def uuid_of(account: str, n: int) -> str:
        return f"{n:08x}-0000-4000-8000-{abs(hash(account)) % 16**12:012x}"

    def entity(account: str, n: int) -> Entity:
        host = "https://api.moysklad.ru/api/remap/1.2"
        product = uuid_of(account, n)
        images = tuple(
            RemoteImage(
                f"{host}/entity/product/{product}/images/{uuid_of(account, 3 * n + i)}",
                f"photograph {n} {i}.jpg",
                100_000 + n,
                "2026-01-01 00:00:00.000",
                f"{host}/download/{uuid_of(account, 3 * n + i)}",
            )
            for i in range(3)
        )
        return Entity(product, f"Товар {n}", f"code-{n:020d}", str(n), f"art-{n}", images)

    class Accounts:
        def __init__(self, name: str) -> None:
            self.name = name
            self.shown = Abilities()

        async def list_entities(self, *_: Any, **__: Any) -> AsyncIterator[EntityPage]:
            for start in range(0, entities, 100):
                page = [entity(self.name, n) for n in range(start, start + 100)]
                yield EntityPage(page, total=entities)

    class Records:
        async def get_many(self, child: str, _: str, ids: Sequence[str]) -> dict[str, SyncRecord]:
            found = {}
            for child_id in ids:
                n = int(child_id[:8], 16)
                sources = SourceImage.all_listed(entity("main", n).images)
                prints = tuple(s.fingerprint for s in sources if s.fingerprint)
                theirs = tuple(i.id for i in entity(child, n).images)
                copied = tuple(map(CopiedImage, prints, theirs))
                found[child_id] = SyncRecord(prints, copied, theirs, True)
            return found

        async def copied(self, *_: Any) -> set[str]:
            return set()

    names = ["main", *map(str, range(children))]
    accounts = {n: Account(n, n, TokenKind.SOLUTION, "token") for n in names}
    types = type(TYPES)([EntityType("product")])
    factory = MemoryMoySkladFactory({n: Accounts(n) for n in names})  # type: ignore[misc]
    store: Any = MemoryStore()
    survey = Survey(MemoryAccounts(store), Records(), factory, types, MemoryAbilities())  # type: ignore[arg-type]
    count = equal = 0
    async for found in survey([Link(accounts["main"], accounts[c], ALL) for c in names[1:]]):
        assert isinstance(found, Surveyed)
        count += 1
        equal += found.difference is Difference.EQUAL
    return count, equal


@pytest.mark.slow
@pytest.mark.process
def test_a_hundred_thousand_entities_take_less_than_300_megabytes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    few, many = (list(map(int, line.split())) for line in done.stdout.splitlines())
    assert (few[:2], many[:2]) == ([4_000] * 2, [40_000] * 2)
    # Of 2,000 and of 20,000; what these take more than those is taken five times more by 100,000.
    assert few[2] + (many[2] - few[2]) * (100_000 - 2_000) / (20_000 - 2_000) < 300_000
