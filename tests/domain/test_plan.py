"""What is planned for a picture, and when a copy is as it would be made now."""

from dataclasses import replace
from typing import Any

import pytest

from imgsync.domain.formats import CONVERTIBLE
from imgsync.domain.pictures import (
    PictureFacts,
    PictureSettings,
    fingerprint,
    fitted,
    format_name,
    plan,
    same_plan,
)

DEFAULT = PictureSettings()
OFF = PictureSettings(fit=False, convert=False)
JPEG = PictureFacts("jpg", 4000, 3000, 5_000_000)
PNG = PictureFacts("png", 3000, 4000, 5_000_000)
GIF = PictureFacts("gif", 100, 100, 5_000)


@pytest.mark.parametrize("facts", [JPEG, PNG])
@pytest.mark.parametrize("settings", [DEFAULT, OFF, replace(DEFAULT, drop_metadata=False)])
def test_by_default_a_jpeg_or_png_goes_as_it_came(
    settings: PictureSettings, facts: PictureFacts
) -> None:
    assert plan(settings, facts) == ""


@pytest.mark.parametrize("name", sorted(CONVERTIBLE))
def test_what_is_not_taken_is_converted(name: str) -> None:
    facts = replace(GIF, format=name)
    assert plan(DEFAULT, facts) == "convert"
    assert plan(OFF, facts) == ""
    assert plan(replace(DEFAULT, drop_metadata=False), facts) == "convert keep-metadata"


@pytest.mark.parametrize(
    ("changes", "facts", "planned"),
    [
        ({"max_side": 3999}, JPEG, "side=3999"),
        ({"max_side": 3999}, PNG, "side=3999"),
        ({"max_side": 4000}, JPEG, ""),
        ({"quality": 80}, JPEG, "quality=80"),
        ({"quality": 80}, PNG, ""),
        ({"quality": 80}, GIF, "convert quality=80"),
        ({"max_side": 64, "quality": 80}, GIF, "convert side=64 quality=80"),
        ({"max_side": 64, "convert": False}, GIF, ""),
        ({"max_side": 64, "drop_metadata": False}, JPEG, "side=64 keep-metadata"),
    ],
)
def test_what_makes_a_picture_smaller_is_planned_where_it_does(
    changes: dict[str, Any], facts: PictureFacts, planned: str
) -> None:
    assert plan(replace(DEFAULT, **changes), facts) == planned


def test_what_others_do_is_part_of_every_plan() -> None:
    assert plan(DEFAULT, JPEG, "frame 1") == "[frame 1]"
    assert plan(OFF, GIF, "frame 1") == "[frame 1]"
    # What they make of a small PNG may be a large JPEG.
    settings = replace(DEFAULT, max_side=9000, quality=80)
    assert plan(settings, PNG, "frame 1") == "[frame 1] side=9000 quality=80"


def test_what_was_made_to_fit_stays_for_as_long_as_such_pictures_are() -> None:
    made = fitted("convert", DEFAULT)
    assert made != "convert"
    assert same_plan(made, "convert", DEFAULT)
    assert not same_plan(made, "convert", replace(DEFAULT, fit=False))
    assert not same_plan(made, "", DEFAULT)
    assert not same_plan(made, "convert", replace(DEFAULT, drop_metadata=False))


def test_what_needed_no_fit_stays_whether_others_are_made_to_or_not() -> None:
    for settings in (DEFAULT, OFF, replace(DEFAULT, drop_metadata=False)):
        assert same_plan("", "", settings)
        assert not same_plan("", "side=800", settings)


def test_a_plugin_cannot_look_like_a_fitted_picture() -> None:
    assert not same_plan(fitted("", DEFAULT), plan(DEFAULT, JPEG, "x+fit"), DEFAULT)
    assert not same_plan(plan(DEFAULT, JPEG, "x+fit"), plan(DEFAULT, JPEG, "x"), DEFAULT)


def test_every_setting_counts_in_the_fingerprint() -> None:
    different = [
        DEFAULT,
        OFF,
        replace(DEFAULT, fit=False),
        replace(DEFAULT, convert=False),
        replace(DEFAULT, max_side=800),
        replace(DEFAULT, max_side=900),
        replace(DEFAULT, quality=80),
        replace(DEFAULT, quality=81),
        replace(DEFAULT, drop_metadata=False),
    ]
    prints = {fingerprint(one) for one in different} | {fingerprint(DEFAULT, "frame 1")}
    assert len(prints) == len(different) + 1
    assert "" not in prints
    assert fingerprint(DEFAULT) == fingerprint(PictureSettings())


def test_a_format_is_named_as_people_write_it() -> None:
    assert [format_name(name) for name in ("jpg", "png", "heic")] == ["JPEG", "PNG", "HEIC"]
