"""A database as the suites of imgsync.testing want a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from imgsync.adapters.sql.database import Database
from imgsync.testing import SetClock


@dataclass
class SqlStore:
    """The database of a URL, as several hosts have it open, under a clock that is set."""

    url: str
    clock: SetClock = field(default_factory=SetClock)
    opened: list[Database] = field(default_factory=list)

    def another_host(self) -> Database:
        self.opened.append(Database.open(self.url))
        return self.opened[-1]

    def drop(self, table: str) -> None:
        """Makes the database one that cannot be used."""
        with self.another_host().engine.begin() as connection:
            connection.exec_driver_sql(f"DROP TABLE {table}")


@contextmanager
def sql_store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url)
    try:
        yield store
    finally:
        for database in store.opened:
            database.close()


class SetTime:
    """The part of a suite that is the same for all that a `SqlStore` holds."""

    async def now(self, store: SqlStore) -> datetime:
        return store.clock.now()

    async def advance(self, store: SqlStore, by: timedelta) -> None:
        store.clock.advance(by)
