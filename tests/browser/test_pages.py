"""Every page, as different people see it: on a telephone, by keyboard, in the dark, in Russian."""

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.browser.chromium import NARROW, WIDE, Scheme, Visitor
from tests.browser.conftest import Visit
from tests.browser.demo import RunningDemo

pytestmark = pytest.mark.anyio

KNOWN = {"/", "/failed", "/queue", "/runs", "/accounts", "/audit"}
"""Pages that the frame of each leads to."""
_MOST_PAGES = 40
_NO_PAGE = ("/static/", "/api/", "/metrics", "/healthz", "/readyz", "/login", "/logout")
_ONE_OF_MANY = re.compile(r"(?<=[/=])(?:[0-9a-f]{8}-[0-9a-f-]{27}|\d[\w.-]*)")
_FOCUSABLE = "a[href], button, select, textarea, summary, input:not([type=hidden]), [tabindex='0']"


async def each_page(visitor: Visitor) -> AsyncIterator[Page]:
    """The pages to which links lead from the first one, in one tab; of pages that differ in an id
    or a number only, the first."""
    page = await visitor.page()
    waiting, seen = ["/"], {"/"}
    while waiting:
        path = waiting.pop(0)
        answer = await page.goto(visitor.base + path)
        assert answer is not None
        assert answer.status == 200, path
        yield page
        for href in await page.eval_on_selector_all("a[href]", "all => all.map(a => a.href)"):
            there = urlsplit(href)
            kind = kind_of(href)
            is_page = f"{there.scheme}://{there.netloc}" == visitor.base
            if kind in seen or "lang=" in kind or not is_page or there.path.startswith(_NO_PAGE):
                continue
            seen.add(kind)
            waiting.append(there.path + (f"?{there.query}" if there.query else ""))
            assert len(seen) < _MOST_PAGES, sorted(seen)


def kind_of(url: str) -> str:
    """Path and query, with a star for each id and number."""
    there = urlsplit(url)
    return _ONE_OF_MANY.sub("*", there.path + (f"?{there.query}" if there.query else ""))


async def test_the_menu_leads_to_every_page(demo: RunningDemo, visit: Visit) -> None:
    page = await (await visit(demo.base)).page("/")
    hrefs = await page.eval_on_selector_all("nav a", "all => all.map(a => a.pathname)")
    assert set(hrefs) == KNOWN
    answers = {href: await page.request.get(demo.base + href) for href in hrefs}
    assert {href for href, answer in answers.items() if answer.status != 200} == set()


async def test_the_demonstration_shows_what_differs_of_a_franchise_that_is_not_copied_to(
    demo: RunningDemo, visit: Visit
) -> None:
    page = await (await visit(demo.base)).page("/")
    perm = page.get_by_role("listitem").filter(has_text="Franchise Perm")
    await perm.get_by_role("link", name="12 differ").click()
    entity = page.get_by_role("listitem").filter(has_text="Product 1").first
    await expect(entity).to_contain_text("Nothing is copied by itself here")
    await expect(entity.get_by_role("img").first).to_be_visible()


