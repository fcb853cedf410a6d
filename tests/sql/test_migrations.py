"""Databases of earlier versions are brought up to date and keep their rows.

``schema_0001_*.sql`` is what imgsync made before it noted revisions.
"""

import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, inspect, text
from sqlalchemy.schema import CreateIndex

from imgsync.adapters.sql import database as database_module
from imgsync.adapters.sql import schema as schema_module
from imgsync.adapters.sql.changes import SqlChangeLog
from imgsync.adapters.sql.database import Database, create_engine_for, create_schema
from imgsync.adapters.sql.migrations import FIRST, HEAD
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import (
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSyncRecordRepository,
)
from imgsync.adapters.sql.tables import metadata
from imgsync.domain.diff import EntityKey
from imgsync.domain.errors import StoreError
from imgsync.domain.model import Account, LinkSettings, TokenKind
from imgsync.domain.tasks import TaskStatus

pytestmark = [pytest.mark.anyio, pytest.mark.empty_database]
QUEUE = metadata.tables["sync_queue"]
MIGRATIONS = "imgsync.adapters.sql:migrations"
ROWS = """
INSERT INTO accounts VALUES ('m', 'Main', 'password', 's3cret', 'admin@shop');
INSERT INTO child_settings VALUES ('c', false, true);
INSERT INTO child_settings VALUES ('d', true, false);
INSERT INTO sync_records VALUES ('c', 'product', 'e',
  '{"selected": [], "copied": [], "child_image_ids": ["i"], "settled": true, "warnings": []}');
INSERT INTO sync_queue (payload, dedupe_key, attempts) VALUES ('{"n": 1}', 'k', 1);
INSERT INTO sync_queue (payload, status, error) VALUES ('{"n": 2}', 'failed', '503');
"""
START = """
import sys
from imgsync.adapters.sql.database import Database
Database.open(sys.argv[1])
"""


