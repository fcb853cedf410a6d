import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from moysklad_emulator import EmulatedEntity
from service import (
    JPEG,
    PNG,
    Service,
    codes,
    filenames,
    files,
    images_path,
    upload,
    uploads,
)

MAX_IMAGE = 10 * 1024 * 1024


def test_an_object_adds_an_image(service: Service) -> None:
    product = service.product(*files(1))
    response = service.client.post(images_path(product), json=upload("b.png", PNG + b"b"))
    assert response.status_code == 200
    assert filenames(response.json()) == ["0.jpg", "b.png"]
    added = service.emulator.images_of(product)[1]
    assert added == (response.json()[1]["meta"]["href"].split("/")[-1], "b.png", PNG + b"b")


def test_an_array_sets_the_whole_list(service: Service) -> None:
    product = service.product(*files(3))
    body = [upload("new.jpg"), service.meta(product, 2), service.meta(product, 0)]
    response = service.client.post(images_path(product), json=body)
    assert filenames(response.json()) == ["new.jpg", "2.jpg", "0.jpg"]
    assert service.names(product) == ["new.jpg", "2.jpg", "0.jpg"]


def test_a_second_array_without_metas_wipes_the_first(service: Service) -> None:
    product = service.product()
    for name in ("first.jpg", "second.jpg"):
        service.client.post(images_path(product), json=[upload(name)])
    assert service.names(product) == ["second.jpg"]


def test_an_empty_array_removes_all(service: Service) -> None:
    product = service.product(*files(2))
    response = service.client.post(images_path(product), json=[])
    assert (response.status_code, response.json()) == (200, [])
    assert service.names(product) == []


@pytest.mark.parametrize(
    ("element", "status", "code"),
    [
        ({"filename": "a.jpg"}, 412, 51001),
        ({"filename": "a.jpg", "content": ""}, 412, 51001),
        ({"filename": "a.jpg", "content": None}, 412, 51001),
        ({"filename": "a.jpg", "content": "not base64!"}, 400, 51002),
        ({"filename": "a.jpg", "content": "ёё"}, 400, 51002),
        ({"filename": "a.jpg", "content": "!" + upload()["content"]}, 400, 51002),
        (upload(content=b"GIF89a"), 400, 51002),
        (upload(content=JPEG + b"x" * (MAX_IMAGE - 3)), 400, 51004),
        ({"content": upload()["content"]}, 412, 51005),
        (upload(" "), 412, 51005),
        ("text", 400, 2005),
        ({**upload(), "title": "a"}, 400, 1007),
        (upload("x" * 252 + ".jpg"), 400, 3040),
    ],
)
def test_a_wrong_image_is_refused_and_changes_nothing(
    service: Service, element: Any, status: int, code: int
) -> None:
    product = service.product(*files(2))
    for body in (element, [upload("good.jpg"), service.meta(product, 0), element]):
        response = service.client.post(images_path(product), json=body)
        assert (response.status_code, codes(response)) == (status, [code])
        assert service.names(product) == ["0.jpg", "1.jpg"]


def test_an_image_of_10_mebibytes_is_accepted(service: Service) -> None:
    product = service.product()
    content = JPEG + bytes(MAX_IMAGE - len(JPEG))
    response = service.client.post(images_path(product), json=upload(content=content))
    assert response.json()[0]["size"] == MAX_IMAGE


def test_seeding_ignores_the_limits(service: Service) -> None:
    large = JPEG + bytes(MAX_IMAGE)
    product = service.product(("large.jpg", large), ("text.txt", b"text"), *files(10))
    assert len(product.images) == 12
    assert service.emulator.images_of(product)[0].content == large


@pytest.mark.parametrize(
    ("type_name", "maximum"),
    [("product", 10), ("bundle", 10), ("variant", 10), ("contentcard", 15)],
)
def test_the_number_of_images_is_limited(service: Service, type_name: str, maximum: int) -> None:
    entity = service.account.add_entity(type_name, name="E")
    refused = service.client.post(images_path(entity), json=uploads(maximum + 1))
    assert (refused.status_code, codes(refused)) == (400, [51006])
    assert service.names(entity) == []
    assert service.client.post(images_path(entity), json=uploads(maximum)).is_success
    refused = service.client.post(images_path(entity), json=upload("one more.jpg"))
    assert (refused.status_code, codes(refused)) == (400, [51006])
    assert len(entity.images) == maximum


def test_a_full_storage_refuses_uploads(service: Service) -> None:
    product = service.product(("old.jpg", JPEG + bytes(96)))
    service.account.storage_quota = 250
    path = images_path(product)
    small, large = (upload(f"{n}.jpg", JPEG + bytes(n - 4)) for n in (150, 151))
    refused = service.client.post(path, json=large)
    assert (refused.status_code, codes(refused)) == (400, [51003])
    assert service.names(product) == ["old.jpg"]
    assert service.client.post(path, json=small).is_success
    assert service.client.post(path, json=small).is_success  # the same image takes no space
    assert service.client.post(path, json=[large]).is_success  # what goes makes room


