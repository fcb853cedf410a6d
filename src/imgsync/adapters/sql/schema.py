"""Brings a database to the schema of this version of imgsync."""

import logging

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError

from imgsync.adapters.sql.migrations import FIRST, HEAD
from imgsync.adapters.sql.transactions import READS, DatabaseError, failure, transaction

_LOCK = 0x696D6773796E63  # "imgsync"
_SCRIPTS = "imgsync.adapters.sql:migrations"
_NOTED = text("SELECT version_num FROM alembic_version")


def create_schema(engine: Engine) -> None:
    """Makes the tables, or brings those of an earlier version up to date.

    Processes that start at once wait for one another. One query where nothing is to be done.
    DatabaseError for a database that cannot be used, or whose revision this version does not know.
    """
    if _noted(engine) == HEAD:
        return
    with transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        _upgrade(connection)


def _noted(engine: Engine) -> str | None:
    try:
        with engine.execution_options(**{READS: True}).begin() as connection:
            return connection.execute(_NOTED).scalar()
    except SQLAlchemyError as error:
        no_such_table = engine.dialect.name == "sqlite" or isinstance(error, ProgrammingError)
        if not no_such_table:
            raise failure(engine, error) from error
        return None  # what else it may be on SQLite shows in what follows


def _upgrade(connection: Connection) -> None:
    # It takes a tenth of a second to load, and few starts need it.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", _SCRIPTS)
    config.set_main_option("path_separator", "os")
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it reports each step to the user
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    tables = set(inspect(connection).get_table_names())
    noted = connection.execute(_NOTED).scalar() if "alembic_version" in tables else None
    if noted is not None and noted not in known:
        raise DatabaseError(
            f"The database is of revision {noted}, but this imgsync knows none after {HEAD}: "
            "update imgsync on this machine"
        )
    if noted is None and "sync_queue" in tables:
        command.stamp(config, FIRST)
    command.upgrade(config, HEAD)
