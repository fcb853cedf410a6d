"""Webhooks over HTTP: pages, refusals, cut answers, and answers that lie."""

import json
from typing import Any

import httpx
import pytest
import respx

from imgsync.domain.errors import (
    ApiError,
    AuthorisationError,
    ImgsyncError,
    NoWebhookRightError,
    NoWebhooksError,
    UnavailableError,
    WebhookExistsError,
    WebhookLimitError,
    WrongAccountError,
)
from imgsync.domain.webhooks import Webhook
from tests.moysklad.harness import ACCOUNT, ACCOUNT_ID, API, SECRET, Harness, build, http_client

pytestmark = pytest.mark.anyio
HOOKS = f"{API}/entity/webhook"
URL = "https://sync.example/webhooks/moysklad/secret"
NEW = Webhook("", URL, "product", "CREATE")


def row(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"h{number}",
        "url": f"{URL}/{number}",
        "entityType": "product",
        "action": "UPDATE",
        "enabled": True,
        "accountId": ACCOUNT_ID,
    } | fields


def page(rows: list[dict[str, Any]], size: int) -> dict[str, Any]:
    return {"meta": {"size": size}, "rows": rows}


def errors(code: int) -> dict[str, Any]:
    return {"errors": [{"error": "refused", "code": code}]}


async def test_a_list_is_read_page_by_page(harness: Harness, network: respx.MockRouter) -> None:
    pages = {"0": [row(n) for n in range(2)], "2": [row(2, diffType="FIELDS", enabled=False)]}
    network.get(HOOKS).mock(
        side_effect=lambda request: httpx.Response(
            200, json=page(pages[request.url.params["offset"]], 3)
        )
    )
    found = await harness.client.webhooks()
    assert [hook.id for hook in found] == ["h0", "h1", "h2"]
    assert found[2] == Webhook("h2", f"{URL}/2", "product", "UPDATE", fields=True, enabled=False)


@pytest.mark.parametrize(
    "answer",
    [page([row(1)], 5), {"meta": {"size": 1}}, page([{"url": URL}], 1), [row(1)], "x"],
    ids=["ends early", "no rows", "no id", "no page", "a text"],
)
async def test_a_list_that_is_none_is_an_error(
    harness: Harness, network: respx.MockRouter, answer: Any
) -> None:
    network.get(HOOKS).mock(
        side_effect=lambda request: httpx.Response(
            200, json=page([], 5) if request.url.params["offset"] == "1" else answer
        )
    )
    with pytest.raises(ApiError):
        await harness.client.webhooks()


async def test_webhooks_of_another_account_are_touched_never(network: respx.MockRouter) -> None:
    other = {"accountId": "00000000-0000-0000-0000-000000000000"}
    network.get(HOOKS).respond(json=page([row(1, **other)], 1))
    network.get(url__startswith=f"{API}/entity/").respond(json=page([{"id": "o", **other}], 1))
    written = network.post(url__startswith=HOOKS).respond(json=[{}])
    async with http_client() as api, http_client() as storage:
        client = build(ACCOUNT, api, storage, owner_is_known=False).client
        with pytest.raises(WrongAccountError):
            await client.webhooks()
        client = build(ACCOUNT, api, storage, owner_is_known=False).client
        with pytest.raises(WrongAccountError):
            await client.save_webhooks([NEW])
        with pytest.raises(WrongAccountError):
            await client.delete_webhooks(["h1"])
    assert not written.called


