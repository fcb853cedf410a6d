"""Where webhooks arrive: what is kept, what is left out, and who is turned away."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from imgsync.adapters.sql.events import SqlEventStore
from imgsync.domain.errors import StoreError
from imgsync.domain.model import Account, TokenKind
from imgsync.domain.webhooks import RECEPTION_SECRET, Event, EventAction
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web import reception
from imgsync.entrypoints.web.serving import app_of

pytestmark = [pytest.mark.anyio, pytest.mark.database]
SECRET = "s3cret-of-the-reception"
URL = f"/webhooks/moysklad/{SECRET}"
IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(9)]


def told(number: int, action: str = "UPDATE", account: str = "m", kind: str = "product") -> Any:
    href = f"https://api.moysklad.ru/api/remap/1.2/entity/{kind}/{IDS[number]}"
    return {"meta": {"type": kind, "href": href}, "action": action, "accountId": account}


@pytest.fixture
async def container(sqlite_url: str) -> AsyncIterator[Container]:
    made = Container(config=fixed_config(database_url=sqlite_url))
    await made.accounts().add(Account("m", "Main", TokenKind.USER, "token"))
    await made.web_secrets().put(RECEPTION_SECRET, SECRET)
    yield made
    await close(made)


@pytest.fixture
async def client(container: Container) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app_of(container))
    async with httpx.AsyncClient(transport=transport, base_url="http://hooks.example") as made:
        yield made


async def post(client: httpx.AsyncClient, *events: Any, request_id: str = "") -> int:
    url = URL + (f"?requestId={request_id}" if request_id else "")
    return (await client.post(url, json={"auditContext": {}, "events": events})).status_code


async def kept(container: Container) -> list[Event]:
    zero = timedelta(0)
    claimed = await container.event_store().claim(quiet=zero, longest=zero, lease=zero)
    return [] if claimed is None else list(claimed.events)


async def test_events_are_kept_and_a_request_that_comes_again_is_not(
    client: httpx.AsyncClient, container: Container
) -> None:
    for _ in range(2):
        assert await post(client, told(1), told(2, "DELETE"), request_id="r1") == 204
    assert (await container.event_store().backlog()).events == 2
    await container.meter().flush()
    figures = await container.figures()()
    assert [(used.events, used.dropped) for used in figures.used] == [(4, 2)]
    found = {(e.account_id, e.entity_type, e.entity_id, e.action) for e in await kept(container)}
    assert found == {
        ("m", "product", IDS[1], EventAction.UPDATE),
        ("m", "product", IDS[2], EventAction.DELETE),
    }


async def test_several_webhooks_of_one_change_may_have_one_id(
    client: httpx.AsyncClient, container: Container
) -> None:
    for event in (told(1), told(2), told(2), told(1)):
        assert await post(client, event, request_id="r1") == 204
    assert {event.entity_id for event in await kept(container)} == {IDS[1], IDS[2]}
    assert (await container.event_store().backlog()).events == 2


@pytest.mark.parametrize("request_id", ["", "x" * 5000])
async def test_without_an_id_of_use_the_body_tells_requests_apart(
    client: httpx.AsyncClient, container: Container, request_id: str
) -> None:
    for number in (1, 1, 2):
        assert await post(client, told(number), request_id=request_id) == 204
    assert (await container.event_store().backlog()).events == 2


async def test_who_does_not_know_the_secret_is_turned_away(
    client: httpx.AsyncClient, container: Container
) -> None:
    body = {"events": [told(1)]}
    for wrong in ("wrong", SECRET + "x", SECRET[:-1], "%D0%AF%FF", ""):
        answer = await client.post(f"/webhooks/moysklad/{wrong}", json=body)
        assert answer.status_code == 404
    assert (await client.get(URL)).status_code == 405
    await container.web_secrets().drop(RECEPTION_SECRET)
    fresh = httpx.ASGITransport(app_of(container))
    async with httpx.AsyncClient(transport=fresh, base_url="http://localhost") as other:
        assert (await other.post(URL, json=body)).status_code == 404
    assert (await container.event_store().backlog()).events == 0


async def test_a_new_secret_counts_though_the_old_one_was_just_seen(
    client: httpx.AsyncClient, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await post(client, told(1)) == 204
    await container.web_secrets().put(RECEPTION_SECRET, "another")
    monkeypatch.setattr(reception, "_AGAIN_SECONDS", 0.0)
    answer = await client.post("/webhooks/moysklad/another", json={"events": [told(2)]})
    assert answer.status_code == 204
    assert await post(client, told(3)) == 404


async def test_what_is_of_no_use_is_left_out_and_told_once(
    client: httpx.AsyncClient, container: Container, caplog: pytest.LogCaptureFixture
) -> None:
    odd: list[Any] = [
        5,
        None,
        {},
        told(1) | {"action": "PROCESSED"},
        told(1) | {"action": ["UPDATE"]},
        told(1) | {"accountId": 5},
        told(1) | {"meta": {"type": "product", "href": "https://x/entity/product/..;archived"}},
        told(1) | {"meta": {"type": 1, "href": None}},
        told(2, account="stranger"),
        told(2, kind="customerorder"),
    ]
    with caplog.at_level(logging.WARNING):
        for request_id in ("a", "b", "c"):
            assert await post(client, *odd, told(3), request_id=request_id) == 204
    assert [event.entity_id for event in await kept(container)] == [IDS[3]]
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len(set(lines)) > 5
    assert any("account stranger" in line for line in lines)
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"events": [',
        b"\xff\xfe\xff",
        b"5",
        b"{}",
        b'{"events": {}}',
        b"[" * 100_000,
        b'{"a": ' * 50 + b"1" + b"}" * 50,
        b'{"events": []} trailing',
    ],
)
async def test_what_cannot_be_read_is_asked_for_again(
    client: httpx.AsyncClient, body: bytes
) -> None:
    assert (await client.post(URL, content=body)).status_code == 400
    assert await post(client) == 204


async def test_a_body_of_more_than_a_megabyte_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.post(URL, content=b" " * 1_000_001)).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 100_000

    assert (await client.post(URL, content=chunks())).status_code == 413


async def test_a_database_that_cannot_be_used_is_told_before_the_time_is_over(
    client: httpx.AsyncClient,
    container: Container,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails(*_: Any) -> bool:
        raise StoreError("it is down")

    async def hangs(*_: Any) -> bool:
        await asyncio.sleep(60)
        return True

    async def breaks(*_: Any) -> bool:
        raise RuntimeError("a fault")

    monkeypatch.setattr(reception, "_LIMIT_SECONDS", 0.2)
    for trouble in (fails, hangs, breaks):
        with monkeypatch.context() as patched:
            patched.setattr(SqlEventStore, "receive", trouble)
            for _ in range(3):
                assert await post(client, told(1), request_id="r") == 503
    assert SECRET not in caplog.text
    assert caplog.text.count("of 1 request could not be kept: it is down") == 1
    monkeypatch.undo()
    assert await post(client, told(1), request_id="r") == 204
    assert json.dumps([event.entity_id for event in await kept(container)]) == f'["{IDS[1]}"]'
