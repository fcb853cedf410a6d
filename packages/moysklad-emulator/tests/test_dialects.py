"""Each switch of the dialect, both ways."""

import time
from itertools import combinations, product
from typing import Any

import httpx
import pytest

from moysklad_emulator import SWITCHES, Dialect, EmulatorLimits, pairwise_dialects
from moysklad_emulator.dialect import parse_switch
from moysklad_emulator.encoded import is_whole
from moysklad_emulator.pairwise import pairwise
from moysklad_emulator.pictures import padded_png
from service import (
    JPEG,
    PNG,
    Service,
    StartService,
    codes,
    entity_path,
    filenames,
    files,
    images_path,
    plain,
    upload,
    uploads,
)

MEGABYTE = 1024**2


def play(service: Service, **switches: Any) -> None:
    """Changes the emulator as another process does."""
    answer = plain.post(f"{service.server.control_url}/dialect", json=switches)
    assert answer.status_code == 200, answer.text


def test_the_storage_has_a_host_name_of_its_own(service: Service) -> None:
    product = service.product(("a.jpg", JPEG))
    for dialect, host in ((None, "localhost"), ("127.0.0.1", "127.0.0.1")):
        if dialect:
            play(service, storage_host=dialect)
        location = httpx.URL(service.download_location(product))
        api = httpx.URL(service.server.api_url)
        assert (location.host, api.host) == (host, "127.0.0.1")
        assert location.port != api.port
        assert plain.get(location).content == JPEG


def test_permanent_links_may_be_missing_everywhere(service: Service) -> None:
    path = f"{images_path(service.product(*files(1)))}?fields=downloadPermanentHref"
    for given in (True, False):
        play(service, permanent_links=given)
        (row,) = service.client.get(path).json()["rows"]
        assert ("downloadPermanentHref" in row["meta"]) is given


@pytest.mark.parametrize(
    ("switch", "status", "left"),
    [("set", 200, ["n.jpg"]), ("ignored", 200, ["0.jpg"]), ("refused", 400, ["0.jpg"])],
)
def test_images_in_bulk(service: Service, switch: str, status: int, left: list[str]) -> None:
    play(service, bulk_images=switch)
    entity = service.product(*files(1))
    body = {"meta": service.entity_meta(entity), "images": [upload("n.jpg")]}
    assert service.client.post("entity/product", json=[body]).status_code == status
    assert service.names(entity) == left
    assert service.client.post("entity/product", json=body).status_code == 200  # one alone
    assert service.names(entity) == ["n.jpg"]


def test_images_inside_an_entity_may_not_be_kept(service: Service) -> None:
    entity = service.product(*files(1))
    body = {"meta": service.entity_meta(entity), "images": [service.meta(entity, 0)]}
    assert service.client.post("entity/product", json=[body]).status_code == 200
    play(service, keep_in_entities=False)
    (answer,) = service.client.post("entity/product", json=[body]).json()
    assert answer["errors"][0]["code"] == 51001
    assert service.client.post(images_path(entity), json=body["images"]).is_success
    assert service.names(entity) == ["0.jpg"]


@pytest.mark.parametrize("status", [400, 200])
def test_errors_among_the_elements_of_an_array(service: Service, status: int) -> None:
    play(service, bulk_error_status=status)
    first, second = service.product(), service.product(*files(1))
    body = [
        {"meta": service.entity_meta(first), "images": [upload("n.jpg")]},
        {"meta": service.entity_meta(second), "images": [upload(content=b"bad")]},
    ]
    answer = service.client.post("entity/product", json=body)
    assert answer.status_code == status
    assert [answer.json()[0]["id"], codes(httpx.Response(200, json=answer.json()[1]))] == [
        first.id,
        [51002],
    ]
    assert (service.names(first), service.names(second)) == (["n.jpg"], ["0.jpg"])


