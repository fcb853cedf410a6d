"""The database's clock, which all hosts share."""

from datetime import datetime

from sqlalchemy import Engine

from imgsync.adapters.sql.transactions import now_of, transaction


class DatabaseClock:
    """Implements the port `Clock`; each call asks the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def now(self) -> datetime:
        with transaction(self._engine, reads=True) as connection:
            return now_of(connection)
