"""The suite of the port `FailedImages`."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from imgsync.domain.errors import NoRoomError, StoreError
from imgsync.domain.failures import (
    IMAGE_RETRY_DELAYS,
    FailedCount,
    FailedEntity,
    Failure,
)
from imgsync.domain.ports.failures import FailedImages
from imgsync.testing.contracts.contract import StoreT, TimedContract

_ENTITY = FailedEntity("main", "child", "product", "m1", "c1", "Лампа 'Юпитер'", "A-1")
_OTHER = FailedEntity("main", "child", "variant", "m2", "c2", "Стул")
_SAME_ID = replace(_OTHER, child_account_id="child2", entity_type="product", child_entity_id="c1")
_ONE = Failure("i1", "a.gif", "10 2026", "no picture", "it is no JPEG 100%_", settled=True)
_TWO = Failure("i2", "b.jpg", "20 2026", "not downloaded", "503", settled=False)


class FailedImagesContract(TimedContract[StoreT]):
    """Proves a `FailedImages`. A test class gives the fixture `store`, `failures` and `advance`, or
    says `real_time` = True; `disable` for the test that asks for it."""

    def failures(self, store: StoreT) -> FailedImages:
        """To be overridden: what the store keeps, as one host has it."""
        raise NotImplementedError("the test class has no method 'failures'")

    async def disable(self, store: StoreT) -> None:
        """Makes the store one that cannot be used, as a server that is gone."""
        pytest.skip("the test class has no 'disable': the store cannot be made to fail")

    async def test_what_failed_is_kept_with_all_that_is_known_of_it(self, store: StoreT) -> None:
        failures = self.failures(store)
        rows = await failures.note(_ENTITY, [_ONE, _TWO])
        assert [(row.entity, row.failure, row.attempts) for row in rows] == [
            (_ENTITY, _ONE, 1),
            (_ENTITY, _TWO, 1),
        ]
        assert rows[0].id < rows[1].id
        assert rows[0].first_failed_at == rows[0].last_failed_at
        assert rows[0].last_failed_at.utcoffset() == timedelta(0)
        another = self.failures(store)
        assert await another.of(_ENTITY.key) == rows == await another.find()
        assert await another.of(_OTHER.key) == []

    async def test_an_image_that_may_pass_is_tried_after_each_delay_and_then_waits(
        self, store: StoreT
    ) -> None:
        failures = self.failures(store)
        for attempts, delay in enumerate((*IMAGE_RETRY_DELAYS, None, None), start=1):
            settled, passing = await failures.note(_ENTITY, [_ONE, _TWO])
            assert settled.next_attempt_at is None
            assert passing.attempts == settled.attempts == attempts
            at = passing.last_failed_at
            assert passing.next_attempt_at == (None if delay is None else at + delay)

    async def test_an_attempt_more_keeps_the_first_time_and_the_new_reason(
        self, store: StoreT
    ) -> None:
        failures = self.failures(store)
        (first,) = await failures.note(_ENTITY, [_TWO])
        await self.advance(store, timedelta(seconds=2))
        worse = replace(_TWO, cause="too large", reason="12 MB", settled=True, filename="c.jpg")
        renamed = replace(_ENTITY, name="Lamp", code="B", main_entity_id="m9")
        (second,) = await failures.note(renamed, [worse])
        assert (second.id, second.failure, second.entity) == (first.id, worse, renamed)
        assert (second.attempts, second.next_attempt_at) == (2, None)
        assert second.first_failed_at == first.first_failed_at
        assert second.last_failed_at > first.last_failed_at
        assert await failures.find() == [second]

    async def test_another_version_of_an_image_begins_anew(self, store: StoreT) -> None:
        failures = self.failures(store)
        await failures.note(_ENTITY, [_TWO])
        (first,) = await failures.note(_ENTITY, [_TWO])
        await self.advance(store, timedelta(seconds=2))
        (row,) = await failures.note(_ENTITY, [replace(_TWO, version="21 2026")])
        assert (row.id, row.attempts, row.failure.version) == (first.id, 1, "21 2026")
        assert row.first_failed_at == row.last_failed_at > first.last_failed_at
        assert row.next_attempt_at == row.last_failed_at + IMAGE_RETRY_DELAYS[0]

    async def test_what_passed_or_is_wanted_no_more_goes(self, store: StoreT) -> None:
        failures = self.failures(store)
        other = await failures.note(_SAME_ID, [_ONE])
        await failures.note(_ENTITY, [_ONE, _TWO])
        (left,) = await failures.note(_ENTITY, [_TWO])
        assert left.failure == _TWO
        assert await failures.note(_ENTITY, []) == []
        assert await failures.note(_ENTITY, []) == []
        assert await failures.find() == other

    async def test_what_was_not_tried_stays_as_it_is(self, store: StoreT) -> None:
        failures = self.failures(store)
        one, two = await failures.note(_ENTITY, [_ONE, _TWO])
        rows = await failures.note(_ENTITY, [_TWO], untried=["i1", "unknown"])
        assert (rows[0], rows[1].attempts) == (one, 2)
        rows = await failures.note(_ENTITY, [_ONE], untried=["i1"])
        assert rows == [one]
        assert await failures.note(_ENTITY, [], untried=["i1"]) == [one]
        assert two.id not in [row.id for row in await failures.find()]

    async def test_an_image_that_stands_there_twice_fails_once(self, store: StoreT) -> None:
        (row,) = await self.failures(store).note(_ENTITY, [_TWO, replace(_TWO, reason="404")])
        assert (row.attempts, row.failure.reason) == (1, "404")

    async def test_what_is_not_tried_alone_waits_for_others(self, store: StoreT) -> None:
        (row,) = await self.failures(store).note(_ENTITY, [_TWO], alone=False)
        assert (row.attempts, row.next_attempt_at) == (1, None)

    async def test_what_is_left_has_no_attempt_of_its_own(self, store: StoreT) -> None:
        failures = self.failures(store)
        (other,) = await failures.note(_SAME_ID, [_TWO])
        rows = await failures.note(_ENTITY, [_ONE, _TWO])
        await failures.leave(_ENTITY.key)
        left = [replace(row, next_attempt_at=None) for row in rows]
        assert await failures.of(_ENTITY.key) == left
        assert await failures.of(_SAME_ID.key) == [other]

    async def test_what_is_asked_for_is_tried_now_until_it_is_noted_anew(
        self, store: StoreT
    ) -> None:
        failures = self.failures(store)
        one, two = await failures.note(_ENTITY, [_ONE, _TWO])
        (other,) = await failures.note(_SAME_ID, [_ONE])
        await self.advance(store, timedelta(seconds=2))
        await failures.ask([one.id, two.id, 2**63, -1])
        asked = await failures.of(_ENTITY.key)
        for row, before in zip(asked, (one, two), strict=True):
            assert row.next_attempt_at is not None
            assert row.next_attempt_at > before.last_failed_at
            assert row.next_attempt_at < before.last_failed_at + IMAGE_RETRY_DELAYS[0]
            assert replace(row, next_attempt_at=before.next_attempt_at) == before
        assert await failures.of(_SAME_ID.key) == [other]
        # Of one that was not tried it stays so.
        settled, _ = await failures.note(_ENTITY, [_TWO], untried=["i1"])
        assert settled == asked[0]
        settled, _ = await failures.note(_ENTITY, [_ONE, _TWO])
        assert settled.next_attempt_at is None
        await failures.ask([])

    async def test_they_are_found_by_child_cause_text_and_whether_they_may_pass(
        self, store: StoreT
    ) -> None:
        failures = self.failures(store)
        one, two = await failures.note(_ENTITY, [_ONE, _TWO])
        (three,) = await failures.note(_OTHER, [replace(_TWO, reason="a \\ b", filename="Ä.JPG")])
        (four,) = await failures.note(_SAME_ID, [_ONE])
        everything = [one, two, three, four]
        assert await failures.find() == everything
        assert await failures.find(child_ids=["child2"]) == [four]
        assert await failures.find(child_ids=["child", "child2", "x"]) == everything
        assert await failures.find(cause="no picture") == [one, four]
        assert await failures.find(settled=False) == [two, three]
        assert await failures.find(settled=True, child_ids=["child"]) == [one]
        for text, found in {
            "JPEG": [one, four],
            "jpeg 100%_": [one, four],
            "%": [one, four],
            "0__": [],
            "\\": [three],
            "downLOADED": [two, three],
            "Ä.jpg": [three],
            "Юпитер'": [one, two],
            "a-1": [one, two],
            "nothing": [],
        }.items():
            assert await failures.find(text=text) == found, text

    async def test_they_are_listed_page_by_page(self, store: StoreT) -> None:
        failures = self.failures(store)
        images = [replace(_TWO, image_id=f"i{n}") for n in range(7)]
        rows = await failures.note(_ENTITY, images)
        assert [row.failure for row in rows] == images
        assert await failures.find(limit=3) == rows[:3]
        assert await failures.find(limit=3, after=rows[2].id) == rows[3:6]
        assert await failures.find(limit=3, after=rows[-1].id) == []

    async def test_those_of_one_image_are_told_together(self, store: StoreT) -> None:
        failures = self.failures(store)
        elsewhere = replace(_ENTITY, child_account_id="child2", child_entity_id="c9")
        third = replace(elsewhere, child_account_id="child3")
        other_main = replace(third, main_account_id="main2", child_entity_id="c8")
        one, two = await failures.note(_ENTITY, [_ONE, _TWO])
        (three,) = await failures.note(elsewhere, [_ONE])
        (four,) = await failures.note(third, [replace(_ONE, reason="the child's own words")])
        (five,) = await failures.note(other_main, [_ONE])
        (six,) = await failures.note(_SAME_ID, [replace(_ONE, version="11 2026")])
        (seven,) = await failures.note(_OTHER, [replace(_ONE, cause="too large")])
        everything = [[one, three, four], [two], [five], [six], [seven]]
        assert await failures.groups() == everything
        assert await failures.groups(limit=2) == everything[:2]
        assert await failures.groups(limit=2, after=two.id) == everything[2:4]
        assert await failures.groups(after=one.id) == everything[1:]
        assert await failures.groups(child_ids=["child2", "child3"]) == [
            [three, four],
            [five],
            [six],
        ]
        assert await failures.groups(cause="too large") == [[seven]]
        assert await failures.groups(text="OWN words") == [[four]]

    async def test_they_are_found_by_id(self, store: StoreT) -> None:
        failures = self.failures(store)
        one, two = await failures.note(_ENTITY, [_ONE, _TWO])
        assert await failures.get_many([two.id, one.id, two.id + 99]) == [one, two]
        assert await failures.get_many([]) == []
        assert await failures.get_many([-1, 2**63]) == []

    async def test_they_are_counted_by_child_and_cause(self, store: StoreT) -> None:
        failures = self.failures(store)
        assert await failures.counts() == []
        _, two = await failures.note(_ENTITY, [_ONE, _TWO])
        await failures.note(_SAME_ID, [_ONE])
        await self.advance(store, timedelta(seconds=2))
        await failures.note(_OTHER, [_TWO, replace(_TWO, image_id="i3")])
        counts = [
            FailedCount("child", "no picture", 1, 0, None),
            FailedCount("child", "not downloaded", 3, 3, two.next_attempt_at),
            FailedCount("child2", "no picture", 1, 0, None),
        ]
        assert await failures.counts() == counts
        assert await failures.counts(["child2"]) == counts[2:]

    async def test_those_of_a_child_are_forgotten(self, store: StoreT) -> None:
        failures = self.failures(store)
        await failures.note(_ENTITY, [_ONE, _TWO])
        await failures.note(_OTHER, [_ONE])
        kept = await failures.note(_SAME_ID, [_ONE])
        assert await failures.forget("child") == 3
        assert await failures.find() == kept
        assert await failures.forget("child") == 0

    async def test_hosts_that_note_at_once_leave_one_row_for_each_image(
        self, store: StoreT
    ) -> None:
        hosts = [self.failures(store) for _ in range(4)]
        await asyncio.gather(*(host.note(_ENTITY, [_ONE, _TWO]) for host in hosts))
        rows = await hosts[0].find()
        assert [(row.failure, row.attempts) for row in rows] == [(_ONE, 4), (_TWO, 4)]

    async def test_any_text_can_be_noted(self, store: StoreT) -> None:
        failures = self.failures(store)
        strange = "Ж\x00'\"\ud800%" * 200
        failure = Failure("i1", strange, strange, "x" * 40, strange, settled=False)
        for attempts in (1, 2):
            (row,) = await failures.note(replace(_ENTITY, name=strange, code=strange), [failure])
            assert row.attempts == attempts
        assert row.failure.reason.startswith("Ж")
        assert await failures.find(text="Ж") == [row]

    async def test_a_store_that_cannot_be_used_says_so(self, store: StoreT) -> None:
        failures = self.failures(store)
        await failures.find()
        await self.disable(store)
        for call in (
            lambda: failures.note(_ENTITY, [_ONE]),
            lambda: failures.of(_ENTITY.key),
            lambda: failures.leave(_ENTITY.key),
            lambda: failures.ask([1]),
            lambda: failures.find(),
            lambda: failures.groups(),
            lambda: failures.get_many([1]),
            lambda: failures.counts(),
            lambda: failures.forget("child"),
        ):
            with pytest.raises((StoreError, NoRoomError)):
                await call()
