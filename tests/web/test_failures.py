"""What the page of failed images tells, and what it tries again."""

import re

import pytest

from imgsync.domain.diff import FailureCause
from imgsync.domain.failures import FailedEntity, FailedImage, Failure
from imgsync.domain.model import RemoteImage
from imgsync.entrypoints.advice import ADVICE, HAPPENED
from imgsync.entrypoints.container import close
from imgsync.entrypoints.web import words
from tests.cli.test_images import NO_PICTURE, break_once
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, pictures
from tests.web.conftest import Visited
from tests.web.test_pages import set_password

pytestmark = pytest.mark.database


def fail(
    visited: Visited,
    name: str = "Lamp",
    cause: str = "no picture",
    *,
    reason: str = "it is none",
    count: int = 1,
    child: str | None = None,
) -> list[FailedImage]:
    """As if `count` images of an entity had failed."""
    shop = visited.shop
    entity = FailedEntity(
        shop.main.id, child or shop.child.id, "product", f"m-{name}", f"c-{name}", name, "L-1"
    )
    failures = [
        Failure(f"i-{name}-{n}", f"{name}-{n}.png", "1 2", cause, reason, settled=True)
        for n in range(count)
    ]

    async def note() -> list[FailedImage]:
        noted: list[FailedImage] = await visited.container.failed_images().note(entity, failures)
        return noted

    rows: list[FailedImage] = visited.call(note)
    return rows


def asked_for(visited: Visited) -> set[str]:
    async def find() -> list[FailedImage]:
        return await visited.container.failed_images().find(limit=1000)

    return {row.failure.filename for row in visited.call(find) if row.next_attempt_at is not None}


def test_what_failed_is_shown_with_its_picture_and_tried_again(visited: Visited) -> None:
    visited.link()
    shop = visited.shop
    shop.pair("Lamp", [*pictures(2), NO_PICTURE], code="L-1")
    break_once(shop, shop.pairs[0].main.images[1].id)
    visited.post(f"/children/{shop.child.id}/sync", f"/children/{shop.child.id}")
    visited.drain()
    page = visited.get("/failed")
    assert "2 images could not be copied." in page
    for text in (
        "Lamp (L-1): 1.png",
        "The picture could not be fetched from the main account.",
        "see whether the main account still shows it",
        "May pass by itself",
        "Lamp (L-1): b.png",
        "The file in the main account is no whole picture.",
        "put a whole JPEG or PNG file in its place",
        "Needs somebody",
        "once it changes in the main account",
        "1 attempt,",
    ):
        assert text in page, text
    for picture in re.findall(r'src="(/pictures/[^"]+)"', page):
        # What cannot be fetched cannot be shown.
        assert visited.browser.get(picture).headers["content-type"] == "image/svg+xml"
    russian = visited.get("/failed", language="ru")
    assert "Файл в главном аккаунте — не целое изображение." in russian
    # A process does not repeat a request that failed for good; another may.
    visited.call(close, visited.container)
    (one, _) = re.findall(r'name="one" value="(\d+)"', page)
    assert visited.post("/failed/retry", "/failed", one=one) == "/failed?asked=1"
    assert "1 image is tried again now." in visited.get("/failed", asked="1")
    visited.drain()
    assert shop.images(shop.pairs[0].child) == pictures(2)
    page = visited.get("/failed")
    assert ("1.png" in page, "b.png" in page) == (False, True)


def test_main_s_picture_is_shown_of_the_version_that_failed(visited: Visited) -> None:
    visited.link()
    shop = visited.shop
    shop.pair("Lamp", pictures(1))
    main, child = shop.pairs[0].main, shop.pairs[0].child
    (image,) = visited.call(main_images, visited)
    entity = FailedEntity(shop.main.id, shop.child.id, "product", main.id, child.id, "Lamp")
    failure = Failure(image.id, "a.png", f"5 {image.updated}", "refused", "it is", settled=True)
    visited.call(visited.container.failed_images().note, entity, [failure])
    (picture,) = re.findall(r'src="(/pictures/[^"]+)"', visited.get("/failed"))
    answer = visited.browser.get(picture)
    assert answer.headers["content-type"] in ("image/png", "image/jpeg")
    assert answer.headers["cache-control"] == "private, max-age=86400"


