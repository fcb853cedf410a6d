"""The pages of the queue: what they find, what they let one do, and what they never show."""

import html
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from dependency_injector import providers
from sqlalchemy import text

from imgsync.domain.errors import UnlistedQueueError
from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.tasks import CANCELLED, TaskState
from imgsync.domain.tasks import TaskId, TaskStatus
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close

pytestmark = [pytest.mark.anyio, pytest.mark.database]
SECRET = "s3cret-of-the-child"
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
async def container(sqlite_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=sqlite_url))
    for account_id, name in (("m", "Main"), ("omsk", "Omsk"), ("perm", HOSTILE)):
        await made.accounts().add(Account(account_id, name, TokenKind.USER, SECRET))
        if account_id != "m":
            await made.settings().link("m", account_id, LinkSettings(sync_images_all=True))
    yield made
    await close(made)


def payload(child: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "main_account_id": "m",
        "child_account_id": child,
        "parent_entity_type": "product",
        "parent_entity_id": f"main{number}",
        "child_entity_id": f"child{number}",
        "name": f"Lamp {number}",
        "code": f"L-{number}",
        "images": [{"filename": "a.jpg", "meta": {"downloadHref": "https://api.moysklad.ru/x/y"}}],
    } | more


async def put(container: Container, child: str, number: int, **more: Any) -> TaskId:
    task = NewTask(payload(child, number, **more), f"{child}/product/{number}", child)
    (queued,) = await container.queue().enqueue([task])
    return queued.task_id


async def fail(container: Container, task_id: TaskId, error: str) -> None:
    with container.database().engine.begin() as connection:
        values = {"id": task_id, "error": error}
        connection.execute(
            text("UPDATE sync_queue SET status = 'failed', error = :error WHERE id = :id"), values
        )


def rows(page: str) -> list[str]:
    return re.findall(r'<td data-name="Of what"><a href="[^"]+">([^<]*)</a>', page)


async def send(browser: httpx.AsyncClient, path: str, **fields: str) -> httpx.Response:
    page = (await browser.get("/")).text
    found = re.search(r'name="csrf" value="([^"]+)"', (await browser.get("/queue/1/delete")).text)
    assert found, page
    return await browser.post(path, data={"csrf": found[1], **fields})


async def test_tasks_are_found_by_child_state_and_text(
    browser: httpx.AsyncClient, container: Container
) -> None:
    for number in (1, 2):
        await put(container, "omsk", number)
    last = await put(container, "perm", 3)
    await fail(container, last, "storage full")
    assert rows((await browser.get("/queue")).text) == ["Lamp 3", "Lamp 2", "Lamp 1"]
    for asked, found in (
        ("child=omsk", ["Lamp 2", "Lamp 1"]),
        ("status=failed", ["Lamp 3"]),
        ("status=pending&text=L-2", ["Lamp 2"]),
        ("text=STORAGE+FULL", ["Lamp 3"]),
        ("child=nobody", []),
        ("status=no+such&before=none", []),
    ):
        assert rows((await browser.get(f"/queue?{asked}")).text) == found, asked
    page = (await browser.get("/queue?status=failed")).text
    assert "storage full" in page
    assert "<script>" not in page
    assert html.escape(HOSTILE) in page


async def test_the_list_is_filtered_by_the_words_of_the_command(
    browser: httpx.AsyncClient, container: Container
) -> None:
    old, broken, ended = [await put(container, "omsk", number) for number in (1, 2, 3)]
    await fail(container, old, "storage full")
    await fail(container, broken, "no disk")
    await container.task_list().cancel([ended])
    await put(container, "omsk", 1, name="New lamp")
    warned = await put(container, "perm", 4)
    with container.database().engine.begin() as connection:
        values = {"id": warned, "warnings": '["a.jpg: broken"]'}
        connection.execute(
            text("UPDATE sync_queue SET status='completed', warnings=:warnings WHERE id=:id"),
            values,
        )
    page = (await browser.get("/queue")).text
    options = re.findall(r'<option value="([a-z-]*)">', page.split('name="status"')[1])
    assert options == ["", *TaskState]
    for asked, found in (
        ("failed", ["Lamp 2"]),
        ("superseded", ["Lamp 1"]),
        ("cancelled", ["Lamp 3"]),
        ("completed-with-warnings", ["Lamp 4"]),
        ("completed", ["Lamp 4"]),
        ("pending", ["New lamp"]),
        ("processing", []),
    ):
        page = (await browser.get(f"/queue?status={asked}")).text
        assert rows(page) == found, asked
        assert f'<option value="{asked}" selected>' in page
        assert ("/queue/retry" in page) == (asked == "failed"), asked


async def test_pages_lead_through_all_tasks_and_keep_the_filter(
    browser: httpx.AsyncClient, container: Container
) -> None:
    for number in range(70):
        await put(container, "omsk" if number % 7 else "perm", number)
    page, seen = (await browser.get("/queue?child=omsk")).text, list[str]()
    while True:
        seen += rows(page)
        older = re.search(r'<a href="([^"]+)">Older</a>', page)
        if older is None:
            break
        page = (await browser.get(html.unescape(older[1]))).text
    assert seen == [f"Lamp {n}" for n in reversed(range(70)) if n % 7]
    assert 'href="/queue?child=omsk">To the newest' in page


async def test_a_task_tells_all_in_words_and_nothing_secret(
    browser: httpx.AsyncClient, container: Container
) -> None:
    task = await put(
        container,
        "omsk",
        1,
        token="t0p-secret",
        note=f"Bearer {SECRET}; \ud800",
        nested=[{"password": {"deep": "hunter2"}}],
    )
    await fail(container, task, f"GET https://api.moysklad.ru/a?b was refused to {SECRET}")
    page = html.unescape((await browser.get(f"/queue/{task}")).text)
    for told in ("Lamp 1", "L-1", "Omsk", "Product", "Failed", "0 of 3", "was refused to"):
        assert told in page, told
    for hidden in (SECRET, "t0p-secret", "hunter2", "moysklad.ru"):
        assert hidden not in page, hidden
        assert hidden not in (await browser.get("/queue")).text, hidden
    assert '"filename": "a.jpg"' in page


