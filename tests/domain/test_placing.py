"""Which image became of which element: by what was sent, never by place alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsync.domain.model import Element, Keep, RemoteImage, Upload
from imgsync.domain.replace import in_order, places


def image(number: int, filename: str | None = None, size: int | None = None) -> RemoteImage:
    href = f"https://c/images/{number}"
    name = f"{number}.png" if filename is None else filename
    return RemoteImage(
        href, name, 100 + number if size is None else size, "u", f"https://d/{number}"
    )


def upload(number: int) -> Upload:
    return Upload(f"k{number}", f"{number}.png", 100 + number)


KEPT = Keep("https://c/images/9")
WANTED: list[Element] = [upload(0), KEPT, upload(1)]
LISTED = [image(0), image(9, "old.png", 5), image(1)]


def test_the_images_that_were_sent_in_their_order() -> None:
    assert in_order(WANTED, LISTED)
    assert not in_order(WANTED, LISTED[::-1])
    assert not in_order(WANTED, LISTED[:2])
    assert not in_order(WANTED, [*LISTED, image(5)])


def test_a_size_that_the_api_does_not_tell_is_no_difference() -> None:
    assert in_order([upload(0)], [image(0, size=0)])


@pytest.mark.parametrize("wrong", [image(0, "b.png"), image(0, size=7), image(7)])
def test_another_name_or_size_is_a_difference(wrong: RemoteImage) -> None:
    assert not in_order([upload(0)], [wrong])


@given(st.permutations(LISTED))
def test_each_element_is_found_wherever_it_stands(listed: list[RemoteImage]) -> None:
    assert places(WANTED, LISTED[::-1], listed) == LISTED


def test_two_that_look_the_same_stay_in_their_places() -> None:
    twins = [image(1, "a.png", 5), image(2, "a.png", 5)]
    elements = [Upload("x", "a.png", 5), Upload("y", "a.png", 5)]
    assert places(elements, [], twins) == twins


def test_an_image_that_stands_twice() -> None:
    assert places([KEPT, upload(0), KEPT], [], [LISTED[1], LISTED[0], LISTED[1]]) == [
        LISTED[1],
        LISTED[0],
        LISTED[1],
    ]


def test_names_that_the_api_gave_anew_are_taken_where_answer_and_list_agree() -> None:
    renamed = [image(0, "x.png"), image(9), image(1, "y.png")]
    assert places(WANTED, renamed, renamed) == renamed
    assert places(WANTED, renamed[::-1], renamed) is None


@pytest.mark.parametrize(
    "listed",
    [
        [],
        LISTED[:2],
        [*LISTED, image(5)],
        [image(0), image(8), image(1)],
        [image(0), LISTED[1], image(7)],
    ],
    ids=["none", "fewer", "more", "another kept", "another uploaded"],
)
def test_a_list_with_other_images_is_nobodys(listed: list[RemoteImage]) -> None:
    assert places(WANTED, listed, listed) is None
