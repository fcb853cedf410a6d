"""What surveys and copies of linked children cost, in requests of the emulator; permanent links."""

from collections import Counter
from pathlib import Path

import pytest

from imgsync.application.enqueue import PlanOutcome
from imgsync.application.work import Tally
from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.entrypoints.cli.runtime import run_async
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from moysklad_emulator import (
    Dialect,
    EmulatedAccount,
    EmulatedEntity,
    Emulator,
    EmulatorLimits,
    EmulatorServer,
)
from moysklad_emulator.images import ImageElement, NewImage
from tests.shop import Images, pictures

LIST, DOWNLOAD = ("GET", "entity/{type}"), ("GET", "download/{image}")
SET, BULK = ("POST", "entity/{type}/{id}/images"), ("POST", "entity/{type}")
STORAGE = ("GET", "storage/permanent")


class Chain:
    """A main account and its children, each with all products of it."""

    def __init__(self, server: EmulatorServer, children: int) -> None:
        self.server, self.emulator = server, server.emulator
        self.main = self._account("main")
        self.children = [self._account(f"child-{n}") for n in range(children)]

    def _account(self, name: str) -> EmulatedAccount:
        account = self.emulator.add_account(name)
        account.add_user(token=f"token-of-{name}", kind="solution")
        return account

    def product(self, name: str, images: Images) -> EmulatedEntity:
        for account in self.children:
            account.add_entity("product", name=name, external_code=name)
        return self.main.add_entity("product", name=name, external_code=name, images=images)

    def sync(self, folder: Path, *, hosts: bool) -> PlanOutcome:
        """`hosts`: whether the settings name the storage's host. The counters begin anew."""
        container = Container(
            config=FixedConfig(
                api_url=self.server.api_url,
                database_url=f"sqlite:///{folder / 'q.db'}",
                temp_dir=folder / "temp",
                download_hosts=(self.emulator.dialect.storage_host,) if hosts else (),
            )
        )
        self.emulator.reset_stats()
        tally = Tally()

        async def run() -> PlanOutcome:
            main, *children = (
                Account(a.id, a.name, TokenKind.SOLUTION, f"token-of-{a.name}")
                for a in (self.main, *self.children)
            )
            for account in (main, *children):
                await container.accounts().add(account)
            settings = LinkSettings(sync_images_all=True, types=("product",))
            links = await container.link_accounts()(main, children, settings)
            found = await container.enqueue()(links)
            await container.worker().run(drain=True, report=tally.add)
            return found

        outcome = run_async(container, run)
        assert (tally.errors, tally.warnings, outcome.failed) == ([], [], [])
        for child in self.children:
            for mine, theirs in zip(
                self.main.entities("product"), child.entities("product"), strict=True
            ):
                assert self._pictures(theirs) == self._pictures(mine)
        return outcome

    def _pictures(self, entity: EmulatedEntity) -> Images:
        return [(i.filename, i.content) for i in self.emulator.images_of(entity)]


@pytest.mark.slow
@pytest.mark.parametrize(("most", "products"), [(20, 12), (2, 101)])
def test_many_children_and_many_pages(tmp_path: Path, most: int, products: int) -> None:
    """The call budget: a child's list is read in pages and written by the hundred, the last entity
    alone where it is one. Each distinct image is downloaded once for all children."""
    limits = EmulatorLimits(rate_units=1_000_000)
    pages = -(-products // 100)
    with EmulatorServer(Emulator(limits)) as server:
        chain = Chain(server, most)
        sources = [chain.product(str(n), pictures(1, 200 + n)) for n in range(products)]
        first, requests = chain.sync(tmp_path, hosts=True), chain.emulator.stats.requests
        surveys, copies = pages * (1 + most), products * most
        assert first.entities == copies
        whole, rest = divmod(products, 100)
        bulk, alone = whole + (rest > 1), int(rest == 1)
        expected = Counter({LIST: surveys, BULK: bulk * most, SET: alone * most})
        assert requests == +expected + Counter({STORAGE: products})
        nothing, requests = chain.sync(tmp_path, hosts=True), chain.emulator.stats.requests
        assert (nothing.unchanged, nothing.task_ids) == (copies, [])
        assert requests == {LIST: surveys}
        chain.main.set_images(sources[7], [])
        chain.main.set_images(sources[7], _new("new.png"))
        some, requests = chain.sync(tmp_path, hosts=True), chain.emulator.stats.requests
        assert (some.entities, len(some.task_ids)) == (most, most)
        assert requests == {LIST: surveys, SET: most, STORAGE: 1}


def _new(name: str) -> list[ImageElement]:
    return [NewImage.create(name, pictures(1, 900)[0][1])]


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("hosts", [True, False])
def test_permanent_links_cost_main_no_request_where_their_host_may_be_asked(
    tmp_path: Path, given: bool, hosts: bool
) -> None:
    with EmulatorServer(Emulator(dialect=Dialect(permanent_links=given))) as server:
        chain = Chain(server, 2)
        lamp = chain.product("Lamp", pictures(3))
        chain.product("Vase", pictures(2, 800))
        chain.sync(tmp_path, hosts=hosts)
        used = given and hosts
        requests = chain.emulator.stats.requests
        assert (requests[DOWNLOAD], requests[STORAGE]) == ((0, 5) if used else (5, 0))
        assert chain.emulator.stats.authorization_leaks == 0
        assert chain.sync(tmp_path, hosts=hosts).task_ids == []
        chain.main.set_images(lamp, _new("0.png"))
        assert len(chain.sync(tmp_path, hosts=hosts).task_ids) == 2
        assert chain.emulator.stats.requests[DOWNLOAD] == (0 if used else 1)


def test_a_plan_that_loses_permanent_links_copies_nothing_anew(tmp_path: Path) -> None:
    with EmulatorServer(Emulator()) as server:
        chain = Chain(server, 1)
        chain.product("Lamp", pictures(3))
        for given in (True, False, True):
            chain.main.permanent_links = given
            outcome = chain.sync(tmp_path, hosts=True)
            assert bool(outcome.task_ids) == (given and not outcome.unchanged)
        assert outcome.unchanged == 1


@pytest.mark.slow
@pytest.mark.parametrize("known", [False, True])
def test_a_first_copy_keeps_the_budget_of_calls(tmp_path: Path, known: bool) -> None:
    """200 products of 3 small images: two pages and two writes a child, whether the account has
    shown before that it takes lists of many entities or not."""
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=1_000_000))) as server:
        chain = Chain(server, 1)
        if known:
            for n in range(2):
                chain.product(f"first {n}", pictures(1, 300 + n))
            chain.sync(tmp_path, hosts=True)
        for n in range(200 - 2 * known):
            chain.product(str(n), pictures(3, 400 + n))
        chain.sync(tmp_path, hosts=True)
        requests = chain.emulator.stats.requests
        writes = requests[BULK] + requests[SET]
        budget = 2 + 2
        assert requests[LIST] / 2 + writes <= 1.1 * budget
        assert requests[DOWNLOAD] == 0