async def test_what_is_sent(harness: Harness, network: respx.MockRouter) -> None:
    sent = network.post(HOOKS).respond(json=[{}, {}, {}])
    changed = Webhook("h1", URL, "product", "UPDATE", fields=True)
    on = Webhook("h2", URL, "bundle", "DELETE")
    assert await harness.client.save_webhooks([NEW, changed, on]) == [None] * 3

    def meta(name: str) -> dict[str, str]:
        return {"href": f"{HOOKS}/{name}", "type": "webhook", "mediaType": "application/json"}

    assert json.loads(sent.calls.last.request.content) == [
        {"url": URL, "action": "CREATE", "entityType": "product"},
        {"meta": meta("h1"), "url": URL, "action": "UPDATE", "diffType": "FIELDS", "enabled": True},
        {"meta": meta("h2"), "url": URL, "action": "DELETE", "enabled": True},
    ]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, 30004, NoWebhookRightError),
        (400, 30004, NoWebhookRightError),
        (403, 30006, NoWebhooksError),
        (401, 1056, AuthorisationError),
    ],
)
async def test_the_whole_is_refused(
    harness: Harness, network: respx.MockRouter, status: int, code: int, kind: type[ImgsyncError]
) -> None:
    network.post(HOOKS).respond(status, json=errors(code))
    with pytest.raises(kind, match="Main shop") as caught:
        await harness.client.save_webhooks([NEW])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("status", [200, 400, 412])
async def test_each_is_refused_for_itself(
    harness: Harness, network: respx.MockRouter, status: int
) -> None:
    answer = [errors(30003), {"id": "h1"}, errors(30007), errors(30000)]
    network.post(HOOKS).respond(status, json=answer)
    exists, made, limit, unknown = await harness.client.save_webhooks([NEW] * 4)
    assert isinstance(exists, WebhookExistsError)
    assert made is None
    assert isinstance(limit, WebhookLimitError)
    assert type(unknown) is ApiError


@pytest.mark.parametrize("answer", [[], [{}, {}], {"id": "h1"}], ids=["none", "two", "an object"])
async def test_an_answer_for_others_is_not_believed(
    harness: Harness, network: respx.MockRouter, answer: Any
) -> None:
    network.post(HOOKS).respond(json=answer)
    with pytest.raises(ApiError, match="1 webhooks were sent"):
        await harness.client.save_webhooks([NEW])


async def test_a_lost_answer_is_asked_for_again_and_at_last_given_up(
    harness: Harness, network: respx.MockRouter
) -> None:
    cut = httpx.Response(200, content=b'[{"id":')
    network.post(HOOKS).mock(side_effect=[cut, httpx.Response(503), httpx.Response(200, json=[{}])])
    assert await harness.client.save_webhooks([NEW]) == [None]
    network.post(f"{HOOKS}/delete").respond(502)
    with pytest.raises(UnavailableError):
        await harness.client.delete_webhooks(["h1"])


async def test_a_pause_is_kept(harness: Harness, network: respx.MockRouter) -> None:
    busy = httpx.Response(429, json=errors(1049), headers={"X-Lognex-Retry-After": "3000"})
    network.get(HOOKS).mock(side_effect=[busy, httpx.Response(200, json=page([], 0))])
    assert await harness.client.webhooks() == []
    assert sum(harness.time.sleeps) >= 3


async def test_deleting_tells_the_first_error_but_those_that_are_gone(
    harness: Harness, network: respx.MockRouter
) -> None:
    route = network.post(f"{HOOKS}/delete")
    route.respond(400, json=[{"info": "deleted"}, errors(1021)])
    await harness.client.delete_webhooks(["h1", "h2"])
    route.respond(400, json=[errors(1021), errors(30004)])
    with pytest.raises(NoWebhookRightError):
        await harness.client.delete_webhooks(["h1", "h2"])


async def test_rights_that_were_given_meanwhile_count_after_the_next_look(
    harness: Harness, network: respx.MockRouter
) -> None:
    network.get(HOOKS).respond(json=page([], 0))
    refused = [httpx.Response(403, json=errors(30004)), httpx.Response(200, json=[{}])]
    network.post(HOOKS).mock(side_effect=refused)
    for _ in range(2):
        with pytest.raises(NoWebhookRightError):
            await harness.client.save_webhooks([NEW])
    await harness.client.webhooks()
    assert await harness.client.save_webhooks([NEW]) == [None]
