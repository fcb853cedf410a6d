"""The suites of the ports `AccountRepository`, `AbilityRepository`, `SettingsRepository`,
`SyncRecordRepository` and `SurveyRepository`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imgsync.domain.diff import NOTHING_LEFT, CopiedImage, EntityKey, SyncRecord
from imgsync.domain.errors import (
    AlreadyLinkedError,
    NoRoomError,
    StoreError,
    UnknownAccountError,
)
from imgsync.domain.model import (
    Abilities,
    Account,
    AccountRole,
    ImageFingerprint,
    LinkSettings,
    MatchField,
    Parking,
    StoredLink,
    TokenKind,
)
from imgsync.domain.pictures import ImageContent, PictureFacts
from imgsync.domain.ports.repositories import (
    AbilityRepository,
    AccountRepository,
    SettingsRepository,
    SurveyRepository,
    SyncRecordRepository,
)
from imgsync.domain.schedule import LinkSchedule
from imgsync.domain.surveys import PastSurvey, SurveyKey
from imgsync.testing.contracts.contract import Contract, StoreT, TimedContract

_ACCOUNT = Account("1", "Главный", TokenKind.PASSWORD, "s3cret 'Ж\"", "admin@shop")
_TOKEN = Account("1", "Shop", TokenKind.SOLUTION, "token")
_KEY = EntityKey("child", "product", "p1")
_ONE = ImageFingerprint("i1", 10, "2026-01-01 00:00:00.000")
_TWO = ImageFingerprint("i2", 20, "2026-01-01 00:00:00.000")
_CONTENT = ImageContent("ab" * 32, "cd" * 32, PictureFacts("gif", 40, 30, 10), "convert")
_COPIED = SyncRecord(
    (_ONE, _TWO),
    (CopiedImage(_ONE, "c1", _CONTENT), CopiedImage(_TWO, "c2")),
    ("c1", "c2"),
    False,
    ("b.png: 503",),
    made_with="fit convert",
)
_SOME = LinkSettings(
    True,
    False,
    MatchField.CODE,
    ("product", "bundle"),
    ("Лампы/Торшеры", "B"),
    schedule=LinkSchedule("04:05", None, copies=False),
    guard=True,
)
_SHOWN = Abilities(
    bulk=True,
    bulk_keeps=False,
    permanent_links=True,
    permanent_hosts=frozenset({"cdn.example", "xn--e1aybc.example:8080"}),
    images_move_updated=False,
    accepted_image_bytes=3_000_000,
    refused_image_bytes=3_000_001,
    refused_formats=frozenset({"webp", "gif"}),
    head=True,
)
_FOREIGN = SyncRecord((), (), ("c2",), False, ('a warning with "child_image_ids": []',))


@contextmanager
def _refused() -> Iterator[None]:
    with pytest.raises((StoreError, NoRoomError)):
        yield


class AccountRepositoryContract(TimedContract[StoreT]):
    """Proves an `AccountRepository`. A test class gives the fixture `store`, `accounts` and
    `advance`, or says `real_time` = True; `disable` for the test that asks for it."""

    def accounts(self, store: StoreT) -> AccountRepository:
        """To be overridden: the store's accounts, as one host has them."""
        raise NotImplementedError("the test class has no method 'accounts'")

    async def now(self, store: StoreT) -> datetime:
        """The store's time; to be overridden where it is not about this host's."""
        return datetime.now(UTC)

    async def disable(self, store: StoreT) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    @pytest.mark.parametrize(
        "account",
        [
            _ACCOUNT,
            _TOKEN,
            Account("1", "x", TokenKind.DRAFT, "t", role=AccountRole.CHILD),
            Account("1", "x", TokenKind.USER, "t", role=AccountRole.MAIN),
        ],
        ids=lambda account: account.token_kind,
    )
    async def test_an_account_is_stored_whole(self, store: StoreT, account: Account) -> None:
        await self.accounts(store).add(account)
        stored = await self.accounts(store).get("1")
        assert (stored, stored.role) == (account, account.role)

    async def test_an_account_added_again_is_replaced(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        await accounts.add(_ACCOUNT)
        await accounts.add(_TOKEN)
        assert await accounts.all() == [_TOKEN]
        assert await accounts.get("1") == _TOKEN

    async def test_accounts_are_listed_by_name(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        assert await accounts.all() == []
        for number, name in enumerate("cab"):
            await accounts.add(replace(_ACCOUNT, id=str(number), name=name))
        assert [(a.name, a.id) for a in await accounts.all()] == [
            ("a", "1"),
            ("b", "2"),
            ("c", "0"),
        ]

    async def test_an_unknown_account_is_an_error(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        await accounts.add(_ACCOUNT)
        with pytest.raises(UnknownAccountError, match="'nobody' is not stored"):
            await accounts.get("nobody")

    async def test_the_side_of_an_account_is_noted_and_kept(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        await accounts.add(_ACCOUNT)
        assert (await accounts.get("1")).role is None
        await accounts.set_role("1", AccountRole.MAIN)
        assert (await accounts.get("1")).role is AccountRole.MAIN
        await accounts.add(replace(_ACCOUNT, secret="new"))  # noqa: S106 (of a test)
        stored = await accounts.get("1")
        assert (stored.role, stored.secret) == (AccountRole.MAIN, "new")
        await accounts.add(replace(_ACCOUNT, role=AccountRole.CHILD))
        assert (await accounts.get("1")).role is AccountRole.CHILD
        assert [account.role for account in await accounts.all()] == [AccountRole.CHILD]

    async def test_the_side_of_no_account_is_not_noted(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        await accounts.set_role("nobody", AccountRole.MAIN)
        assert await accounts.all() == []

    async def test_an_account_is_parked_until_a_moment_of_the_store_s_time(
        self, store: StoreT
    ) -> None:
        accounts = self.accounts(store)
        await accounts.add(_ACCOUNT)
        await accounts.add(replace(_ACCOUNT, id="2"))
        assert await accounts.parking("1") is None
        now = await self.now(store)
        lease = self.real_lease if self.real_time else timedelta(hours=1)
        assert await accounts.park("1", Parking("401", now + 2 * lease))
        second = Parking("51003: Ж", now + lease)
        assert await accounts.park("1", second)
        assert await self.accounts(store).parking("1") == second
        assert await accounts.parking("2") is None
        rest = lease * 0.75 if self.real_time else timedelta(milliseconds=1)
        await self.advance(store, lease - rest)
        assert await accounts.parking("1") == second
        await self.advance(store, rest)
        assert await accounts.parking("1") is None

    async def test_nobody_is_not_parked(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        parking = Parking("401", await self.now(store) + timedelta(hours=1))
        assert not await accounts.park("nobody", parking)
        assert await accounts.parking("nobody") is None
        assert await accounts.all() == []

    async def test_a_reason_that_a_store_may_not_take_parks_all_the_same(
        self, store: StoreT
    ) -> None:
        """NUL and lone surrogates may be left out of it."""
        accounts = self.accounts(store)
        await accounts.add(_ACCOUNT)
        until = await self.now(store) + timedelta(hours=1)
        assert await accounts.park("1", Parking("<\x00\ud800>", until))
        parking = await accounts.parking("1")
        assert parking is not None
        assert parking.reason.startswith("<")
        assert parking.reason.endswith(">")

    async def test_an_account_stored_anew_is_parked_no_more(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        await accounts.add(_ACCOUNT)
        await accounts.park("1", Parking("401", await self.now(store) + timedelta(hours=1)))
        await accounts.set_role("1", AccountRole.CHILD)
        assert await accounts.parking("1") is not None
        await accounts.add(_ACCOUNT)
        assert await accounts.parking("1") is None

    async def test_an_account_may_be_stored_parked(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        parking = Parking("paused", await self.now(store) + timedelta(hours=1))
        await accounts.add(_ACCOUNT, parking)
        assert await accounts.parking("1") == parking
        later = Parking("51003", parking.until + timedelta(hours=1))
        await accounts.add(_TOKEN, later)
        assert await accounts.parking("1") == later
        assert await accounts.get("1") == _TOKEN

    @pytest.mark.parametrize(
        "stored",
        [
            replace(_TOKEN, secret="other"),  # noqa: S106 (of a test)
            replace(_TOKEN, token_kind=TokenKind.DRAFT),
            Account("1", "Shop", TokenKind.PASSWORD, "token", "login"),
        ],
        ids=["secret", "kind", "login"],
    )
    async def test_other_credentials_are_not_parked_for_what_these_met(
        self, store: StoreT, stored: Account
    ) -> None:
        accounts = self.accounts(store)
        parking = Parking("401", await self.now(store) + timedelta(hours=1))
        await accounts.add(stored)
        assert not await accounts.park("1", parking, _TOKEN)
        assert await accounts.parking("1") is None
        assert await accounts.park("1", Parking("51003", parking.until))
        assert not await accounts.park("1", parking, _TOKEN)
        assert await accounts.parking("1") == Parking("51003", parking.until)
        await accounts.add(replace(_TOKEN, name="another name"))
        assert await accounts.park("1", parking, _TOKEN)
        assert await accounts.parking("1") == parking

    async def test_another_login_is_other_credentials(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        parking = Parking("401", await self.now(store) + timedelta(hours=1))
        await accounts.add(_ACCOUNT)
        assert not await accounts.park("1", parking, replace(_ACCOUNT, login="b@shop"))
        assert await accounts.park("1", parking, _ACCOUNT)

    async def test_a_store_that_cannot_be_used_is_a_store_error(self, store: StoreT) -> None:
        accounts = self.accounts(store)
        await accounts.add(_ACCOUNT)
        await self.disable(store)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: accounts.add(_ACCOUNT),
            lambda: accounts.get("1"),
            accounts.all,
            lambda: accounts.set_role("1", AccountRole.MAIN),
            lambda: accounts.park("1", Parking("401", datetime.now(UTC))),
            lambda: accounts.parking("1"),
        ]
        for call in calls:
            with _refused():
                await call()


class AbilityRepositoryContract(Contract):
    """Proves an `AbilityRepository`. A test class gives the fixture `abilities`; `another_host`,
    `damage` and `disable` for the tests that ask for them."""

    @pytest.fixture
    def abilities(self) -> Any:
        """To be overridden: the abilities of a new, empty store; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'abilities'")

    async def another_host(self, abilities: AbilityRepository) -> AbilityRepository:
        """The same store as another host has it open."""
        return abilities

    async def damage(self, abilities: AbilityRepository, account_id: str) -> None:
        """Makes what is stored of the account unreadable."""
        pytest.skip("the test class has no 'damage': nothing that is stored can be made unreadable")

    async def disable(self, abilities: AbilityRepository) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    async def test_of_an_unknown_account_nothing_is_known(
        self, abilities: AbilityRepository
    ) -> None:
        assert await abilities.get("1") == Abilities()
        await abilities.learn("1", _SHOWN)
        assert await abilities.get("2") == Abilities()

    @pytest.mark.parametrize(
        "shown",
        [
            _SHOWN,
            Abilities(),
            Abilities(False, False, False, images_move_updated=False, head=False),
            Abilities(bulk=True),
            Abilities(bulk_keeps=True),
            Abilities(permanent_links=True),
            Abilities(permanent_hosts=frozenset({"a.example", "b.example"})),
            Abilities(images_move_updated=True),
            Abilities(accepted_image_bytes=5_000_000_000),
            Abilities(refused_image_bytes=1),
            Abilities(refused_formats=frozenset({"gif"})),
            Abilities(head=True),
        ],
        ids=range(12),  # the text of a set differs from process to process
    )
    async def test_what_is_learnt_is_stored_whole(
        self, abilities: AbilityRepository, shown: Abilities
    ) -> None:
        await abilities.learn("1", shown)
        assert await abilities.get("1") == shown
        assert await (await self.another_host(abilities)).get("1") == shown

    async def test_what_is_learnt_is_added(self, abilities: AbilityRepository) -> None:
        known = Abilities()
        for shown in (
            Abilities(bulk=True, accepted_image_bytes=100, permanent_hosts=frozenset({"a"})),
            Abilities(head=False, accepted_image_bytes=90, refused_image_bytes=200),
            Abilities(bulk=False, accepted_image_bytes=110, refused_image_bytes=300),
            Abilities(permanent_hosts=frozenset({"b"}), refused_formats=frozenset({"gif"})),
            Abilities(accepted_image_bytes=250),
            Abilities(refused_image_bytes=240),
        ):
            await abilities.learn("1", shown)
            known = known.with_shown(shown)
            assert await abilities.get("1") == known
        assert (known.bulk, known.head) == (False, False)
        assert known.permanent_hosts == {"a", "b"}
        assert (known.accepted_image_bytes, known.refused_image_bytes) == (None, 240)

    async def test_what_others_learn_at_the_same_time_is_not_lost(
        self, abilities: AbilityRepository
    ) -> None:
        hosts = [await self.another_host(abilities) for _ in range(4)]
        names = [f"host-{n}.example" for n in range(20)]
        await asyncio.gather(
            *(
                hosts[n % 4].learn("1", Abilities(permanent_hosts=frozenset({name})))
                for n, name in enumerate(names)
            )
        )
        assert (await abilities.get("1")).permanent_hosts == set(names)

    async def test_what_is_forgotten_is_not_known(self, abilities: AbilityRepository) -> None:
        await abilities.forget("1")
        await abilities.learn("1", _SHOWN)
        await abilities.learn("2", _SHOWN)
        await abilities.forget("1")
        assert await abilities.get("1") == Abilities()
        assert await abilities.get("2") == _SHOWN
        await abilities.learn("1", Abilities(head=True))
        assert await abilities.get("1") == Abilities(head=True)

    async def test_what_cannot_be_read_is_shown_anew(self, abilities: AbilityRepository) -> None:
        await abilities.learn("1", _SHOWN)
        await self.damage(abilities, "1")
        assert await abilities.get("1") == Abilities()
        await abilities.learn("1", Abilities(head=True))
        assert await abilities.get("1") == Abilities(head=True)

    async def test_a_store_that_cannot_be_used_is_a_store_error(
        self, abilities: AbilityRepository
    ) -> None:
        await self.disable(abilities)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: abilities.get("1"),
            lambda: abilities.learn("1", _SHOWN),
            lambda: abilities.forget("1"),
        ]
        for call in calls:
            with _refused():
                await call()


class SettingsRepositoryContract(Contract):
    """Proves a `SettingsRepository`. A test class gives the fixture `settings`; `disable` for the
    test that asks for it."""

    @pytest.fixture
    def settings(self) -> Any:
        """To be overridden: the settings of a new, empty store; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'settings'")

    async def disable(self, settings: SettingsRepository) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    async def test_a_store_that_cannot_be_used_is_a_store_error(
        self, settings: SettingsRepository
    ) -> None:
        await self.disable(settings)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: settings.get("child"),
            lambda: settings.put("child", LinkSettings()),
            lambda: settings.change("child", lambda before: before),
            lambda: settings.link("main", "child", LinkSettings()),
            lambda: settings.unlink("child"),
            settings.links,
        ]
        for call in calls:
            with _refused():
                await call()

    async def test_settings_are_off_by_default(self, settings: SettingsRepository) -> None:
        assert await settings.get("child") == LinkSettings()

    @pytest.mark.parametrize(
        "value",
        [LinkSettings(sync_images=True), LinkSettings(sync_images_all=True), LinkSettings(), _SOME],
        ids=["first", "all", "off", "some"],
    )
    async def test_settings_are_stored_and_replaced(
        self, settings: SettingsRepository, value: LinkSettings
    ) -> None:
        for before in (LinkSettings(sync_images=True), LinkSettings(sync_images_all=True)):
            await settings.put("child", before)
            assert await settings.get("child") == before
            await settings.put("child", value)
            assert await settings.get("child") == value
        assert await settings.get("another") == LinkSettings()

    async def test_a_link_is_stored_with_its_settings_and_replaced(
        self, settings: SettingsRepository
    ) -> None:
        assert await settings.links() == []
        for value in (_SOME, LinkSettings(sync_images_all=True)):
            await settings.link("main", "child", value)
            assert await settings.links() == [StoredLink("main", "child", value)]
            assert await settings.get("child") == value

    async def test_links_are_listed_by_main_account_and_child(
        self, settings: SettingsRepository
    ) -> None:
        for main, child in (("m2", "a"), ("m1", "c"), ("m1", "b")):
            await settings.link(main, child, _SOME)
        await settings.put("alone", _SOME)
        found = [(link.main_id, link.child_id) for link in await settings.links()]
        assert found == [("m1", "b"), ("m1", "c"), ("m2", "a")]

    async def test_links_of_one_main_account_are_listed_alone(
        self, settings: SettingsRepository
    ) -> None:
        for main, child in (("m2", "a"), ("m1", "c"), ("m1", "b")):
            await settings.link(main, child, _SOME)
        await settings.put("alone", _SOME)
        assert await settings.links("m1") == [
            StoredLink("m1", "b", _SOME),
            StoredLink("m1", "c", _SOME),
        ]
        assert await settings.links("alone") == []
        assert await settings.links("m") == []

    async def test_settings_that_change_leave_the_link(self, settings: SettingsRepository) -> None:
        await settings.link("main", "child", LinkSettings(sync_images_all=True))
        await settings.put("child", _SOME)
        assert await settings.links() == [StoredLink("main", "child", _SOME)]

    async def test_of_changes_at_the_same_time_none_is_lost(
        self, settings: SettingsRepository
    ) -> None:
        await settings.link("main", "child", LinkSettings())

        def adding(name: str) -> Callable[[LinkSettings], LinkSettings]:
            return lambda before: replace(before, folders=(*before.folders, name))

        for child_id in ("child", "alone"):
            names = [f"Folder {n}" for n in range(6)]
            await asyncio.gather(*(settings.change(child_id, adding(name)) for name in names))
            assert sorted((await settings.get(child_id)).folders) == names
        assert [link.child_id for link in await settings.links()] == ["child"]

    async def test_a_change_that_is_refused_changes_nothing(
        self, settings: SettingsRepository
    ) -> None:
        await settings.link("main", "child", _SOME)

        def refuse(_: LinkSettings) -> LinkSettings:
            raise LookupError("refused")

        with pytest.raises(LookupError, match="refused"):
            await settings.change("child", refuse)
        assert await settings.get("child") == _SOME
        assert await settings.change("child", lambda _: LinkSettings()) == LinkSettings()
        assert await settings.links() == [StoredLink("main", "child", LinkSettings())]

    async def test_a_child_has_one_main_account(self, settings: SettingsRepository) -> None:
        await settings.link("main", "child", _SOME)
        with pytest.raises(AlreadyLinkedError, match="'child' is a child of account 'main'"):
            await settings.link("other", "child", LinkSettings())
        assert await settings.links() == [StoredLink("main", "child", _SOME)]

    @pytest.mark.parametrize(("main", "child"), [("other", "main"), ("child", "other")])
    async def test_nobody_stands_on_both_sides(
        self, settings: SettingsRepository, main: str, child: str
    ) -> None:
        await settings.link("main", "child", _SOME)
        with pytest.raises(AlreadyLinkedError):
            await settings.link(main, child, _SOME)
        assert await settings.links() == [StoredLink("main", "child", _SOME)]
        assert await settings.get("other") == LinkSettings()

    async def test_of_those_that_link_at_the_same_time_one_wins(
        self, settings: SettingsRepository
    ) -> None:
        tries = [settings.link(f"m{n}", "child", _SOME) for n in range(4)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(error is None for error in ended) == 1
        assert sum(isinstance(error, AlreadyLinkedError) for error in ended) == 3
        both = [settings.link("a", "b", _SOME), settings.link("b", "a", _SOME)]
        ended = await asyncio.gather(*both, return_exceptions=True)
        assert sorted(error is None for error in ended) == [False, True]

    async def test_a_child_that_is_unlinked_receives_nothing(
        self, settings: SettingsRepository
    ) -> None:
        await settings.link("main", "child", _SOME)
        await settings.link("main", "another", _SOME)
        assert await settings.unlink("child")
        assert await settings.get("child") == LinkSettings()
        assert await settings.links() == [StoredLink("main", "another", _SOME)]
        await settings.put("child", _SOME)
        assert not await settings.unlink("child")
        assert not await settings.unlink("nobody")
        assert await settings.get("child") == _SOME
        await settings.link("other", "child", _SOME)


class SyncRecordRepositoryContract(Contract):
    """Proves a `SyncRecordRepository`. A test class gives the fixture `records`; `disable` for the
    test that asks for it."""

    @pytest.fixture
    def records(self) -> Any:
        """To be overridden: the records of a new, empty store; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'records'")

    async def disable(self, records: SyncRecordRepository) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    async def test_a_store_that_cannot_be_used_is_a_store_error(
        self, records: SyncRecordRepository
    ) -> None:
        await self.disable(records)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: records.get(_KEY),
            lambda: records.put(_KEY, _COPIED),
            lambda: records.copied("child", "product"),
            lambda: records.get_many("child", "product", ["p1"]),
        ]
        for call in calls:
            with _refused():
                await call()

    @pytest.mark.parametrize(
        "record", [_COPIED, _FOREIGN, NOTHING_LEFT, _COPIED.begun(["c1", "c9"])]
    )
    async def test_a_record_is_stored_whole_and_replaced(
        self, records: SyncRecordRepository, record: SyncRecord
    ) -> None:
        assert await records.get(_KEY) is None
        for before in (NOTHING_LEFT.begun([]), _COPIED):
            await records.put(_KEY, before)
            await records.put(_KEY, record)
            assert await records.get(_KEY) == record

    @pytest.mark.parametrize("text", ["a\x00b", "\ud800", "x\udc00", "\U0001f4a1", "\\u0000"])
    async def test_a_text_of_the_api_spoils_no_record(
        self, records: SyncRecordRepository, text: str
    ) -> None:
        source = ImageFingerprint("s1", 1, text)
        record = SyncRecord(
            (source,), (CopiedImage(source, "c1"),), ("c1",), True, (f"{text}: not an image",)
        )
        await records.put(_KEY, record)
        assert await records.get(_KEY) == record
        assert await records.get_many("child", "product", [_KEY.child_entity_id]) == {
            _KEY.child_entity_id: record
        }
        assert await records.copied("child", "product") == {_KEY.child_entity_id}

    @pytest.mark.parametrize("field", ["child_account_id", "entity_type", "child_entity_id"])
    async def test_records_of_other_entities_are_apart(
        self, records: SyncRecordRepository, field: str
    ) -> None:
        other = replace(_KEY, **{field: "other"})
        await records.put(_KEY, _COPIED)
        assert await records.get(other) is None
        await records.put(other, NOTHING_LEFT)
        assert await records.get(_KEY) == _COPIED

    async def test_many_records_are_read_at_once(self, records: SyncRecordRepository) -> None:
        for number in range(5):
            await records.put(replace(_KEY, child_entity_id=f"p{number}"), _COPIED)
        await records.put(replace(_KEY, child_entity_id="p2"), _FOREIGN)
        for field in ("child_account_id", "entity_type"):
            await records.put(replace(_KEY, **{field: "other", "child_entity_id": "p9"}), _COPIED)
        wanted = [*(f"p{number}" for number in (1, 2, 9)), *(f"no{n}" for n in range(997))]
        found = await records.get_many("child", "product", wanted)
        assert found == {"p1": _COPIED, "p2": _FOREIGN}
        assert await records.get_many("child", "product", []) == {}

    async def test_entities_with_images_of_imgsync(self, records: SyncRecordRepository) -> None:
        assert await records.copied("child", "product") == set()
        await records.put(_KEY, _COPIED)
        await records.put(replace(_KEY, child_entity_id="p2"), _FOREIGN)
        await records.put(replace(_KEY, child_entity_id="p3"), NOTHING_LEFT)
        assert await records.copied("child", "product") == {"p1", "p2"}
        await records.put(_KEY, NOTHING_LEFT)
        assert await records.copied("child", "product") == {"p2"}
        # A write that broke off may have left some, even on what was empty before.
        await records.put(_KEY, NOTHING_LEFT.begun([]))
        assert await records.copied("child", "product") == {"p1", "p2"}

    @pytest.mark.parametrize("field", ["child_account_id", "entity_type"])
    async def test_those_of_others_are_apart(
        self, records: SyncRecordRepository, field: str
    ) -> None:
        await records.put(replace(_KEY, **{field: "other"}), _COPIED)
        assert await records.copied("child", "product") == set()

    async def test_records_are_written_side_by_side(self, records: SyncRecordRepository) -> None:
        keys = [replace(_KEY, child_entity_id=str(n)) for n in range(20)]
        await asyncio.gather(*(records.put(key, _COPIED) for key in keys))
        assert await records.copied("child", "product") == {k.child_entity_id for k in keys}


_KEYS = [
    SurveyKey(main, child, kind)
    for main, child, kind in (
        ("1", "2", "product"), ("1", "", "product"), ("1", "2", "bundle"), ("2", "1", "product"),
    )
]  # fmt: skip


class SurveyRepositoryContract(Contract):
    """Proves a `SurveyRepository`. A test class gives the fixture `surveys`, and `disable` for the
    test that asks for it."""

    @pytest.fixture
    def surveys(self) -> Any:
        """To be overridden: the surveys of a new, empty store; the fixture may be async."""
        raise NotImplementedError("the test class has no fixture 'surveys'")

    async def disable(self, surveys: SurveyRepository) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    async def test_a_survey_is_kept_whole_beside_the_others(
        self, surveys: SurveyRepository
    ) -> None:
        began = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)
        left = {
            key: PastSurvey(began + timedelta(days=n), f"Ё{n}", bytes(range(256)) * n, n)
            for n, key in enumerate(_KEYS)
        }
        for key, survey in left.items():
            assert await surveys.get(key) is None
            await surveys.put(key, survey)
        assert {key: await surveys.get(key) for key in _KEYS} == left

    async def test_a_later_survey_takes_the_place_of_the_earlier(
        self, surveys: SurveyRepository
    ) -> None:
        began = datetime(2026, 1, 2, tzinfo=UTC)
        await surveys.put(_KEYS[0], PastSurvey(began, "a", b"seen", 7))
        await surveys.put(_KEYS[0], PastSurvey(began - timedelta(days=1)))
        assert await surveys.get(_KEYS[0]) == PastSurvey(began - timedelta(days=1))

    async def test_a_store_that_cannot_be_used_is_a_store_error(
        self, surveys: SurveyRepository
    ) -> None:
        await self.disable(surveys)
        with pytest.raises((StoreError, NoRoomError)):
            await surveys.get(_KEYS[0])
        with pytest.raises((StoreError, NoRoomError)):
            await surveys.put(_KEYS[0], PastSurvey(datetime(2026, 1, 2, tzinfo=UTC)))
