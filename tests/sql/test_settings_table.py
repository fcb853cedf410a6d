"""The table sync_settings in the hands of other programs."""

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import SqlAccountRepository, SqlSettingsRepository
from imgsync.domain.errors import AlreadyLinkedError
from imgsync.domain.model import Account, LinkSettings, TokenKind

pytestmark = pytest.mark.anyio
OFF, FIRST, ALL = LinkSettings(), LinkSettings(sync_images=True), LinkSettings(False, True)
DROP = {
    "sqlite": ("DROP TRIGGER sync_settings_switch", "DROP TRIGGER sync_settings_put"),
    "postgresql": ("DROP TRIGGER sync_settings_switch ON sync_settings",),
}


@pytest.fixture
async def settings(database: Database) -> SqlSettingsRepository:
    await SqlAccountRepository(database).add(Account("c", "Child", TokenKind.USER, "t"))
    return SqlSettingsRepository(database)


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            assert connection.execute(text(statement)).rowcount != 0


def switch(engine: Engine, values: str) -> None:
    run(engine, f"UPDATE sync_settings SET {values} WHERE account_id = 'c'")  # noqa: S608


async def test_an_update_switches_an_account_on_that_has_just_been_added(
    engine: Engine, settings: SqlSettingsRepository
) -> None:
    assert await settings.get("c") == OFF
    switch(engine, "sync_images = true")
    assert await settings.get("c") == FIRST


@pytest.mark.parametrize("before", [OFF, FIRST, ALL])
@pytest.mark.parametrize(
    ("values", "after"),
    [
        ("sync_images = true", FIRST),
        ("sync_images_all = true", ALL),
        ("sync_images = true, sync_images_all = false", FIRST),
        ("sync_images = false, sync_images_all = true", ALL),
        ("sync_images = false, sync_images_all = false", OFF),
    ],
)
async def test_the_switch_that_is_turned_on_turns_the_other_off(
    engine: Engine,
    settings: SqlSettingsRepository,
    before: LinkSettings,
    values: str,
    after: LinkSettings,
) -> None:
    await settings.put("c", before)
    switch(engine, values)
    assert await settings.get("c") == after
    with engine.begin() as connection:
        row = connection.execute(text("SELECT * FROM sync_settings WHERE account_id = 'c'")).one()
    assert tuple(row)[:3] == ("c", after.sync_images, after.sync_images_all)


async def test_both_at_once_are_all(engine: Engine, settings: SqlSettingsRepository) -> None:
    switch(engine, "sync_images = true, sync_images_all = true")
    assert await settings.get("c") == ALL
    columns = "account_id, sync_images, sync_images_all"
    run(engine, f"INSERT INTO sync_settings ({columns}) VALUES ('d', true, true)")  # noqa: S608
    assert await settings.get("d") == ALL


async def test_a_row_needs_only_the_switch_that_is_on(
    engine: Engine, settings: SqlSettingsRepository
) -> None:
    run(engine, "INSERT INTO sync_settings (account_id, sync_images) VALUES ('d', true)")
    assert await settings.get("d") == FIRST


async def test_both_on_in_a_table_without_its_triggers_are_all(
    engine: Engine, settings: SqlSettingsRepository
) -> None:
    with engine.begin() as connection:
        for statement in DROP[engine.dialect.name]:
            connection.execute(text(statement))
    switch(engine, "sync_images = true, sync_images_all = true")
    assert await settings.get("c") == ALL


async def test_new_credentials_change_no_settings(
    engine: Engine, database: Database, settings: SqlSettingsRepository
) -> None:
    switch(engine, "sync_images = true")
    await SqlAccountRepository(database).add(Account("c", "Child", TokenKind.USER, "new"))
    assert await settings.get("c") == FIRST


async def test_settings_that_were_there_before_their_account_stay(
    engine: Engine, database: Database, settings: SqlSettingsRepository
) -> None:
    await settings.put("d", ALL)
    await SqlAccountRepository(database).add(Account("d", "Later", TokenKind.USER, "t"))
    assert await settings.get("d") == ALL


async def test_sqlite_refuses_a_switch_that_is_text(sqlite_database: Database) -> None:
    await SqlAccountRepository(sqlite_database).add(Account("c", "Child", TokenKind.USER, "t"))
    with pytest.raises(IntegrityError, match="sync_settings_sync_images"):
        switch(sqlite_database.engine, "sync_images = 'true'")


@pytest.mark.parametrize("column", ["account_id", "main_account_id"])
async def test_an_id_that_is_no_text_costs_its_own_link_only(
    sqlite_database: Database, column: str
) -> None:
    settings = SqlSettingsRepository(sqlite_database)
    for child in ("c", "d"):
        await settings.link("m", child, ALL)
    broken = f"{column} = CAST(x'ff41' AS TEXT)"
    run(sqlite_database.engine, f"UPDATE sync_settings SET {broken} WHERE account_id = 'c'")  # noqa: S608
    damaged, whole = sorted(await settings.links(), key=lambda link: link.damage is None)
    assert (damaged.damage, damaged.settings) == (f"{column} is no UTF-8 text", OFF)
    assert "\\xffA" in (damaged.child_id, damaged.main_id)
    assert (whole.main_id, whole.child_id, whole.settings, whole.damage) == ("m", "d", ALL, None)
    await settings.link("m", "e", ALL)
    if column == "main_account_id":
        with pytest.raises(AlreadyLinkedError):
            await settings.link("m", "c", ALL)
    await settings.unlink("c")
    await settings.link("m", "c", ALL)
