"""What surveys and copies of linked children cost, in requests of the emulator; permanent links."""

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpcore
import pytest

from imgsync.application.enqueue import EnqueueOutcome
from imgsync.application.work import Tally
from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.domain.surveys import Since
from imgsync.entrypoints.cli.runtime import run_async
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container, close
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

    def sync(
        self, folder: Path, *, hosts: bool, apart: bool = False, since: Since | None = None
    ) -> EnqueueOutcome:
        """`hosts`: whether the settings name the storage's host; `apart`: the worker is another
        program than the one that surveys. The counters begin anew."""
        config = FixedConfig(
            api_url=self.server.api_url,
            database_url=f"sqlite:///{folder / 'q.db'}",
            temp_dir=folder / "temp",
            download_hosts=(self.emulator.dialect.storage_host,) if hosts else (),
        )
        container = Container(config=config)
        elsewhere = Container(config=config) if apart else container
        self.emulator.reset_stats()
        tally = Tally()

        async def run() -> EnqueueOutcome:
            main, *children = (
                Account(a.id, a.name, TokenKind.SOLUTION, f"token-of-{a.name}")
                for a in (self.main, *self.children)
            )
            for account in (main, *children):
                await container.accounts().add(account)
            settings = LinkSettings(sync_images_all=True, types=("product",))
            links = await container.link_accounts()(main, children, settings)
            found = await container.enqueue()(links, since=since)
            await elsewhere.worker().run(drain=True, report=tally.add)
            await close(elsewhere)
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
        assert (nothing.unchanged, list(nothing.task_ids)) == (copies, [])
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
def test_permanent_links_cost_main_no_request(tmp_path: Path, given: bool, hosts: bool) -> None:
    """Whether the settings name their host or the API alone does."""
    with EmulatorServer(Emulator(dialect=Dialect(permanent_links=given))) as server:
        chain = Chain(server, 2)
        lamp = chain.product("Lamp", pictures(3))
        chain.product("Vase", pictures(2, 800))
        chain.sync(tmp_path, hosts=hosts)
        requests = chain.emulator.stats.requests
        assert (requests[DOWNLOAD], requests[STORAGE]) == ((0, 5) if given else (5, 0))
        assert chain.emulator.stats.authorization_leaks == 0
        assert not chain.sync(tmp_path, hosts=hosts).task_ids
        chain.main.set_images(lamp, _new("0.png"))
        assert len(chain.sync(tmp_path, hosts=hosts).task_ids) == 2
        assert chain.emulator.stats.requests[DOWNLOAD] == (0 if given else 1)


@pytest.mark.parametrize("given", [True, False])
def test_a_hundred_images_open_no_more_connections_than_may_be_in_use_at_once(
    tmp_path: Path, given: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is used again, as even what a redirect says is read to its end."""
    opened: Counter[int] = Counter()
    connect = httpcore.AnyIOBackend.connect_tcp

    async def counted(
        backend: httpcore.AnyIOBackend, host: str, port: int, *options: Any, **named: Any
    ) -> httpcore.AsyncNetworkStream:
        opened[port] += 1
        return await connect(backend, host, port, *options, **named)

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", counted)
    limits = EmulatorLimits(rate_units=1_000_000)
    with EmulatorServer(Emulator(limits, dialect=Dialect(permanent_links=given))) as server:
        chain = Chain(server, 1)
        for number in range(25):
            chain.product(str(number), pictures(4, 200 + 5 * number))
        chain.sync(tmp_path, hosts=False)
        api, storage = (urlsplit(u).port or 0 for u in (server.api_url, server.storage_url))
    assert set(opened) == {api, storage}
    assert opened[api] <= 2 * limits.max_parallel_per_user
    assert opened[storage] <= 10


def test_a_worker_elsewhere_knows_the_hosts_that_a_survey_has_learnt(tmp_path: Path) -> None:
    with EmulatorServer(Emulator()) as server:
        chain = Chain(server, 1)
        chain.product("Lamp", pictures(3))
        outcome = chain.sync(tmp_path, hosts=False, apart=True)
        assert len(outcome.task_ids) == 1
        requests = chain.emulator.stats.requests
        assert (requests[DOWNLOAD], requests[STORAGE]) == (0, 3)


@pytest.mark.parametrize(
    "trouble",
    [
        {"status": 500},
        {"status": 404},
        {"answer_status": 302, "headers": {"Location": "https://evil.example/x"}},
        {"cut_to": 100},
        {"body": b"<html>not here</html>"},
        {"drop_connection": True},
    ],
    ids=["fails", "is gone", "redirects elsewhere", "cut", "another file", "drops"],
)
def test_an_image_whose_permanent_link_does_not_work_comes_from_the_api(
    tmp_path: Path, trouble: dict[str, Any]
) -> None:
    with EmulatorServer(Emulator()) as server:
        chain = Chain(server, 1)
        chain.product("Lamp", pictures(3))
        chain.emulator.faults.add(path_regex="permanent", where="storage", **trouble)
        chain.sync(tmp_path, hosts=False)
        requests = chain.emulator.stats.requests
        assert requests[DOWNLOAD] == 1
        assert requests[STORAGE] <= 3


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
