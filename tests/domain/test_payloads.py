"""Payload formats: what they read and how they complain."""

import json
from typing import Any

import pytest

from imgsync.application.payloads import (
    BATCH,
    LEGACY,
    PayloadFormats,
    RawPayload,
    batch_payload,
    stored_payload,
    stored_request,
)
from imgsync.domain.errors import PayloadError, PluginError
from imgsync.domain.model import SourceImage, SyncRequest

FORMATS = PayloadFormats([BATCH, LEGACY])
IDS = {
    "main_account_id": "m",
    "child_account_id": "c",
    "parent_entity_type": "product",
    "parent_entity_id": "p1",
    "child_entity_id": "c1",
}
IMAGE = {"meta": {"downloadHref": "https://api.moysklad.ru/x"}, "filename": "a.png"}


def image_at(address: str) -> dict[str, Any]:
    return {"meta": {"downloadHref": address}, "filename": "a.png"}


def test_batch() -> None:
    request = FORMATS.parse({**IDS, "images": [IMAGE, {**IMAGE, "size": 5, "updated": "u"}]})
    assert (request.main_account_id, request.child_account_id) == ("m", "c")
    assert (request.entity_type, request.main_entity_id, request.child_entity_id) == (
        "product",
        "p1",
        "c1",
    )
    assert request.images == (
        SourceImage("https://api.moysklad.ru/x", "a.png"),
        SourceImage("https://api.moysklad.ru/x", "a.png", 5, "u"),
    )


def test_a_batch_without_images_asks_for_an_empty_list() -> None:
    request = FORMATS.parse({**IDS, "images": []})
    assert request.images == ()
    assert FORMATS.parse(batch_payload(request)) == request


def test_a_legacy_payload_needs_its_image() -> None:
    with pytest.raises(PayloadError, match="field 'image_url'"):
        FORMATS.parse({**IDS, "image_url": "", "filename": "a.png"})


@pytest.mark.parametrize(
    ("value", "name"), [("Lamp", "Lamp"), (None, ""), (5, ""), ({"a": "b"}, ""), ([], "")]
)
def test_a_name_is_for_messages_and_spoils_no_payload(value: object, name: str) -> None:
    request = FORMATS.parse({**IDS, "images": [IMAGE], "name": value})
    assert request.name == name
    assert FORMATS.parse(batch_payload(request)).name == name


class Failing:
    """A format of a broken plugin, as its guard shows it."""

    name = "failing"

    def matches(self, payload: RawPayload) -> bool:
        raise PluginError("plugin 'p' failed in matches")

    def parse(self, payload: RawPayload) -> SyncRequest:
        raise AssertionError("parse without a match")


def test_a_format_that_fails_is_passed_over() -> None:
    formats = PayloadFormats([Failing(), BATCH, LEGACY])
    assert formats.parse({**IDS, "images": [IMAGE]}).main_entity_id == "p1"


def test_its_error_is_told_where_no_other_format_takes_the_payload() -> None:
    with pytest.raises(PluginError, match="plugin 'p' failed in matches"):
        PayloadFormats([Failing(), BATCH]).parse({**IDS, "acme": "x"})


def test_legacy() -> None:
    request = FORMATS.parse({**IDS, "image_url": "https://x/1", "filename": "a.png"})
    assert request.images == (SourceImage("https://x/1", "a.png"),)


def test_entity_type_stands_in_for_a_missing_parent_entity_type() -> None:
    ids = {k: v for k, v in IDS.items() if k != "parent_entity_type"}
    assert (
        FORMATS.parse({**ids, "entity_type": "bundle", "images": [IMAGE]}).entity_type == "bundle"
    )
    null = {**IDS, "parent_entity_type": None, "entity_type": "bundle", "images": [IMAGE]}
    assert FORMATS.parse(null).entity_type == "bundle"
    both = {**IDS, "entity_type": "bundle", "images": [IMAGE]}
    assert FORMATS.parse(both).entity_type == "product"


