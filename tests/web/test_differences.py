"""What the page of differences tells, and which pictures it gives."""

import asyncio
import re
from dataclasses import replace

import pytest

from imgsync.application.syncing import Look
from imgsync.domain.diff import EntityKey
from imgsync.domain.differences import EntityDifference, SeenImage
from imgsync.domain.matching import CounterpartIndex
from imgsync.domain.model import Link, LinkSettings
from imgsync.domain.schedule import LinkSchedule
from imgsync.entrypoints.web import words
from imgsync.entrypoints.web.plain import skipped, without_addresses
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures
from tests.web.conftest import ALL, Visited
from tests.web.test_pages import set_password

pytestmark = pytest.mark.database


def put(visited: Visited, *found: EntityDifference) -> None:
    """As if a comparison had found these."""

    async def end() -> None:
        store = visited.container.differences()
        began = await store.begin(visited.shop.main.id, visited.shop.child.id)
        assert began is not None
        counts: dict[str, int] = {}
        for one in found:
            counts[one.difference] = counts.get(one.difference, 0) + 1
        assert await store.end(visited.shop.child.id, began, found, counts, 0)

    visited.call(end)


def seen(name: str, image_id: str = "i") -> SeenImage:
    return SeenImage(image_id, name, 5, "2026-11-27 10:00:00.000")


def lamp(shop: Shop, difference: str = "different") -> EntityDifference:
    key = EntityKey(shop.child.id, "product", "c-1")
    return EntityDifference(
        "product", "Lamp", "", difference, "", "m-1", key, (), (), will_change=True
    )


def test_what_differs_is_shown_with_both_accounts_pictures(visited: Visited) -> None:
    path = visited.link()
    assert "has not been compared here yet" in visited.get(path)
    visited.shop.pair("Lamp", pictures(3), old=pictures(1), code="L-1")
    visited.shop.pair("Chair", pictures(1))
    visited.shop.main.add_entity(
        "product", name="Sofa", external_code="only-here", images=pictures(1)
    )
    page = visited.compare(path)
    assert "2 differ from Main." in page
    assert "Lamp (L-1)" in page
    assert "2 pictures are missing here." in page
    assert "1 picture is missing here." in page
    assert "The next sync copies them." in page
    assert "Sofa" not in page
    page = visited.browser.get(path, params={"kind": "unmatched"}).text
    assert "Nothing here has the external code “only-here”." in page
    assert "give it here the same one as in the main account" in page
    assert "Lamp" not in page
    russian = visited.browser.get(
        path, params={"kind": "unmatched"}, headers={"Accept-Language": "ru"}
    )
    assert "Здесь нет позиции, у которой внешний код «only-here»." in russian.text
    assert "Chair" in visited.browser.get(path, params={"kind": "missing"}).text
    assert "Lamp" not in visited.browser.get(path, params={"text": "CHAIR"}).text


