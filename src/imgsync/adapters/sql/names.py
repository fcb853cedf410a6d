"""The names of the accounts alone, for the shell: nothing is made, upgraded or waited for."""

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url, select
from sqlalchemy.engine import URL

from imgsync.adapters.sql.database import create_engine_for
from imgsync.adapters.sql.tables import accounts

_PATIENCE_SECONDS = 2


def account_names(url: str) -> list[str]:
    """As stored, in no order. Any error of the database or of its driver."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _of_file(Path(parsed.database or "").expanduser())
    return _of_server(parsed)


def _of_file(path: Path) -> list[str]:
    # create_engine_for would make the file.
    address = f"{path.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)) as connection:
        return [str(name) for (name,) in connection.execute("SELECT name FROM accounts")]


def _of_server(url: URL) -> list[str]:
    soon = url.update_query_dict({"connect_timeout": str(_PATIENCE_SECONDS)})
    engine = create_engine_for(soon.render_as_string(hide_password=False))
    try:
        with engine.connect() as connection:
            return [str(name) for name in connection.execute(select(accounts.c.name)).scalars()]
    finally:
        engine.dispose()
