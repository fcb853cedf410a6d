"""The HTTP API: keys, tasks, links, and what is wrong in plain words."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from imgsync.domain.model import NO_END, Account, LinkSettings, Parking, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.runs import ChildProof
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web.serving import app_of
from tests.web.described import Describing

pytestmark = [pytest.mark.anyio]
ENTITY = "00000000-0000-0000-0000-00000000000{}"
PAYLOAD = {
    "main_account_id": "m",
    "child_account_id": "c",
    "parent_entity_type": "product",
    "parent_entity_id": ENTITY.format(1),
    "child_entity_id": ENTITY.format(2),
    "images": [],
}


@pytest.fixture
async def container(database_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=database_url))
    for name in ("m", "c"):
        await made.accounts().add(Account(name, name.upper(), TokenKind.USER, "s3cret"))
    await made.settings().link("m", "c", LinkSettings(sync_images_all=True))
    yield made
    await close(made)


@pytest.fixture
async def client(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    key = await container.add_api_key()("w", may_write=True)
    app = app_of(container)
    describing = Describing(app)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://localhost/api/v1",
        headers={"Authorization": f"Bearer {key}"},
        event_hooks={"response": [describing]},
    ) as made:
        yield made


def is_problem(answer: httpx.Response, status: int) -> bool:
    told = answer.json()
    kind = answer.headers["content-type"]
    return (kind, told["status"], answer.status_code) == (
        "application/problem+json",
        status,
        status,
    )


async def test_only_a_key_opens_and_a_removed_one_does_not(
    client: httpx.AsyncClient, container: Container
) -> None:
    assert (await client.get("/accounts")).status_code == 200
    assert "s3cret" not in (await client.get("/accounts")).text
    for wrong in ("", "Bearer", "Bearer x", "Basic dTpw"):
        assert is_problem(await client.get("/links", headers={"Authorization": wrong}), 401)
    await container.api_keys().remove("w")
    assert is_problem(await client.get("/links"), 401)


async def test_wrong_keys_are_answered_so_often_only(client: httpx.AsyncClient) -> None:
    wrong = {"Authorization": "Bearer x"}
    statuses = [(await client.get("/links", headers=wrong)).status_code for _ in range(25)]
    assert statuses == [401] * 20 + [429] * 5


async def test_a_reading_key_changes_nothing(
    client: httpx.AsyncClient, container: Container
) -> None:
    key = await container.add_api_key()("r", may_write=False)
    reads = {"Authorization": f"Bearer {key}"}
    assert is_problem(await client.post("/tasks", json=PAYLOAD, headers=reads), 403)
    assert (await client.get("/tasks", headers=reads)).json() == {"tasks": [], "before": None}


async def test_a_task_is_queued_once_cancelled_retried_and_deleted(
    client: httpx.AsyncClient, container: Container
) -> None:
    first, again = [(await client.post("/tasks", json=PAYLOAD)).json() for _ in range(2)]
    (task,) = first["tasks"]
    assert again["tasks"] == [{"id": task["id"], "created": False}]
    this = f"/tasks/{task['id']}"
    assert (await client.get(this)).json()["payload"]["child_account_id"] == "c"
    assert is_problem(await client.post(f"{this}/retry"), 409)
    assert (await client.post(f"{this}/cancel")).json()["error"] == "cancelled"
    assert is_problem(await client.post(f"{this}/cancel"), 409)
    found = (await client.get("/tasks", params={"status": "cancelled", "child": "c"})).json()
    assert [one["id"] for one in found["tasks"]] == [task["id"]]
    assert (found["tasks"][0]["status"], found["tasks"][0]["state"]) == ("failed", "cancelled")
    assert (await client.post(f"{this}/retry")).json()["status"] == "pending"
    assert (await client.delete(this)).json() == {"deleted": task["id"]}
    assert is_problem(await client.get(this), 404)
    noted = await container.audit_log().find()
    actions = ["delete task", "retry task", "cancel task", "queue tasks", "queue tasks"]
    assert [entry.action for entry in noted] == actions
    assert {entry.who for entry in noted} == {"key w"}


async def test_tasks_are_found_by_the_words_of_the_command(
    client: httpx.AsyncClient, container: Container
) -> None:
    async def queued(entity: int) -> Any:
        payload = PAYLOAD | {"child_entity_id": ENTITY.format(entity)}
        told = await client.post("/tasks", json=payload)
        return told.json()["tasks"][0]["id"]

    old, broken, ended, warned = [await queued(entity) for entity in (2, 3, 4, 5)]
    await client.post(f"/tasks/{ended}/cancel")
    with container.database().engine.begin() as connection:
        fail = text("UPDATE sync_queue SET status = 'failed', error = 'broken' WHERE id = :id")
        connection.execute(fail, [{"id": old}, {"id": broken}])
        done = "UPDATE sync_queue SET status = 'completed', warnings = '[\"a.jpg\"]' WHERE id = :id"
        connection.execute(text(done), {"id": warned})
    new = await queued(2)
    for state, found in (
        ("failed", [broken]),
        ("superseded", [old]),
        ("cancelled", [ended]),
        ("completed-with-warnings", [warned]),
        ("completed", [warned]),
        ("pending", [new]),
        ("processing", []),
    ):
        told = (await client.get("/tasks", params={"status": state})).json()["tasks"]
        assert [one["id"] for one in told] == found, state
        if state != "completed":
            assert {one["state"] for one in told} <= {state}
            for one in told:
                assert (await client.get(f"/tasks/{one['id']}")).json()["state"] == state
    assert is_problem(await client.get("/tasks", params={"status": "parked"}), 400)


async def test_accounts_that_take_no_requests_are_named(
    client: httpx.AsyncClient, container: Container
) -> None:
    assert (await client.get("/status")).json()["parked_accounts"] == []
    until = datetime.now(UTC) + timedelta(hours=1)
    await container.accounts().park("m", Parking("full at https://api.moysklad.ru/x", until))
    await container.accounts().park("c", Parking("the solution was removed", NO_END))
    answer = await client.get("/status")
    told = answer.json()
    by_id = {one["id"]: one for one in told["parked_accounts"]}
    assert by_id["c"] == {"id": "c", "name": "C", "until": None}
    assert by_id["m"]["name"] == "M"
    assert datetime.fromisoformat(by_id["m"]["until"]) > datetime.now(UTC)
    assert told["parked"] == 0  # no task waits
    assert "moysklad.ru" not in answer.text
    await container.accounts().add(Account("c", "C", TokenKind.USER, "new"))
    told = (await client.get("/status")).json()
    assert [one["id"] for one in told["parked_accounts"]] == ["m"]


async def test_children_without_a_counterpart_of_something_are_named(
    client: httpx.AsyncClient, container: Container
) -> None:
    assert (await client.get("/status")).json()["unmatched"] == []
    await client.patch("/links/C", json={"sync_images_all": True})
    now = datetime.now(UTC)
    await container.proofs().put(ChildProof("c", "m", now, now, {"equal": 3, "unmatched": 2}))
    told = (await client.get("/status")).json()["unmatched"]
    assert told == [{"id": "c", "name": "C", "unmatched": 2}]
    # Of one that receives nothing nobody asks.
    await client.patch("/links/C", json={"sync_images_all": False})
    assert (await client.get("/status")).json()["unmatched"] == []


async def test_settings_of_a_link_are_changed(client: httpx.AsyncClient) -> None:
    change: dict[str, Any] = {"sync_images": True, "guard": True, "schedule": {"sweep": "05:00"}}
    link = (await client.patch("/links/C", json=change)).json()
    assert (link["sync_images"], link["sync_images_all"], link["guard"]) == (True, False, True)
    assert link["schedule"] == {"sweep": "05:00", "survey_minutes": 15, "copies": True}
    assert (await client.get("/links/c")).json() == link
    assert is_problem(await client.patch("/links/M", json={}), 404)
    wrong = await client.patch("/links/C", json={"sync_imges": True})
    assert is_problem(wrong, 422)
    assert wrong.json()["errors"][0]["pointer"] == "#/sync_imges"
    assert is_problem(await client.patch("/links/C", json={"schedule": {"sweep": "25:00"}}), 422)


@pytest.mark.parametrize(
    "body", ["", "{", "NaN", "1e999", '{"a": Infinity}', "[" * 60 + "]" * 60, "[" * 100_000, "\xff"]
)
async def test_a_body_that_is_no_plain_json_is_refused(
    client: httpx.AsyncClient, body: str
) -> None:
    assert is_problem(await client.post("/tasks", content=body.encode("latin-1")), 400)


async def test_what_is_too_large_or_too_strange_is_refused(client: httpx.AsyncClient) -> None:
    assert is_problem(await client.post("/tasks", content=b" " * 1_000_001), 413)
    assert is_problem(await client.post("/tasks", json=[]), 422)
    assert is_problem(await client.post("/tasks", json={**PAYLOAD, "child_account_id": "x"}), 404)
    for strange in ("9" * 40, "0", "-1", "x", "%00", "%F0%9F%A6%86"):
        assert is_problem(await client.get(f"/tasks/{strange}"), 404)
    for query in ("limit=0", "limit=x", "status=done", "colour=red", "limit=%D9%A1"):
        assert is_problem(await client.get(f"/tasks?{query}"), 400)


async def test_a_payload_that_is_no_text_is_shown_all_the_same(
    client: httpx.AsyncClient, container: Container
) -> None:
    (given,) = await container.queue().enqueue([NewTask({"name": "\ud800 Лампа"})])
    told = (await client.get(f"/tasks/{given.task_id}")).json()
    assert told["payload"] == {"name": "\ud800 Лампа"}


async def test_what_is_not_there_is_a_problem_too(client: httpx.AsyncClient) -> None:
    assert is_problem(await client.get("/nothing"), 404)
    assert is_problem(await client.put("/links"), 405)
    assert is_problem(await client.patch("/links/c", json={"schedule": {"sweep": "25:00"}}), 422)


async def test_a_fault_of_our_own_is_a_problem_that_tells_nothing(
    container: Container, client: httpx.AsyncClient
) -> None:
    def broken() -> None:
        raise ValueError("s3cret")

    with container.settings.override(broken):
        key = client.headers["Authorization"]
        transport = httpx.ASGITransport(app_of(container), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
            answer = await made.get("/api/v1/links", headers={"Authorization": key})
    assert is_problem(answer, 500)
    assert "s3cret" not in answer.text
