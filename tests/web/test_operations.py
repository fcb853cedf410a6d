"""/metrics, /healthz and /readyz."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy import insert, update
from starlette.applications import Starlette

from imgsync.adapters.sql.apikeys import SqlApiKeys
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.events import SqlEventStore, SqlWebhookStates
from imgsync.adapters.sql.figures import SqlFigures
from imgsync.adapters.sql.tables import accounts, failed_images, proofs, sync_settings, usage
from imgsync.adapters.sql.usage import SqlUsage
from imgsync.application.apikeys import hash_of
from imgsync.application.pulse import Pulses
from imgsync.domain.errors import StoreError
from imgsync.domain.ports.apikeys import ApiKey, ApiKeys
from imgsync.domain.ports.figures import Figures, Used, WebhookFigures
from imgsync.domain.runs import TaskTimes, Usage
from imgsync.domain.webhooks import Event, EventAction, WebhookState
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.web import health, metrics


class Broken:
    async def __call__(self) -> None:
        raise StoreError("Cannot use postgresql://u:hush@host/db")

    async def revision(self) -> None:
        raise StoreError("Cannot use postgresql://u:hush@host/db")


class Keys:
    """Part of `ApiKeys`: the key ``k3y``, whose store may hang, or break."""

    def __init__(self, *, hangs: bool = False, breaks: bool = False) -> None:
        self.hangs, self.breaks = hangs, breaks
        self.asked = 0

    async def use(self, key_hash: str) -> ApiKey | None:
        self.asked += 1
        if self.breaks:
            raise StoreError("Cannot use postgresql://u:hush@host/db")
        if self.hangs:
            await asyncio.Event().wait()
        is_it = key_hash == hash_of("k3y")
        return ApiKey("prometheus", False, datetime.now(UTC)) if is_it else None


class Hanging:
    """Figures that hang until they are let go."""

    def __init__(self) -> None:
        self.asked = self.under_way = 0
        self.let_go = asyncio.Event()

    async def __call__(self) -> Figures:
        self.asked += 1
        self.under_way += 1
        try:
            await self.let_go.wait()
        finally:
            self.under_way -= 1
        return Figures({}, 0, (), {}, {}, ())


class Client:
    """Asks the routes, from the address `host`."""

    def __init__(
        self,
        figures: object,
        host: str = "127.0.0.1",
        keys: ApiKeys | None = None,
        **config: Any,
    ) -> None:
        self.pulses = Pulses()
        container: Any = SimpleNamespace(
            figures=lambda: figures,
            config=lambda: fixed_config(**config),
            api_keys=lambda: keys or Keys(),
            pulses=lambda: self.pulses,
        )
        routes = [*health.routes(container), *metrics.routes(container)]
        self._transport = httpx.ASGITransport(Starlette(routes=routes), client=(host, 1))

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return asyncio.run(self.ask(path, headers))

    async def ask(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        async with httpx.AsyncClient(
            transport=self._transport, base_url="http://localhost"
        ) as http:
            return await http.get(path, headers=headers)


@pytest.mark.database
def test_the_metrics_are_those_of_the_tables(database: Database) -> None:
    now = datetime.now(UTC)
    with database.engine.begin() as connection:
        connection.execute(
            insert(accounts).values(id="c1", name="Омск", token_kind="user", secret="hush")
        )
        connection.execute(insert(usage).values(account_id="c1", hour=now, requests=7, units=21))
        connection.execute(
            insert(failed_images).values(
                child_account_id="c1",
                entity_type="product",
                child_entity_id="e",
                image_id="i",
                main_account_id="m",
                main_entity_id="e",
                entity_name="Lamp",
                filename="a.gif",
                version="1",
                cause="x",
                reason="y",
                settled=True,
                attempts=1,
                first_failed_at=now,
                last_failed_at=now,
            )
        )
    told = Client(SqlFigures(database)).get("/metrics")
    assert told.status_code == 200
    assert "imgsync_up 1.0" in told.text
    assert 'imgsync_requests_total{account="Омск"} 7.0' in told.text
    assert 'imgsync_units_total{account="Омск"} 21.0' in told.text
    assert 'imgsync_failed_images{child="Омск",settled="true"} 1.0' in told.text
    assert "hush" not in told.text


@pytest.mark.database
def test_a_child_that_was_never_equal_has_an_alert_and_two_of_one_name_a_line_each(
    database: Database,
) -> None:
    hour = datetime(2026, 11, 28, 3, tzinfo=UTC)
    rows = [{"id": f"c{n}", "name": "Омск", "token_kind": "user", "secret": "t"} for n in range(2)]
    rows.append(rows[0] | {"id": "off", "name": "Пермь"})
    links = [
        {"account_id": row["id"], "main_account_id": "m", "sync_images": row["id"] != "off"}
        for row in rows
    ]
    proof = {"child_account_id": "c0", "main_account_id": "m", "compared_at": hour, "numbers": {}}
    with database.engine.begin() as connection:
        connection.execute(insert(accounts), rows)
        for link in links:
            connection.execute(
                update(sync_settings).where(sync_settings.c.account_id == link["account_id"]), link
            )
        connection.execute(insert(proofs).values(**proof, equal_at=hour))
        former = proof | {"child_account_id": "c1", "main_account_id": "former"}
        connection.execute(insert(proofs).values(**former, equal_at=hour))
        used = [{"account_id": f"c{n}", "hour": datetime.now(UTC), "requests": 1} for n in range(2)]
        connection.execute(insert(usage), used)
    told = Client(SqlFigures(database)).get("/metrics").text
    name = "imgsync_last_equal_timestamp_seconds"
    found = dict(
        re.findall(rf'^{name}{{child="(.*)"}} (.*)$', told, re.MULTILINE),
    )
    assert {child: float(at) for child, at in found.items()} == {
        "Омск (c0)": hour.timestamp(),
        "Омск (c1)": 0.0,
    }
    assert 'imgsync_requests_total{account="Омск (c0)"} 1.0' in told
    assert 'imgsync_requests_total{account="Омск (c1)"} 1.0' in told


def test_a_database_that_cannot_be_used_is_told() -> None:
    broken = Client(Broken())
    told = broken.get("/metrics")
    assert (told.status_code, "imgsync_up 0.0" in told.text) == (200, True)
    ready = broken.get("/readyz")
    assert (ready.status_code, "hush" in ready.text) == (503, False)
    assert ready.json() == {"ready": False, "reasons": ["the database cannot be used"]}
    assert broken.get("/healthz").status_code == 200


@pytest.mark.database
def test_a_database_of_this_version_is_ready(database: Database) -> None:
    assert Client(SqlFigures(database)).get("/readyz").json() == {"ready": True, "reasons": []}


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.1"}, 403),
        ("203.0.113.1", {}, 403),
        ("203.0.113.1", {"Authorization": "Bearer wrong"}, 403),
        ("203.0.113.1", {"Authorization": "Bearer t0ken"}, 200),
        ("203.0.113.1", {"Authorization": "Bearer k3y"}, 200),
        ("127.0.0.1", {"Authorization": "Bearer wrong"}, 403),
        ("127.0.0.1", {"Host": "127.0.0.1:8425"}, 200),
        ("127.0.0.1", {"Host": "metrics.example"}, 200),
        # Whose name leads to this machine, as a page in a browser on it may do.
        ("127.0.0.1", {"Host": "evil.example:8425"}, 403),
        ("127.0.0.1", {"Host": "[::1"}, 403),
        ("203.0.113.1", {"Host": "a.example", "Authorization": "Bearer t0ken"}, 200),
    ],
)
def test_metrics_are_for_this_machine_or_by_token(
    host: str, headers: dict[str, str], status: int
) -> None:
    client = Client(Broken(), host, metrics_token="t0ken", web_hosts=("Metrics.example",))
    asked = client.get("/metrics", headers=headers)
    assert asked.status_code == status


def samples() -> dict[str, set[str]]:
    """All that there are, with their labels."""
    now = datetime.now(UTC)
    used = Used("a", 1, 1, 1, 1, 1, 1, 1)
    found = Figures(
        {("a", "pending"): 1},
        1,
        (used,),
        {("a", True): 1},
        {"a": now},
        ("a",),
        {("image_sync", "completed"): TaskTimes.of(1)},
        1,
        1.0,
        {"a": WebhookFigures(1, 1, 0, now)},
    )
    return {
        sample.name: set(sample.labels)
        for metric in metrics.FiguresCollector(found).collect()
        for sample in metric.samples
    }


def test_the_document_lists_each_metric() -> None:
    told = {re.sub("_(bucket|count|sum)$", "", name) for name in samples()}
    document = Path(__file__).parents[2] / "docs" / "operations.md"
    listed = re.findall(r"^\| `(imgsync_\w+)`", document.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(listed)


def test_the_alerts_of_the_document_name_metrics_that_there_are() -> None:
    document = Path(__file__).parents[2] / "docs" / "operations.md"
    (block,) = re.findall(r"```yaml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    (group,) = yaml.safe_load(block)["groups"]
    known = samples()
    for rule in group["rules"]:
        named = re.findall(r"\b(imgsync_\w+)(?:\{(\w+)=)?", rule["expr"])
        assert named, rule["alert"]
        for name, label in named:
            assert name in known, rule["alert"]
            assert not label or label in known[name], rule["alert"]
    assert len(group["rules"]) == len({rule["alert"] for rule in group["rules"]}) > 5


@pytest.mark.database
def test_the_metrics_tell_of_webhooks_and_of_how_long_tasks_take(database: Database) -> None:
    with database.engine.begin() as connection:
        connection.execute(
            insert(accounts).values(id="m1", name="Main", token_kind="user", secret="hush")
        )

    async def fill() -> None:
        events = SqlEventStore(database)
        await events.receive("r1", [Event("m1", "product", "e1", EventAction.UPDATE)])
        await SqlWebhookStates(database).put(WebhookState("m1", "https://a.example", 9, 7, 2))
        await SqlWebhookStates(database).put(WebhookState("gone", None))
        usage = SqlUsage(database)
        await usage.add({"m1": Usage(events=5, dropped=2)})
        key = ("image_sync", "completed")
        await usage.add_times({key: TaskTimes.of(0.3), ("undo", "failed"): TaskTimes.of(9999)})
        await usage.add_times({key: TaskTimes.of(0.1) + TaskTimes.of(7.5)})

    asyncio.run(fill())
    told = Client(SqlFigures(database)).get("/metrics").text
    for line in (
        'imgsync_webhook_events_total{account="Main"} 5.0',
        'imgsync_webhook_events_dropped_total{account="Main"} 2.0',
        "imgsync_webhook_events_waiting 1.0",
        'imgsync_webhooks{account="Main",state="wanted"} 9.0',
        'imgsync_webhooks{account="Main",state="working"} 7.0',
        'imgsync_webhooks{account="Main",state="switched_off"} 2.0',
        'imgsync_webhook_last_event_timestamp_seconds{account="Main"} 0.0',
        'imgsync_task_seconds_bucket{end="completed",kind="image_sync",le="0.1"} 1.0',
        'imgsync_task_seconds_bucket{end="completed",kind="image_sync",le="0.5"} 2.0',
        'imgsync_task_seconds_bucket{end="completed",kind="image_sync",le="5.0"} 2.0',
        'imgsync_task_seconds_bucket{end="completed",kind="image_sync",le="+Inf"} 3.0',
        'imgsync_task_seconds_count{end="completed",kind="image_sync"} 3.0',
        'imgsync_task_seconds_bucket{end="failed",kind="undo",le="1800.0"} 0.0',
        'imgsync_task_seconds_bucket{end="failed",kind="undo",le="+Inf"} 1.0',
    ):
        assert line in told.splitlines(), line
    (total,) = re.findall(r'_seconds_sum{end="completed",kind="image_sync"} (.*)', told)
    assert float(total) == pytest.approx(7.9)
    assert "gone" not in told


@pytest.mark.database
def test_a_key_of_a_program_opens_the_metrics_until_it_is_removed(database: Database) -> None:
    keys = SqlApiKeys(database)
    asyncio.run(keys.add("prometheus", hash_of("k3y"), may_write=False))
    client = Client(SqlFigures(database), "203.0.113.1", keys)
    with_key = {"Authorization": "Bearer k3y"}
    assert client.get("/metrics", with_key).status_code == 200
    asyncio.run(keys.remove("prometheus"))
    assert client.get("/metrics", with_key).status_code == 403


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_PATIENCE_SECONDS", 0.2)


@pytest.mark.anyio
@pytest.mark.usefixtures("_impatient")
async def test_a_database_that_hangs_is_asked_once_and_told_by_503() -> None:
    hanging = Hanging()
    client = Client(hanging)
    for _ in range(2):
        answers = await asyncio.gather(*(client.ask("/metrics") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {503}
        assert "imgsync_up 0.0" in answers[0].text
    assert (hanging.asked, hanging.under_way) == (1, 1)
    hanging.let_go.set()
    for _ in range(2):  # the first has what is under way
        assert (await client.ask("/metrics")).status_code == 200
    assert hanging.asked == 2


@pytest.mark.anyio
@pytest.mark.usefixtures("_impatient")
async def test_keys_that_cannot_be_looked_up_hold_no_more_than_one() -> None:
    keys, figures = Keys(hangs=True), Hanging()
    client = Client(figures, "203.0.113.1", keys)  # type: ignore[arg-type]
    asked = [client.ask("/metrics", {"Authorization": f"Bearer k{n}y"}) for n in range(20)]
    assert {answer.status_code for answer in await asyncio.gather(*asked)} == {503}
    local = Client(figures, "127.0.0.1", keys)  # type: ignore[arg-type]
    assert (await local.ask("/metrics")).status_code == 503
    assert keys.asked == 1
    broken = Client(figures, "203.0.113.1", Keys(breaks=True))  # type: ignore[arg-type]
    answer = await broken.ask("/metrics", {"Authorization": "Bearer k3y"})
    assert (answer.status_code, "hush" in answer.text) == (503, False)


@pytest.mark.database
def test_a_part_that_hangs_makes_it_not_ready(database: Database) -> None:
    client, now = Client(SqlFigures(database)), 0.0
    client.pulses.elapsed = lambda: now
    with client.pulses.of("the worker", 60), client.pulses.of("the web server", None):
        now = 59
        assert client.get("/readyz").json() == {"ready": True, "reasons": []}
        now = 80
        told = client.get("/readyz")
        assert told.status_code == 503
        assert told.json()["reasons"] == ["the worker hangs: it has not been heard of for 80 s"]
    assert client.get("/readyz").status_code == 200


@pytest.mark.anyio
async def test_readiness_asks_a_database_that_hangs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PATIENCE_SECONDS", 0.2)
    hanging = Hanging()
    client = Client(SimpleNamespace(revision=hanging))
    for _ in range(2):
        answers = await asyncio.gather(*(client.ask("/readyz") for _ in range(10)))
        assert {answer.status_code for answer in answers} == {503}
        assert answers[0].json()["reasons"] == ["the database does not answer within 0.2 s"]
    assert hanging.asked == 1
