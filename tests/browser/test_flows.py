"""What a person does on the pages."""

import asyncio
import re

import pytest
from playwright.async_api import Locator, Page, Route, expect

from moysklad_emulator.images import NewImage
from tests.browser.chromium import NARROW, WIDE, Visitor
from tests.browser.conftest import PASSWORD, Dashboard, Visit
from tests.browser.test_pages import findings, wider_than_the_window
from tests.e2e.conftest import wait_until
from tests.shop import Shop, pictures
from tests.support.editor import picture

pytestmark = pytest.mark.anyio

_COPIED_MS = 30_000


async def child_page(visitor: Visitor) -> Page:
    """That of the shop's child, reached from the overview."""
    page = await visitor.log_in(PASSWORD)
    await page.get_by_role("link", name="Child", exact=True).click()
    return page


async def test_whoever_has_no_password_sees_nothing(dashboard: Dashboard, visit: Visit) -> None:
    visitor = await visit(dashboard.base)
    page = await visitor.page("/queue")
    await expect(page).to_have_url(re.compile(r"/login\?next="))
    assert "Child" not in await page.content()
    await page.get_by_label("Password").fill("not the password")
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("alert")).to_contain_text("not the password")
    assert visitor.troubles == [
        "Failed to load resource: the server responded with a status of 403 (Forbidden)"
    ]
    visitor.troubles.clear()


async def test_login_leads_where_one_wanted_to_and_logout_ends_it(
    dashboard: Dashboard, visit: Visit
) -> None:
    page = await (await visit(dashboard.base)).page("/audit")
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(dashboard.base + "/audit")
    await page.get_by_role("button", name="Log out").click()
    await expect(page).to_have_url(dashboard.base + "/login")
    await page.goto(dashboard.base + "/")
    await expect(page).to_have_url(re.compile("/login"))


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_turning_one_switch_on_turns_the_other_off(
    dashboard: Dashboard, visit: Visit, *, scripts: bool
) -> None:
    page = await child_page(await visit(dashboard.base, scripts=scripts))
    # The child was linked with all images on.
    first, every = page.get_by_label("First image only"), page.get_by_label("All images")
    save = page.get_by_role("button", name="Save").first
    await expect(every).to_be_checked()
    await first.check()
    if scripts:
        await expect(every).not_to_be_checked()
    async with page.expect_navigation():
        await save.click()
    await page.reload()
    await expect(first).to_be_checked()
    await expect(every).not_to_be_checked()
    (shown,) = dashboard.host.json("settings", "show", "--child", "Child")
    assert (shown["sync_images"], shown["sync_images_all"]) == (True, False)
    await every.check()
    async with page.expect_navigation():
        await save.click()
    await page.reload()
    await expect(every).to_be_checked()
    await expect(first).not_to_be_checked()


async def test_a_switch_that_is_turned_on_before_the_script_is_there_turns_the_other_off(
    dashboard: Dashboard, visit: Visit
) -> None:
    page = await child_page(await visit(dashboard.base))
    there = asyncio.Event()

    async def late(route: Route) -> None:
        await there.wait()
        await route.continue_()

    await page.route("**/switches.js", late)
    await page.reload(wait_until="commit")
    first, every = page.get_by_label("First image only"), page.get_by_label("All images")
    await expect(every).to_be_checked()
    await first.check()
    await expect(every).to_be_checked()
    there.set()
    await expect(every).not_to_be_checked()
    await expect(first).to_be_checked()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_a_photograph_added_in_main_is_shown_as_different_and_copied(
    dashboard: Dashboard, shop: Shop, visit: Visit, *, scripts: bool
) -> None:
    first, second, new = pictures(3)
    child = shop.pair("Lamp", [first, second])
    page = await child_page(await visit(dashboard.base, scripts=scripts))
    sync = page.get_by_role("button", name="Sync now")
    show = page.get_by_role("button", name="Show what would change")
    told = page.get_by_role("status")
    # Where there are no scripts the page comes anew by itself while something is under way.
    await sync.click()
    await expect(told).to_contain_text("1 to copy", timeout=_COPIED_MS)
    await asyncio.to_thread(wait_until, lambda: shop.images(child) == [first, second])

    lamp = shop.pairs[0].main
    shop.main.add_image(lamp, NewImage.create(*new))
    await show.click()
    preview = told.filter(has=page.get_by_role("heading", name="What would change"))
    await expect(preview).to_contain_text("1 to copy", timeout=_COPIED_MS)
    await expect(preview.get_by_role("listitem")).to_contain_text("Lamp")
    await sync.click()
    await asyncio.to_thread(wait_until, lambda: shop.images(child) == [first, second, new])
    await asyncio.to_thread(wait_until, lambda: not dashboard.tasks_under_way())
    await show.click()
    await expect(preview).to_contain_text("0 to copy, 0 to clear, 1 unchanged", timeout=_COPIED_MS)


