"""A request of the HTTP API that is sent again with its key is done once, on both databases."""

import asyncio
from typing import Any

import httpx
import pytest
from dependency_injector import providers

from imgsync.domain.errors import StoreError
from imgsync.domain.ports.repeats import Answered, Standing
from imgsync.entrypoints.container import Container
from tests.web.apihosts import Client, Host
from tests.web.test_api import PAYLOAD, is_problem

pytestmark = [pytest.mark.anyio]
KEY = {"Idempotency-Key": '"8e03978e-40d5-43e8-bc93-6894a57f9324"'}


async def test_the_same_request_is_done_once_and_answered_alike(
    api: httpx.AsyncClient, served: Container
) -> None:
    first = await api.post("/sync", json={"children": ["C"]}, headers=KEY)
    again = await api.post("/sync", json={"children": ["C"]}, headers=KEY)
    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert again.json()["runs"][0]["created"]
    assert again.headers["location"] == first.headers["location"]
    assert len(await served.audit_log().find()) == 1
    bare = {"Idempotency-Key": KEY["Idempotency-Key"].strip('"')}
    assert (await api.post("/sync", json={"children": ["C"]}, headers=bare)).json() == first.json()
    for path, body in (("/sync", {"children": ["D"]}), ("/check", {"children": ["C"]})):
        assert is_problem(await api.post(path, json=body, headers=KEY), 422)


async def test_nothing_is_kept_of_a_request_that_was_refused(api: httpx.AsyncClient) -> None:
    assert is_problem(await api.post("/tasks", content=b"{", headers=KEY), 400)
    assert is_problem(await api.post("/sync", json={"children": ["x"]}, headers=KEY), 404)
    assert (await api.post("/tasks", json=PAYLOAD, headers=KEY)).json()["tasks"][0]["created"]
    assert (await api.post("/tasks", json=PAYLOAD, headers=KEY)).json()["tasks"][0]["created"]
    assert not (await api.post("/tasks", json=PAYLOAD)).json()["tasks"][0]["created"]


async def test_a_key_of_another_program_is_another_key(
    api: httpx.AsyncClient, served: Container, client_of: Client
) -> None:
    await api.post("/tasks", json=PAYLOAD, headers=KEY)
    key = await served.add_api_key()("v", may_write=True)
    async with client_of(served, key) as other:
        told = (await other.post("/tasks", json=PAYLOAD, headers=KEY)).json()
    assert not told["tasks"][0]["created"]


async def test_on_two_hosts_at_once_it_is_done_once(host: Host, client_of: Client) -> None:
    async with host() as one, host() as two:
        key = await one.add_api_key()("w", may_write=True)
        async with client_of(one, key) as first, client_of(two, key) as second:
            asked = [
                client.post("/tasks", json=PAYLOAD, headers=KEY) for client in [first, second] * 5
            ]
            answers = await asyncio.gather(*asked)
            assert {answer.status_code for answer in answers} <= {202, 409}
            done = [answer.json() for answer in answers if answer.status_code == 202]
            assert done
            assert all(one == done[0] for one in done)
            assert done[0]["tasks"][0]["created"]
            again = await second.post("/tasks", json=PAYLOAD, headers=KEY)
            assert again.json() == done[0]
        assert len(await one.audit_log().find()) == 1


class _Busy:
    async def begin(self, *_: Any, **__: Any) -> Answered | Standing:
        return Standing.UNDER_WAY


async def test_one_that_is_under_way_is_a_conflict(
    api: httpx.AsyncClient, served: Container
) -> None:
    with served.repeats.override(providers.Object(_Busy())):
        assert is_problem(await api.post("/tasks", json=PAYLOAD, headers=KEY), 409)
    assert (await api.get("/tasks")).json()["tasks"] == []


async def test_where_nobody_can_tell_nothing_is_done(
    api: httpx.AsyncClient, served: Container
) -> None:
    class Broken:
        async def begin(self, *_: Any, **__: Any) -> Answered | Standing:
            raise StoreError("The database cannot be used")

    with served.repeats.override(providers.Object(Broken())):
        assert is_problem(await api.post("/tasks", json=PAYLOAD, headers=KEY), 503)
    assert (await api.get("/tasks")).json()["tasks"] == []


@pytest.mark.parametrize("key", ["", '""', "a b", "ключ".encode(), "x" * 256, '"a', "a\tb"])
async def test_a_strange_key_is_refused(api: httpx.AsyncClient, key: str | bytes) -> None:
    headers = [(b"Idempotency-Key", key if isinstance(key, bytes) else key.encode())]
    assert is_problem(await api.post("/tasks", json=PAYLOAD, headers=headers), 400)
    assert (await api.get("/tasks")).json()["tasks"] == []


async def test_two_keys_are_none(api: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert is_problem(await api.post("/tasks", json=PAYLOAD, headers=headers), 400)