def image_ids(entity: EmulatedEntity) -> list[str]:
    return [image.id for image in entity.images]


def test_equal_filename_and_content_are_one_image(service: Service) -> None:
    first, second = service.product(("a.jpg", JPEG + b"a")), service.product()
    body = [upload(), upload("b.jpg"), upload(content=JPEG + b"b"), upload()]
    service.client.post(images_path(second), json=body)
    ids = image_ids(second)
    assert ids[0] == ids[3] == first.images[0].id
    assert len(set(ids)) == 3


def test_other_accounts_have_other_ids(service: Service) -> None:
    other = service.emulator.add_account("Other")
    image = ("a.jpg", JPEG)
    theirs = other.add_entity("product", name="P", images=[image])
    assert image_ids(theirs) != image_ids(service.product(image))


def test_an_image_survives_on_another_entity(service: Service) -> None:
    first, second = service.product(*files(1)), service.product(*files(1))
    assert service.client.post(images_path(first), json=[]).is_success
    assert service.emulator.images_of(second)[0].content == files(1)[0][1]


def test_the_file_of_a_deleted_image_is_removed(service: Service) -> None:
    product = service.product(("a.jpg", JPEG + b"of this test only"))
    path = service.emulator.content.path(product.images[0].digest)
    assert path.exists()
    assert service.client.post(images_path(product), json=[]).is_success
    assert not path.exists()


def test_a_single_delete_removes_the_first_found(service: Service) -> None:
    a, b = files(2)
    product = service.product(a, b, a)
    url = f"{images_path(product)}/{product.images[0].id}"
    response = service.client.delete(url)
    assert (response.status_code, response.content) == (200, b"")
    assert service.names(product) == ["1.jpg", "0.jpg"]
    assert service.client.delete(url).status_code == 200
    response = service.client.delete(url)
    assert (response.status_code, codes(response)) == (404, [1021])
    assert service.names(product) == ["1.jpg"]


def test_many_are_deleted_at_once(service: Service) -> None:
    a, b, c = files(3)
    product = service.product(a, b, a, c)
    body = [service.meta(product, 3), service.meta(product, 0)]
    response = service.client.post(f"{images_path(product)}/delete", json=body)
    assert (response.status_code, response.content) == (200, b"")
    assert service.names(product) == ["1.jpg", "0.jpg"]


def test_deleting_many_is_all_or_nothing(service: Service) -> None:
    product = service.product(*files(2))
    twice = [service.meta(product, 0)] * 2
    response = service.client.post(f"{images_path(product)}/delete", json=twice)
    assert (response.status_code, codes(response)) == (404, [1021])
    assert service.names(product) == ["0.jpg", "1.jpg"]


def test_metas_must_name_images_of_the_entity(service: Service) -> None:
    product, other = service.product(*files(1)), service.product(*files(2))
    stranger = service.meta(other, 1)  # an image that only the other product has
    foreign = service.meta(other, 0)  # the product's image by the other product's address
    own = service.meta(product, 0)["meta"]
    elsewhere = {"meta": {**own, "href": own["href"].replace("/1", "/2", 1)}}
    for path in (images_path(product), f"{images_path(product)}/delete"):
        for element, status, code in (
            (stranger, 404, 1021),
            (foreign, 404, 1021),
            (elsewhere, 400, 1059),
            ({"meta": {}}, 400, 2010),
            ({"meta": None}, 400, 2010),
            ({"meta": {"href": own["href"]}}, 400, 2011),
            ({"meta": {**own, "type": "product"}}, 400, 2024),
            ({"meta": own, "content": upload()["content"]}, 400, 1007),
        ):
            response = service.client.post(path, json=[element])
            assert (response.status_code, codes(response)) == (status, [code])
    assert service.names(product) == ["0.jpg"]


@pytest.mark.parametrize(("body", "code"), [(b"{", 2001), (b"\xff", 2001), (b"1", 2005)])
def test_bodies_must_be_json(service: Service, body: bytes, code: int) -> None:
    response = service.client.post(images_path(service.product()), content=body)
    assert (response.status_code, codes(response)) == (400, [code])


def test_the_content_type_must_be_json(service: Service) -> None:
    path = images_path(service.product())
    response = service.client.post(path, data={"filename": "a"})
    assert (response.status_code, codes(response)) == (415, [1037])