async def test_a_form_of_another_site_changes_nothing(dashboard: Dashboard, visit: Visit) -> None:
    visitor = await visit(dashboard.base)
    page = await child_page(visitor)
    await expect(page.get_by_label("All images")).to_be_checked()
    path = page.url
    answer = await page.request.post(path + "/switches", form={"first_only": "on"})
    assert answer.status == 403
    await page.reload()
    await expect(page.get_by_label("All images")).to_be_checked()


async def test_open_pages_show_what_happens_without_being_loaded_anew(
    dashboard: Dashboard, shop: Shop, visit: Visit
) -> None:
    """A command on the host finds a new photograph; two open pages tell of it, and of the copy."""
    first, new = pictures(2)
    child = shop.pair("Lamp", [first])
    visitor = await visit(dashboard.base)
    page = await child_page(visitor)
    overview = await visitor.page("/")
    queue, runs, accounts = [await visitor.page(path) for path in ("/queue", "/runs", "/accounts")]
    loads: list[str] = []
    for tab in (page, overview, queue, runs, accounts):
        await tab.evaluate("() => { window.isTheSame = true; }")
        tab.on("load", lambda loaded: loads.append(loaded.url))
    run = dashboard.host.run

    await asyncio.to_thread(run, "enqueue", "--child", "Child")
    await asyncio.to_thread(wait_until, lambda: shop.images(child) == [first])
    await expect(queue.get_by_role("row").filter(has_text="Lamp")).to_contain_text("Done")
    await asyncio.to_thread(run, "check", "--child", "Child")
    await expect(runs.get_by_role("row").filter(has_text="Compare only")).to_contain_text("Done")
    compared = accounts.get_by_role("listitem").filter(has_text="Last compared")
    await expect(compared.locator("dd:has(time)").first).to_be_visible()
    for tab in (page, overview):
        await expect(tab.get_by_text("Equal", exact=True)).to_be_visible(timeout=_COPIED_MS)

    shop.main.add_image(shop.pairs[0].main, NewImage.create(*new))
    await asyncio.to_thread(dashboard.host.end, 1, "check", "--child", "Child")
    for tab in (page, overview):
        await expect(tab.get_by_text("1 differs", exact=True)).to_be_visible(timeout=_COPIED_MS)
    # Whoever is about to change something there, or stands somewhere, is left alone.
    await page.get_by_label("First image only").check()
    await overview.get_by_role("link", name="Child", exact=True).focus()

    await asyncio.to_thread(run, "enqueue", "--child", "Child")
    await asyncio.to_thread(wait_until, lambda: shop.images(child) == [first, new])
    for tab in (page, overview):
        await expect(tab.get_by_text("Equal", exact=True)).to_be_visible(timeout=_COPIED_MS)
    for tab in (page, overview, queue, runs, accounts):
        assert await tab.evaluate("() => window.isTheSame")
    assert loads == []
    await expect(page.get_by_label("First image only")).to_be_checked()
    assert await overview.evaluate("() => document.activeElement.textContent") == "Child"


async def test_an_open_page_leads_to_the_login_once_the_session_has_ended(
    dashboard: Dashboard, shop: Shop, visit: Visit
) -> None:
    visitor = await visit(dashboard.base)
    overview = await visitor.log_in(PASSWORD)
    other = await visitor.page("/audit")
    await other.get_by_role("button", name="Log out").click()
    await expect(other).to_have_url(dashboard.base + "/login")
    shop.pair("Lamp", pictures(1))
    await asyncio.to_thread(dashboard.host.end, 1, "check", "--child", "Child")
    await expect(overview).to_have_url(re.compile("/login"), timeout=_COPIED_MS)
    visitor.troubles.clear()  # a stream that is refused is an error to the browser


@pytest.mark.parametrize(
    ("locale", "width", "words"),
    [
        ("en-GB", WIDE, ("Which goods", "Quality", "whole number", "Save the settings", "Saved.")),
        (
            "ru-RU",
            NARROW,
            ("Какие товары", "Качество", "Целое число", "Сохранить настройки", "Сохранено."),
        ),
    ],
    ids=["English, wide", "Russian, telephone"],
)
async def test_a_setting_that_cannot_be_is_told_beside_its_field(
    dashboard: Dashboard, visit: Visit, locale: str, width: int, words: tuple[str, ...]
) -> None:
    fold, quality_label, wrong, save, saved = words
    visitor = await visit(dashboard.base, locale=locale, width=width)
    page = await child_page(visitor)
    await page.get_by_text(fold).click()
    quality = page.get_by_label(re.compile(quality_label))
    await page.locator("#folders").fill("Lamps/Desk lamps")
    await quality.fill("eighty")
    await page.get_by_role("button", name=save).click()
    await expect(page.locator("#quality-wrong")).to_contain_text(wrong)
    await expect(quality).to_have_value("eighty")
    await expect(page.locator("#folders")).to_have_value("Lamps/Desk lamps")
    assert await findings(page) == []
    assert await wider_than_the_window(page) == []
    assert [text for text in visitor.troubles if "422" not in text] == []
    visitor.troubles.clear()  # to the browser a page with this status is an error
    assert dashboard.host.json("links")["links"][0]["folders"] == []
    await quality.fill("80")
    await page.get_by_role("button", name=save).click()
    await expect(page.get_by_role("status").filter(has_text=saved)).to_be_visible()
    (link,) = dashboard.host.json("links")["links"]
    assert link["folders"] == ["Lamps/Desk lamps"]
    assert link["pictures"]["quality"] == 80


