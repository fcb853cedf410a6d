"""The pages of runs: what is told of each, and the charts with the same numbers as a table."""

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import httpx
import pytest
from dependency_injector import providers

from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.domain.runs import Run, RunCause, RunKind, Usage
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web.charts import HEIGHT, WIDTH, chart, last_days, seconds_by_day
from imgsync.entrypoints.web.runs import duration

pytestmark = [pytest.mark.anyio, pytest.mark.database]
SECRET = "s3cret-of-the-child"
ZONE = timezone(timedelta(hours=5))


@pytest.fixture
async def container(sqlite_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=sqlite_url))
    made.zone.override(providers.Object(ZONE))
    for account_id, name in (("m", "Main"), ("omsk", "Omsk"), ("perm", "Perm")):
        await made.accounts().add(Account(account_id, name, TokenKind.USER, SECRET))
        if account_id != "m":
            await made.settings().link("m", account_id, LinkSettings(sync_images_all=True))
    yield made
    await close(made)


async def add(
    container: Container,
    run_id: str,
    began: datetime,
    kind: RunKind = RunKind.SWEEP,
    children: tuple[str, ...] = ("omsk",),
) -> None:
    run = Run(run_id, kind, RunCause.SCHEDULE, children, began)
    await container.run_history().begin(run)


def ids(page: str) -> list[str]:
    return re.findall(r'<a href="/runs/([^"?]+)"', page)


async def test_a_run_is_told_in_words(browser: httpx.AsyncClient, container: Container) -> None:
    now = datetime.now(UTC)
    await add(container, "one", now - timedelta(minutes=2), children=("omsk", "perm", "gone"))
    told = {"equal": 1200, "different": 3, "missing": 4, "too_many": 2, "bytes": 5_200_000}
    more = {"requests": 77, "units": 308, "uploaded": 9, "of_a_plugin": 6}
    await container.run_history().end(
        "one", told | more, f"Perm: {SECRET} at https://x.moysklad.ru"
    )
    await add(container, "two", now)
    listed = html.unescape((await browser.get("/runs")).text)
    assert ids(listed) == ["two", "one"]
    for text in (
        "Compare everything and copy, by the schedule",
        "Omsk, Perm, gone",
        "1,200 / 7",
        "9 (5.2 MB)",
        "77 / 308",
        "refused: 2",
        "Under way or broken off",
        "UTC+05:00",
        "2 min",
    ):
        assert text in listed, text
    one = html.unescape((await browser.get("/runs/one")).text)
    for text in ("Images are missing in the franchise", "308", "of_a_plugin", "Perm: ••• at (addr"):
        assert text in one, text
    for page in (listed, one):
        assert SECRET not in page
        assert "moysklad.ru" not in page
    assert "under way" in (await browser.get("/runs/two")).text
    assert (await browser.get("/runs/three")).status_code == 404


async def test_runs_are_found_by_child_and_kind_a_page_at_a_time(
    browser: httpx.AsyncClient, container: Container
) -> None:
    begin = datetime.now(UTC) - timedelta(hours=5)
    for n in range(130):
        child, kind = ("omsk", RunKind.CHECK) if n % 2 else ("perm", RunKind.SURVEY)
        await add(container, f"run{n}", begin + timedelta(minutes=n), kind, (child,))
    page, seen = (await browser.get("/runs?child=omsk&kind=check")).text, list[str]()
    while True:
        seen += ids(page)
        older = re.search(r'<a href="([^"]+)">Older</a>', page)
        if older is None:
            break
        page = (await browser.get(html.unescape(older[1]))).text
    assert seen == [f"run{n}" for n in reversed(range(130)) if n % 2]
    assert ids((await browser.get("/runs?child=omsk&kind=survey")).text) == []
    for odd in ("kind=none", "from=-1", "from=" + "9" * 17, "from=x", "child=%00"):
        assert (await browser.get(f"/runs?{odd}")).status_code == 200, odd


