from typing import Any

import pytest

from service import JPEG, Service, codes, entity_path, filenames, files, images_path


def names(service: Service, **params: Any) -> list[str]:
    rows = service.client.get("entity/product", params=params).json()["rows"]
    return [row["name"] for row in rows]


def test_an_entity_document(service: Service) -> None:
    product = service.product(*files(2), name="Ёлка", external_code="ext", code="c", article="art")
    document = service.client.get(entity_path(product)).json()
    base = service.server.api_url
    assert document.pop("meta") == {
        "href": f"{base}/entity/product/{product.id}",
        "metadataHref": f"{base}/entity/product/metadata",
        "type": "product",
        "mediaType": "application/json",
    }
    assert document.pop("images") == {
        "meta": {
            "href": f"{base}/entity/product/{product.id}/images",
            "type": "image",
            "mediaType": "application/json",
            "size": 2,
            "limit": 1000,
            "offset": 0,
        }
    }
    assert document == {
        "id": product.id,
        "accountId": service.account.id,
        "updated": product.updated,
        "name": "Ёлка",
        "externalCode": "ext",
        "code": "c",
        "article": "art",
        "archived": False,
        "pathName": "",
    }


def test_a_folder_is_that_of_a_product_or_bundle_and_read_only(service: Service) -> None:
    lamp = service.product(name="Lamp", folder="Light/Lamps")
    other = service.product(name="Other", folder="Light/Lamps")
    service.product(name="Bare")
    variant = service.account.add_entity("variant", name="Red", objects={"product": lamp})
    one, same, red = (service.client.get(entity_path(e)).json() for e in (lamp, other, variant))
    assert one["pathName"] == "Light/Lamps"
    assert one["productFolder"] == same["productFolder"]
    assert one["productFolder"]["meta"]["type"] == "productfolder"
    assert {"pathName", "productFolder"}.isdisjoint(red)
    assert red["product"]["meta"]["href"].endswith(f"/entity/product/{lamp.id}")

    assert names(service, filter="pathName=Light/Lamps") == ["Lamp", "Other"]
    assert names(service, filter="pathName!=Light/Lamps") == ["Bare"]
    refused = service.client.get("entity/variant", params={"filter": "pathName=Light/Lamps"})
    assert codes(refused) == [1034]

    assert service.client.put(entity_path(lamp), json=one).is_error  # productFolder is not played
    del one["productFolder"]
    changed = service.client.put(entity_path(lamp), json=one | {"pathName": "Elsewhere"})
    assert changed.json()["pathName"] == "Light/Lamps"
    with pytest.raises(ValueError, match="has no folder"):
        service.account.add_entity("variant", name="Blue", folder="Light")
    with pytest.raises(ValueError, match="is no path"):
        service.product(folder="Light//Lamps")


def test_fields_without_a_value_are_left_out(service: Service) -> None:
    document = service.client.get(entity_path(service.product())).json()
    assert "code" not in document
    assert "article" not in document


def test_pages_follow_one_another_by_next_href(service: Service) -> None:
    for number in range(5):
        service.product(name=f"P{number}", code="x" if number < 4 else "y")
    url: str | None = "entity/product?limit=2&filter=code%3Dx&expand=images"
    pages: list[list[str]] = []
    while url:
        page = service.client.get(url).json()
        assert all("rows" in row["images"] for row in page["rows"])
        pages.append([row["name"] for row in page["rows"]])
        assert (page["meta"]["size"], page["meta"]["limit"]) == (4, 2)
        url = page["meta"].get("nextHref")
    assert pages == [["P0", "P1"], ["P2", "P3"]]
    assert page["meta"]["offset"] == 2
    assert "offset=0" in page["meta"]["previousHref"]


def test_types_are_listed_apart(service: Service) -> None:
    service.account.add_entity("bundle", name="B")
    assert names(service) == []
    (row,) = service.client.get("entity/bundle").json()["rows"]
    assert (row["name"], row["meta"]["type"]) == ("B", "bundle")


def test_a_page_has_1000_rows_by_default_and_at_most(service: Service) -> None:
    for number in range(1001):
        service.product(name=str(number))
    first = service.client.get("entity/product").json()
    assert (len(first["rows"]), first["meta"]["limit"]) == (1000, 1000)
    assert names(service, offset=1000) == ["1000"]


@pytest.mark.parametrize(
    "query", ["limit=1001", "limit=0", "limit=x", "limit=1_0", "limit=٥", "limit=%2B5", "offset=-1"]
)
def test_wrong_pages_are_refused(service: Service, query: str) -> None:
    response = service.client.get(f"entity/product?{query}")
    assert (response.status_code, codes(response)) == (400, [1040])


