"""The judge tells copies from what is none."""

from collections.abc import Callable

import pytest
from PIL import Image, ImageFilter

from moysklad_emulator import Dialect
from moysklad_emulator.encoded import recoded
from tests.application.world import png
from tests.judge import first_of, problem_of, taken_by
from tests.likeness import Taken, unlike
from tests.photographs import photograph, saved

TAKEN = Taken(max_bytes=60_000)


def animated(*frames: Image.Image) -> bytes:
    return saved(frames[0], "GIF", *frames[1:])


CAT = photograph(width=451)
OTHER = photograph("coffee.png").resize(CAT.size)
LARGE = saved(CAT, "PNG")
SMALL = CAT.resize((CAT.width // 2, CAT.height // 2))


@pytest.mark.parametrize(
    ("main", "child"),
    [
        (saved(CAT, "BMP"), saved(CAT, quality=75)),
        (LARGE, saved(CAT, quality=60)),
        (LARGE, saved(SMALL)),
        (animated(CAT, OTHER), saved(CAT)),
        (saved(CAT, "TIFF"), saved(CAT)),
        (saved(CAT, "WEBP"), saved(CAT)),
    ],
)
def test_what_was_converted_or_made_smaller_is_a_copy(main: bytes, child: bytes) -> None:
    assert unlike(main, child, TAKEN) is None


@pytest.mark.parametrize(
    ("child", "problem"),
    [
        (saved(OTHER), "looks otherwise"),
        (saved(CAT.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), "looks otherwise"),
        (saved(CAT.transpose(Image.Transpose.ROTATE_180)), "looks otherwise"),
        (saved(CAT.convert("L")), "looks otherwise"),
        (saved(Image.new("RGB", CAT.size, (120, 100, 80))), "looks otherwise"),
        (saved(CAT.filter(ImageFilter.BoxBlur(60))), "looks otherwise"),
        (saved(Image.merge("RGB", CAT.split()[::-1])), "looks otherwise"),
        (saved(CAT.crop((0, 0, 225, 150))), "looks otherwise"),
        (saved(CAT.transpose(Image.Transpose.ROTATE_90)), "larger than"),
        (saved(CAT.resize((200, 200))), "proportions"),
        (saved(CAT.resize((902, 600)), quality=50), "larger than"),
        (LARGE[:-1] + b"?", "more than the account takes"),
        (saved(SMALL, "WEBP"), "a WEBP file"),
        (saved(SMALL)[:3000], "does not decode"),
        (b"text", "no picture"),
    ],
)
def test_what_is_no_copy_of_a_large_photograph(child: bytes, problem: str) -> None:
    assert problem in (unlike(LARGE, child, TAKEN) or "it is one")


def test_a_second_frame_is_not_the_first() -> None:
    assert unlike(animated(OTHER, CAT), saved(CAT, quality=75), TAKEN)


def test_what_the_account_takes_is_to_arrive_byte_for_byte() -> None:
    main = saved(SMALL)
    assert unlike(main, main, TAKEN) is None
    assert unlike(main, saved(SMALL, quality=90), TAKEN) == "its bytes are not main's"
    assert unlike(main, saved(SMALL, quality=60), Taken(60_000, changes=True)) is None


def test_a_picture_stands_as_its_orientation_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = saved(CAT.transpose(Image.Transpose.ROTATE_90), quality=99, exif=exif)
    assert len(lying) > TAKEN.max_bytes
    assert unlike(lying, saved(SMALL), TAKEN) is None
    assert unlike(lying, saved(SMALL.transpose(Image.Transpose.ROTATE_90)), TAKEN)


def test_transparency_is_white() -> None:
    masked = CAT.copy()
    masked.putalpha(Image.linear_gradient("L").resize(CAT.size))
    main, flat = saved(masked, "WEBP", lossless=True), saved(CAT)
    assert unlike(main, saved(masked.resize((90, 60)), "PNG"), TAKEN) is None
    assert unlike(main, flat, TAKEN)


def test_a_list_is_judged_in_order() -> None:
    one, two = saved(SMALL), png(1)
    assert problem_of([one, two], [one, two], TAKEN) is None
    assert problem_of([two, one], [one, two], TAKEN) == "picture 1: its bytes are not main's"
    assert problem_of([one], [one, two], TAKEN) == "there are 1 pictures in place of 2"


@pytest.mark.parametrize("make", [lambda: saved(SMALL), lambda: png(1)])
def test_a_storage_that_encodes_anew_is_given_that(make: Callable[[], bytes]) -> None:
    main = make()
    assert problem_of([recoded(main)], [main], TAKEN, recodes=True) is None
    assert problem_of([recoded(main)], [main], TAKEN)
    assert problem_of([recoded(png(2))], [main], TAKEN, recodes=True)


def test_the_first_image_is_the_first_that_can_be_copied() -> None:
    gif, cut = animated(SMALL), LARGE[:5000]
    assert first_of([b"text", cut, gif, LARGE], TAKEN) == [gif]
    assert first_of([gif, LARGE], Taken(60_000, converts=False)) == [LARGE]
    assert first_of([LARGE, gif], Taken(60_000, fits=False)) == [gif]
    assert first_of([b"text", cut], TAKEN) == [b"text"]


def test_what_an_account_takes_is_its_dialects_and_its_links() -> None:
    assert taken_by(Dialect(image_megabytes=3), None) == Taken(3 * 1024**2)
    stored = '{"fit": false, "quality": 80}'
    assert taken_by(Dialect(), stored) == Taken(10 * 1024**2, changes=True, fits=False)
    assert taken_by(Dialect(), {"convert": False}) == Taken(10 * 1024**2, converts=False)
