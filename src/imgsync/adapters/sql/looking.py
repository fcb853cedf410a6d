"""Looks at a database without making or changing it, unlike whoever opens it for work."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, create_engine, inspect, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from imgsync.adapters.sql.database import check_sqlite_file, create_engine_for, failure
from imgsync.adapters.sql.schema import noted_revision
from imgsync.domain.errors import StoreUrlError


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """`kind`: ``sqlite`` or ``postgresql``; `revision`: of its schema, None where it has none yet;
    `path`: its file, None for a server."""

    kind: str
    revision: str | None
    path: Path | None


def database_file(url: str) -> Path | None:
    """The file of an SQLite URL; None for any other."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return None
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return None
    return Path(parsed.database).expanduser()


def look_at_database(url: str) -> DatabaseState:
    """Blocks for as long as the database does. StoreError where it cannot be used; an SQLite file
    that is not there is none that cannot be used."""
    path = database_file(url)
    if path is None:
        engine = create_engine_for(url)
    else:
        check_sqlite_file(path)
        if not path.exists() or not path.stat().st_size:
            return DatabaseState("sqlite", None, path)
        engine = _read_only(path)
    try:
        with engine.connect() as connection:
            noted = "alembic_version" in inspect(connection).get_table_names()
            revision = noted_revision(connection) if noted else None
    except SQLAlchemyError as error:
        raise failure(engine, error) from error
    finally:
        engine.dispose()
    return DatabaseState(engine.dialect.name, revision, path)


def _read_only(path: Path) -> Engine:
    try:
        address = path.absolute().as_uri()
    except ValueError:
        raise StoreUrlError("not a database URL") from None
    url = URL.create("sqlite+pysqlite", database=address, query={"mode": "ro", "uri": "true"})
    return create_engine(url, connect_args={"timeout": 5})