@pytest.fixture
def old_url(database_url: str) -> str:
    """A database that the first version made and used."""
    engine = create_engine_for(database_url)
    ddl = (Path(__file__).parent / f"schema_0001_{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in (ddl + ROWS).split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()
    return database_url


@pytest.fixture
def old(old_url: str) -> Iterator[Engine]:
    engine = create_engine_for(old_url)
    yield engine
    engine.dispose()


def revision(engine: Engine) -> str:
    with engine.begin() as connection:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


async def test_a_database_of_the_first_version_keeps_its_rows(old: Engine) -> None:
    create_schema(old)
    assert revision(old) == HEAD
    database = Database(old)
    queue = SqlTaskQueue(database)
    failed, pending = await queue.find()
    assert (failed.payload, failed.status, failed.error) == ({"n": 2}, TaskStatus.FAILED, "503")
    assert (pending.payload, pending.dedupe_key, pending.attempts) == ({"n": 1}, "k", 1)
    assert (pending.crashes, pending.check_again, pending.damage) == (0, False, None)
    assert await SqlAccountRepository(database).all() == [
        Account("m", "Main", TokenKind.PASSWORD, "s3cret", "admin@shop")
    ]
    settings = SqlSettingsRepository(database)
    assert await settings.get("c") == LinkSettings(sync_images_all=True)
    assert await settings.get("d") == LinkSettings(sync_images=True)
    record = await SqlSyncRecordRepository(database).get(EntityKey("c", "product", "e"))
    assert record is not None
    assert record.child_image_ids == ("i",)
    (task,) = await queue.claim(lease=timedelta(minutes=1))
    await queue.complete(task, result="done", warnings=[])


def test_settings_get_the_names_of_other_programs_and_every_account_its_row(old: Engine) -> None:
    create_schema(old)
    query = text("SELECT account_id, sync_images, sync_images_all FROM sync_settings ORDER BY 1")
    with old.begin() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
    names = ("account_id", "sync_images", "sync_images_all")
    wanted = [("c", 0, 1), ("d", 1, 0), ("m", 0, 0)]
    assert rows == [dict(zip(names, row, strict=True)) for row in wanted]
    assert "child_settings" not in inspect(old).get_table_names()


OLD_PAYLOADS: list[tuple[str, str | None, tuple[str | None, str | None, str | None]]] = [
    ('{"child_account_id": " ch ", "parent_entity_id": "p"}', None, ("ch", "p", "sync")),
    ('{"child_account_id": "ch", "parent_entity_id": 5}', None, ("ch", None, "sync")),
    ('{"other": 1}', "of/a/key/product/e", ("of/a/key", None, "sync")),
    ('{"child_account_id": "\\u0000\\ud800"}', None, (None, None, None)),
    (f'{{"child_account_id": "{"x" * 201}"}}', None, (None, None, None)),
    ('"child_account_id"', None, (None, None, None)),
    ("[" * 3000 + "]" * 3000, None, (None, None, None)),
    ('{"child_account_id": "ch", "n": ' + "9" * 5000 + "}", None, (None, None, None)),
]
UNREADABLE = ("{broken", b"\xff\x00")


def test_old_tasks_get_whose_they_are_as_far_as_their_payload_tells(old: Engine) -> None:
    insert = text("INSERT INTO sync_queue (payload, dedupe_key) VALUES (:payload, :key)")
    foreign = text(
        "INSERT INTO sync_queue (entity_type, payload) "
        "VALUES ('price_sync', '{\"child_account_id\": \"ch\"}')"
    )
    with old.begin() as connection:
        connection.execute(text("DELETE FROM sync_queue"))
        connection.execute(foreign)
        for payload, _, _ in OLD_PAYLOADS * 100:  # more than are read at once
            connection.execute(insert, {"payload": payload, "key": None})
        connection.execute(text("UPDATE sync_queue SET status = 'completed'"))
        for payload, key, _ in OLD_PAYLOADS:
            connection.execute(insert, {"payload": payload, "key": key})
        if old.dialect.name == "sqlite":
            for value in UNREADABLE:
                connection.execute(insert, {"payload": value, "key": None})
    create_schema(old)
    columns = "account_id, entity_id, operation"
    query = text(f"SELECT {columns} FROM sync_queue ORDER BY id")  # noqa: S608
    with old.begin() as connection:
        found = [tuple(row) for row in connection.execute(query)]
    unkeyed = [told if key is None else (None,) * 3 for _, key, told in OLD_PAYLOADS]
    keyed = [told for *_, told in OLD_PAYLOADS]
    unreadable = [(None,) * 3] * (len(UNREADABLE) if old.dialect.name == "sqlite" else 0)
    assert found == [(None,) * 3, *unkeyed * 100, *keyed, *unreadable]


def test_a_migrated_database_has_the_tables_of_the_program(old: Engine) -> None:
    create_schema(old)
    assert_current(old)


def test_a_new_database_has_the_tables_of_the_program(engine: Engine) -> None:
    assert_current(engine)


def assert_current(engine: Engine) -> None:
    with engine.begin() as connection, warnings.catch_warnings():
        # SQLite tells of no index on an expression what it is; its statement is compared below.
        warnings.filterwarnings("ignore", ".*expression-based index")
        # PostgreSQL cannot compare a default of type JSON.
        defaults = engine.dialect.name == "sqlite"
        context = MigrationContext.configure(connection, opts={"compare_server_default": defaults})
        assert compare_metadata(context, metadata) == []
    constraints = {c["name"] for c in inspect(engine).get_check_constraints("sync_queue")}
    on_sqlite = engine.dialect.name == "sqlite"
    indexes = index_statements(engine)
    ours = {i.name: str(CreateIndex(i).compile(engine)) for i in QUEUE.indexes}
    if on_sqlite:
        assert {name: plain(text) for name, text in indexes.items()} == {
            name: plain(text) for name, text in ours.items()
        }
    assert constraints == {c for c in expected_constraints() if on_sqlite or "format" not in c}
    assert indexes.keys() == ours.keys()


def index_statements(engine: Engine) -> dict[str, str]:
    names = {
        "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        " AND tbl_name = 'sync_queue'",
        "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'sync_queue'"
        " AND indexname <> 'sync_queue_pkey'",
    }
    with engine.begin() as connection:
        return {row[0]: row[1] for row in connection.execute(text(names[engine.dialect.name]))}


def plain(statement: str) -> str:
    return " ".join(statement.replace('"', "").split())


def expected_constraints() -> set[str]:
    times = ("scheduled_at", "lease_expires_at", "created_at", "updated_at")
    return {"sync_queue_status", *(f"sync_queue_{name}_format" for name in times)}


def test_the_newest_revision_is_the_program_s() -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_heads() == [HEAD]
    assert scripts.get_base() == FIRST


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"revision 9999.*update imgsync"):
        create_schema(engine)
    assert revision(engine) == "9999"


