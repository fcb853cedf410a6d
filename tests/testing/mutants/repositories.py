"""Repositories and clocks in memory that break one sentence of their port each."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.errors import AlreadyLinkedError, StoreError
from imgsync.domain.model import (
    Abilities,
    Account,
    AccountRole,
    LinkSettings,
    Parking,
    StoredLink,
)
from imgsync.domain.surveys import PastSurvey, SurveyKey
from imgsync.testing import (
    MemoryAbilities,
    MemoryAccounts,
    MemoryRecords,
    MemorySettings,
    MemoryStoreClock,
    MemorySurveys,
)
from tests.testing.mutants.registry import mutant


@mutant("test_an_account_added_again_is_replaced")
class KeepsTheFirst(MemoryAccounts):
    async def add(self, account: Account, parking: Parking | None = None) -> None:
        if account.id not in self.store.accounts:
            await super().add(account, parking)


@mutant("test_an_account_stored_anew_is_parked_no_more")
class StaysParked(MemoryAccounts):
    async def add(self, account: Account, parking: Parking | None = None) -> None:
        await super().add(account, parking or self.store.parkings.get(account.id))


@mutant("test_an_account_may_be_stored_parked")
class FreesWhatIsStored(MemoryAccounts):
    async def add(self, account: Account, parking: Parking | None = None) -> None:
        await super().add(account)


@mutant("test_the_side_of_an_account_is_noted_and_kept")
class ForgetsTheRole(MemoryAccounts):
    async def add(self, account: Account, parking: Parking | None = None) -> None:
        await super().add(account, parking)
        self.store.accounts[account.id] = account


@mutant("test_the_side_of_an_account_is_noted_and_kept")
class KeepsTheOldRole(MemoryAccounts):
    async def add(self, account: Account, parking: Parking | None = None) -> None:
        known = self.store.accounts.get(account.id)
        role = known.role if known and known.role else account.role
        await super().add(replace(account, role=role), parking)


@mutant("test_an_account_is_stored_whole")
class StoresNoRole(MemoryAccounts):
    async def add(self, account: Account, parking: Parking | None = None) -> None:
        await super().add(replace(account, role=None), parking)


@mutant("test_an_unknown_account_is_an_error")
class AnyAccountWillDo(MemoryAccounts):
    async def get(self, account_id: str) -> Account:
        return self.store.accounts.get(account_id) or (await self.all())[0]


@mutant("test_accounts_are_listed_by_name")
class ListedById(MemoryAccounts):
    async def all(self) -> list[Account]:
        return sorted(await super().all(), key=lambda account: account.id)


@mutant("test_the_side_of_no_account_is_not_noted")
class NotesAnySide(MemoryAccounts):
    async def set_role(self, account_id: str, role: AccountRole) -> None:
        await self.get(account_id)
        await super().set_role(account_id, role)


@mutant("test_an_account_is_parked_until_a_moment_of_the_store_s_time")
class KeepsTheFirstParking(MemoryAccounts):
    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        first = self.store.parkings.get(account_id, parking)
        return await super().park(account_id, first, used)


@mutant("test_nobody_is_not_parked")
class ParksNobody(MemoryAccounts):
    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        await super().park(account_id, parking, used)
        return True


class _ParksWithOther(MemoryAccounts):
    """Does not look at one part of the credentials."""

    part: str

    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        stored = self.store.accounts.get(account_id)
        if used and stored and getattr(stored, self.part) != getattr(used, self.part):
            used = stored
        return await super().park(account_id, parking, used)


_OTHERS = "test_other_credentials_are_not_parked_for_what_these_met"
mutant(_OTHERS)(type("ParksWithOtherSecret", (_ParksWithOther,), {"part": "secret"}))
mutant(_OTHERS)(type("ParksWithOtherKind", (_ParksWithOther,), {"part": "token_kind"}))
mutant("test_another_login_is_other_credentials")(
    type("ParksWithOtherLogin", (_ParksWithOther,), {"part": "login"})
)


@mutant("test_other_credentials_are_not_parked_for_what_these_met")
class EndsTheParkingOfOthers(MemoryAccounts):
    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        parked = await super().park(account_id, parking, used)
        if not parked:
            self.store.parkings.pop(account_id, None)
        return parked


@mutant("test_an_account_is_parked_until_a_moment_of_the_store_s_time")
class ParkedForEver(MemoryAccounts):
    async def parking(self, account_id: str) -> Parking | None:
        return self.store.parkings.get(account_id)


@mutant("test_an_account_is_parked_until_a_moment_of_the_store_s_time")
class ParkedByTheHostsTime(MemoryAccounts):
    async def parking(self, account_id: str) -> Parking | None:
        parking = self.store.parkings.get(account_id)
        return parking if parking and parking.until > datetime.now(UTC) else None


@mutant("test_a_store_that_cannot_be_used_is_a_store_error")
class AccountsWithoutFault(MemoryAccounts):
    async def all(self) -> list[Account]:
        return list(self.store.accounts.values())


@mutant("test_of_an_unknown_account_nothing_is_known")
class AllAccountsAreAlike(MemoryAbilities):
    async def get(self, account_id: str) -> Abilities:
        return next(iter(self.store.abilities.values()), Abilities())


@mutant("test_what_is_learnt_is_stored_whole")
class NoIsNotKnown(MemoryAbilities):
    async def learn(self, account_id: str, shown: Abilities) -> None:
        await super().learn(account_id, replace(shown, head=shown.head or None))


@mutant("test_what_is_learnt_is_stored_whole")
class RememberedByOneHost(MemoryAbilities):
    mine: Abilities | None = None

    async def learn(self, account_id: str, shown: Abilities) -> None:
        self.mine = (self.mine or Abilities()).with_shown(shown)

    async def get(self, account_id: str) -> Abilities:
        return self.mine or await super().get(account_id)


@mutant("test_what_is_learnt_is_added")
class KnowsTheLastOnly(MemoryAbilities):
    async def learn(self, account_id: str, shown: Abilities) -> None:
        await self.store.now()
        self.store.abilities[account_id] = shown


@mutant("test_what_is_learnt_is_added")
class TheFirstWordCounts(MemoryAbilities):
    async def learn(self, account_id: str, shown: Abilities) -> None:
        known = await self.get(account_id)
        self.store.abilities[account_id] = shown.with_shown(known)


@mutant("test_what_others_learn_at_the_same_time_is_not_lost")
class ReadsAndWritesLater(MemoryAbilities):
    async def learn(self, account_id: str, shown: Abilities) -> None:
        known = await self.get(account_id)
        await self.store.now()
        self.store.abilities[account_id] = known.with_shown(shown)


@mutant("test_what_is_forgotten_is_not_known")
class ForgetsNothing(MemoryAbilities):
    async def forget(self, account_id: str) -> None:
        await self.store.now()


@mutant("test_what_is_forgotten_is_not_known")
class ForgetsAll(MemoryAbilities):
    async def forget(self, account_id: str) -> None:
        await self.store.now()
        self.store.abilities.clear()


@mutant("test_a_store_that_cannot_be_used_is_a_store_error")
class NothingKnownAtAFault(MemoryAbilities):
    async def get(self, account_id: str) -> Abilities:
        try:
            return await super().get(account_id)
        except StoreError:
            return Abilities()


@mutant("test_settings_are_off_by_default")
class OnByDefault(MemorySettings):
    async def get(self, child_account_id: str) -> LinkSettings:
        return self.store.settings.get(child_account_id, LinkSettings(sync_images=True))


@mutant("test_settings_are_stored_and_replaced")
class OneSettingForAll(MemorySettings):
    async def put(self, child_account_id: str, settings: LinkSettings) -> None:
        await super().put("another", settings)
        await super().put(child_account_id, settings)


@mutant("test_settings_are_stored_and_replaced")
class StaysOn(MemorySettings):
    async def put(self, child_account_id: str, settings: LinkSettings) -> None:
        if settings.enabled:
            await super().put(child_account_id, settings)


@mutant("test_a_link_is_stored_with_its_settings_and_replaced")
class LinksOnce(MemorySettings):
    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        if child_id not in self.store.mains:
            await super().link(main_id, child_id, settings)


@mutant("test_links_are_listed_by_main_account_and_child")
class ListsWhatIsNotLinked(MemorySettings):
    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        mains = self.store.mains
        return [StoredLink(mains.get(c, ""), c, s) for c, s in sorted(self.store.settings.items())]


@mutant("test_links_of_one_main_account_are_listed_alone")
class ListsThoseOfAll(MemorySettings):
    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        return await super().links()


@mutant("test_settings_that_change_leave_the_link")
class UnlinksByPut(MemorySettings):
    async def put(self, child_account_id: str, settings: LinkSettings) -> None:
        await super().put(child_account_id, settings)
        self.store.mains.pop(child_account_id, None)


@mutant("test_of_changes_at_the_same_time_none_is_lost")
class ReadsAndStoresLater(MemorySettings):
    async def change(
        self, child_account_id: str, change: Callable[[LinkSettings], LinkSettings]
    ) -> LinkSettings:
        changed = change(await self.get(child_account_id))
        await self.put(child_account_id, changed)
        return changed


@mutant("test_a_change_that_is_refused_changes_nothing")
class StoresBeforeItIsRefused(MemorySettings):
    async def change(
        self, child_account_id: str, change: Callable[[LinkSettings], LinkSettings]
    ) -> LinkSettings:
        before = self.store.settings.pop(child_account_id, LinkSettings())
        self.store.settings[child_account_id] = changed = change(before)
        return changed


@mutant("test_a_child_has_one_main_account")
class TakesAnotherMain(MemorySettings):
    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        self.store.mains.pop(child_id, None)
        await super().link(main_id, child_id, settings)


@mutant("test_nobody_stands_on_both_sides")
class LinksInARow(MemorySettings):
    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        await self.store.now()
        self.store.mains[child_id] = main_id


@mutant("test_of_those_that_link_at_the_same_time_one_wins")
class LooksAndLinksLater(MemorySettings):
    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        taken = child_id in self.store.mains or main_id in self.store.mains
        await self.store.now()
        if taken:
            raise AlreadyLinkedError(child_id, main_id)
        self.store.mains[child_id] = main_id


@mutant("test_a_child_that_is_unlinked_receives_nothing")
class StaysOnUnlinked(MemorySettings):
    async def unlink(self, child_id: str) -> bool:
        await self.store.now()
        return self.store.mains.pop(child_id, None) is not None


@mutant("test_a_record_is_stored_whole_and_replaced")
class ForgetsWhatWasBegun(MemoryRecords):
    async def put(self, key: EntityKey, record: SyncRecord) -> None:
        await super().put(key, replace(record, begun_on=None))


@mutant("test_many_records_are_read_at_once")
class ReadsTheFirst(MemoryRecords):
    async def get_many(
        self, child_account_id: str, entity_type: str, child_entity_ids: Sequence[str]
    ) -> dict[str, SyncRecord]:
        return await super().get_many(child_account_id, entity_type, child_entity_ids[:1])


@mutant("test_records_of_other_entities_are_apart")
class MixesTypes(MemoryRecords):
    async def put(self, key: EntityKey, record: SyncRecord) -> None:
        await super().put(replace(key, entity_type="product"), record)


@mutant("test_entities_with_images_of_imgsync")
class CopiedAreAll(MemoryRecords):
    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        return {key.child_entity_id for key in self.store.records}


@mutant("test_entities_with_images_of_imgsync")
class CopiedAreTheWhole(MemoryRecords):
    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        found = await super().copied(child_account_id, entity_type)
        key = EntityKey(child_account_id, entity_type, "")
        records = {i: self.store.records[replace(key, child_entity_id=i)] for i in found}
        return {i for i, record in records.items() if record.child_image_ids}


@mutant("test_those_of_others_are_apart")
class CopiedOfAnyAccount(MemoryRecords):
    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        found = {(k.child_account_id, k.entity_type) for k in self.store.records}
        each = [await super(CopiedOfAnyAccount, self).copied(*pair) for pair in found]
        return set().union(*each)


@mutant("test_a_store_that_cannot_be_used_is_a_store_error")
class NoRecordsAtAFault(MemoryRecords):
    async def get(self, key: EntityKey) -> SyncRecord | None:
        try:
            return await super().get(key)
        except StoreError:
            return None


@mutant("test_the_present_is_in_utc")
class LocalTime(MemoryStoreClock):
    async def now(self) -> datetime:
        return (await super().now()).astimezone(timezone(timedelta(hours=3)))


@mutant("test_time_never_goes_back")
class GoesBack(MemoryStoreClock):
    last: Any = None

    async def now(self) -> datetime:
        self.last = (self.last or await super().now()) - timedelta(seconds=1)
        return datetime.fromisoformat(self.last.isoformat())


@mutant("test_a_survey_is_kept_whole_beside_the_others")
class OneSurveyOfAMain(MemorySurveys):
    async def put(self, key: SurveyKey, survey: PastSurvey) -> None:
        await super().put(replace(key, child_account_id=""), survey)

    async def get(self, key: SurveyKey) -> PastSurvey | None:
        return await super().get(replace(key, child_account_id=""))


@mutant("test_a_survey_is_kept_whole_beside_the_others")
class ForgetsWhatWasSeen(MemorySurveys):
    async def put(self, key: SurveyKey, survey: PastSurvey) -> None:
        await super().put(key, replace(survey, seen=b""))


@mutant("test_a_later_survey_takes_the_place_of_the_earlier")
class TheFirstSurveyStays(MemorySurveys):
    async def put(self, key: SurveyKey, survey: PastSurvey) -> None:
        await super().put(key, await self.get(key) or survey)


@mutant("test_a_later_survey_takes_the_place_of_the_earlier")
class TheLatestSurveyStays(MemorySurveys):
    async def put(self, key: SurveyKey, survey: PastSurvey) -> None:
        was = await self.get(key)
        await super().put(key, was if was and was.began > survey.began else survey)