async def test_a_row_that_cannot_be_read_has_a_page(
    browser: httpx.AsyncClient, container: Container
) -> None:
    task = await put(container, "omsk", 1)
    with container.database().engine.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET payload = 'no json', warnings = '{'"))
    page = await browser.get(f"/queue/{task}")
    assert page.status_code == 200
    assert (await browser.get("/queue")).status_code == 200
    for path in ("/queue/99", "/queue/none", "/queue/99/delete", f"/queue/{10**30}"):
        assert (await browser.get(path)).status_code == 404, path


async def test_a_task_is_cancelled_tried_again_and_deleted(
    browser: httpx.AsyncClient, container: Container
) -> None:
    task = await put(container, "omsk", 1)
    assert (await browser.post(f"/queue/{task}/cancel")).status_code == 403
    assert "Cancel this task?" in (await browser.get(f"/queue/{task}/cancel")).text

    async def state() -> tuple[TaskStatus, str | None] | None:
        found = await container.queue().get(task)
        return None if found is None else (found.status, found.error)

    assert await state() == (TaskStatus.PENDING, None)  # looking at it changes nothing
    answer = await send(browser, f"/queue/{task}/cancel")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/queue/{task}")
    assert await state() == (TaskStatus.FAILED, CANCELLED)
    page = (await browser.get(f"/queue/{task}")).text
    assert "Cancelled" in page
    assert "/cancel" not in page
    again = await send(browser, f"/queue/{task}/cancel")
    assert again.status_code == 409
    assert "It does not wait any more." in again.text
    await send(browser, f"/queue/{task}/retry")
    assert await state() == (TaskStatus.PENDING, None)
    assert (await send(browser, f"/queue/{task}/retry")).status_code == 409
    (held,) = await container.queue().claim(lease=container.lease())
    assert (await send(browser, f"/queue/{task}/delete")).status_code == 409
    await container.queue().complete(held, result="completed", warnings=["one was scaled"])
    for path in ("/queue", f"/queue/{task}"):
        assert "one was scaled" in (await browser.get(path)).text
    answer = await send(browser, f"/queue/{task}/delete")
    assert answer.headers["location"] == "/queue?deleted"
    assert await state() is None
    said = [(one.action, one.subject) for one in await container.audit_log().find()]
    wanted = [("delete task", "1"), ("retry task", "1"), ("cancel task", "1")]
    assert said == wanted


async def test_all_that_failed_and_fit_are_tried_again_but_the_cancelled(
    browser: httpx.AsyncClient, container: Container
) -> None:
    ids = [await put(container, "omsk", number) for number in range(4)]
    other = await put(container, "perm", 9)
    for task in (*ids[:3], other):
        await fail(container, task, "storage full")
    await container.task_list().cancel([ids[3]])
    page = (await browser.get("/queue?child=omsk&status=failed")).text
    assert 'href="/queue/retry?child=omsk&amp;status=failed"' in page
    assert (
        "3 failed tasks will be tried again."
        in (await browser.get("/queue/retry?child=omsk&status=failed")).text
    )
    answer = await send(browser, "/queue/retry", child="omsk", text="")
    assert answer.headers["location"] == "/queue?child=omsk&status=failed&retried=3"
    assert "3 tasks will be tried again." in (await browser.get(answer.headers["location"])).text
    counts = await container.queue().counts()
    assert (counts[TaskStatus.PENDING], counts[TaskStatus.FAILED]) == (3, 2)
    (entry,) = await container.audit_log().find()
    assert (entry.action, entry.detail["child"]) == ("retry tasks", "Omsk")
    answer = await send(browser, "/queue/retry", child="omsk", text="")
    assert answer.headers["location"].endswith("retried=0")
    assert len(await container.audit_log().find()) == 1


async def test_no_more_than_a_thousand_are_tried_again_at_once(
    browser: httpx.AsyncClient, container: Container
) -> None:
    tasks = [NewTask(payload("omsk", n), f"omsk/product/{n}", "omsk") for n in range(1002)]
    await container.queue().enqueue(tasks)
    with container.database().engine.begin() as connection:
        connection.execute(text("UPDATE sync_queue SET status = 'failed', error = 'x'"))
    page = (await browser.get("/queue/retry")).text
    assert "1000 failed tasks will be tried again." in page
    assert "do it again for the others" in page
    await send(browser, "/queue/retry")
    assert (await container.queue().counts())[TaskStatus.FAILED] == 2


async def test_a_foreign_queue_is_told_to_be_one(
    browser: httpx.AsyncClient, container: Container
) -> None:
    """Its counts are shown; nothing else is offered."""

    def unlisted() -> None:
        raise UnlistedQueueError("of another kind")

    task = await put(container, "omsk", 1)
    with container.task_list.override(providers.Callable(unlisted)):
        page = await browser.get("/queue")
        assert page.status_code == 200
        assert "queue of another program" in page.text
        assert (await browser.get("/queue/retry")).status_code == 404
        shown = (await browser.get(f"/queue/{task}")).text
        assert "/delete" not in shown
        assert "Lamp 1" in shown


async def test_the_queue_speaks_russian(browser: httpx.AsyncClient, container: Container) -> None:
    await put(container, "omsk", 1)
    page = (await browser.get("/queue", headers={"Accept-Language": "ru"})).text
    assert "Ждёт" in page
    assert "Состояние" in page
