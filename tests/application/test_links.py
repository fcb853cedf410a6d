"""Linking, unlinking and finding links."""

from dataclasses import replace

import pytest

from imgsync.application.accounts import FindLinks, LinkAccounts, UnlinkAccounts
from imgsync.application.enqueue import EnqueuePayloads
from imgsync.application.payloads import BATCH, PayloadFormats
from imgsync.application.work import TaskEnd, TaskReport
from imgsync.domain.errors import (
    AlreadyLinkedError,
    DamagedLinkError,
    DamagedRowError,
    ImgsyncError,
    SyncIsOffError,
    UnknownAccountError,
    UnknownEntityTypeError,
    WrongAccountError,
)
from imgsync.domain.model import Account, AccountRole, Link, LinkSettings, StoredLink, TokenKind
from imgsync.domain.tasks import SyncOutcome
from imgsync.testing import MemoryMoySklad
from tests.application.world import TYPES, World, png

pytestmark = pytest.mark.anyio
ALL = LinkSettings(sync_images_all=True)


@pytest.fixture
def shops(world: World) -> World:
    """With children 1, 2 and 3, and another main account."""
    for name in ("1", "2", "3", "other"):
        world.store.accounts[name] = Account(name, f"Shop {name}", TokenKind.SOLUTION, "token")
    return world


async def link(
    world: World, main: str, *children: str, settings: LinkSettings = ALL, keep: bool = False
) -> list[Link]:
    accounts = world.store.accounts
    link_accounts = LinkAccounts(world.accounts, world.settings, TYPES)
    return await link_accounts(
        accounts[main], [accounts[c] for c in children], settings, keep_switches=keep
    )


async def links(world: World) -> list[tuple[str, str]]:
    return [(one.main_id, one.child_id) for one in await world.settings.links()]


async def find(world: World, main: str | None, *children: str) -> list[tuple[str, str]]:
    found = await FindLinks(world.accounts, world.settings)(main, children)
    return [(one.main.id, one.child.id) for one in found]


async def test_children_are_linked_at_once_and_their_sides_noted(shops: World) -> None:
    made = await link(shops, "main", "1", "2")
    assert [one.child.id for one in made] == ["1", "2"]
    assert await links(shops) == [("main", "1"), ("main", "2")]
    roles = {name: shops.store.accounts[name].role for name in ("main", "1", "2", "3")}
    child, main = AccountRole.CHILD, AccountRole.MAIN
    assert roles == {"main": main, "1": child, "2": child, "3": None}
    await link(shops, "main", "1", settings=LinkSettings(sync_images=True))
    assert await shops.settings.get("1") == LinkSettings(sync_images=True)


async def test_without_a_switch_a_child_receives_what_it_did_or_all(shops: World) -> None:
    await shops.settings.put("1", LinkSettings(sync_images=True))
    await link(shops, "main", "1", "2", settings=LinkSettings(types=("product",)), keep=True)
    assert await shops.settings.get("1") == LinkSettings(True, types=("product",))
    assert await shops.settings.get("2") == LinkSettings(False, True, types=("product",))


@pytest.mark.parametrize(
    ("main", "children", "settings", "error"),
    [
        ("other", ("3", "1"), ALL, AlreadyLinkedError),  # which has another main account
        ("main", ("3", "main"), ALL, WrongAccountError),
        ("other", ("3", "main"), ALL, WrongAccountError),  # which is a main account
        ("1", ("3",), ALL, WrongAccountError),  # of a child
        ("main", ("3", "2", "3"), ALL, WrongAccountError),  # twice
        ("main", ("3",), LinkSettings(types=("service",)), UnknownEntityTypeError),
    ],
)
async def test_what_cannot_be_linked_changes_nothing(
    shops: World,
    main: str,
    children: tuple[str, ...],
    settings: LinkSettings,
    error: type[ImgsyncError],
) -> None:
    await link(shops, "main", "1")
    with pytest.raises(error):
        await link(shops, main, *children, settings=settings)
    assert await links(shops) == [("main", "1")]
    assert shops.store.accounts["3"].role is None
    assert not (await shops.settings.get("3")).enabled


async def test_roles_that_nobody_noted_do_not_help_a_main_account_to_be_a_child(
    shops: World,
) -> None:
    """Another program may have written the links."""
    shops.store.mains["1"] = "main"
    with pytest.raises(AlreadyLinkedError, match="'main' is the main account of others"):
        await link(shops, "other", "main")
    with pytest.raises(AlreadyLinkedError, match="'1' is a child of account 'main'"):
        await link(shops, "1", "3")