async def main_images(visited: Visited) -> list[RemoteImage]:
    container, main = visited.container, visited.shop.pairs[0].main
    account = await container.accounts().get(visited.shop.main.id)
    kind = container.plugins().entity_types.get("product")
    listed: list[RemoteImage] = (
        await container.moysklad().for_account(account).list_images(kind, main.id)
    )
    return listed


def test_one_the_selected_or_all_that_match_are_tried_again_and_noted(visited: Visited) -> None:
    visited.link()
    lamps, chairs = fail(visited, count=3), fail(visited, "Chair", "too large", count=2)
    retry = "/failed/retry"
    where = visited.post(retry, "/failed", id=[str(lamps[0].id), str(lamps[2].id)])
    assert where == "/failed?asked=2"
    assert asked_for(visited) == {"Lamp-0.png", "Lamp-2.png"}
    where = visited.post(retry, "/failed", one=str(chairs[1].id), id=str(lamps[1].id))
    assert asked_for(visited) == {"Lamp-0.png", "Lamp-2.png", "Chair-1.png"}
    shown = {"child": visited.shop.child.id, "reason": "too large", "text": "chair"}
    where = visited.post(retry, "/failed", all="1", **shown)
    assert "asked=2" in where
    assert "reason=too+large" in where
    assert asked_for(visited) == {"Lamp-0.png", "Lamp-2.png", "Chair-0.png", "Chair-1.png"}
    visited.post(retry, "/failed", all="1")
    assert len(asked_for(visited)) == 5
    # Nothing selected, or gone meanwhile: nothing happens, and that is said.
    for nothing in ({}, {"id": "987654"}, {"all": "1", "text": "no such"}):
        assert "asked=0" in visited.post(retry, "/failed", **nothing)
    assert "None was selected" in visited.get("/failed", asked="0")
    entries = visited.call(visited.container.audit_log().find)
    told = [(e.action, e.subject, e.detail["images"]) for e in reversed(entries)]
    assert told == [
        ("retry", "Child", 2),
        ("retry", "Chair: Chair-1.png", 1),
        ("retry", "Child", 2),
        ("retry", "Child", 5),
    ]


def test_one_image_that_fails_in_several_franchises_is_one_card(visited: Visited) -> None:
    visited.link()
    of = [fail(visited, child=f"Shop {n}")[0] for n in (10, 2)]
    of += fail(visited, "Chair")
    page = visited.get("/failed")
    assert "3 images could not be copied." in page
    assert re.findall(r'alt="([^"]+)"', page) == ["Lamp-0.png", "Chair-0.png"]
    assert "In 2 franchises" in page
    assert page.index("Shop 2:") < page.index("Shop 10:")
    ids = f"{of[0].id} {of[1].id}"
    assert f'name="id" value="{ids}"' in page
    assert visited.post("/failed/retry", "/failed", one=ids) == "/failed?asked=2"
    assert asked_for(visited) == {"Lamp-0.png"}
    only = visited.get("/failed", child="Shop 2")
    assert f'name="id" value="{of[1].id}"' in only
    assert "In 2 franchises" not in only
    assert "В 2 франшизах" in visited.get("/failed", language="ru")


@pytest.mark.parametrize("ids", [["x"], ["1 x"], ["-1"], ["9" * 30], ["1"] * 26])
def test_what_no_page_sends_is_refused(visited: Visited, ids: list[str]) -> None:
    visited.link()
    fail(visited)
    page = visited.get("/failed")
    token = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
    answer = visited.browser.post("/failed/retry", data={"csrf": token, "id": ids})
    assert answer.status_code == 400
    assert visited.browser.post("/failed/retry", data={"all": "1"}).status_code == 403
    assert asked_for(visited) == set()


