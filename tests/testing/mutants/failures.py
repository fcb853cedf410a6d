"""Stores of failed images in memory that break one sentence of their port each."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from imgsync.domain.diff import EntityKey
from imgsync.domain.errors import StoreError
from imgsync.domain.failures import FailedCount, FailedEntity, FailedImage, Failure
from imgsync.testing import MemoryFailedImages
from tests.testing.mutants.registry import mutant


class _Noting(MemoryFailedImages):
    async def note(
        self, entity: FailedEntity, failures: Sequence[Failure], **options: Any
    ) -> list[FailedImage]:
        before = {row.id: row for row in self._all()}
        for row in await super().note(entity, failures, **options):
            self.store.failures[row.id] = self.changed(row, before.get(row.id))
        return self._of(entity.key)

    def changed(self, row: FailedImage, before: FailedImage | None) -> FailedImage:
        return row


@mutant("test_what_failed_is_kept_with_all_that_is_known_of_it")
class ForgetsTheCode(_Noting):
    def changed(self, row: FailedImage, before: FailedImage | None) -> FailedImage:
        return replace(row, entity=replace(row.entity, code=""))


@mutant("test_an_image_that_may_pass_is_tried_after_each_delay_and_then_waits")
class TriesSettledOnes(_Noting):
    def changed(self, row: FailedImage, before: FailedImage | None) -> FailedImage:
        return replace(row, next_attempt_at=row.last_failed_at + timedelta(minutes=1))


@mutant("test_an_attempt_more_keeps_the_first_time_and_the_new_reason")
class KeepsTheOldReason(_Noting):
    def changed(self, row: FailedImage, before: FailedImage | None) -> FailedImage:
        return row if before is None else replace(row, failure=before.failure)


@mutant("test_an_attempt_more_keeps_the_first_time_and_the_new_reason")
class ForgetsTheFirstTime(_Noting):
    def changed(self, row: FailedImage, before: FailedImage | None) -> FailedImage:
        return replace(row, first_failed_at=row.last_failed_at)


@mutant("test_another_version_of_an_image_begins_anew")
class CountsOn(_Noting):
    def changed(self, row: FailedImage, before: FailedImage | None) -> FailedImage:
        return replace(row, attempts=1 if before is None else before.attempts + 1)


@mutant("test_what_passed_or_is_wanted_no_more_goes")
class KeepsWhatPassed(MemoryFailedImages):
    async def note(
        self, entity: FailedEntity, failures: Sequence[Failure], **options: Any
    ) -> list[FailedImage]:
        known = [row.failure.image_id for row in self._of(entity.key)]
        tried = {failure.image_id for failure in failures}
        options["untried"] = [i for i in known if i not in tried]
        return await super().note(entity, failures, **options)


@mutant("test_what_was_not_tried_stays_as_it_is")
class DropsWhatWasNotTried(MemoryFailedImages):
    async def note(
        self, entity: FailedEntity, failures: Sequence[Failure], **options: Any
    ) -> list[FailedImage]:
        return await super().note(entity, failures, alone=options.get("alone", True))


@mutant("test_an_image_that_stands_there_twice_fails_once")
class CountsATwinTwice(MemoryFailedImages):
    async def note(
        self, entity: FailedEntity, failures: Sequence[Failure], **options: Any
    ) -> list[FailedImage]:
        for number in range(len(failures)):
            await super().note(entity, failures[: number + 1], **options)
        return self._of(entity.key)


@mutant("test_what_is_not_tried_alone_waits_for_others")
class TriesAllAlone(MemoryFailedImages):
    async def note(
        self, entity: FailedEntity, failures: Sequence[Failure], **options: Any
    ) -> list[FailedImage]:
        return await super().note(entity, failures, untried=options.get("untried", ()))


@mutant("test_what_is_left_has_no_attempt_of_its_own")
class LeavesTheChild(MemoryFailedImages):
    async def leave(self, key: EntityKey) -> None:
        for row in self._all():
            await super().leave(row.entity.key)


@mutant("test_what_is_left_has_no_attempt_of_its_own")
class LeavesNothing(MemoryFailedImages):
    async def leave(self, key: EntityKey) -> None:
        await self.store.now()


@mutant("test_what_is_asked_for_is_tried_now_until_it_is_noted_anew")
class AsksForPassingOnesOnly(MemoryFailedImages):
    async def ask(self, ids: Collection[int]) -> None:
        passing = [row.id for row in self._all() if not row.failure.settled]
        await super().ask([row_id for row_id in ids if row_id in passing])


@mutant("test_what_is_asked_for_is_tried_now_until_it_is_noted_anew")
class AsksForTheWholeStore(MemoryFailedImages):
    async def ask(self, ids: Collection[int]) -> None:
        await super().ask([row.id for row in self._all()])


class _Finding(MemoryFailedImages):
    """Overlooks one thing that is asked for."""

    ignored = ""

    async def find(self, **options: Any) -> list[FailedImage]:
        options.pop(self.ignored, None)
        return await super().find(**options)


@mutant("test_they_are_found_by_child_cause_text_and_whether_they_may_pass")
class FindsOfAnyChild(_Finding):
    ignored = "child_ids"


@mutant("test_they_are_found_by_child_cause_text_and_whether_they_may_pass")
class FindsOfAnyCause(_Finding):
    ignored = "cause"


@mutant("test_they_are_found_by_child_cause_text_and_whether_they_may_pass")
class FindsWithAnyText(_Finding):
    ignored = "text"


@mutant("test_they_are_found_by_child_cause_text_and_whether_they_may_pass")
class FindsSettledOrNot(_Finding):
    ignored = "settled"


@mutant("test_they_are_listed_page_by_page")
class BeginsEachPageAnew(_Finding):
    ignored = "after"


class _Grouping(MemoryFailedImages):
    """Overlooks one thing that is asked for."""

    ignored = ""

    async def groups(self, **options: Any) -> list[list[FailedImage]]:
        options.pop(self.ignored, None)
        return await super().groups(**options)


@mutant("test_those_of_one_image_are_told_together")
class GroupsThoseOfAllChildren(_Grouping):
    ignored = "child_ids"


@mutant("test_those_of_one_image_are_told_together")
class GroupsThoseOfAnyCause(_Grouping):
    ignored = "cause"


@mutant("test_those_of_one_image_are_told_together")
class GroupsThoseWithAnyText(_Grouping):
    ignored = "text"


@mutant("test_those_of_one_image_are_told_together")
class BeginsEachPageOfGroupsAnew(_Grouping):
    ignored = "after"


@mutant("test_those_of_one_image_are_told_together")
class TellsEachAlone(MemoryFailedImages):
    async def groups(self, **options: Any) -> list[list[FailedImage]]:
        return [[row] for row in await self.find(**options)]


@mutant("test_they_are_found_by_id")
class FindsAllById(MemoryFailedImages):
    async def get_many(self, ids: Collection[int]) -> list[FailedImage]:
        return await self.find()


@mutant("test_they_are_counted_by_child_and_cause")
class CountsThoseThatWaitForNothing(MemoryFailedImages):
    async def counts(self, child_ids: Collection[str] = ()) -> list[FailedCount]:
        return [replace(count, waiting=count.images) for count in await super().counts(child_ids)]


@mutant("test_those_of_a_child_are_forgotten")
class ForgetsThoseOfAllChildren(MemoryFailedImages):
    async def forget(self, child_account_id: str) -> int:
        gone = await super().forget(child_account_id)
        self.store.failures.clear()
        return gone


@mutant("test_hosts_that_note_at_once_leave_one_row_for_each_image")
class ReadsBeforeOthersHaveWritten(MemoryFailedImages):
    async def note(
        self, entity: FailedEntity, failures: Sequence[Failure], **options: Any
    ) -> list[FailedImage]:
        known = {row.failure.image_id: row.attempts for row in self._of(entity.key)}
        for row in await super().note(entity, failures, **options):
            attempts = known.get(row.failure.image_id, 0) + 1
            self.store.failures[row.id] = replace(row, attempts=attempts)
        return self._of(entity.key)


@mutant("test_a_store_that_cannot_be_used_says_so")
class SaysThatThereAreNone(MemoryFailedImages):
    async def of(self, key: EntityKey) -> list[FailedImage]:
        try:
            return await super().of(key)
        except StoreError:
            return []