@pytest.mark.parametrize(("switch", "left"), [("keeps", ["0.jpg", "1.jpg"]), ("drops", [])])
@pytest.mark.parametrize("where", ["images", "put", "bulk"])
def test_what_a_refused_array_leaves(
    service: Service, switch: str, left: list[str], where: str
) -> None:
    play(service, refused_array=switch)
    entity = service.product(*files(2))
    bad = [upload(), upload(content=b"bad")]
    if where == "images":
        refused = service.client.post(images_path(entity), json=bad)
    elif where == "put":
        refused = service.client.put(entity_path(entity), json={"images": bad})
    else:
        body = [{"meta": service.entity_meta(entity), "images": bad}]
        refused = service.client.post("entity/product", json=body)
    assert refused.status_code == 400
    assert service.names(entity) == left


def test_a_refused_object_always_leaves_the_list(service: Service) -> None:
    play(service, refused_array="drops")
    entity = service.product(*files(1))
    assert not service.client.post(images_path(entity), json=upload(content=b"bad")).is_success
    assert service.names(entity) == ["0.jpg"]


@pytest.mark.parametrize("megabytes", [3, 5, 10])
def test_the_largest_image(service: Service, megabytes: int) -> None:
    play(service, image_megabytes=megabytes)
    path = images_path(service.product())
    content = JPEG + bytes(megabytes * MEGABYTE - len(JPEG))
    assert service.client.post(path, json=upload(content=content)).is_success
    refused = service.client.post(path, json=upload(content=content + b"1"))
    assert codes(refused) == [51004]
    assert f"{megabytes} MB" in refused.text


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"GIF89a...", "image/gif"),
        (b"BM......", "image/bmp"),
        (b"RIFF\x10\n\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
def test_more_formats(service: Service, content: bytes, media_type: str) -> None:
    entity = service.product()
    body = upload(content=content)
    assert codes(service.client.post(images_path(entity), json=body)) == [51002]
    play(service, more_formats=True)
    assert service.client.post(images_path(entity), json=body).is_success
    answer = plain.get(service.download_location(entity))
    assert (answer.content, answer.headers["content-type"]) == (content, media_type)
    assert codes(service.client.post(images_path(entity), json=upload(content=b"text"))) == [51002]


@pytest.mark.parametrize(
    "content",
    [
        b"II*\x00\x08\x00\x00\x00" + bytes(20),
        b"MM\x00*\x00\x00\x00\x08" + bytes(20),
        b"\x00\x00\x00\x18ftypheic" + bytes(20),
        b"\x00\x00\x00\x1cftypavif" + bytes(20),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x00" + JPEG,
    ],
    ids=["tiff", "tiff of the other order", "heic", "avif", "svg", "jpeg behind a byte"],
)
@pytest.mark.parametrize("more", [False, True])
def test_formats_that_no_dialect_takes(service: Service, more: bool, content: bytes) -> None:
    """By what the file is, whatever its name says."""
    play(service, more_formats=more)
    entity = service.product()
    body = upload("photo.jpg", content)
    assert codes(service.client.post(images_path(entity), json=body)) == [51002]
    assert codes(service.client.post(images_path(entity), json=[body])) == [51002]
    assert service.names(entity) == []


WHOLE_PNG = padded_png(1, 300)
WHOLE_JPEG = JPEG + b"\x00\x04ab" + b"\xff\xff\xda\x00\x04cd" + b"scan \xff\x00 scan" + b"\xff\xd9"


@pytest.mark.parametrize(
    "content",
    [
        PNG + b"garbage behind the header",
        WHOLE_PNG[:-12],
        WHOLE_PNG[:200],
        WHOLE_PNG[:100] + b"?" + WHOLE_PNG[101:],
        PNG + WHOLE_PNG[-12:],
        JPEG + b"garbage",
        WHOLE_JPEG[:-2],
        WHOLE_JPEG[:7],
        JPEG[:2] + b"\xff\xd9",
        JPEG,
    ],
)
def test_how_closely_a_file_is_looked_at(service: Service, content: bytes) -> None:
    entity = service.product()
    assert service.client.post(images_path(entity), json=upload(content=content)).is_success
    play(service, whole_pictures=True)
    assert codes(service.client.post(images_path(entity), json=upload(content=content))) == [51002]
    for whole in (WHOLE_PNG, WHOLE_JPEG):
        assert service.client.post(images_path(entity), json=upload(content=whole)).is_success


@pytest.mark.parametrize("content", [WHOLE_PNG, WHOLE_JPEG])
def test_a_storage_that_encodes_anew(service: Service, content: bytes) -> None:
    entity, other = service.product(), service.product()
    play(service, recodes=True, whole_pictures=True)
    (row,) = service.client.post(images_path(entity), json=upload(content=content)).json()
    stored = plain.get(service.download_location(entity)).content
    assert stored != content
    assert is_whole(stored)
    assert row["size"] == len(stored) == entity.images[0].size
    (same,) = service.client.post(images_path(other), json=[upload(content=content)]).json()
    assert (other.images[0].id, same["size"]) == (entity.images[0].id, len(stored))


def test_a_storage_encodes_anew_what_is_sent_only(service: Service) -> None:
    play(service, recodes=True)
    entity = service.product(("a.png", WHOLE_PNG))
    rows = service.client.post(images_path(entity), json=[service.meta(entity, 0)]).json()
    assert rows[0]["size"] == len(WHOLE_PNG)
    play(service, more_formats=True)
    gif = upload("a.gif", b"GIF89a...")
    assert service.client.post(images_path(entity), json=gif).json()[1]["size"] == 9


@pytest.mark.parametrize("status", [400, 403, 412, 413])
def test_errors_of_images_have_one_status(service: Service, status: int) -> None:
    play(service, image_error_status=status)
    entity = service.product()
    service.account.storage_quota = 0
    for body, code in (
        ({"filename": "a.jpg"}, 51001),
        (upload(content=b"bad"), 51002),
        (upload(), 51003),
        ({"content": "/9j/"}, 51005),
        (uploads(11), 51006),
    ):
        answer = service.client.post(images_path(entity), json=body)
        assert (answer.status_code, codes(answer)) == (status, [code])
    assert service.client.get("entity/product?limit=0").status_code == 400


def test_rate_headers_count_units_or_requests_or_are_missing(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(rate_interval=60))
    service.account.add_user(token="user", kind="user")
    names = ("X-RateLimit-Limit", "X-RateLimit-Remaining")
    with service.client_for("user") as client:
        for switch, expected in (
            ("units", ["45", "42"]),
            ("requests", ["15", "13"]),
            ("none", [None, None]),
        ):
            play(service, rate_headers=switch)
            answer = client.get("entity/product")
            assert [answer.headers.get(name) for name in names] == expected
        while (answer := client.get("entity/product")).status_code == 200:
            pass
    assert codes(answer) == [1049]
    assert not [name for name in answer.headers if "lognex" in name or "rate" in name]


def test_a_change_of_images_may_leave_the_date(service: Service) -> None:
    entity = service.product()
    for moves in (True, False):
        play(service, images_move_updated=moves)
        entity.updated = "2000-01-01 00:00:00.000"
        service.client.post(images_path(entity), json=upload(f"{moves}.jpg"))
        assert (entity.updated > "2026") is moves
        service.client.put(entity_path(entity), json={"name": "Other"})
        assert entity.updated > "2026"


def test_head_may_be_refused(service: Service) -> None:
    entity = service.product(("a.jpg", JPEG))
    path, location = f"download/{entity.images[0].id}", service.download_location(entity)
    assert (service.client.head(path).status_code, httpx.head(location).status_code) == (302, 200)
    play(service, head=False)
    assert (service.client.head(path).status_code, httpx.head(location).status_code) == (405, 405)
    assert plain.get(location).content == JPEG


@pytest.mark.parametrize("moves", [False, True])
def test_keeping_an_image_may_change_its_date(service: Service, moves: bool) -> None:
    play(service, keeping_moves_updated=moves)
    entity = service.product(*files(2))
    before = entity.images[0].updated
    time.sleep(0.002)  # dates have milliseconds
    body = [service.meta(entity, 0), upload("new.jpg")]
    service.client.post(images_path(entity), json=upload("added.jpg"))
    service.client.post(f"{images_path(entity)}/delete", json=[service.meta(entity, 1)])
    assert entity.images[0].updated == before  # no array that keeps it
    rows = service.client.post(images_path(entity), json=body).json()
    assert (rows[0]["updated"] > before) is moves
    assert rows == service.client.get(images_path(entity)).json()["rows"]


def test_nulls(service: Service) -> None:
    full, empty = service.product(*files(1)), service.product()
    play(service, nulls=True)
    one, other = service.client.get("entity/product").json()["rows"]
    assert (one["images"]["rows"], one["images"]["meta"]["size"]) == (None, 1)
    assert other["images"] is None
    assert (one["code"], one["article"], one["description"]) == (None, None, None)
    one, other = service.client.get("entity/product?expand=images&limit=100").json()["rows"]
    assert filenames(one["images"]["rows"]) == ["0.jpg"]
    assert one["images"]["rows"][0]["miniature"]["downloadHref"] is None
    assert (other["images"]["rows"], other["images"]["meta"]["size"]) == (None, 0)
    assert (full.name, empty.name) == (one["name"], other["name"])


def test_a_dialect_is_told_and_changed_in_parts(service: Service) -> None:
    play(service, image_megabytes=3, head=False)
    play(service, nulls=True)
    told = plain.get(f"{service.server.control_url}/dialect").json()
    assert told == Dialect(image_megabytes=3, head=False, nulls=True).as_dict()


@pytest.mark.parametrize(
    ("switches", "problem"),
    [
        ({"megabytes": 3}, "no switch is called 'megabytes'"),
        ({"image_megabytes": 4}, "image_megabytes is one of 10, 5, 3, not 4"),
        ({"head": 1}, "head is one of true, false, not 1"),
        ({"head": "yes"}, 'head is one of true, false, not "yes"'),
        ([], "an object of switches"),
    ],
)
def test_a_wrong_dialect_is_explained(service: Service, switches: Any, problem: str) -> None:
    answer = plain.post(f"{service.server.control_url}/dialect", json=switches)
    assert (answer.status_code, problem in answer.json()["error"]) == (400, True)
    assert service.emulator.dialect == Dialect()


def test_switches_of_a_command_line() -> None:
    assert parse_switch("head=no") == {"head": False}
    assert parse_switch("image_megabytes=3") == {"image_megabytes": 3}
    assert parse_switch("image_error_status=413") == {"image_error_status": 413}
    with pytest.raises(ValueError, match="head is one of yes, no, not 'maybe'"):
        parse_switch("head=maybe")
    for text in ("head", "heads=no"):
        with pytest.raises(ValueError, match="is not one of storage_host"):
            parse_switch(text)


def test_every_two_values_of_two_switches_meet_in_a_dialect() -> None:
    dialects = pairwise_dialects()
    assert dialects[0] == Dialect()
    for one, other in combinations(SWITCHES, 2):
        met = {(getattr(d, one), getattr(d, other)) for d in dialects}
        assert met == set(product(SWITCHES[one], SWITCHES[other]))
    assert len(dialects) <= 22
    assert dialects == pairwise_dialects()


def test_few_combinations_cover_the_pairs() -> None:
    combinations_ = pairwise({"a": [1, 2], "b": [1, 2], "c": [1, 2]})
    assert 4 <= len(combinations_) <= 5
    assert pairwise({"a": [1]}) == [{"a": 1}]
    assert len(pairwise({"a": [1, 2, 3], "b": "xyz"})) == 9