async def findings(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    results: dict[str, Any] = (await Axe().run(page)).response
    return [
        f"{page.url}: {one['id']}: {node['html'][:200]}"
        for one in results["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [NARROW, WIDE])
async def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(
    demo: RunningDemo, visit: Visit, width: int, scheme: Scheme
) -> None:
    found: list[str] = []
    seen: set[str] = set()
    visitor = await visit(
        demo.base, width=width, scheme=scheme, locale="ru-RU" if scheme == "dark" else "en-GB"
    )
    async for page in each_page(visitor):
        kind = kind_of(page.url)
        if await page.locator("main img").count():
            kind += " with pictures"
        seen.add(kind)
        found += await findings(page)
        if too_wide := await wider_than_the_window(page):
            found.append(f"{page.url}: wider than {width}: {too_wide}")
    assert found == []
    assert seen >= {
        *KNOWN - {"/failed"},
        "/failed with pictures",
        "/children/*",
        "/children/*/differences with pictures",
        "/runs/*",
        "/queue/*",
    }


async def wider_than_the_window(page: Page) -> list[str]:
    """What makes a page scroll sideways; nothing where it does not."""
    told: list[str] = await page.evaluate(
        """() => {
            const root = document.documentElement, wide = root.clientWidth;
            if (root.scrollWidth <= wide) return [];
            return [...document.querySelectorAll("body *")]
                .filter(e => e.getBoundingClientRect().right > wide + 1)
                .map(e => e.outerHTML.slice(0, 120));
        }"""
    )
    return told


@pytest.mark.parametrize("locale", ["ru-RU", "en-GB"])
async def test_no_value_stands_letter_under_letter_on_a_telephone(
    demo: RunningDemo, visit: Visit, locale: str
) -> None:
    found: list[str] = []
    async for page in each_page(await visit(demo.base, width=NARROW, locale=locale)):
        found += await page.evaluate(
            """() => [...document.querySelectorAll("dl.facts dd")]
                .filter(e => e.checkVisibility() && e.getBoundingClientRect().width < 96)
                .map(e => `${location.pathname}: ${e.innerText.slice(0, 60)}`)"""
        )
    assert found == []


async def test_tab_reaches_every_control_and_shows_where_it_is(
    demo: RunningDemo, visit: Visit
) -> None:
    async for page in each_page(await visit(demo.base)):
        await page.evaluate("() => document.activeElement?.blur()")
        controls: int = await page.evaluate(
            """selector => {
                const all = [...document.querySelectorAll(selector)].filter(
                    e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0);
                all.forEach((e, n) => e.dataset.number = n);
                const groups = new Set();
                return all.filter(e => {
                    if (e.type !== "radio") return true;
                    const isNew = !groups.has(e.name);
                    groups.add(e.name);
                    return isNew;
                }).length;
            }""",
            _FOCUSABLE,
        )
        reached: set[str] = set()
        for step in range(controls + 5):
            await page.keyboard.press("Tab")
            number, is_shown, html = await page.evaluate(
                """() => {
                    const e = document.activeElement, style = getComputedStyle(e);
                    const outlined = style.outlineStyle !== "none" && style.outlineWidth !== "0px";
                    const box = e.getBoundingClientRect();
                    const inside = box.right > 0 && box.bottom > 0 && box.width > 0;
                    return [e.dataset.number, (outlined || style.boxShadow !== "none") && inside,
                            e.outerHTML.slice(0, 150)];
                }"""
            )
            if number is None or number in reached:
                continue
            reached.add(number)
            assert is_shown, f"{page.url}: the focus is not to be seen on {html}"
            if step == 0:
                assert "#content" in html, f"{page.url}: the first control is {html}"
        assert len(reached) == controls, page.url


async def test_the_skip_link_leads_past_the_menu(demo: RunningDemo, visit: Visit) -> None:
    page = await (await visit(demo.base)).page("/")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    assert await page.evaluate("() => document.activeElement.id") == "content"


@pytest.mark.parametrize(
    ("locale", "language", "word"), [("ru-RU", "ru", "Обзор"), ("en-GB", "en", "Overview")]
)
async def test_the_browser_says_the_language(
    demo: RunningDemo, visit: Visit, locale: str, language: str, word: str
) -> None:
    async for page in each_page(await visit(demo.base, locale=locale, scripts=False)):
        assert await page.locator("html").get_attribute("lang") == language
        assert word in await page.locator("nav").first.inner_text()


async def test_another_language_is_chosen_on_the_page_and_stays(
    demo: RunningDemo, visit: Visit
) -> None:
    page = await (await visit(demo.base, locale="ru-RU")).page("/")
    await page.locator("a[hreflang=en]").click()
    await page.wait_for_url("**/?lang=en")
    await page.goto(demo.base + "/audit")
    assert await page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
async def test_on_a_telephone_the_menu_is_folded(
    demo: RunningDemo, visit: Visit, *, scripts: bool
) -> None:
    page = await (await visit(demo.base, width=NARROW, scripts=scripts)).page("/")
    header, link = page.locator("header.top"), page.locator("nav a").last
    box = await header.bounding_box()
    assert box is not None
    assert box["height"] < 120
    await expect(link).not_to_be_visible()
    await page.locator("summary").first.click()
    await expect(link).to_be_visible()
    await link.click()
    await expect(page).to_have_url(re.compile(r"/\w+$"))
    wide = await (await visit(demo.base, width=WIDE)).page("/")
    await expect(wide.locator("nav a").last).to_be_visible()
    await expect(wide.locator("summary").first).not_to_be_visible()