async def test_unlinked_children_receive_nothing_and_may_have_another_main(shops: World) -> None:
    await link(shops, "main", "1", "2")
    unlink = UnlinkAccounts(shops.accounts, shops.settings)
    for wrong, error in ((["1", "3"], ImgsyncError), (["1", "nobody"], UnknownAccountError)):
        with pytest.raises(error):
            await unlink(wrong)
        assert len(await links(shops)) == 2
    assert [a.id for a in await unlink(["Shop 1"])] == ["1"]
    assert not (await shops.settings.get("1")).enabled
    assert await links(shops) == [("main", "2")]
    await link(shops, "other", "1")
    assert await links(shops) == [("main", "2"), ("other", "1")]


async def test_what_an_earlier_main_account_left_in_the_queue_is_not_copied(world: World) -> None:
    other = world.store.accounts["other"] = Account("other", "other", TokenKind.SOLUTION, "token")
    world.factory.accounts["other"] = MemoryMoySklad()
    await link(world, "main", "child")
    _, child_id = world.pair([("a.png", png(0))])
    task_id = await world.enqueue()
    task = await world.queue.get(task_id)
    assert task is not None
    await UnlinkAccounts(world.accounts, world.settings)(["child"])
    await link(world, "other", "child")
    ended: list[TaskReport] = []
    await world.worker().run(drain=True, report=ended.append)
    assert world.child.images("product", child_id) == []
    assert [(one.end, one.error) for one in ended] == [
        (TaskEnd.FAILED, "account 'child' is a child of account 'other' already; unlink it first")
    ]
    # Nor what another program asks for; of the linked main account it is.
    put = EnqueuePayloads(
        world.accounts, world.settings, world.queue, PayloadFormats([BATCH]), TYPES
    )
    right = {**task.payload, "main_account_id": other.id}
    assert len((await put.choose([right])).wanted) == 1
    second = {**task.payload, "child_entity_id": "another"}
    with pytest.raises(ImgsyncError, match="Payload 2: account 'child' is a child of account 'oth"):
        await put.choose([right, second])


async def test_a_type_that_a_link_leaves_out_now_is_not_copied(world: World) -> None:
    await link(world, "main", "child")
    _, child_id = world.pair([("a.png", png(0))])
    await world.enqueue()
    await link(world, "main", "child", settings=replace(ALL, types=("bundle",)))
    ended: list[TaskReport] = []
    await world.worker().run(drain=True, report=ended.append)
    assert [one.result.outcome for one in ended if one.result] == [SyncOutcome.DISABLED]
    assert world.child.images("product", child_id) == []
    await link(world, "main", "child", settings=replace(ALL, types=("bundle", "product")))
    await world.enqueue()
    await world.worker().run(drain=True)
    assert world.child.images("product", child_id) == [("a.png", png(0))]


@pytest.mark.parametrize("folder", ["", " ", "/", " // "])
def test_a_folder_without_a_name_is_none(folder: str) -> None:
    with pytest.raises(ValueError, match="no name of an entity type or a folder"):
        replace(ALL, folders=(folder,))


async def test_nothing_is_copied_to_a_main_account_whose_side_nobody_noted(world: World) -> None:
    """As where the process was killed that linked others to it."""
    world.store.accounts["other"] = Account("other", "other", TokenKind.SOLUTION, "token")
    _, child_id = world.pair([("a.png", png(0))])
    await world.settings.put("child", ALL)
    await world.enqueue()
    await world.settings.link("child", "other", ALL)
    ended: list[TaskReport] = []
    await world.worker().run(drain=True, report=ended.append)
    assert world.child.images("product", child_id) == []
    told = "account 'child' is the main account of others, so it cannot be a child"
    assert [(one.end, one.error) for one in ended] == [(TaskEnd.FAILED, told)]
    for main in ("main", "other"):
        with pytest.raises(AlreadyLinkedError, match=told):
            await find(world, main, "child")


async def test_links_are_found_by_child_by_main_account_or_all(shops: World) -> None:
    with pytest.raises(ImgsyncError, match="No account is linked"):
        await find(shops, None)
    await link(shops, "main", "1", "2")
    await link(shops, "other", "3")
    assert await find(shops, None) == [("main", "1"), ("main", "2"), ("other", "3")]
    assert await find(shops, "other") == [("other", "3")]
    assert await find(shops, None, "Shop 3", "2", "3") == [("main", "2"), ("other", "3")]
    assert await find(shops, "main", "child", "1") == [("main", "child"), ("main", "1")]
    with pytest.raises(ImgsyncError, match=r"'child' .* is not linked"):
        await find(shops, None, "child")
    with pytest.raises(AlreadyLinkedError, match="'3' is a child of account 'other'"):
        await find(shops, "main", "3")
    with pytest.raises(UnknownAccountError):
        await find(shops, None, "nobody")
    with pytest.raises(ImgsyncError, match="No account is linked to account 'Shop 1'"):
        await find(shops, "1")