async def test_the_charts_have_the_numbers_of_the_table(
    browser: httpx.AsyncClient, container: Container
) -> None:
    await container.usage().add({"omsk": Usage(10, 40, 0, 3, 2_000_000), "m": Usage(7, 7)})
    await container.usage().add({"omsk": Usage(1, 4, 0, 1, 500_000)})
    now = datetime.now(UTC)
    await add(container, "long", now - timedelta(seconds=1))
    await container.run_history().end("long", {})
    page = html.unescape((await browser.get("/runs")).text)
    assert page.count('role="img"') == 4
    for name in ("images", "bytes", "requests", "seconds"):
        assert f'aria-labelledby="{name}-title {name}-text"' in page
    rows = re.findall(r'<td data-name="Day">[^<]+</td>(.*?)</tr>', page)
    cells = [re.findall(r">([^<]*)</td>", row) for row in rows]
    assert len(cells) == 30
    assert cells[0][:3] == ["4", "2.5 MB", "18"]  # today
    assert all(row[:3] == ["0", "0", "0"] for row in cells[1:])
    assert "style=" not in page  # which the policy forbids
    assert page.count('<rect class="bar"') == 4


async def test_durations_of_days_whose_runs_are_not_all_kept_are_not_told(
    browser: httpx.AsyncClient, container: Container
) -> None:
    container.keep.override(providers.Object(timedelta(days=3)))
    page = (await browser.get("/runs")).text
    rows = re.findall(r'<td data-name="Day">[^<]+</td>(.*?)</tr>', page)
    durations = [re.findall(r">([^<]*)</td>", row)[3] for row in rows]
    assert durations == ["0 s"] * 3 + ["—"] * 27
    assert "not known any more" in page


def test_bars_are_as_high_as_their_values() -> None:
    one = chart("x", "X", [0, 1, None, 4], str)
    assert [bar.height for bar in one.bars] == [HEIGHT / 4, HEIGHT]
    assert [bar.y + bar.height for bar in one.bars] == [HEIGHT, HEIGHT]
    assert max(bar.x + bar.width for bar in one.bars) <= WIDTH
    assert (one.texts, one.most) == (["0", "1", "—", "4"], "4")
    assert chart("x", "X", [0, None], str).bars == []


def test_a_day_is_one_of_the_zone() -> None:
    late = datetime(2026, 3, 1, 20, tzinfo=UTC)  # the second of March there
    days = last_days(late, ZONE, 2)
    assert [day.day for day in days] == [1, 2]
    run = Run("r", RunKind.SWEEP, RunCause.PAGE, (), late, late + timedelta(seconds=5))
    assert list(seconds_by_day([run], days, ZONE, days[0]).values()) == [0.0, 5.0]
    assert list(seconds_by_day([run], days, ZONE, days[1]).values()) == [None, 5.0]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (3.25, "3.2 s"), (59.94, "59.9 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


async def test_a_run_that_only_queues_leads_to_what_the_queue_copies(
    browser: httpx.AsyncClient, container: Container
) -> None:
    now = datetime.now(UTC)
    await add(container, "told", now, RunKind.WEBHOOK, ("omsk",))
    images = {"omsk": {"missing": 29, "images": 29}}
    await container.run_history().end("told", {"missing": 29, "images": 29}, None, images)
    page = html.unescape((await browser.get("/runs")).text)
    assert '<a href="/queue?child=omsk">29 queued; the queue copies them</a>' in page
    one = html.unescape((await browser.get("/runs/told")).text)
    assert '<a href="/queue?child=omsk">Omsk: 29 images queued</a>' in one

    both = {"omsk": {"images": 1}, "perm": {"images": 2}}
    await add(container, "swept", now, RunKind.SWEEP, ("omsk", "perm"))
    await container.run_history().end("swept", {"images": 3}, None, both)
    page = html.unescape((await browser.get("/runs")).text)
    assert '<a href="/queue">3 queued; the queue copies them</a>' in page
    one = html.unescape((await browser.get("/runs/swept")).text)
    assert "Omsk: 1 image queued" in one
    assert "Perm: 2 images queued" in one

    # One that copies by itself, and one that only compares, queue nothing.
    for run_id, kind in (("synced", RunKind.SYNC), ("checked", RunKind.CHECK)):
        await add(container, run_id, now, kind, ("omsk",))
        await container.run_history().end(run_id, {"images": 29}, None, images)
        assert "images queued" not in (await browser.get(f"/runs/{run_id}")).text
    assert (await browser.get("/runs")).text.count("queued; the queue") == 2
    assert "29 изображений в очереди" in (await browser.get("/runs/told?lang=ru")).text
