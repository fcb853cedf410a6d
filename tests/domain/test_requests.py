"""What a SyncRequest and an entity type can never be, whoever makes them."""

from typing import Any

import pytest

from imgsync.domain.errors import PayloadError, PluginError
from imgsync.domain.model import EntityType, SourceImage, SyncRequest

IMAGE = SourceImage("https://api.moysklad.ru/x", "a.png")
FIELDS: dict[str, Any] = {
    "main_account_id": "m",
    "child_account_id": "c",
    "entity_type": "product",
    "main_entity_id": "p1",
    "child_entity_id": "c1",
    "images": (IMAGE,),
}


def image(**changes: Any) -> tuple[SourceImage]:
    fields: dict[str, Any] = {"download_href": IMAGE.download_href, "filename": "a.png"} | changes
    return (SourceImage(**fields),)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"child_entity_id": "../account"}, "child_entity_id"),
        ({"child_entity_id": "c1\n"}, "child_entity_id"),
        ({"main_entity_id": "p1/images"}, "main_entity_id"),
        ({"main_entity_id": "x" * 65}, "main_entity_id"),
        ({"main_entity_id": None}, "main_entity_id"),
        ({"main_account_id": 5}, "main_account_id"),
        ({"main_account_id": " "}, "main_account_id"),
        ({"child_account_id": "c\x1b[31m"}, "child_account_id"),
        ({"entity_type": ""}, "entity_type"),
        ({"images": None}, "images"),
        ({"images": [IMAGE]}, "images"),
        ({"images": (IMAGE, "x")}, "images.1"),
        ({"images": image(download_href="ftp://x/a.png")}, "images.0.download_href"),
        ({"images": image(download_href="file:///etc/passwd")}, "images.0.download_href"),
        ({"images": image(download_href="https:///a.png")}, "images.0.download_href"),
        ({"images": image(download_href="https://x/\n")}, "images.0.download_href"),
        ({"images": image(download_href=None)}, "images.0.download_href"),
        ({"images": image(filename="")}, "images.0.filename"),
        ({"images": image(size=-1)}, "images.0.size"),
        ({"images": image(size=True)}, "images.0.size"),
        ({"images": image(size="5")}, "images.0.size"),
        ({"images": image(updated=5)}, "images.0.updated"),
        ({"name": None}, "name"),
    ],
)
def test_no_request_can_be_made_that_leads_elsewhere(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(PayloadError) as caught:
        SyncRequest(**FIELDS | changes)
    assert caught.value.field == field


def test_a_request_may_lack_images_and_know_little_of_them() -> None:
    assert SyncRequest(**FIELDS | {"images": ()}).images == ()
    known = SourceImage("http://127.0.0.1:8000/x", "a.png", 0, "2026-11-24 12:00:00.000")
    assert SyncRequest(**FIELDS | {"images": (known,), "name": "Lamp"}).images == (known,)


@pytest.mark.parametrize("name", ["", "a/b", "../x", "кресло", "a b", None, 5])
def test_the_name_of_an_entity_type_is_part_of_an_address(name: Any) -> None:
    with pytest.raises(PluginError):
        EntityType(name)


@pytest.mark.parametrize("max_images", [0, -1, None, "10", 1.5, True])
def test_an_entity_type_holds_a_number_of_images(max_images: Any) -> None:
    with pytest.raises(PluginError):
        EntityType("service", max_images=max_images)