def test_filters(service: Service) -> None:
    service.product(name="a=1;b", external_code="e1", code="c1", article="x")
    service.product(name="два слова", external_code="e2", code="c2", article="x")
    third = service.product(name="three", external_code="e3", code="c2")
    assert names(service, filter="externalCode=e1;externalCode=e3") == ["a=1;b", "three"]
    assert names(service, filter="code=c2;article=x") == ["два слова"]
    assert names(service, filter="name=два слова") == ["два слова"]
    assert names(service, filter=r"name=a=1\;b") == ["a=1;b"]
    assert names(service, filter=f"id={third.id}") == ["three"]
    assert names(service, filter="article=") == ["three"]
    assert names(service, filter="externalCode=E1") == []


@pytest.mark.parametrize(
    "condition",
    [
        "images=1",
        "images>1",
        "name",
        "=a",
        "name~a",
        "name~=a",
        "name=~a",
        "name!~a",
        "name>a",
        "id>1",
        "owner=x",
        "name=a;name!=b",
        "updated=2026-01-01 00:00:00;updated>2026-01-01 00:00:00",
    ],
)
def test_other_filters_are_refused(service: Service, condition: str) -> None:
    response = service.client.get("entity/product", params={"filter": condition})
    assert (response.status_code, codes(response)) == (400, [1034])


@pytest.mark.parametrize(("limit", "expanded"), [(1, True), (100, True), (101, False)])
def test_images_are_expanded_on_pages_up_to_100(
    service: Service, limit: int, expanded: bool
) -> None:
    service.product(*files(3))
    page = service.client.get(f"entity/product?expand=images&limit={limit}").json()
    images = page["rows"][0]["images"]
    assert images["meta"]["size"] == 3
    assert ("rows" in images) is expanded
    if expanded:
        assert filenames(images["rows"]) == ["0.jpg", "1.jpg", "2.jpg"]


def test_without_limit_expand_is_ignored(service: Service) -> None:
    service.product(*files(1))
    (row,) = service.client.get("entity/product?expand=images").json()["rows"]
    assert "rows" not in row["images"]


def test_expand_of_a_single_entity(service: Service) -> None:
    product = service.product(*files(1))
    document = service.client.get(f"{entity_path(product)}?expand=images").json()
    assert filenames(document["images"]["rows"]) == ["0.jpg"]


def test_expand_of_something_else_is_refused(service: Service) -> None:
    response = service.client.get("entity/product?expand=owner&limit=1")
    assert (response.status_code, codes(response)) == (400, [1089])


def test_an_image_document(service: Service) -> None:
    product = service.product(("my.photo.jpg", JPEG + b"123"))
    page = service.client.get(images_path(product)).json()
    (row,) = page["rows"]
    base, image = service.server.api_url, product.images[0]
    assert page["meta"]["size"] == 1
    assert row["meta"] == {
        "href": f"{base}/entity/product/{product.id}/images/{image.id}",
        "type": "image",
        "mediaType": "application/json",
        "downloadHref": f"{base}/download/{image.id}",
    }
    assert (row["filename"], row["title"], row["size"]) == ("my.photo.jpg", "my.photo", 7)
    assert row["miniature"]["href"] == f"{base}/download/{image.id}?miniature=true"
    assert row["tiny"]["mediaType"] == "image/png"
    date, clock = row["updated"].split(" ")
    assert [len(part) for part in (date, clock)] == [10, 12]


def test_image_lists_have_pages_too(service: Service) -> None:
    product = service.product(*files(3))
    page = service.client.get(f"{images_path(product)}?limit=2").json()
    assert filenames(page["rows"]) == ["0.jpg", "1.jpg"]
    rest = service.client.get(page["meta"]["nextHref"]).json()
    assert filenames(rest["rows"]) == ["2.jpg"]


def test_permanent_links_are_given_on_request(service: Service) -> None:
    product = service.product(*files(1))
    (plain,) = service.client.get(images_path(product)).json()["rows"]
    assert "downloadPermanentHref" not in plain["meta"]
    query = "fields=downloadPermanentHref"
    (row,) = service.client.get(f"{images_path(product)}?{query}").json()["rows"]
    assert row["meta"]["downloadPermanentHref"].startswith(service.server.storage_url + "/")
    page = service.client.get(f"entity/product?{query}&expand=images&limit=100").json()
    (listed,) = page["rows"][0]["images"]["rows"]
    assert listed["meta"] == row["meta"]


def test_a_plan_may_lack_permanent_links(service: Service) -> None:
    account = service.emulator.add_account("Free", permanent_links=False)
    account.add_user(token=account.id)
    product = account.add_entity("product", name="P", images=files(1))
    with service.client_for(account.id) as client:
        url = f"{images_path(product)}?fields=downloadPermanentHref"
        (row,) = client.get(url).json()["rows"]
    assert "downloadPermanentHref" not in row["meta"]


