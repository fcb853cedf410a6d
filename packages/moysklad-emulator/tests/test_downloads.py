import threading
import time
from types import SimpleNamespace

import httpx
import pytest

from moysklad_emulator import EmulatorLimits
from moysklad_emulator.images import NewImage
from service import JPEG, PNG, Service, StartService, codes, images_path, plain

HEADER = "X-Lognex-Download-Expiration-Seconds"


@pytest.mark.parametrize(("start", "media_type"), [(JPEG, "image/jpeg"), (PNG, "image/png")])
def test_a_download_redirects_to_the_other_port(
    service: Service, start: bytes, media_type: str
) -> None:
    content = start + bytes(200_000)
    location = service.download_location(service.product(("a", content)))
    assert location.startswith(service.server.storage_url + "/")
    assert service.server.storage_url not in service.server.api_url
    response = plain.get(location)
    assert response.content == content
    assert response.headers["content-length"] == str(len(content))
    assert response.headers["content-type"] == media_type


def test_head_requests(service: Service) -> None:
    product = service.product(("a.jpg", JPEG + b"123"))
    redirect = service.client.head(f"download/{product.images[0].id}")
    assert redirect.status_code == 302
    response = httpx.head(redirect.headers["location"])
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "7"
    assert service.emulator.stats.downloads == 0


def test_a_download_needs_authorisation_and_costs_units(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(rate_units=2))
    product = service.product(("a.jpg", JPEG))
    url = f"{service.server.api_url}/download/{product.images[0].id}"
    assert plain.get(url).status_code == 401
    assert service.client.get(url).headers["X-RateLimit-Remaining"] == "1"
    assert service.client.head(url).headers["X-RateLimit-Remaining"] == "0"
    assert service.client.get(url).status_code == 429


def test_links_work_many_times_until_they_expire(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = service.download_location(service.product(("a.jpg", JPEG)))
    assert [plain.get(location).status_code for _ in range(2)] == [200, 200]
    later = SimpleNamespace(time=lambda: time.time() + 61)
    monkeypatch.setattr("moysklad_emulator.links.time", later)
    assert plain.get(location).status_code == 403


def test_a_header_changes_the_expiry(start_service: StartService) -> None:
    service = start_service(EmulatorLimits(download_seconds=0.0, max_download_seconds=2))
    product = service.product(("a.jpg", JPEG))
    expired = service.download_location(product)
    assert plain.get(expired).status_code == 403
    long = service.download_location(product, **{HEADER: "86400"})
    assert plain.get(long).status_code == 200
    expires = float(httpx.URL(long).params["expires"])
    assert expires <= time.time() + 2  # not beyond the maximum


def test_the_expiry_is_one_minute_by_default(service: Service) -> None:
    location = service.download_location(service.product(("a.jpg", JPEG)))
    assert float(httpx.URL(location).params["expires"]) - time.time() == pytest.approx(60, abs=5)


@pytest.mark.parametrize("value", ["0", "-1", "x", "9" * 5000])
def test_a_wrong_expiry_is_refused(service: Service, value: str) -> None:
    product = service.product(("a.jpg", JPEG))
    response = service.client.get(f"download/{product.images[0].id}", headers={HEADER: value})
    assert (response.status_code, codes(response)) == (400, [1040])


def test_links_cannot_be_forged(service: Service) -> None:
    product = service.product(("a.jpg", JPEG))
    location = httpx.URL(service.download_location(product))
    later = location.copy_set_param("expires", "9999999999.000")
    bare = location.copy_with(query=None)
    unsigned = location.copy_set_param("signature", "ё")
    unknown = f"{service.server.storage_url}/temporary/x/y"
    for url in (later, bare, unsigned, unknown):
        assert plain.get(url).status_code == 403


def test_the_storage_refuses_and_counts_authorisation(service: Service) -> None:
    location = service.download_location(service.product(("a.jpg", JPEG)))
    assert service.client.get(location).status_code == 400
    assert service.emulator.stats.authorization_leaks == 1
    assert plain.get(location).status_code == 200
    assert service.emulator.stats.authorization_leaks == 1


def test_httpx_drops_the_authorisation_when_it_follows(service: Service) -> None:
    product = service.product(("a.jpg", JPEG))
    url = f"download/{product.images[0].id}"
    assert service.client.get(url, follow_redirects=True).content == JPEG
    assert service.emulator.stats.authorization_leaks == 0


def test_images_of_other_accounts_cannot_be_downloaded(service: Service) -> None:
    other = service.emulator.add_account("Other")
    theirs = other.add_entity("product", name="P", images=[("a.jpg", JPEG)])
    response = service.client.get(f"download/{theirs.images[0].id}")
    assert (response.status_code, codes(response)) == (404, [1021])


def test_deleted_images_are_gone(service: Service) -> None:
    product = service.product(("a.jpg", JPEG))
    image_id, location = product.images[0].id, service.download_location(product)
    assert service.client.post(images_path(product), json=[]).is_success
    assert service.client.get(f"download/{image_id}").status_code == 404
    assert plain.get(location).status_code == 403


def test_a_permanent_link_costs_no_units(service: Service) -> None:
    product = service.product(("a.jpg", JPEG))
    url = f"{images_path(product)}?fields=downloadPermanentHref"
    (row,) = service.client.get(url).json()["rows"]
    calls = service.emulator.stats.api_calls
    assert plain.get(row["meta"]["downloadPermanentHref"]).content == JPEG
    assert service.emulator.stats.api_calls == calls
    assert service.emulator.stats.downloads == 1
    missing = row["meta"]["downloadPermanentHref"][:-1] + "?"
    assert plain.get(missing).status_code == 403


def test_miniatures_are_other_pictures(service: Service) -> None:
    product = service.product(("a.jpg", JPEG + bytes(5000)))
    (row,) = service.client.get(images_path(product)).json()["rows"]
    redirect = service.client.get(row["miniature"]["href"])
    assert redirect.headers["location"] == row["miniature"]["downloadHref"]
    content = plain.get(row["tiny"]["href"]).content
    assert content.startswith(PNG)
    assert len(content) < 100
    assert service.emulator.stats.downloads == 0


def test_the_longest_expiry_is_a_day(service: Service) -> None:
    location = service.download_location(service.product(("a.jpg", JPEG)), **{HEADER: "999999"})
    left = float(httpx.URL(location).params["expires"]) - time.time()
    assert left == pytest.approx(86_400, abs=30)


def test_head_requests_are_no_downloads(service: Service) -> None:
    location = service.download_location(service.product(("a.jpg", JPEG)))
    with httpx.Client() as client:  # one context of TLS for all, which is slow to make
        for _ in range(50):
            client.head(location)
    assert service.emulator.stats.storage_requests == 50
    assert service.emulator.stats.downloads == 0


def test_a_download_during_a_replace_is_whole_or_refused(service: Service) -> None:
    content = JPEG + bytes(300_000)
    product = service.product(("a.jpg", content))
    locations = [service.download_location(product)]
    stop = threading.Event()

    def replace_again_and_again() -> None:
        while not stop.is_set():
            service.account.set_images(product, [])
            service.account.set_images(product, [NewImage.create("a.jpg", content)])

    changing = threading.Thread(target=replace_again_and_again)
    changing.start()
    try:
        with httpx.Client() as client:
            answers = [client.get(locations[0]) for _ in range(150)]
    finally:
        stop.set()
        changing.join()
    assert {a.status_code for a in answers} <= {200, 403}
    assert all(a.content == content for a in answers if a.status_code == 200)
