"""Incremental surveys: when they may be, what they see, and what they leave to a full one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from imgsync.application.check import Check
from imgsync.application.enqueue import Enqueue, EnqueueOutcome
from imgsync.application.survey import Difference, Survey, SurveyMemory
from imgsync.domain.errors import UnavailableError
from imgsync.domain.model import Abilities, Link, LinkSettings, MatchField
from imgsync.domain.surveys import Catalogue, Since
from imgsync.testing import MemoryAbilities, MemoryMoySklad, MemoryStoreClock, MemorySurveys
from tests.application.test_survey import ALL, Shops
from tests.application.world import TYPES, png

pytestmark = pytest.mark.anyio
LAST = Since()
HOUR = timedelta(hours=1)


class Changing(Shops):
    """A main account whose clock tells when its entities changed: `skew` ahead of ours."""

    def __init__(
        self, children: int = 2, *, moves: bool = True, skew: timedelta = timedelta(0)
    ) -> None:
        super().__init__(children)
        self.main.images_move_updated = moves
        self.main.clock = lambda: self.clock.moment + skew
        self.surveys, self.abilities = MemorySurveys(self.store), MemoryAbilities(self.store)
        memory = SurveyMemory(self.surveys, self.abilities, MemoryStoreClock(self.store))
        self.survey = Survey(self.accounts, self.records, self.factory, TYPES, memory=memory)
        self.plan_tasks = Enqueue(self.survey, self.queue)

    def later(self, by: timedelta = HOUR) -> None:
        self.clock.moment += by

    async def sync(self, since: Since | None = None) -> EnqueueOutcome:  # type: ignore[override]
        outcome = await self.plan_tasks(self.links, since=since)
        await self.worker(4).run(drain=True)
        return outcome

    def change(self, main_id: str, number: int) -> None:
        images = [] if number < 0 else [(f"{number}.png", png(number))]
        self.main.change_images("product", main_id, images)

    async def show(self, ids: Sequence[str]) -> None:
        """Full surveys, between which some images change."""
        await self.sync()
        self.later()
        for number, main_id in enumerate(ids, 900):
            self.change(main_id, number)
        self.later()
        await self.sync()
        self.later()

    async def moves(self) -> bool | None:
        return (await self.abilities.get("main")).images_move_updated

    def equal(self) -> bool:
        mine = {
            e.name: [i.filename for i in e.images] for e in self.main.entities["product"].values()
        }
        return all(self.image_names(child) == mine for child in self.children)


async def shown(count: int = 250, **options: object) -> tuple[Changing, list[str]]:
    shops = Changing(**options)  # type: ignore[arg-type]
    ids = [shops.product(str(n)) for n in range(count)]
    await shops.show(ids[:3])
    assert await shops.moves() is True
    shops.lists()
    return shops, ids


@pytest.mark.slow
async def test_only_what_changed_is_read_and_copied() -> None:
    shops, ids = await shown()
    shops.change(ids[7], 1)
    shops.change(ids[9], -1)
    outcome = await shops.sync(LAST)
    assert (outcome.entities, outcome.clears, outcome.unchanged) == (2, 2, 0)
    assert outcome.log.in_full == []
    assert outcome.as_dict()["since"].startswith("20")
    assert shops.equal()
    # Of main the changed ones, and who shares their codes; of each child their counterparts.
    assert shops.lists() == [2, 1, 1]
    shops.later()
    outcome = await shops.sync(LAST)
    assert (outcome.unchanged, outcome.found) == (2, 2)  # surveys overlap a little
    shops.later()
    shops.lists()
    outcome = await shops.sync(LAST)
    assert (outcome.found, shops.lists()) == (0, [1, 0, 0])  # what time it is
    assert shops.equal()


async def test_where_images_move_nothing_every_survey_is_a_full_one() -> None:
    shops = Changing(moves=False)
    ids = [shops.product(str(n)) for n in range(5)]
    await shops.show(ids[:3])
    assert await shops.moves() is False
    for number in (1, -1):
        shops.change(ids[4], number)
        outcome = await shops.sync(LAST)
        assert shops.equal()
        (line,) = outcome.log.in_full
        assert line == (
            "Main account 'main' is surveyed in full: a change of images alone does not move an "
            "entity's 'updated' there"
        )
        assert outcome.log.since is None
        shops.later()
    # It is for good: what moves now may have been changed in other ways.
    shops.main.images_move_updated = True
    await shops.show(ids)
    assert await shops.moves() is False
    await shops.abilities.forget("main")
    await shops.show(ids)
    assert await shops.moves() is True


async def test_one_that_does_not_move_ends_it() -> None:
    shops, ids = await shown(5)
    shops.main.images_move_updated = False
    shops.main.change_images("product", ids[0], [])  # a removal leaves no time on an image
    await shops.sync()
    assert (await shops.moves(), shops.equal()) == (False, True)
    await shops.abilities.forget("main")
    shops.later()
    await shops.sync()
    assert await shops.moves() is None  # what had moved before counts no more


@pytest.mark.parametrize("changes", [0, 1, 2])
async def test_too_little_shows_nothing(changes: int) -> None:
    shops = Changing()
    ids = [shops.product(str(n)) for n in range(5)]
    await shops.show(ids[:changes])
    assert await shops.moves() is None
    outcome = await shops.sync(Since(span=HOUR))
    assert "has not shown yet" in outcome.log.in_full[0]
    assert outcome.log.since is None
    if changes:  # what was seen adds up
        await shops.show(ids[: 3 - changes])
        assert await shops.moves() is True


async def test_what_a_name_or_a_price_moved_shows_nothing() -> None:
    shops = Changing()
    ids = [shops.product(str(n)) for n in range(9)]
    await shops.sync()
    shops.later()
    for main_id in ids:
        of_type = shops.main.entities["product"]
        of_type[main_id] = replace(of_type[main_id], updated=shops.main._now())
    await shops.sync()
    assert await shops.moves() is None


@pytest.mark.parametrize("skew", [HOUR, -HOUR], ids=["ahead", "behind"])
@pytest.mark.parametrize("since", ["last", "span", "moment"])
async def test_a_main_account_whose_clock_is_an_hour_off(skew: timedelta, since: str) -> None:
    shops, ids = await shown(5, skew=skew)
    shops.later()
    shops.change(ids[1], 1)
    shops.later(timedelta(minutes=5))
    began = shops.clock.moment - timedelta(minutes=6)
    asked = {
        "last": LAST, "span": Since(span=timedelta(minutes=6)), "moment": Since(moment=began)
    }[since]  # fmt: skip
    outcome = await shops.sync(asked)
    assert (outcome.entities, outcome.log.in_full) == (2, [])
    assert shops.equal()


async def test_a_child_that_broke_off_is_looked_at_from_where_it_was() -> None:
    shops, ids = await shown(5)
    shops.change(ids[1], 1)
    shops.children["1"].fail = lambda call: UnavailableError("503")
    outcome = await shops.sync(LAST)
    assert [f.link.child.id for f in outcome.failed] == ["1"]
    shops.children["1"].fail = lambda call: None
    for _ in range(3):
        shops.later()
    outcome = await shops.sync(LAST)
    assert (outcome.entities, outcome.log.in_full) == (1, [])
    assert shops.equal()


async def test_what_was_refused_or_only_shown_is_found_again() -> None:
    shops, ids = await shown(5)
    shops.change(ids[1], -1)
    refused = await shops.plan_tasks(shops.links, since=LAST, max_clear=0)
    assert refused.clears_refused == 2
    shops.later()
    assert (await shops.plan_tasks(shops.links, since=LAST, dry_run=True)).clears == 2
    report = await Check(shops.survey)(shops.links, since=LAST)
    assert [report.counts[c][Difference.EXTRA] for c in shops.children] == [1, 1]
    assert report.log.since is not None
    shops.later()
    assert (await shops.sync(LAST)).clears == 2
    assert shops.equal()


async def test_other_settings_and_new_children_are_surveyed_in_full() -> None:
    shops, ids = await shown(5)
    shops.links = [shops.link_of(c, replace(ALL, types=("product",))) for c in shops.children]
    outcome = await shops.sync(LAST)
    assert "under these settings" in outcome.log.in_full[0]
    assert (await shops.sync(LAST)).log.in_full == []
    shops.links = [shops.link_of(c, replace(ALL, folders=("A",))) for c in shops.children]
    assert "folders" in (await shops.sync(Since(span=HOUR))).log.in_full[0]
    shops.links = [shops.link_of(c, replace(ALL, types=("product",))) for c in shops.children]
    new = shops.children["new"] = shops.factory.accounts["new"] = MemoryMoySklad()
    shops.store.accounts["new"] = replace(shops.store.accounts["0"], id="new", name="new")
    for n in range(5):
        new.add("product", str(n), external_code=str(n))
    shops.links.append(shops.link_of("new", replace(ALL, types=("product",))))
    assert ids
    assert (await shops.sync(LAST)).entities == 5
    assert shops.equal()


@pytest.mark.parametrize("number", [1, -1])
async def test_whose_a_shared_counterpart_is_only_a_full_survey_tells(number: int) -> None:
    shops, ids = await shown(5)
    other = shops.main.add("product", "other", [("o.png", png(50))], external_code="2")
    shops.later()
    await shops.sync()
    shops.later()
    before = shops.image_names("0")["2"]
    shops.change(other, number)
    outcome = await shops.sync(LAST)
    assert (outcome.entities, outcome.clears) == (0, 0)
    assert shops.image_names("0")["2"] == before
    assert ids
    if number > 0:
        assert "several main entities have its externalCode" in outcome.skipped.items[0].reason


async def test_very_many_changes_are_a_full_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgsync.application.survey._MOST_CHANGED", 50)
    shops, ids = await shown(120)
    for main_id in ids[:60]:
        shops.change(main_id, 1)
    outcome = await shops.sync(LAST)
    assert "more than 50 entities" in outcome.log.in_full[0]
    assert shops.equal()


async def test_a_list_that_became_shorter_is_not_gone_on_from() -> None:
    """An entity may have moved to a page that was read already; the next survey sees it."""
    shops, ids = await shown(5)
    shops.main.page_sizes = {True: 2, False: 1000}
    for number, main_id in enumerate(ids):
        shops.change(main_id, number)
    list_entities, calls = shops.main.list_entities, [0]

    async def shrinking(*args: object, **options: object):  # type: ignore[no-untyped-def]
        async for page in list_entities(*args, **options):  # type: ignore[arg-type]
            calls[0] += 1
            if options.get("updated_since") is not None and calls[0] == 2:
                page = replace(page, entities=page.entities[1:], total=(page.total or 0) - 1)
            yield page

    shops.main.list_entities = shrinking  # type: ignore[method-assign]
    await shops.sync(LAST)
    assert not shops.equal()
    shops.later()
    await shops.sync(LAST)
    assert shops.equal()


async def test_matching_by_a_name_is_looked_up_by_it() -> None:
    shops, ids = await shown(5)
    shops.links = [
        Link(link.main, link.child, LinkSettings(sync_images_all=True, match_by=MatchField.NAME))
        for link in shops.links
    ]
    await shops.sync()
    shops.later()
    shops.change(ids[3], 1)
    outcome = await shops.sync(LAST)
    assert (outcome.entities, outcome.log.in_full) == (2, [])
    assert shops.equal()


def test_an_image_newer_than_its_entity_shows_that_it_did_not_move() -> None:
    shop = MemoryMoySklad(clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    entity_id = shop.add("product", "Lamp", [("a.png", png(1))])
    entity = shop.entities["product"][entity_id]
    for updated, verdict in (("2026-01-01 02:59:58.000", False), ("2026-01-01 02:59:59.500", None)):
        catalogue = Catalogue()
        catalogue.add(replace(entity, updated=updated))
        assert catalogue.verdict is verdict
    catalogue = Catalogue()
    catalogue.add(replace(entity, updated="now"))
    assert (catalogue.verdict, catalogue.has_times) == (None, True)
    assert Abilities().images_move_updated is None


@pytest.mark.parametrize("by", ["span", "moment"])
async def test_a_shorter_span_is_no_survey_to_go_on_from(by: str) -> None:
    """What changed between the last survey and its beginning was seen by neither."""
    shops, ids = await shown(5)
    shops.change(ids[1], 1)
    shops.later()
    shops.change(ids[2], 2)
    span = timedelta(minutes=5)
    asked = Since(span=span) if by == "span" else Since(moment=shops.clock.moment - span)
    assert (await shops.sync(asked)).entities == 2  # the second in both children
    assert not shops.equal()
    shops.later()
    outcome = await shops.sync(LAST)
    assert (outcome.entities, outcome.log.in_full) == (2, [])
    assert shops.equal()
    # One that begins before the last survey did is one to go on from.
    shops.later()
    await shops.sync(Since(span=timedelta(days=1)))
    shops.later()
    began = (await shops.sync(LAST)).log.since
    assert began is not None
    assert shops.clock.moment - began < 2 * HOUR


@pytest.mark.parametrize("by", ["last", "span"])
async def test_a_time_that_main_tells_wrong_hides_no_change(by: str) -> None:
    """Its `Date` is years ahead, as of a server whose clock is wrong; `updated` is right."""
    shops, ids = await shown(5)
    list_entities = shops.main.list_entities

    async def ahead(*args: object, **options: object):  # type: ignore[no-untyped-def]
        async for page in list_entities(*args, **options):  # type: ignore[arg-type]
            yield replace(page, answered=shops.clock.moment + timedelta(days=999))

    shops.main.list_entities = ahead  # type: ignore[method-assign]
    await shops.sync()
    shops.later()
    shops.change(ids[1], 1)
    outcome = await shops.sync(LAST if by == "last" else Since(span=HOUR))
    assert (outcome.entities, outcome.log.in_full) == (2, [])
    assert shops.equal()
