"""Brings a database to the schema of this version of imgsync."""

import logging

from sqlalchemy import Connection, inspect, text

from imgsync.adapters.sql.migrations import FIRST, HEAD
from imgsync.domain.errors import StoreError

_LOCK = 0x696D6773796E63  # "imgsync"
_SCRIPTS = "imgsync.adapters.sql:migrations"
_NOTED = text("SELECT version_num FROM alembic_version")


def noted_revision(connection: Connection) -> str | None:
    """The revision that the database has; an error of SQLAlchemy's where it notes none."""
    return connection.execute(_NOTED).scalar()


def _wait_for_others(connection: Connection) -> None:
    """And takes the time that it needs from now on: the limits of a worker's transactions would end
    each attempt to build an index over a large queue, and those who wait for it before it is done.
    """
    patience = connection.execute(text("SHOW lock_timeout")).scalar_one()
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    # Whoever waits for a table keeps all others from it.
    connection.execute(text(f"SET LOCAL lock_timeout = '{patience}'"))


def upgrade(connection: Connection) -> None:
    """Makes the tables, or brings those of an earlier version up to date, in this transaction.

    StoreError for a revision that this version does not know.
    """
    if connection.dialect.name == "postgresql":
        _wait_for_others(connection)
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
    noted = noted_revision(connection) if "alembic_version" in tables else None
    if noted is not None and noted not in known:
        raise StoreError(
            f"The database is of revision {noted}, but this imgsync knows none after {HEAD}: "
            "update imgsync on this machine"
        )
    if noted is None and "sync_queue" in tables:
        command.stamp(config, FIRST)
    command.upgrade(config, HEAD)
