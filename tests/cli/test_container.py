"""What the container opens is closed at the end, whatever that does."""

import logging
from pathlib import Path
from typing import Any

import pytest

from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.domain.errors import StoreError
from imgsync.domain.tasks import TaskStatus
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container, close
from tests.cli.conftest import Cli

pytestmark = [pytest.mark.anyio, pytest.mark.database]


@pytest.fixture
def container(tmp_path: Path) -> Container:
    config = FixedConfig(
        database_url=f"sqlite:///{tmp_path / 'database_url.db'}",
        queue_url=f"sqlite:///{tmp_path / 'queue_url.db'}",
        temp_dir=tmp_path / "temp",
    )
    return Container(config=config)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been closed, by name."""
    noted: list[str] = []
    close_database, close_moysklad = Database.close, HttpMoySkladFactory.close

    def database(self: Database) -> None:
        noted.append(Path(self.engine.url.database or "").stem)
        close_database(self)

    async def moysklad(self: HttpMoySkladFactory) -> None:
        noted.append("moysklad")
        await close_moysklad(self)

    async def queue(_: SqlTaskQueue) -> None:
        noted.append("queue")

    monkeypatch.setattr(Database, "close", database)
    monkeypatch.setattr(HttpMoySkladFactory, "close", moysklad)
    monkeypatch.setattr(SqlTaskQueue, "close", queue)
    return noted


async def test_all_is_closed_the_queue_before_its_database(
    container: Container, closed: list[str]
) -> None:
    container.worker()
    await close(container)
    assert sorted(closed) == ["database_url", "moysklad", "queue", "queue_url"]
    assert closed.index("queue") < closed.index("queue_url")


async def test_what_was_never_opened_is_not_opened_to_be_closed(
    container: Container, closed: list[str], tmp_path: Path
) -> None:
    await close(container)
    container.accounts()
    await close(container)
    assert closed == ["database_url"]
    assert not (tmp_path / "queue_url.db").exists()


async def test_a_container_that_was_closed_opens_anew(container: Container) -> None:
    for _ in range(2):
        assert (await container.queue().counts())[TaskStatus.PENDING] == 0
        await close(container)


@pytest.mark.parametrize("error", [StoreError("away"), ZeroDivisionError("a bug")], ids=str)
async def test_a_queue_that_cannot_be_closed_is_told_and_the_rest_is_closed(
    container: Container,
    closed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    async def fails(_: SqlTaskQueue) -> None:
        raise error

    monkeypatch.setattr(SqlTaskQueue, "close", fails)
    container.worker()
    await close(container)
    assert sorted(closed) == ["database_url", "moysklad", "queue_url"]
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.getMessage().startswith("the task queue could not be closed")


def test_what_a_command_opened_before_it_failed_is_closed(
    cli: Cli, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise StoreError("away")

    monkeypatch.setattr(SqlTaskQueue, "__init__", fails)
    assert "away" in cli.fail("worker", "--drain")
    assert closed == ["imgsync"]
