"""Text from outside on terminals and in logs."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsync.domain.errors import ImgsyncError, StoreError
from imgsync.domain.text import (
    counted,
    file_size,
    file_sizes,
    natural_key,
    shown,
    shown_json,
    shown_lines,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]0;owned\x07.png", r"\x1b]0;owned\x07.png"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x00\x7f\x9b\x85", r"\x00\x7f\x9b\x85"),
        ("gnp.\u202eexe", r"gnp.\u202eexe"),
        ("\u2066a\u2069\u200e\u061c", r"\u2066a\u2069\u200e\u061c"),
        ("a\u200bb\ufeffc\u2060\u00add", r"a\u200bb\ufeffc\u2060\xadd"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\ud800 \udcff", r"\ud800 \udcff"),
        ("\u0378 \U000e0001", r"\u0378 \U000e0001"),
        ("a\u034f\u3164\ufe01", r"a\u034f\u3164\ufe01"),
        ("a\u200db \u200d", r"a\u200db \u200d"),
        ("a\ufe0f", r"a\ufe0f"),
    ],
)
def test_what_steers_or_hides_is_spelled(text: str, expected: str) -> None:
    assert shown(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Лампа «Ёлка» № 5",
        "й = и\u0306",
        "日本語 עברית عربي हिन्दी",
        "🙂 👍🏽 👨‍👩‍👧 ❤️‍🔥 🏳️‍🌈 👩🏽‍🚀 1️⃣",
        "10\u00a0kg",
        r"C:\x1b\n [red] [/] {0} %s",
        "",
    ],
)
def test_what_can_be_read_stays(text: str) -> None:
    assert shown(text) == text


@given(st.text())
def test_nothing_that_steers_is_left_and_twice_is_once(text: str) -> None:
    once = shown(text)
    assert shown(once) == once
    categories = {unicodedata.category(c) for c in once if c != "\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
    assert once.splitlines() == ([once] if once else [])


def test_line_breaks_of_the_program_may_stay() -> None:
    assert shown_lines("a\nb\r\x1bc\n") == "a\nb\\r\\x1bc\n"


@given(st.text())
def test_json_keeps_its_value(text: str) -> None:
    document = shown_json(json.dumps({text: [text]}, ensure_ascii=False, indent=2))
    assert json.loads(document) == {text: [text]}
    assert shown_lines(document) == document


def test_one_is_not_many() -> None:
    assert [counted(n, "task") for n in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]
    assert [counted(n, "entity", "entities") for n in (1, 2)] == ["1 entity", "2 entities"]


@pytest.mark.parametrize("error", [StoreError(), StoreError(""), StoreError("  ")])
def test_an_error_that_says_nothing_is_told_by_its_name(error: ImgsyncError) -> None:
    assert str(error) == "StoreError, without a reason"
    assert str(StoreError("the database is away")) == "the database is away"


def test_names_are_sorted_as_people_count() -> None:
    wanted = ["2", "10", "child 1", "Child 02", "Child 2", "Child 2 b", "Child 10", "Shop", "Ёлка"]
    for names in (list(reversed(wanted)), sorted(wanted)):
        assert sorted(names, key=natural_key) == wanted


@pytest.mark.parametrize("name", ["", "²", "٣", "1" * 10_000, "a1" * 1000, "\ud800", "½"])
def test_every_name_can_be_sorted_beside_every_other(name: str) -> None:
    others = ["", "a", "1", "1a", "a1", "Ж 2", name]
    backwards = list(reversed(others))
    assert sorted(others, key=natural_key) == sorted(backwards, key=natural_key)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (45_000, "45 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (11_240_000, "11.2 MB"),
        (999_949_999, "999.9 MB"),
        (999_950_000, "1.0 GB"),
        (3_400_000_000, "3.4 GB"),
    ],
)
def test_a_size_is_as_people_write_it(size: int, said: str) -> None:
    assert file_size(size) == said


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (11_900_000, 9_500_000, "from 11.9 to 9.5 MB"),
        (12_000_000, 8_000, "from 12.0 MB to 8 kB"),
        (80_000, 40_400, "from 80 to 40 kB"),
        (80_120, 80_110, "from 80.12 to 80.11 kB"),
        (10_485_761, 10_485_760, "from 10.485761 to 10.485760 MB"),
        (500, 300, "from 500 to 300 bytes"),
        (500, 500, "from 500 to 500 bytes"),
    ],
)
def test_sizes_that_differ_never_look_alike(before: int, after: int, said: str) -> None:
    assert file_sizes(before, after) == said