async def test_a_preview_tells_what_would_change_apart_from_what_is_left_alone(
    dashboard: Dashboard, shop: Shop, visit: Visit
) -> None:
    shop.pair("Lamp", pictures(1))
    shop.main.add_entity("product", name="Sold there only", images=pictures(1))
    page = await child_page(await visit(dashboard.base))
    await page.get_by_role("button", name="Show what would change").click()
    changes, skipped = page.locator("ul.changes"), page.locator("ul.skipped")
    await expect(changes.get_by_role("listitem")).to_have_count(1, timeout=_COPIED_MS)
    await expect(changes).to_contain_text("Lamp")
    await expect(skipped.get_by_role("listitem")).to_have_count(1)
    await expect(skipped).to_contain_text("Sold there only")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_what_differs_is_shown_with_its_pictures_and_equal_after_a_sync(
    dashboard: Dashboard, shop: Shop, visit: Visit, *, scripts: bool
) -> None:
    first, new = ("first.jpg", picture("JPEG", 300)), ("new.jpg", picture("JPEG", 500))
    child = shop.pair("Lamp", [first], [first])
    shop.main.add_image(shop.pairs[0].main, NewImage.create(*new))
    page = await child_page(await visit(dashboard.base, scripts=scripts))
    await page.get_by_role("link", name="Differences, with the pictures").click()
    address = page.url
    compare = page.get_by_role("button", name="Compare now")
    await compare.click()
    lamp = page.get_by_role("listitem").filter(has_text="Lamp")
    await until_shown(page, lamp)
    await expect(lamp).to_contain_text("1 picture is missing here.")
    await expect(lamp).to_contain_text("The next sync copies them.")
    images = lamp.get_by_role("img")
    assert await images.count() == 3
    for image in await images.all():
        # The picture itself, and no placeholder.
        await expect(image).to_have_js_property("complete", value=True, timeout=_COPIED_MS)
        source = await image.get_attribute("src")
        assert source is not None
        answer = await page.request.get(dashboard.base + source)
        assert answer.headers["content-type"] == "image/jpeg"

    await page.get_by_role("link", name="Child", exact=True).click()
    await page.get_by_role("button", name="Sync now").click()
    await asyncio.to_thread(wait_until, lambda: shop.images(child) == [first, new])
    await asyncio.to_thread(wait_until, lambda: not dashboard.tasks_under_way())
    await page.goto(address)
    await expect(lamp).to_contain_text("Written since")
    await compare.click()
    await until_shown(page, page.get_by_text("No differences: every picture here is as in Main."))
    await expect(lamp).to_have_count(0)


async def until_shown(page: Page, wanted: Locator) -> None:
    """Loads the page anew until that is on it, as somebody without scripts would."""
    for _ in range(100):
        if await wanted.count():
            return
        await page.wait_for_timeout(300)
        await page.goto(page.url)
    raise AssertionError(await page.locator("main").inner_text())


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_a_failed_image_is_tried_again(
    dashboard: Dashboard, shop: Shop, visit: Visit, *, scripts: bool
) -> None:
    good, other = ("good.jpg", picture("JPEG", 300)), ("other.jpg", picture("JPEG", 500))
    child = shop.pair("Lamp", [good, other])
    (_, failing) = shop.pairs[0].main.images
    add = shop.emulator.faults.add
    add(path_regex=f"/permanent/.*{failing.id}", where="storage", status=503, times=1000)
    add(path_regex=f"/download/{failing.id}", status=503, times=1000)
    page = await child_page(await visit(dashboard.base, scripts=scripts))
    await page.get_by_role("button", name="Sync now").click()
    await asyncio.to_thread(wait_until, lambda: dashboard.host.json("images", "failed"))
    shop.emulator.faults.clear()

    await page.get_by_role("link", name="Failed images").first.click()
    other_one = page.get_by_role("listitem").filter(has_text="Lamp: other.jpg")
    await expect(other_one).to_contain_text("The picture could not be fetched")
    await other_one.get_by_role("button", name="Try other.jpg of Lamp again").click()
    await expect(page.get_by_role("status")).to_contain_text("1 image is tried again now.")
    await asyncio.to_thread(wait_until, lambda: shop.images(child) == [good, other])
    await until_shown(page, page.get_by_text("No image has failed."))
    await page.goto(dashboard.base + "/audit")
    await expect(page.get_by_role("main")).to_contain_text("Lamp: other.jpg")