def test_bulk_update_sets_lists_and_reports_errors_by_element(service: Service) -> None:
    first, second, third = (service.product(*files(2), name=f"P{n}") for n in range(3))
    missing = {**service.entity_meta(first), "href": f"{service.server.api_url}/entity/product/x"}
    body = [
        {"meta": service.entity_meta(first), "images": []},
        {"meta": service.entity_meta(second), "images": [upload(content=b"bad")]},
        {"meta": service.entity_meta(third), "images": [service.meta(third, 1), upload("n.jpg")]},
        {"meta": missing, "images": []},
        {"code": "no name"},
        {"name": "new", "images": [upload("new.jpg")]},
        {"meta": service.entity_meta(second), "colour": "red"},
    ]
    response = service.client.post("entity/product?expand=images&limit=100", json=body)
    assert response.status_code == 400
    answers = response.json()
    assert [a.get("name") for a in answers] == ["P0", None, "P2", None, None, "new", None]
    assert [a["errors"][0]["code"] for a in answers if "errors" in a] == [51002, 1021, 3000, 1007]
    assert filenames(answers[2]["images"]["rows"]) == ["1.jpg", "n.jpg"]
    assert [service.names(p) for p in (first, second, third)] == [
        [],
        ["0.jpg", "1.jpg"],
        ["1.jpg", "n.jpg"],
    ]
    assert [e.name for e in service.account.entities("product")] == ["P0", "P1", "P2", "new"]


def test_bulk_without_an_error_answers_200(service: Service) -> None:
    body = [{"meta": service.entity_meta(service.product(*files(2))), "images": []}] * 2
    assert service.client.post("entity/product", json=body).status_code == 200


def test_an_update_without_images_keeps_them(service: Service) -> None:
    product = service.product(*files(1))
    body = {"meta": service.entity_meta(product)}
    response = service.client.post("entity/product", json=body)
    assert response.json()["id"] == product.id
    assert service.names(product) == ["0.jpg"]


def test_a_changed_list_changes_the_entitys_date(service: Service) -> None:
    product = service.product()
    product.updated = "2000-01-01 00:00:00.000"
    service.client.post(images_path(product), json=upload())
    assert product.updated > "2026"


def test_a_ui_uuid_answers_308_with_the_real_address(service: Service) -> None:
    ui_uuid = "29185f80-137a-11f0-ac15-00110000000d"
    product = service.product(*files(1), ui_uuid=ui_uuid)
    base = f"{service.server.api_url}/entity/product"
    for tail in ("", "?expand=images", "/images", "/images?limit=5"):
        response = service.client.get(f"entity/product/{ui_uuid}{tail}")
        assert response.status_code == 308
        assert response.headers["location"] == f"{base}/{product.id}{tail}"
    path = f"entity/product/{ui_uuid}/images"
    assert service.client.post(path, json=[]).status_code == 308
    assert service.names(product) == ["0.jpg"]
    followed = service.client.post(path, json=upload(), follow_redirects=True)
    assert filenames(followed.json()) == ["0.jpg", "a.jpg"]


def test_base64_padding_does_not_count(service: Service) -> None:
    for extra in range(3):
        content = JPEG + bytes(extra)
        body = {"filename": "a.jpg", "content": base64.b64encode(content).decode()}
        response = service.client.post(images_path(service.product()), json=body)
        assert response.json()[0]["size"] == len(content)


def test_an_answer_is_the_list_that_its_own_request_set(service: Service) -> None:
    product = service.product()
    names = [f"{n}.jpg" for n in range(4)]

    def set_again_and_again(name: str) -> list[list[str]]:
        with service.client_for(service.token) as client:
            answers = [client.post(images_path(product), json=[upload(name)]) for _ in range(40)]
        return [filenames(answer.json()) for answer in answers]

    with ThreadPoolExecutor(len(names)) as pool:
        for name, lists in zip(names, pool.map(set_again_and_again, names), strict=True):
            assert lists == [[name]] * 40


@pytest.mark.parametrize(
    "body",
    [
        b'[{"filename": "\\ud800.jpg", "content": "/9j/4GE="}]',
        b'[{"filename": "a.jpg", "content": NaN}]',
        b'\xef\xbb\xbf[{"filename": "a.jpg", "content": "/9j/4GE="}]',
        '[{"filename": "a.jpg", "content": "/9j/4GE="}]'.encode("utf-16"),
        '[{"filename": "ы.jpg", "content": "/9j/4GE="}]'.encode("cp1251"),
    ],
)
def test_a_body_that_is_no_json_in_utf_8_is_refused(service: Service, body: bytes) -> None:
    product = service.product()
    response = service.client.post(images_path(product), content=body)
    assert (response.status_code, codes(response)) == (400, [2001])
    whole = b'[{"filename": "\\ud83d\\ude00.jpg", "content": "/9j/4GE="}]'
    assert service.client.post(images_path(product), content=whole).status_code == 200
    assert service.names(product) == ["😀.jpg"]


def test_metas_of_another_server_are_refused(service: Service) -> None:
    product = service.product(*files(1))
    meta = service.meta(product, 0)
    meta["meta"]["href"] = meta["meta"]["href"].replace(":", ":1").replace("http:1", "http:")
    response = service.client.post(images_path(product), json=[meta])
    assert codes(response) == [1059]
