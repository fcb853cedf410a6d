"""Keys of the HTTP API: stored by their hash, noted when used, gone once removed."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from imgsync.adapters.sql.apikeys import SqlApiKeys
from imgsync.adapters.sql.database import Database
from imgsync.application.apikeys import AddApiKey, opened_by
from imgsync.domain.errors import ImgsyncError

pytestmark = [pytest.mark.anyio]


async def test_a_key_opens_until_it_is_removed_and_is_stored_nowhere(database: Database) -> None:
    keys = SqlApiKeys(database)
    key = await AddApiKey(keys)("склад", may_write=True)
    found = await opened_by(keys, key)
    assert found is not None
    assert (found.name, found.may_write, found.last_used_at) == ("склад", True, None)
    with database.engine.connect() as connection:
        rows = connection.execute(text("SELECT * FROM api_keys")).all()
    assert key not in str(rows)
    assert await keys.remove("склад")
    assert await opened_by(keys, key) is None
    assert not await keys.remove("склад")


@pytest.mark.parametrize("given", ["", "x", "imgsync_", "\x00", "\ud800", "ключ", "x" * 100_000])
async def test_nothing_else_opens(database: Database, given: str) -> None:
    keys = SqlApiKeys(database)
    await AddApiKey(keys)("a", may_write=False)
    assert await opened_by(keys, given) is None


async def test_a_name_is_given_once(database: Database) -> None:
    keys = SqlApiKeys(database)
    key = await AddApiKey(keys)("a", may_write=False)
    with pytest.raises(ImgsyncError, match="a key 'a' already"):
        await AddApiKey(keys)("a", may_write=True)
    assert await opened_by(keys, key) is not None
    for name in ("", "  ", "a\nb", "x" * 101):
        with pytest.raises(ImgsyncError, match="name of a key"):
            await AddApiKey(keys)(name, may_write=True)


async def test_the_last_use_is_noted_once_a_minute(database: Database) -> None:
    keys = SqlApiKeys(database)
    key = await AddApiKey(keys)("a", may_write=False)

    async def used() -> object:
        await opened_by(keys, key)
        (one,) = await keys.all()
        return one.last_used_at

    first = await used()
    assert first is not None
    assert await used() == first
    (one,) = await keys.all()
    with database.engine.begin() as connection:
        assert one.last_used_at is not None
        earlier = one.last_used_at - timedelta(minutes=2)
        statement = text("UPDATE api_keys SET last_used_at = :at")
        connection.execute(statement, {"at": earlier.strftime("%Y-%m-%d %H:%M:%S.%f+00")})
    noted = await used()
    assert isinstance(noted, datetime)
    assert noted > earlier