async def test_links_whose_children_are_all_off_are_an_error(shops: World) -> None:
    await link(shops, "main", "1", "2")
    await shops.settings.put("1", LinkSettings())
    assert await find(shops, None) == [("main", "1"), ("main", "2")]
    await shops.settings.put("2", LinkSettings())
    with pytest.raises(SyncIsOffError):
        await find(shops, None)


async def test_a_damaged_link_costs_itself_only(
    shops: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await link(shops, "main", "1", "2", "3")
    whole = await shops.settings.links()
    damaged = [
        replace(whole[0], settings=LinkSettings(), damage="types is no JSON array"),
        *whole[1:],
    ]

    async def read() -> list[StoredLink]:
        return damaged

    monkeypatch.setattr(shops.settings, "links", read)
    for main in (None, "main"):
        found = await FindLinks(shops.accounts, shops.settings)(main)
        assert [(one.child.id, one.settings) for one in found] == [
            ("1", LinkSettings()), ("2", ALL), ("3", ALL),
        ]  # fmt: skip
    assert "stored link of child 'Shop 1' (1) is damaged: types is no JSON array" in caplog.text
    for children in (["1"], ["1", "2"]):
        with pytest.raises(DamagedLinkError):
            await find(shops, None, *children)
    damaged[1:] = []
    with pytest.raises(DamagedLinkError):
        await find(shops, None)


@pytest.mark.parametrize("side", ["main", "1"])
@pytest.mark.parametrize("error", [DamagedRowError("of account X"), UnknownAccountError("X")])
async def test_an_account_that_cannot_be_read_costs_its_links_only(
    shops: World,
    side: str,
    error: ImgsyncError,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await link(shops, "main", "1")
    await link(shops, "other", "2")
    get, whole = shops.accounts.get, await shops.accounts.all()

    async def get_whole(account_id: str) -> Account:
        if account_id == side:
            raise error
        return await get(account_id)

    async def all_whole() -> list[Account]:
        return [account for account in whole if account.id != side]

    monkeypatch.setattr(shops.accounts, "get", get_whole)
    monkeypatch.setattr(shops.accounts, "all", all_whole)
    found = await FindLinks(shops.accounts, shops.settings)()
    assert [(one.main.id, one.child.id, one.settings.enabled) for one in found] == [
        ("main", "1", False),
        ("other", "2", True),
    ]
    is_logged = not isinstance(error, DamagedRowError)  # it is by `all`, which reads the row
    assert (str(error) in caplog.text) is is_logged
    with pytest.raises(type(error)):
        await find(shops, None, "1")


@pytest.mark.parametrize("main", ["main", "1"])
async def test_a_link_that_cannot_be_costs_itself_only(
    shops: World, main: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As other programs write: the main account is a child, or the child itself."""
    await link(shops, "main", "1")
    await link(shops, "other", "2")
    shops.store.accounts["main"] = replace(shops.store.accounts["main"], role=AccountRole.CHILD)
    written = [StoredLink(main, "1", ALL), StoredLink("other", "2", ALL)]

    async def read() -> list[StoredLink]:
        return written

    monkeypatch.setattr(shops.settings, "links", read)
    found = await FindLinks(shops.accounts, shops.settings)()
    assert [(one.child.id, one.settings.enabled) for one in found] == [("1", False), ("2", True)]
    assert f"account '{'Shop 1' if main == '1' else 'main'}'" in caplog.text
    with pytest.raises(WrongAccountError):
        await find(shops, None, "1")


async def test_a_link_of_an_account_that_is_gone_is_named(shops: World) -> None:
    await link(shops, "main", "1")
    del shops.store.accounts["1"]
    with pytest.raises(UnknownAccountError, match="'1'"):
        await find(shops, None)


async def test_the_links_of_a_main_account_alone_are_found_without_those_of_others(
    shops: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for main, child in (("main", "1"), ("main", "2"), ("other", "3")):
        await link(shops, main, child)
    del shops.store.accounts["2"]
    asked: list[str] = []
    get = shops.accounts.get

    async def noted(account_id: str) -> Account:
        asked.append(account_id)
        return await get(account_id)

    async def all_accounts() -> list[Account]:
        raise AssertionError("every account was read")

    monkeypatch.setattr(shops.accounts, "get", noted)
    monkeypatch.setattr(shops.accounts, "all", all_accounts)
    of_main = FindLinks(shops.accounts, shops.settings).of_main
    found = [(one.main.id, one.child.id, one.settings.enabled) for one in await of_main("main")]
    assert found == [("main", "1", True), ("main", "2", False)]
    assert set(asked) == {"main", "1", "2"}
    assert "'2'" in caplog.text
    assert await of_main("nobody") == []