def test_a_start_with_nothing_to_do_is_one_query(engine: Engine) -> None:
    queries: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        queries.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    create_schema(engine)
    assert [q for q in queries if not q.startswith("BEGIN")] == [
        "SELECT version_num FROM alembic_version"
    ]


@pytest.mark.process
def test_alembic_is_not_loaded_where_nothing_is_to_be_done(
    engine: Engine, database_url: str
) -> None:
    code = START + "assert 'alembic' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, database_url], check=True, timeout=60)


@pytest.mark.process
def test_processes_that_start_at_once_upgrade_once(old_url: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", START, old_url], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], errors
    engine = create_engine_for(old_url)
    assert revision(engine) == HEAD
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM sync_queue")).scalar() == 2
    engine.dispose()


def test_threads_that_start_at_once_upgrade_once(old_url: str) -> None:
    barrier, errors = threading.Barrier(4), []

    def start() -> None:
        engine = create_engine_for(old_url)
        barrier.wait()
        try:
            create_schema(engine)
        except BaseException as error:
            errors.append(error)
        engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    old: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "CREATE INDEX sync_queue_parked" in statement:
            raise RuntimeError("power cut")

    event.listen(old, "before_cursor_execute", refuse)
    with pytest.raises(RuntimeError, match="power cut"):
        create_schema(old)
    event.remove(old, "before_cursor_execute", refuse)
    assert "crashes" not in {c["name"] for c in inspect(old).get_columns("sync_queue")}
    create_schema(old)
    assert revision(old) == HEAD


async def test_a_change_from_before_codes_were_noted_can_be_told_and_ended(
    old: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        for module in (database_module, schema_module):
            patched.setattr(module, "HEAD", "0010")
        create_schema(old)
    assert revision(old) == "0010"
    row = (
        "INSERT INTO changes (run, action, main_account_id, child_account_id, entity_type,"
        " main_entity_id, child_entity_id, entity_name, before, changed_at)"
        " VALUES ('r', 'set', 'm', 'c', 'product', 'e', 'f', 'Lamp', '[]', '2026-01-01 00:00Z')"
    )
    with old.begin() as connection:
        connection.exec_driver_sql(row)
    create_schema(old)
    log = SqlChangeLog(Database(old))
    (change,) = await log.find(run="r")
    assert (change.entity_code, change.label) == ("", "product 'Lamp'")
    await log.finish(change.id, ())
    # A process of the version before, which still runs, notes one without.
    with old.begin() as connection:
        connection.exec_driver_sql(row)
    newer, older = await log.find(run="r")
    assert (newer.label, older.did_nothing) == (change.label, True)


def test_an_upgrade_may_take_longer_than_a_worker_s_transactions(postgresql_url: str) -> None:
    """As an index over a large queue does, and others wait for that as long."""
    engine = create_engine_for(postgresql_url)
    limits = dict[str, tuple[str, str]]()

    def note(_: object, cursor: Any, statement: str, *__: object) -> None:
        for part in ("pg_advisory_xact_lock", "CREATE INDEX"):
            if part in statement:
                shown = []
                for name in ("statement_timeout", "lock_timeout"):
                    cursor.execute(f"SHOW {name}")
                    shown.append(cursor.fetchone()[0])
                limits.setdefault(part, (shown[0], shown[1]))

    event.listen(engine, "before_cursor_execute", note)
    create_schema(engine)
    # But who waits for a table, behind whom all others wait, gives up as always.
    assert limits == {"pg_advisory_xact_lock": ("0", "0"), "CREATE INDEX": ("0", "20s")}
    with engine.begin() as connection:
        shown = connection.execute(text("SHOW statement_timeout")).scalar_one()
    assert shown == "30s"
    engine.dispose()
