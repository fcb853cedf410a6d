"""The HTTP API links, changes and unlinks as the commands do, on both databases."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from imgsync.domain.model import Account, AccountRole, TokenKind
from imgsync.entrypoints.container import Container
from tests.web.apihosts import Client, Host
from tests.web.test_api import is_problem

pytestmark = [pytest.mark.anyio]


@pytest.fixture
async def unlinked(served: Container) -> Account:
    account = Account("e/ж", "Тверь", TokenKind.SOLUTION, "s3cret")
    await served.accounts().add(account)
    return account


async def test_a_child_is_linked_found_and_unlinked(
    api: httpx.AsyncClient, served: Container, unlinked: Account
) -> None:
    wish = {
        "main": "M",
        "child": "Тверь",
        "images": "first",
        "match_by": "code",
        "types": ["product", "product"],
        "folders": ["Light/Lamps"],
        "pictures": {"max_side": 1200},
        "schedule": {"sweep": None},
    }
    made = await api.post("/links", json=wish)
    assert made.status_code == 201
    link = made.json()
    assert (link["child"], link["sync_images"], link["match_by"]) == ("e/ж", True, "code")
    assert (link["types"], link["folders"]) == (["product"], ["Light/Lamps"])
    assert (link["pictures"]["max_side"], link["pictures"]["fit"]) == (1200, True)
    assert link["schedule"] == {"sweep": None, "survey_minutes": 15, "copies": True}
    assert made.headers["location"] == "/api/v1/links/e%2F%D0%B6"
    assert (await served.accounts().get("e/ж")).role is AccountRole.CHILD
    again = await api.post("/links", json=wish)
    assert is_problem(again, 409)
    assert (await api.delete("/links/Тверь")).json() == {"unlinked": "e/ж"}
    assert is_problem(await api.delete("/links/Тверь"), 404)
    noted = [(one.action, one.subject) for one in await served.audit_log().find()]
    assert noted == [("unlink", "e/ж"), ("link", "e/ж")]


@pytest.mark.parametrize(
    ("wish", "status", "said"),
    [
        ({"main": "M"}, 422, "#/child"),
        ({"main": "nobody", "child": "Тверь"}, 404, "nobody"),
        ({"main": "C", "child": "Тверь"}, 409, "child of account"),
        ({"main": "M", "child": "M"}, 422, "the same"),
        ({"main": "M", "child": "Тверь", "types": ["none"]}, 422, "none"),
        ({"main": "M", "child": "Тверь", "folders": ["\n"]}, 422, "no name"),
        ({"main": "M", "child": "Тверь", "images": "some"}, 422, "#/images"),
        ({"main": "M", "child": "Тверь", "pictures": {"quality": 3}}, 422, "quality"),
        ({"main": "M", "child": "Тверь", "pictures": {"fit": 1}}, 422, "#/pictures/fit"),
        ({"main": "M", "child": "Тверь", "schedule": {"sweep": "25:00"}}, 422, "sweep"),
        ({"main": "M", "child": "Тверь", "token": "x"}, 422, "#/token"),
    ],
)
async def test_a_wrong_link_is_not_made(
    api: httpx.AsyncClient, unlinked: Account, wish: dict[str, Any], status: int, said: str
) -> None:
    answer = await api.post("/links", json=wish)
    assert is_problem(answer, status)
    assert said in answer.text
    assert len((await api.get("/links")).json()["links"]) == 2


async def test_every_setting_is_changed_and_the_others_stay(api: httpx.AsyncClient) -> None:
    async def patched(**change: Any) -> dict[str, Any]:
        answer = await api.patch("/links/C", json=change)
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    before = (await api.get("/links/c")).json()
    assert await patched() == before
    assert await patched(match_by="article") == before | {"match_by": "article"}
    assert await patched(match_by=None) == before
    assert await patched(types=["bundle"], folders=["A"]) == before | {
        "types": ["bundle"],
        "folders": ["A"],
    }
    assert await patched(types=[], folders=None) == before
    small = before["pictures"] | {"quality": 80}
    assert await patched(pictures={"quality": 80}) == before | {"pictures": small}
    assert await patched(pictures={"quality": None}) == before
    never = before["schedule"] | {"survey_minutes": None}
    assert await patched(schedule={"survey_minutes": None}) == before | {"schedule": never}
    assert await patched(schedule={"survey_minutes": 15}) == before
    off = before | {"sync_images_all": False}
    assert await patched(enabled=False) == off
    assert await patched(enabled=False) == off
    assert await patched(enabled=True) == before
    first = off | {"sync_images": True}
    assert await patched(sync_images=True) == first
    assert await patched(enabled=True) == first
    assert await patched(enabled=True, sync_images=False) == before


async def test_of_changes_at_the_same_time_none_is_lost(
    api: httpx.AsyncClient, host: Host, client_of: Client
) -> None:
    changes: list[dict[str, Any]] = [
        {"guard": True},
        {"match_by": "code"},
        {"folders": ["A"]},
        {"types": ["bundle"]},
        {"pictures": {"quality": 80}},
        {"pictures": {"max_side": 1200}},
        {"schedule": {"survey_minutes": 30}},
        {"schedule": {"sweep": None}},
    ]
    async with host() as other:
        key = await other.add_api_key()("other", may_write=True)
        async with client_of(other, key) as at_other:
            clients = [api, at_other] * 4
            sent = [
                client.patch("/links/C", json=change)
                for client, change in zip(clients, changes, strict=True)
            ]
            assert {answer.status_code for answer in await asyncio.gather(*sent)} == {200}
    link = (await api.get("/links/c")).json()
    assert (link["guard"], link["match_by"], link["sync_images_all"]) == (True, "code", True)
    assert (link["folders"], link["types"]) == (["A"], ["bundle"])
    assert (link["pictures"]["quality"], link["pictures"]["max_side"]) == (80, 1200)
    assert (link["schedule"]["survey_minutes"], link["schedule"]["sweep"]) == (30, None)


@pytest.mark.parametrize(
    "change",
    [
        {"sync_images": True, "sync_images_all": True},
        {"enabled": False, "sync_images": True},
        {"enabled": True, "sync_images": False, "sync_images_all": False},
        {"match_by": "colour"},
        {"types": ["none"]},
        {"types": "product"},
        {"folders": ["/"]},
        {"pictures": {"max_side": 1}},
        {"pictures": {"max_side": "1200"}},
        {"schedule": {"survey_minutes": 0}},
        {"schedule": {"survey_minutes": 1.5}},
        {"enabled": 1},
        ["enabled"],
        None,
    ],
)
async def test_a_wrong_change_changes_nothing(
    api: httpx.AsyncClient, served: Container, change: Any
) -> None:
    before = (await api.get("/links/c")).json()
    assert is_problem(await api.patch("/links/c", content=json.dumps(change)), 422)
    assert (await api.get("/links/c")).json() == before
    assert await served.audit_log().find() == []