@pytest.mark.parametrize(
    "query",
    [
        "fields=downloadPermanentHref,stock",
        "fields=downloadPermanentHref&fields=downloadPermanentHref",
        "fields=stock",
    ],
)
def test_one_supported_fields_value_a_request(service: Service, query: str) -> None:
    for path in ("entity/product", images_path(service.product())):
        response = service.client.get(f"{path}?{query}")
        assert (response.status_code, codes(response)) == (400, [3042])


@pytest.mark.parametrize(("condition", "code"), [("archived=x", 1041), ("updated>now", 1035)])
def test_wrong_values_of_filters_are_refused(service: Service, condition: str, code: int) -> None:
    response = service.client.get("entity/product", params={"filter": condition})
    assert (response.status_code, codes(response)) == (400, [code])


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("name!=b", ["a", "c"]),
        ("name!=a;name!=b", ["c"]),
        ("code=1;name!=a", ["b"]),
        ("updated>2026-01-02 10:00", ["c"]),
        ("updated>=2026-01-02 10:00:00", ["b", "c"]),
        ("updated<2026-01-02 10:00:00.001", ["a", "b"]),
        ("updated<=2026-01-01 10:00", ["a"]),
        ("updated>2026-01-01 10:00;updated>2026-01-02 10:00", ["b", "c"]),  # the first counts
        ("updated=2026-01-02 10:00:00", ["b"]),
    ],
)
def test_comparisons(service: Service, condition: str, found: list[str]) -> None:
    for day, (name, code) in enumerate((("a", "1"), ("b", "1"), ("c", "2")), 1):
        product = service.product(name=name, code=code)
        product.updated = f"2026-01-0{day} 10:00:00.000"
    assert names(service, filter=condition) == found


def test_many_ids_are_found_at_once(service: Service) -> None:
    products = [service.product(name=str(number)) for number in range(101)]
    condition = ";".join(f"id={product.id}" for product in products[:100])
    assert names(service, filter=condition) == [str(number) for number in range(100)]


def test_archived_entities_are_listed_on_request_only(service: Service) -> None:
    sold, gone = service.product(name="sold"), service.product(name="gone", archived=True)
    assert names(service) == ["sold"]
    assert names(service, filter="archived=false") == ["sold"]
    assert names(service, filter="archived=true") == ["gone"]
    assert names(service, filter="archived=true;archived=false") == ["sold", "gone"]
    assert names(service, filter=f"id={gone.id};id={sold.id}") == ["sold"]
    assert service.client.get(entity_path(gone)).json()["archived"] is True


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("order=name", 1096),
        ("search=a", 1040),
        ("async=true", 1040),
        ("limit=1&limit=2", 1040),
        ("namedfilter=x", 1040),
    ],
)
def test_parameters_that_are_not_played_are_refused(
    service: Service, query: str, code: int
) -> None:
    product = service.product(*files(1))
    for path in ("entity/product", entity_path(product), images_path(product)):
        response = service.client.get(f"{path}?{query}")
        assert (response.status_code, codes(response)) == (400, [code])


def test_requests_that_take_no_parameters_refuse_them(service: Service) -> None:
    product = service.product(*files(1))
    for method, path in (
        ("GET", f"download/{product.images[0].id}"),
        ("GET", "context/application"),
        ("GET", "entity/organization"),
        ("POST", f"{images_path(product)}/delete"),
        ("DELETE", f"{images_path(product)}/{product.images[0].id}"),
        ("DELETE", entity_path(product)),
    ):
        assert codes(service.client.request(method, f"{path}?expand=images")) == [1040]
    assert service.names(product) == ["0.jpg"]


def test_links_to_other_pages_repeat_the_query(service: Service) -> None:
    product = service.product(*files(3))
    query = "fields=downloadPermanentHref&limit=2"
    page = service.client.get(f"{images_path(product)}?{query}").json()
    (row,) = service.client.get(page["meta"]["nextHref"]).json()["rows"]
    assert "downloadPermanentHref" in row["meta"]


def test_the_page_before_the_second_row_begins_at_the_first(service: Service) -> None:
    for number in range(3):
        service.product(name=str(number))
    meta = service.client.get("entity/product?limit=2&offset=1").json()["meta"]
    assert "offset=0" in meta["previousHref"]


def test_a_bulk_answer_of_more_than_100_entities_is_not_expanded(service: Service) -> None:
    products = [service.product(*files(1)) for _ in range(101)]
    for count, expanded in ((100, True), (101, False)):
        body = [{"meta": service.entity_meta(p)} for p in products[:count]]
        answer = service.client.post("entity/product?expand=images&limit=100", json=body).json()
        assert ("rows" in answer[0]["images"]) is expanded