def test_filters_and_pages(visited: Visited) -> None:
    visited.link()
    fail(visited, count=27)
    fail(visited, "Chair", "too large")
    fail(visited, "Sofa", "plugin", child="unlinked")
    page = visited.get("/failed")
    assert "29 images could not be copied." in page
    assert ("Lamp-24.png" in page, "Lamp-25.png" in page) == (True, False)
    (more,) = re.findall(r'href="(/failed\?after=\d+)"', page)
    page = visited.get(more)
    assert ("Lamp-24.png" in page, "Lamp-26.png" in page, "Chair-0.png" in page) == (
        False,
        True,
        True,
    )
    assert 'href="/children/unlinked"' not in page  # there is no such page
    for asked, there in (
        ({"reason": "too large"}, "Chair-0.png"),
        ({"text": "CHAIR"}, "Chair-0.png"),
        ({"child": "unlinked"}, "Sofa-0.png"),
    ):
        page = visited.get("/failed", **asked)
        assert re.findall(r'alt="([^"]+)"', page) == [there], asked
    for odd in ({"reason": "'"}, {"after": "x"}, {"after": "9" * 30}, {"asked": "-1"}):
        assert "images could not be copied" in visited.get("/failed", **odd)
    assert "Nothing here." in visited.get("/failed", text="no such")


def test_an_address_or_a_script_in_a_reason_is_not_told(visited: Visited) -> None:
    visited.link()
    fail(
        visited,
        "<script>x</script>",
        "new cause",
        reason="storage host 'storage.files.mow1.cloud.servers.ru' answered <b>404</b>",
    )
    page = visited.get("/failed")
    assert "servers.ru" not in page
    assert "<script>x" not in page
    assert "<b>404" not in page
    assert "The picture could not be copied." in page  # of a cause that is not known


def test_without_any_the_page_says_so(visited: Visited) -> None:
    visited.link()
    assert "No image has failed." in visited.get("/failed")
    set_password(visited.browser, visited.container)
    assert visited.browser.get("/failed").status_code == 303


def test_the_child_and_the_overview_lead_to_it(visited: Visited) -> None:
    visited.link()
    fail(visited)
    for path in ("/", f"/children/{visited.shop.child.id}"):
        assert f'href="/failed?child={visited.shop.child.id}"' in visited.get(path)


def test_every_cause_has_words_and_advice_in_every_language() -> None:
    for cause in FailureCause:
        for text in (HAPPENED[cause], ADVICE[cause]):
            words.use("ru")
            assert words.gettext(text) != text, text
    words.use("en")


_STRANGE = re.compile(r"moysklad\.ru|servers\.ru|/api/remap|/entity/", re.IGNORECASE)


def test_no_answer_names_moysklad_or_a_token(visited: Visited) -> None:
    """Every page, form and picture that links lead to, with differences and failures on them."""
    path = visited.link()
    shop = visited.shop
    shop.pair("Lamp", [*pictures(2), NO_PICTURE], old=pictures(1))
    shop.pair("Chair", pictures(1))
    visited.compare(path)
    break_once(shop, shop.pairs[0].main.images[1].id)
    for button in ("sync", "preview"):
        visited.post(f"/children/{shop.child.id}/{button}", f"/children/{shop.child.id}")
        visited.drain()
    fail(visited, "Sofa", reason=f"{shop.server.api_url}/entity/product: 404")
    api = shop.server.api_url
    waiting, seen = ["/", path, "/failed"], {"/", path, "/failed"}
    while waiting:
        there = waiting.pop(0)
        answer = visited.browser.get(there)
        told = f"{answer.headers}\n{answer.content!r}"
        assert answer.status_code == 200, there
        for secret in (MAIN_TOKEN, CHILD_TOKEN, api, api.split("/")[2]):
            assert secret not in told, (there, secret)
        assert not _STRANGE.search(told), (there, _STRANGE.findall(told))
        for found in re.findall(r'(?:href|src)="(/[^"#]*)"', answer.text):
            found = found.replace("&amp;", "&")
            if found not in seen and "/static/" not in found and "lang=" not in found:
                seen.add(found)
                waiting.append(found)
        assert len(seen) < 200
    assert sum(one.startswith("/pictures/") for one in seen) >= 5
