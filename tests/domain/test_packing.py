"""Packing: order, exact sizes, limits."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsync.adapters.moysklad.requests import (
    ARRAY_CLOSE,
    ARRAY_OPEN,
    ELEMENT_SEPARATOR,
    UPLOAD_SUFFIX,
    array_size,
    keep_bytes,
    upload_prefix,
)
from imgsync.domain.model import Element, Keep, Upload
from imgsync.domain.packing import RequestRoom, next_batch

hrefs = st.text(min_size=1, max_size=40).map(lambda s: f"https://api.example/images/{s}")
uploads = st.builds(
    Upload, key=st.uuids().map(str), filename=st.text(max_size=30), size=st.integers(0, 5000)
)
updates = st.builds(
    Upload,
    key=st.uuids().map(str),
    filename=st.text(max_size=30),
    size=st.integers(0, 5000),
    replaces=st.one_of(st.none(), hrefs),
)
elements = st.lists(st.one_of(st.builds(Keep, hrefs), uploads), max_size=10)


def render(batch: list[Element]) -> bytes:
    parts = [
        keep_bytes(e)
        if isinstance(e, Keep)
        else upload_prefix(e) + base64.b64encode(b"\xff" * e.size) + UPLOAD_SUFFIX
        for e in batch
    ]
    return ARRAY_OPEN + ELEMENT_SEPARATOR.join(parts) + ARRAY_CLOSE


@given(elements)
def test_the_counted_size_is_the_size_of_the_json(batch: list[Element]) -> None:
    body = render(batch)
    assert array_size(batch) == len(body)
    decoded = json.loads(body)
    assert [d.get("filename") for d in decoded] == [
        e.filename if isinstance(e, Upload) else None for e in batch
    ]


@given(elements, st.integers(100, 20_000))
def test_a_batch_keeps_order_and_every_keep_and_fits(wanted: list[Element], limit: int) -> None:
    batch = next_batch(wanted, RequestRoom(limit, array_size))
    assert batch == [e for e in wanted if e in batch]
    assert [e for e in batch if isinstance(e, Keep)] == [e for e in wanted if isinstance(e, Keep)]
    sent = [e for e in batch if isinstance(e, Upload)]
    assert sent == [e for e in wanted if isinstance(e, Upload)][: len(sent)]
    if sent:
        assert array_size(batch) <= limit


@given(elements, st.integers(100, 20_000))
def test_a_batch_is_as_full_as_order_allows(wanted: list[Element], limit: int) -> None:
    batch = next_batch(wanted, RequestRoom(limit, array_size))
    left = [e for e in wanted if isinstance(e, Upload) and e not in batch]
    if left:
        fuller = [e for e in wanted if e in batch or e == left[0]]
        assert array_size(fuller) > limit


def test_the_limit_itself_is_allowed() -> None:
    wanted: list[Element] = [Keep("https://a/1"), Upload("a", "a.png", 10), Upload("b", "b.png", 7)]
    exact = array_size(wanted)
    assert next_batch(wanted, RequestRoom(exact, array_size)) == wanted
    assert next_batch(wanted, RequestRoom(exact - 1, array_size)) == wanted[:2]


@pytest.mark.parametrize(("max_uploads", "sent"), [(1, 2), (2, 3), (3, 4), (None, 4)])
def test_a_batch_has_at_most_so_many_uploads(max_uploads: int | None, sent: int) -> None:
    wanted: list[Element] = [
        Upload("a", "a.png", 1),
        Keep("https://a/1"),
        Upload("b", "b.png", 1),
        Upload("c", "c.png", 1),
    ]
    assert next_batch(wanted, RequestRoom(10_000, array_size), max_uploads) == wanted[:sent]


@given(st.lists(st.one_of(st.builds(Keep, hrefs), updates), max_size=10), st.integers(100, 20_000))
def test_the_earlier_copy_of_an_upload_that_waits_stays_in_its_place(
    wanted: list[Element], limit: int
) -> None:
    batch = next_batch(wanted, RequestRoom(limit, array_size))
    sent = {e.key for e in batch if isinstance(e, Upload)}
    places = [e if isinstance(e, Keep) or e.key in sent else e.stand_in for e in wanted]
    assert batch == [e for e in places if e is not None]
    if sent:
        assert array_size(batch) <= limit
    left = [e for e in wanted if isinstance(e, Upload) and e.key not in sent]
    if left:
        fuller = [left[0] if e is left[0] else p for e, p in zip(wanted, places, strict=True)]
        assert array_size([e for e in fuller if e is not None]) > limit
