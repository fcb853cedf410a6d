"""The HTTP API begins syncs and checks, and tells what became of them, on both databases."""

import asyncio
import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from imgsync.application.syncing import Look
from imgsync.domain.errors import UnavailableError
from imgsync.domain.runs import Run, RunCause, RunKind
from imgsync.domain.tasks import TaskStatus
from imgsync.entrypoints.container import Container
from imgsync.testing import MemoryMoySklad
from tests.web.test_api import is_problem

pytestmark = [pytest.mark.anyio]
PATIENCE = 60


async def ended(api: httpx.AsyncClient, location: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await api.get(f"http://localhost{location}")
            assert answer.status_code == 200  # from the moment on at which it was named
            run: dict[str, Any] = answer.json()
            if run["status"] != "running":
                return run
            await asyncio.sleep(0.02)


async def test_a_sync_of_all_is_one_run_that_queues_what_differs(
    api: httpx.AsyncClient, served: Container
) -> None:
    begun = await api.post("/sync", json={"children": "all"})
    assert begun.status_code == 202
    (one,) = begun.json()["runs"]
    assert (sorted(one["children"]), one["created"]) == (["c", "d"], True)
    assert begun.headers["location"] == f"/api/v1/runs/{one['id']}"
    run = await ended(api, begun.headers["location"])
    assert (run["status"], run["kind"], run["cause"]) == ("done", "enqueue", "api")
    assert run["by_child"] == {name: {"missing": 1, "images": 1} for name in ("c", "d")}
    assert (await served.queue().counts())[TaskStatus.PENDING] == 2
    (noted,) = await served.audit_log().find()
    assert (noted.who, noted.action, noted.subject) == ("key w", "sync", one["id"])
    assert [r["id"] for r in (await api.get("/runs?child=C&kind=enqueue")).json()["runs"]] == [
        one["id"]
    ]
    assert (await api.get("/runs?kind=sweep")).json() == {"runs": []}


async def test_a_dry_run_and_a_check_queue_nothing_and_tell_what_differs(
    api: httpx.AsyncClient, served: Container
) -> None:
    none = (await api.get("/children/C/differences")).json()
    assert none == {"comparison": None, "differences": []}
    wishes: list[tuple[str, dict[str, Any]]] = [
        ("/sync", {"children": ["C"], "dry_run": True}),
        ("/check", {"children": ["C", "c", "D"]}),
    ]
    for path, wish in wishes:
        begun = await api.post(path, json=wish)
        run = await ended(api, begun.headers["location"])
        assert (run["status"], run["kind"], run["by_child"]["c"]["missing"]) == ("done", "check", 1)
    assert sorted(run["children"]) == ["c", "d"]
    assert not (await served.queue().counts())[TaskStatus.PENDING]
    assert await served.audit_log().find() == []
    found = (await api.get("/children/C/differences?difference=missing&text=LAMP")).json()
    assert found["comparison"]["counts"]["missing"] == 1
    (one,) = found["differences"]
    assert (one["name"], one["main_images"][0]["filename"]) == ("Lamp", "a.png")
    assert one["will_change"] is True
    assert found["comparison"]["found_at"] == found["comparison"]["began"]
    assert (await api.get("/children/C/differences?offset=1")).json()["differences"] == []


async def test_a_page_and_the_api_at_once_are_one_run(
    api: httpx.AsyncClient, served: Container
) -> None:
    assert served.syncing().begin("c")
    asked = [api.post("/sync", json={"children": ["C"]}) for _ in range(5)]
    answers = await asyncio.gather(*asked)
    runs = {answer.json()["runs"][0]["id"] for answer in answers}
    assert len(runs) == 1
    assert {answer.json()["runs"][0]["created"] for answer in answers} == {False}
    assert (await ended(api, answers[0].headers["location"]))["cause"] == "page"
    assert len(await served.run_history().find()) == 1


async def test_a_comparison_of_another_host_is_told(
    api: httpx.AsyncClient, served: Container
) -> None:
    began = await served.differences().begin("m", "c")
    begun = (await api.post("/check", json={"children": "all"})).json()
    assert ([one["children"] for one in begun["runs"]], begun["elsewhere"]) == ([["d"]], ["c"])
    assert is_problem(await api.post("/check", json={"children": ["C"]}), 409)
    assert await served.differences().end("c", began or "", [], {"equal": 1}, 0)
    begun = (await api.post("/check", json={"children": ["C"]})).json()
    assert begun["elsewhere"] == []


async def test_something_else_at_once_is_a_conflict(
    api: httpx.AsyncClient, served: Container
) -> None:
    assert served.syncing().begin("c", Look.PREVIEW)
    answer = await api.post("/sync", json={"children": ["C", "D"]})
    assert is_problem(answer, 409)
    assert "under way" in answer.json()["detail"]
    assert not served.syncing().is_busy("d")


@pytest.mark.parametrize(
    ("wish", "status", "said"),
    [
        ({}, 422, "#/children"),
        ({"children": []}, 422, "#/children"),
        ({"children": "C"}, 422, "#/children"),
        ({"children": [1]}, 422, "#/children"),
        ({"children": ["C"], "dry_run": "yes"}, 422, "#/dry_run"),
        ({"children": ["C"], "since": "yesterday"}, 422, "neither a time"),
        ({"children": ["C"], "since": "2026-01-31T12:00"}, 422, "names no zone"),
        ({"children": ["C"], "since": "2999-01-31T12:00Z"}, 422, "yet to come"),
        ({"children": ["C"], "since": "0001-01-01T00:00+14:00"}, 422, "no time"),
        ({"children": ["C"], "types": ["product"]}, 422, "#/types"),
        ({"children": ["nobody"]}, 404, "'nobody' is not stored"),
        ({"children": ["\x00"]}, 404, "is not stored"),
        ({"children": ["\ud800"]}, 422, "#/children"),
        ({"children": ["M"]}, 422, "not linked"),
    ],
)
async def test_a_wrong_wish_begins_nothing(
    api: httpx.AsyncClient, served: Container, wish: dict[str, Any], status: int, said: str
) -> None:
    answer = await api.post("/sync", content=json.dumps(wish))
    assert is_problem(answer, status)
    assert said in answer.text
    assert (await api.get("/runs")).json() == {"runs": []}


async def test_a_pointer_leads_into_the_body(api: httpx.AsyncClient) -> None:
    wishes: list[tuple[dict[str, Any], str]] = [
        ({}, "#/children"),
        ({"children": []}, "#/children"),
        ({"children": ["C", 1]}, "#/children/1"),
        ({"children": "all", "a/b~": 1}, "#/a~1b~0"),
    ]
    for wish, pointer in wishes:
        told = (await api.post("/sync", json=wish)).json()["errors"]
        assert pointer in {one["pointer"] for one in told}
        assert {one["pointer"] for one in told} <= {pointer, "#/children"}


async def test_what_breaks_off_is_told_of_the_run(
    api: httpx.AsyncClient, shops: dict[str, MemoryMoySklad]
) -> None:
    shops["d"].fail = lambda _: UnavailableError("no answer")
    begun = await api.post("/sync", json={"children": ["D"]})
    run = await ended(api, begun.headers["location"])
    assert (run["status"], "no answer" in run["error"]) == ("failed", True)


async def test_a_run_whose_process_is_gone_is_lost(
    api: httpx.AsyncClient, served: Container
) -> None:
    began = await served.shared_clock().now() - timedelta(minutes=3)
    await served.run_history().begin(Run("r/1", RunKind.SYNC, RunCause.COMMAND, ("c",), began))
    (run,) = (await api.get("/runs")).json()["runs"]
    assert (run["id"], run["status"], run["ended"]) == ("r/1", "lost", None)
    assert (await api.get("/runs?since=2026-01-31T12:00:00Z&limit=1&offset=1")).json() == {
        "runs": []
    }


@pytest.mark.parametrize(
    "path",
    [
        "/runs?limit=0",
        "/runs?limit=1_0",
        "/runs?limit=9999999999999999999999",
        "/runs?offset=-1",
        "/runs?limit=1&limit=2",
        "/runs?kind=none",
        "/runs?since=2026-01-31",
        "/runs?until=0001-01-01T00:00:00%2B14:00",
        "/runs?colour=red",
        "/children/c/differences?difference=none",
        "/links?child=c",
    ],
)
async def test_a_wrong_query_is_told(api: httpx.AsyncClient, path: str) -> None:
    assert is_problem(await api.get(path), 400)


async def test_nobody_else_has_runs(api: httpx.AsyncClient) -> None:
    for path in ("/runs/none", "/runs/%00", "/runs?child=nobody", "/children/x/differences"):
        assert is_problem(await api.get(path), 404)
