"""What must change: by content, by other settings, without a record, and the first image."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from imgsync.domain.diff import (
    NOTHING_LEFT,
    Adopt,
    Change,
    CopiedImage,
    FailureCause,
    ImageOutcome,
    Making,
    SetTo,
    SyncRecord,
    Unchanged,
    conclude,
    diff,
    is_filled,
    kept_by_content,
    none_copied,
    without_surplus,
)
from imgsync.domain.limits import LIKELY_LIMITS, size_limit
from imgsync.domain.model import Abilities, Keep, RemoteImage, SourceImage, Upload
from imgsync.domain.pictures import ImageContent, PictureFacts, PictureSettings, fitted
from imgsync.domain.replace import Replacement

MAX = 10 * 1024 * 1024
PHOTO = PictureFacts("jpg", 4000, 3000, 1000)
ICON = PictureFacts("png", 64, 64, 1000)
UUID = "00000000-0000-0000-0000-00000000000"


def source(number: int, name: str = "", updated: str = "t", size: int = 1000) -> SourceImage:
    href = f"https://api/download/{UUID}{number}"
    return SourceImage(href, name or f"{number}.jpg", size, updated)


def there(number: int, name: str = "", size: int = 1000) -> RemoteImage:
    href = f"https://api/entity/product/x/images/c{number}"
    return RemoteImage(href, name or f"{number}.jpg", size, "u", f"https://api/download/c{number}")


def href(number: int) -> str:
    return there(number).href


def copy(image: SourceImage, number: int, content: ImageContent | None = None) -> CopiedImage:
    assert image.fingerprint is not None
    return CopiedImage(image.fingerprint, f"c{number}", content)


def content_of(facts: PictureFacts, plan: str = "", sent: str = "sent") -> ImageContent:
    return ImageContent("source", sent, facts, plan)


def record_of(
    *copied: CopiedImage, failed: Sequence[SourceImage] = (), made_with: str = ""
) -> SyncRecord:
    lost = tuple(image.fingerprint for image in failed if image.fingerprint)
    return SyncRecord(
        (*lost, *(c.source for c in copied)),
        copied,
        tuple(c.child_image_id for c in copied),
        settled=True,
        warnings=("x",) if failed else (),
        made_with=made_with,
    )


def fetched(change: Change) -> list[str]:
    """Names of the images that are to be fetched."""
    assert isinstance(change, SetTo)
    return [outcome.image.filename for outcome in change.outcomes if outcome.is_to_fetch]


# Settings


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (PictureSettings(), []),
        (PictureSettings(fit=False), []),
        (PictureSettings(max_side=1600), ["1.jpg"]),
        (PictureSettings(max_side=4000), []),
        (PictureSettings(quality=80), ["1.jpg"]),
        (PictureSettings(drop_metadata=False), []),
    ],
)
def test_other_settings_make_anew_only_what_they_concern(
    settings: PictureSettings, wanted: list[str]
) -> None:
    images = [source(1), source(2, "2.png")]
    record = record_of(
        copy(images[0], 1, content_of(PHOTO)),
        copy(images[1], 2, content_of(ICON)),
        made_with=Making().fingerprint,
    )
    change = diff(images, record, [there(1), there(2)], 10, Making(settings))
    assert (fetched(change) if wanted else change) == (wanted or Unchanged())


def test_what_was_made_by_these_settings_is_as_it_should_be() -> None:
    making = Making(PictureSettings(max_side=1600))
    one = copy(source(1), 1, content_of(PHOTO, "side=1600"))
    record = record_of(one, made_with="another")
    assert diff([source(1)], record, [there(1)], 10, making) == Unchanged()
    change = diff([source(1)], record, [there(1)], 10, Making())
    assert fetched(change) == ["1.jpg"]
    assert isinstance(change, SetTo)
    assert change.outcomes[0].earlier == Keep(href(1))


def test_one_that_was_made_to_fit_stays_for_as_long_as_such_are() -> None:
    made = fitted("", PictureSettings())
    record = record_of(copy(source(1), 1, content_of(PHOTO, made)), made_with="another")
    assert diff([source(1)], record, [there(1)], 10, Making()) == Unchanged()
    assert fetched(diff([source(1)], record, [there(1)], 10, Making(PictureSettings(fit=False))))


def test_a_plugin_of_another_version_makes_all_anew() -> None:
    record = record_of(copy(source(1), 1, content_of(PHOTO, "[a 1]")), made_with="[a 1]")
    assert diff([source(1)], record, [there(1)], 10, Making(others="a 1")) == Unchanged()
    assert fetched(diff([source(1)], record, [there(1)], 10, Making(others="a 2")))


def test_of_unknown_content_a_copy_counts_as_sent_as_it_came() -> None:
    record = record_of(copy(source(1), 1))
    assert diff([source(1)], record, [there(1)], 10, Making()) == Unchanged()
    assert fetched(diff([source(1)], record, [there(1)], 10, Making(PictureSettings(quality=80))))


def test_a_failure_for_good_is_tried_again_by_other_settings_alone() -> None:
    images = [source(1), source(2)]
    made = copy(images[1], 2, content_of(PHOTO))
    record = record_of(made, failed=images[:1], made_with=Making().fingerprint)
    assert diff(images, record, [there(2)], 10, Making()) == Unchanged(("x",))
    other = Making(PictureSettings(convert=False))
    change = diff(images, record, [there(2)], 10, other)
    assert fetched(change) == ["1.jpg"]
    again = replace(record, made_with=other.fingerprint)
    assert diff(images, again, [there(2)], 10, other) == Unchanged(("x",))


def test_a_copy_that_could_not_be_made_anew_for_now_is_tried_again() -> None:
    making = Making(PictureSettings(quality=80))
    record = record_of(copy(source(1), 1, content_of(PHOTO)), made_with=Making().fingerprint)
    images = [source(1), source(2)]
    change = diff(images, record, [there(1)], 10, making)
    assert isinstance(change, SetTo)
    late, new = change.outcomes
    ended = [late.failed("no answer", retryable=True), new.fetched(Upload("k", "2.jpg", 1000))]
    result = Replacement({"k": href(2)}, (href(1), href(2)))
    _, after = conclude(ended, result, making.fingerprint)
    assert not after.settled
    assert fetched(diff(images, after, [there(1), there(2)], 10, making)) == ["1.jpg", "2.jpg"]


def test_a_copy_that_cannot_be_made_anew_comes_to_rest() -> None:
    making = Making(PictureSettings(quality=80))
    record = record_of(copy(source(1), 1, content_of(PHOTO)), made_with=Making().fingerprint)
    images = [source(1), source(2)]
    change = diff(images, record, [there(1)], 10, making)
    assert isinstance(change, SetTo)
    bad, new = change.outcomes
    made = new.fetched(Upload("k", "2.jpg", 1000), content_of(PHOTO, "quality=80"))
    ended = [bad.failed("broken", settled=True), made]
    _, after = conclude(ended, Replacement({"k": href(2)}, (href(1), href(2))), making.fingerprint)
    change = diff(images, after, [there(1), there(2)], 10, making)
    assert change == Unchanged(after.warnings)
    assert "broken" in after.warnings[0]


def test_where_nothing_can_be_copied_it_is_not_tried_again() -> None:
    images = [source(1), source(2)]
    ended = [ImageOutcome(i).failed("broken", settled=True) for i in images]
    record = none_copied(ended, NOTHING_LEFT, [href(7)], Making().fingerprint)
    assert record is not None
    assert not record.has_copies
    told = Unchanged(("1.jpg: broken", "2.jpg: broken"))
    # What the child has itself does not matter, nor what it gets.
    for current in ([], [there(7)], [there(7), there(8)]):
        assert diff(images, record, current, 10) == told
        assert diff(images, record, current, 1) == told
    assert diff([], record, [there(7)], 10) == Unchanged()
    assert fetched(diff([source(1, updated="u"), source(2)], record, [], 10)) == ["1.jpg", "2.jpg"]
    other = Making(PictureSettings(quality=80))
    assert fetched(diff(images, record, [], 10, other)) == ["1.jpg", "2.jpg"]


def test_where_another_attempt_may_help_it_is_tried_again() -> None:
    settled = ImageOutcome(source(1)).failed("broken", settled=True)
    late = ImageOutcome(source(2)).failed("no answer", retryable=True)
    assert none_copied([settled, late], NOTHING_LEFT, []) is None
    sent = ImageOutcome(source(2)).fetched(Upload("k", "2.jpg", 9))
    assert (
        none_copied([settled, sent], NOTHING_LEFT, [], "", Replacement(stopped={"k": "x"})) is None
    )
    refused = none_copied([settled, sent], NOTHING_LEFT, [], "", Replacement(rejected={"k": "x"}))
    assert refused is not None
    assert refused.warnings == ("1.jpg: broken", "2.jpg: x")
    begun = NOTHING_LEFT.begun([])
    assert none_copied([settled], begun, []) is None


def test_earlier_copies_stay_imgsync_s_where_nothing_can_be_copied() -> None:
    before = record_of(copy(source(1), 1, content_of(PHOTO)))
    change = diff([source(1, updated="u")], before, [there(1), there(7)], 10)
    assert isinstance(change, SetTo)
    ended = [o.failed("broken", settled=True) for o in change.outcomes]
    record = none_copied(ended, before, [href(1), href(7)])
    assert record is not None
    assert record.child_image_ids == ("c1",)
    assert record.copied == before.copied


def test_what_failed_behind_those_that_are_wanted_now_is_no_warning_any_more() -> None:
    images = [source(1), source(2)]
    kept = copy(source(1), 1, content_of(PHOTO))
    fingerprints = tuple(i.fingerprint for i in images if i.fingerprint)
    record = replace(record_of(kept, made_with=Making().fingerprint), selected=fingerprints)
    record = replace(record, warnings=("2.jpg: broken",))
    assert diff(images, record, [there(1)], 10) == Unchanged(record.warnings)
    change = diff(images, record, [there(1)], 1)
    assert isinstance(change, SetTo)
    first = change.outcomes[0]
    assert first.element == Keep(href(1))
    _, after = conclude([first], Replacement(final_hrefs=(href(1),)), Making().fingerprint)
    assert diff(images, after, [there(1)], 1) == Unchanged()


def test_a_warning_that_other_settings_do_away_with_is_looked_at_again() -> None:
    off = Making(PictureSettings(convert=False))
    kept = copy(source(1), 1, content_of(PHOTO, "convert"))
    record = replace(
        record_of(kept, made_with=off.fingerprint), warnings=("1.jpg: convert is off",)
    )
    assert diff([source(1)], record, [there(1)], 10, off) == Unchanged(record.warnings)
    assert isinstance(diff([source(1)], record, [there(1)], 10), SetTo)


# Content


def upload(number: int, sent: str, earlier: int | None = None) -> ImageOutcome:
    outcome = ImageOutcome(source(number), earlier=Keep(href(earlier)) if earlier else None)
    return outcome.fetched(Upload(f"k{number}", f"{number}.jpg", 9), content_of(PHOTO, sent=sent))


def test_the_same_content_is_kept() -> None:
    new, other = kept_by_content([upload(1, "a"), upload(2, "b")], {href(1): "x", href(2): "a"})
    assert new.element == Keep(href(2))
    assert isinstance(other.element, Upload)
    _, record = conclude([new], Replacement(final_hrefs=(href(2),)))
    assert record.copied == (copy(source(1), 2, content_of(PHOTO, sent="a")),)


def test_an_image_of_the_child_is_kept_once_and_first_by_its_own() -> None:
    outcomes = [upload(1, "a"), upload(2, "a", earlier=1), upload(3, "a")]
    ended = kept_by_content(outcomes, {href(1): "a", href(2): "a"})
    assert [o.element for o in ended[:2]] == [Keep(href(2)), Keep(href(1))]
    assert isinstance(ended[2].element, Upload)


def test_what_is_kept_already_is_no_copy_of_another() -> None:
    kept = ImageOutcome(source(1), Keep(href(1)), content=content_of(PHOTO))
    (_, new) = kept_by_content([kept, upload(2, "sent")], {href(1): "sent"})
    assert isinstance(new.element, Upload)


def test_an_earlier_copy_that_another_takes_stands_in_for_nothing() -> None:
    changed, failed = upload(1, "new", earlier=1), ImageOutcome(source(2), earlier=Keep(href(2)))
    failed = failed.failed("gone")
    first, second, third, fourth = kept_by_content(
        [changed, failed, upload(3, "a"), upload(4, "b")], {href(1): "a", href(2): "b"}
    )
    assert isinstance(first.element, Upload)
    assert (first.element.replaces, first.earlier, second.element) == (None, None, None)
    assert [third.element, fourth.element] == [Keep(href(1)), Keep(href(2))]


# Without a record


@pytest.mark.parametrize("name", ["1.jpg", "0123456789abc_1.jpg"])
def test_equal_names_and_sizes_are_adopted(name: str) -> None:
    change = diff([source(1)], None, [there(7, name)], 10)
    assert isinstance(change, Unchanged)
    record = change.adopted
    assert record is not None
    assert record.copied == (copy(source(1), 7),)
    assert diff([source(1)], record, [there(7, name)], 10) == Unchanged()


def test_a_record_of_nothing_left_is_none() -> None:
    change = diff([source(1)], NOTHING_LEFT, [there(1)], 10)
    assert isinstance(change, Unchanged)
    assert change.adopted is not None


@pytest.mark.parametrize(
    ("images", "current", "making"),
    [
        ([source(1)], [there(1, "2.jpg")], Making()),
        ([source(1)], [there(1, "0123456789ABC_1.jpg")], Making()),
        ([source(1)], [there(1, "123456789abc_1.jpg")], Making()),
        ([source(1)], [there(1, "10123456789abc_.jpg")], Making()),
        ([source(1)], [there(1, "0123456789abc_0123456789abc_1.jpg")], Making()),
        ([source(1)], [there(1, size=999)], Making()),
        ([source(1)], [there(1, size=0)], Making()),
        ([source(1, size=0)], [there(1, size=0)], Making()),
        ([source(1, updated="")], [there(1)], Making()),
        ([source(1), source(2)], [there(2), there(1)], Making()),
        ([source(1), source(2)], [there(1)], Making()),
        ([source(1)], [there(1), there(2)], Making()),
        ([source(1)], [], Making()),
        ([source(1, "1.gif")], [there(1, "1.gif")], Making()),
        ([source(1, "1.TIF")], [there(1, "1.TIF")], Making()),
        ([source(1)], [there(1)], Making(PictureSettings(max_side=1600))),
        ([source(1)], [there(1)], Making(PictureSettings(quality=80))),
        ([source(1)], [there(1)], Making(others="a 1")),
    ],
)
def test_anything_else_is_not_adopted(
    images: list[SourceImage], current: list[RemoteImage], making: Making
) -> None:
    change = diff(images, None, current, 10, making)
    assert isinstance(change, SetTo)
    assert all(outcome.is_to_fetch for outcome in change.outcomes)


@pytest.mark.parametrize("adopt", [Adopt.HASH, Adopt.NONE])
def test_by_hash_or_none_sizes_do_not_count(adopt: Adopt) -> None:
    assert fetched(diff([source(1)], None, [there(1)], 10, adopt=adopt)) == ["1.jpg"]


def test_a_child_whose_list_is_not_known_is_not_adopted() -> None:
    assert fetched(diff([source(1)], None, None, 10)) == ["1.jpg"]


def test_by_hash_a_copy_of_unknown_content_is_not_believed() -> None:
    images = [source(1), source(2)]
    record = record_of(copy(images[0], 1), copy(images[1], 2, content_of(PHOTO)))
    current = [there(1), there(2)]
    assert fetched(diff(images, record, current, 10, adopt=Adopt.HASH)) == ["1.jpg"]
    assert diff(images, record, current, 10, adopt=Adopt.NONE) == Unchanged()


# The first


def test_the_first_is_the_first_that_can_be_copied() -> None:
    images = [source(1), source(2), source(3)]
    change = diff(images, None, [], 1)
    assert isinstance(change, SetTo)
    bad, good, _ = change.outcomes
    tried = [bad.failed("no picture", settled=True)]
    assert not is_filled(tried, change.most)
    tried.append(good.fetched(Upload("k", "2.jpg", 1000), content_of(PHOTO)))
    assert is_filled(tried, change.most)
    _, record = conclude(tried, Replacement({"k": href(2)}, (href(2),)), Making().fingerprint)
    assert record.selected == (images[0].fingerprint, images[1].fingerprint)
    assert diff(images, record, [there(2)], 1) == Unchanged(record.warnings)
    # What stands after it does not matter; another first does.
    assert diff(images[:2], record, [there(2)], 1) == Unchanged(record.warnings)
    assert fetched(diff([source(4), *images], record, [there(2)], 1))
    assert fetched(diff([source(1, updated="later"), *images[1:]], record, [there(2)], 1))


def test_more_images_are_wanted_once_the_settings_say_so() -> None:
    images = [source(1), source(2), source(3)]
    first = record_of(copy(images[0], 1, content_of(PHOTO)))
    assert fetched(diff(images, first, [there(1)], 10)) == ["2.jpg", "3.jpg"]
    every = record_of(*(copy(image, n, content_of(PHOTO)) for n, image in enumerate(images)))
    assert isinstance(diff(images, every, [there(n) for n in range(3)], 1), SetTo)


def test_an_earlier_copy_holds_the_place_of_one_that_may_come() -> None:
    outcome = ImageOutcome(source(1), earlier=Keep(href(1)))
    assert is_filled([outcome.failed("no answer", retryable=True)], 1)
    gone = outcome.failed("no picture", settled=True)
    assert not is_filled([gone], 1)
    next_one = ImageOutcome(source(2)).fetched(Upload("k", "2.jpg", 9))
    assert [o.element for o in without_surplus([gone, next_one], 1)] == [None, next_one.element]
    assert without_surplus([gone], 1) == [gone]


# Limits


@pytest.mark.parametrize(
    ("known", "limit"),
    [
        (Abilities(), MAX),
        (Abilities(accepted_image_bytes=4_000_000), MAX),
        (Abilities(refused_image_bytes=MAX + 1), MAX),
        (Abilities(refused_image_bytes=MAX), 10_000_000),
        (Abilities(refused_image_bytes=10_000_000), 5_000_000),
        (Abilities(refused_image_bytes=5_100_000), 5_000_000),
        (Abilities(refused_image_bytes=5_000_000), 3_000_000),
        (Abilities(refused_image_bytes=3_000_000), 1_500_000),
        (Abilities(refused_image_bytes=5_000_000, accepted_image_bytes=3_100_000), 3_100_000),
        (Abilities(refused_image_bytes=5_000_000, accepted_image_bytes=2_000_000), 3_000_000),
        (Abilities(refused_image_bytes=300_000), 0),
    ],
)
def test_the_limit_is_learnt(known: Abilities, limit: int) -> None:
    assert size_limit(known, MAX) == limit


def test_the_limits_end() -> None:
    known, tried = Abilities(), []
    while limit := size_limit(known, MAX):
        tried.append(limit)
        known = known.with_shown(Abilities(refused_image_bytes=limit))
    assert tried == [MAX, *LIKELY_LIMITS]


def test_a_refused_image_has_its_cause() -> None:
    outcome = upload(1, "a")
    refused = Replacement(rejected={"k1": "51004"}, causes={"k1": FailureCause.TOO_LARGE})
    assert outcome.after(refused).cause is FailureCause.TOO_LARGE
    stopped = Replacement(stopped={"k1": "no answer"})
    assert outcome.after(stopped).cause is FailureCause.NOT_SENT


def test_a_note_is_told_of_what_is_there() -> None:
    one = replace(upload(1, "a"), note="converted from GIF to JPEG")
    two = replace(upload(2, "b"), note="never told")
    refused = Replacement({"k1": href(1)}, (href(1),), rejected={"k2": "51002"})
    result, _ = conclude([one, two], refused)
    assert result.notes == ("1.jpg: converted from GIF to JPEG",)
    assert [w.partition(":")[0] for w in result.warnings] == ["2.jpg"]