def test_every_picture_on_the_page_can_be_had_and_is_kept_by_the_browser(visited: Visited) -> None:
    path = visited.link()
    visited.shop.pair("Lamp", pictures(2), old=pictures(1))
    page = visited.compare(path)
    sources = re.findall(r'src="(/pictures/[^"]+)"', page)
    assert len(sources) == 3
    for source in sources:
        answer = visited.browser.get(source)
        assert answer.headers["content-type"] in ("image/png", "image/jpeg")
        assert len(answer.content) < 200_000
        assert answer.headers["cache-control"] == "private, max-age=86400"
        again = visited.browser.get(source, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    # Of another version than the page has seen the newest is given, and not kept as that one.
    other = sources[0].split("?")[0] + "?v=" + "0" * 12
    assert visited.browser.get(other).headers["cache-control"] == "private, max-age=0"


def test_no_picture_is_given_that_no_page_shows(visited: Visited) -> None:
    visited.link()
    visited.shop.pair("Lamp", pictures(1))
    main = visited.shop.pairs[0].main
    named = f"/pictures/{visited.shop.main.id}/product/{main.id}/{main.images[0].id}"
    before = visited.shop.emulator.stats.api_calls
    for path in (
        named,  # it is there, but was never found to differ
        "/pictures/nobody/product/a/b",
        f"/pictures/{visited.shop.main.id}/product/..%5C..%5Ccontext/employee",
        f"/pictures/{visited.shop.main.id}/%00/%00/%00",
    ):
        answer = visited.browser.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.headers["cache-control"] == "no-store"
        assert b"<script" not in answer.content
    assert visited.shop.emulator.stats.api_calls == before


def test_a_picture_that_is_lost_is_a_placeholder_that_names_nothing(visited: Visited) -> None:
    path = visited.link()
    visited.shop.pair("Lamp", pictures(1))
    page = visited.compare(path)
    (source,) = re.findall(r'src="(/pictures/[^"]+)"', page)
    visited.shop.emulator.faults.add(method="ANY", path_regex=".", status=404, times=1000)
    visited.shop.emulator.faults.add(
        method="ANY", path_regex=".", status=404, times=1000, where="storage"
    )
    answer = visited.browser.get(source)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    everything = answer.text + str(answer.headers)
    for secret in (MAIN_TOKEN, CHILD_TOKEN, visited.shop.server.api_url):
        assert secret not in everything


def test_pictures_need_the_login(visited: Visited) -> None:
    path = visited.link()
    set_password(visited.browser, visited.container)
    for wanted in (path, "/pictures/a/product/b/c"):
        assert visited.browser.get(wanted).headers["location"].startswith("/login?next=")


def test_a_comparison_is_a_run_and_proves_the_child(visited: Visited) -> None:
    path = visited.link()
    visited.shop.pair("Lamp", pictures(1), old=pictures(1))
    page = visited.compare(path)
    assert "No differences: every picture here is as in Main." in page
    (run,) = visited.call(visited.container.run_history().find)
    assert (run.kind, run.cause, run.child_ids) == ("check", "page", (visited.shop.child.id,))
    assert run.numbers["equal"] == 1
    proof = visited.call(visited.container.proofs().get, visited.shop.child.id)
    assert proof is not None
    assert proof.equal_at == proof.compared_at
    assert not visited.shop.writes


def test_a_comparison_that_fails_keeps_what_the_last_one_found_and_says_why(
    visited: Visited,
) -> None:
    path = visited.link()
    visited.shop.pair("Lamp", pictures(1))
    visited.compare(path)
    visited.shop.emulator.faults.add(method="ANY", path_regex=".", status=403, times=1000)
    page = visited.compare(path)
    assert "The last comparison did not come to its end" in page
    assert "Lamp" in page
    assert "remap" not in page
    runs = visited.call(visited.container.run_history().find)
    assert sum(run.error is not None for run in runs) == 1


def test_unlinking_forgets_what_differed(visited: Visited) -> None:
    path = visited.link()
    put(visited, lamp(visited.shop))
    visited.call(visited.container.unlink_accounts(), [visited.shop.child.id])
    assert visited.call(visited.container.differences().get, visited.shop.child.id) is None
    assert visited.browser.get(path).status_code == 404
    assert visited.browser.post(f"{path}/compare", data={"csrf": "x"}).status_code == 403


@pytest.mark.parametrize(
    ("change", "settings", "says"),
    [
        (
            {"main_images": (seen("a.png"),), "child_images": (seen("b.png"),)},
            ALL,
            ("1 picture is missing here. 1 picture here is none of main's.", "the same as main's"),
        ),
        (
            # A copy has another format: its name tells that it is one.
            {"main_images": (seen("a.webp"),), "child_images": (seen("a.jpg"),)},
            ALL,
            ("The order is another, or main has newer versions", "the same as main's"),
        ),
        (
            {"main_images": (seen("a.png"), seen("b.png")), "difference": "missing"},
            LinkSettings(sync_images=True),
            ("1 picture is missing here.", "The next sync copies them."),
        ),
        (
            {"main_images": (seen("a.png"),), "difference": "missing"},
            replace(ALL, schedule=LinkSchedule(copies=False)),
            ("1 picture is missing here.", "Nothing is copied by itself here"),
        ),
        (
            {"main_images": (seen("a.png"),), "difference": "missing"},
            LinkSettings(),
            ("This franchise is switched off: it is not compared.", "Nothing happens"),
        ),
        (
            {"main_images": (seen("a.png"),), "reason": "no picture", "will_change": False},
            ALL,
            ("What is missing cannot be copied.", "/failed?child="),
        ),
        (
            {"child_images": (seen("a.png"),), "difference": "extra"},
            ALL,
            ("Main has no pictures; 1 is here.", "removes those that imgsync copied"),
        ),
        (
            {"child_images": (seen("a.png"),), "difference": "extra", "will_change": False},
            ALL,
            ("Main has no pictures; 1 is here.", "imgsync did not copy them"),
        ),
    ],
)
def test_it_says_what_is_wrong_and_what_happens(
    visited: Visited,
    change: dict[str, object],
    settings: LinkSettings,
    says: tuple[str, str],
) -> None:
    path = visited.link(settings)
    put(visited, replace(lamp(visited.shop), **change))  # type: ignore[arg-type]
    page = visited.get(path).replace("&#39;", "'")
    for text in says:
        assert text in page


def test_pages_names_and_damage(visited: Visited) -> None:
    path = visited.link()
    hostile = "<script>alert(1)</script>"
    many = [replace(lamp(visited.shop), name=f"Lamp {n}") for n in range(12)]
    put(visited, replace(lamp(visited.shop), name=hostile), *many)
    first = visited.get(path)
    assert hostile not in first
    assert "&lt;script&gt;" in first
    assert ("Lamp 8" in first, "Lamp 9" in first) == (True, False)
    assert "page=1" in first
    second = visited.browser.get(path, params={"page": "1"}).text
    assert ("Lamp 8" in second, "Lamp 9" in second, "Lamp 11" in second) == (False, True, True)
    for odd in ("-1", "9" * 30, "x"):
        assert visited.browser.get(path, params={"page": odd}).status_code == 200
    assert visited.browser.get(path, params={"kind": "'; --", "text": "%\x00"}).status_code == 200
    assert visited.browser.get("/children/nobody/differences").status_code == 404


def test_every_reason_that_a_survey_gives_has_plain_words() -> None:
    words.use("en")
    index = CounterpartIndex[str]("externalCode", "product", lambda one: one)
    index.add("two", "a")
    index.add("two", "b")
    index.add("one", "c")
    index.assign("one", "first")
    reasons = [index.assign(key, "second")[1] for key in (None, "two", "none", "one")]
    reasons += [
        "none of its images can be copied",
        "the main account does not tell its images",
        "'Lamp': an image is left out: a.png: it has no download address",
        "image sync is off",
        "",
    ]
    for reason in reasons:
        why, to_do, detail = skipped(reason)
        assert (bool(why), bool(to_do), detail) == (True, True, ""), reason
    assert skipped("something new at https://api.moysklad.ru/x")[2] == "something new at …"


@pytest.mark.parametrize(
    "text",
    [
        "storage host 'storage.files.mow1.cloud.servers.ru' answered 404",
        "the name api.moysklad.ru cannot be resolved",
        "MoySklad account 'X': /api/remap/1.2/entity/product: 403",
        "refusing to send credentials to evil.example",
        "see https://cdn.moysklad.ru/a?token=b",
    ],
)
def test_no_address_is_told(text: str) -> None:
    told = without_addresses(text)
    assert not re.search(r"servers\.ru|moysklad\.ru|/api/|evil|token", told)
    assert "…" in told
    assert without_addresses("photo.final.jpg is 3 MB, host of many") == (
        "photo.final.jpg is 3 MB, host of many"
    )


def test_two_who_press_the_button_begin_one_comparison(visited: Visited) -> None:
    visited.link()

    async def both() -> list[bool]:
        return [
            visited.container.syncing().begin(visited.shop.child.id, Look.CHECK) for _ in range(2)
        ]

    assert visited.call(both) == [True, False]
    visited.wait()
    assert len(visited.call(visited.container.run_history().find)) == 1


def test_beside_a_sync_no_comparison_begins_and_both_pages_say_so(visited: Visited) -> None:
    path = visited.link()
    child_id, page = visited.shop.child.id, path.removesuffix("/differences")

    async def hold() -> None:
        syncing = visited.container.syncing()
        held.append(asyncio.Event())
        find = syncing.find_links

        async def waiting(main: str | None, children: list[str]) -> list[Link]:
            await held[0].wait()
            return await find(main, children)

        syncing.find_links = waiting  # type: ignore[assignment]

    async def release() -> None:
        held[0].set()

    held: list[asyncio.Event] = []
    visited.call(hold)
    visited.post(f"{page}/sync", page)
    assert "A sync is under way. It can be compared once that has ended." in visited.get(path)
    visited.post(f"{path}/compare", page)
    visited.call(release)
    visited.wait()
    assert [run.kind for run in visited.call(visited.container.run_history().find)] == ["enqueue"]
    held.clear()
    visited.call(hold)
    visited.post(f"{path}/compare", path)
    assert "It is being compared with the main account." in visited.get(page)
    assert "Comparing: 0 looked at so far." in visited.get(path)
    visited.post(f"{page}/sync", page)
    visited.call(release)
    visited.wait()
    kinds = [run.kind for run in visited.call(visited.container.run_history().find)]
    assert kinds == ["check", "enqueue"]
    assert visited.call(visited.container.differences().get, child_id).error is None