def test_a_stored_batch_payload_reads_back_as_the_same_request() -> None:
    request = FORMATS.parse({**IDS, "images": [{**IMAGE, "size": 5, "updated": "u"}, IMAGE]})
    assert FORMATS.parse(batch_payload(request)) == request


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"main_account_id": None}, "main_account_id"),
        ({"child_account_id": "  "}, "child_account_id"),
        ({"parent_entity_type": None}, "parent_entity_type"),
        ({"parent_entity_id": 7}, "parent_entity_id"),
        ({"child_entity_id": "../../account"}, "child_entity_id"),
        ({"images": "x"}, "images"),
        ({"images": [IMAGE, {"filename": "a"}]}, "images.1.meta"),
        ({"images": [{"meta": {}, "filename": "a"}]}, "images.0.meta.downloadHref"),
        ({"images": [{**IMAGE, "filename": ""}]}, "images.0.filename"),
        ({"images": [{**IMAGE, "size": -1}]}, "images.0.size"),
        ({"images": [IMAGE, image_at("https://[::1/x")]}, "images.1.meta.downloadHref"),
        ({"images": [image_at("ftp://x/y")]}, "images.0.meta.downloadHref"),
        ({"images": [image_at("https://x/\x01")]}, "images.0.meta.downloadHref"),
        ({"images": [image_at("https://x/" + "a" * 9000)]}, "images.0.meta.downloadHref"),
        ({"main_account_id": "m\x00x"}, "main_account_id"),
        ({"child_account_id": "m\ud800x"}, "child_account_id"),
    ],
)
def test_an_error_names_the_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        FORMATS.parse({**IDS, "images": [IMAGE], **change})
    assert caught.value.field == field
    assert f"'{field}'" in str(caught.value)


@pytest.mark.parametrize("missing", ["main_account_id", "child_account_id", "child_entity_id"])
def test_a_missing_field_is_named(missing: str) -> None:
    payload: dict[str, Any] = {**IDS, "image_url": "https://x", "filename": "a"}
    del payload[missing]
    with pytest.raises(PayloadError) as caught:
        FORMATS.parse(payload)
    assert caught.value.field == missing


def test_a_payload_without_images_names_both_formats() -> None:
    with pytest.raises(PayloadError, match="image_url"):
        FORMATS.parse(IDS)


@pytest.mark.parametrize("payload", [None, [], "text", 5])
def test_a_payload_that_is_no_object(payload: object) -> None:
    with pytest.raises(PayloadError, match="JSON object"):
        FORMATS.parse(payload)


def test_two_formats_of_one_name_are_refused() -> None:
    with pytest.raises(PluginError, match="'batch' is registered twice"):
        PayloadFormats([BATCH, BATCH])


def test_a_wrong_address_of_a_legacy_payload_is_named() -> None:
    with pytest.raises(PayloadError, match="field 'image_url'"):
        FORMATS.parse({**IDS, "image_url": "no address", "filename": "a"})


REQUEST = SyncRequest(
    "m",
    "c",
    "product",
    "p1",
    "c1",
    (SourceImage("https://x/1", "a.png", 5, "u"), SourceImage("https://x/2", "б.png")),
    "Lamp",
)


def test_what_the_queue_holds_reads_back_as_the_same_request() -> None:
    held = json.loads(json.dumps(stored_payload(REQUEST)))
    read = stored_request(held)
    assert (read, read and read.name) == (REQUEST, "Lamp")
    # A worker of the version before, which knows no mark, runs it too.
    assert FORMATS.parse(held) == REQUEST


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "sync_request",
        {},
        batch_payload(REQUEST),
        stored_payload(REQUEST) | {"sync_request": 3},
        stored_payload(REQUEST) | {"sync_request": "1"},
    ],
)
def test_a_payload_of_another_program_is_left_to_the_formats(payload: object) -> None:
    assert stored_request(payload) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"main_account_id": None},
        {"child_entity_id": "../account"},
        {"images": None},
        {"images": 5},
        {"images": [{}]},
        {"images": [None]},
        {"images": ["x"]},
        {"images": [image_at("ftp://x/a")]},
        {"name": 5},
    ],
)
def test_a_row_that_bears_the_mark_falsely_is_a_wrong_payload(changes: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        stored_request(stored_payload(REQUEST) | changes)


@pytest.mark.parametrize("field", list(batch_payload(REQUEST)))
def test_a_row_with_the_mark_that_lacks_a_part_is_a_wrong_payload(field: str) -> None:
    held = stored_payload(REQUEST)
    del held[field]
    with pytest.raises(PayloadError, match="not whole"):
        stored_request(held)
