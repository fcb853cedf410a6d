"""Secrets in the database, encrypted with one key at a time, which the table `encryption` names."""

import asyncio
import logging
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    LargeBinary,
    Text,
    cast,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from imgsync.adapters.sql.database import Database, failure
from imgsync.adapters.sql.tables import accounts, encryption, installations, solutions
from imgsync.domain.errors import ImgsyncError, KeyStoreError, MissingKeyError, StoreError
from imgsync.domain.ports.secrets import Rekeyed, SecretBox, key_of

_log = logging.getLogger(__name__)
_SECRETS = (accounts.c.secret, solutions.c.secret, installations.c.token)
_ROW = 1
_PREFIX = "sealed:"
_WIPES = {
    # The log too, as pages of it are only overwritten by and by.
    "sqlite": ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"),
    "postgresql": tuple(
        f"VACUUM (FULL) {table}" for table in ("accounts", "solutions", "installations")
    ),
}


class _Lock(Enum):
    """Until the end of the transaction nobody changes the key, or nobody writes with it."""

    KEEP = auto()
    CHANGE = auto()


class SqlSecrets:
    """Implements the port `StoredSecrets`, and encrypts for the others of this package. Without a
    box texts are stored as they are, and encrypted ones are not read.

    Every writer encrypts with the key that the database names, in a transaction that keeps it from
    changing: of two hosts with keys of their own the second is refused, and what is written while
    another process changes the key can be read afterwards.
    """

    def __init__(self, database: Database, box: SecretBox | None = None) -> None:
        self._database = database
        self._box = box

    def prepare(self) -> None:
        """Encrypts what is plain: rows of an earlier version, or of another program.

        Not async, as it is done once, before anything else. One query where nothing is to be done.
        MissingKeyError where the database has secrets and their key is not here; nothing is changed
        then.
        """
        if self._box is None:
            return
        present, to_wipe, has_plain = self._database.run_now(_look, reads=True)
        if present is not None:
            self._box.check(present)
        if has_plain:
            to_wipe = self._database.run_now(self._seal_plain)
        if to_wipe:
            self._wipe()

    async def has_plain(self) -> bool:
        """Whether any are not encrypted yet; nothing is changed. MissingKeyError as `prepare`."""
        present, _, has_plain = await self._database.run(_look, reads=True)
        if present is not None and self._box is not None:
            self._box.check(present)
        return has_plain

    def seal(self, connection: Connection, text: str) -> str:
        """The text as it is stored, in a transaction that stores it."""
        return text if self._box is None else self._box.seal(text, self._current(connection))

    def unseal(self, stored: str) -> str:
        """The text that was stored; a plain one as it is. MissingKeyError; ValueError where it is
        damaged."""
        if (fingerprint := key_of(stored)) is None:
            return stored
        if self._box is None:
            raise MissingKeyError(fingerprint, "no key is given")
        return self._box.unseal(stored)

    def readable(self, stored: str) -> str | None:
        """As `unseal`; None where it is damaged."""
        try:
            return self.unseal(stored)
        except ValueError:
            return None

    async def rekey(self) -> Rekeyed:
        rekeyed = await self._database.run(self._rekey, alone=True)
        await asyncio.to_thread(self._wipe)
        return rekeyed

    def _rekey(self, connection: Connection) -> Rekeyed:
        if self._box is None:
            raise KeyStoreError("there is no place for keys")
        _lock(connection)
        # From now on nobody writes with this key; what was written with it can be seen.
        before = _present(connection, lock=_Lock.CHANGE)
        # Kept safely, beside the present one, before anything is encrypted with it.
        now = self._current(connection) if before is None else self._box.next(before)
        sealed = self._seal_all(connection, now, again=True)
        connection.execute(update(encryption).values(fingerprint=now, to_wipe=True))
        return Rekeyed(before, now, sealed)

    def _current(self, connection: Connection) -> str:
        """Fingerprint of the database's key; the first one to encrypt chooses it."""
        present = _present(connection, lock=_Lock.KEEP)
        if present is None:
            assert self._box is not None  # noqa: S101 (for the type checker)
            _lock(connection)
            present = _present(connection)
            if present is None:
                present = self._box.first()
                connection.execute(insert(encryption).values(id=_ROW, fingerprint=present))
        return present

    def _seal_plain(self, connection: Connection) -> bool:
        """Whether anything was encrypted, here or by another process that has left it to wipe."""
        _lock(connection)
        key = self._current(connection)
        if sealed := self._seal_all(connection, key, again=False):
            connection.execute(update(encryption).values(to_wipe=True))
            _log.info("encrypted %d tokens and secrets with key %s", sealed, key)
        return bool(connection.execute(select(encryption.c.to_wipe)).scalar())

    def _seal_all(self, connection: Connection, key: str, *, again: bool) -> int:
        """Encrypts what is plain, and `again` what is encrypted with another key; how many."""
        assert self._box is not None  # noqa: S101 (for the type checker)
        sealed = 0
        for column in _SECRETS:
            keys = column.table.primary_key.columns
            query = select(*keys, _raw(connection, column).label("stored"))
            query = query.where(column.is_not(None))
            if not again:
                query = query.where(_is_plain(column))
            for row in connection.execute(query).all():
                try:
                    stored = row.stored.decode() if isinstance(row.stored, bytes) else row.stored
                    if key_of(stored) == key:
                        continue
                    value = self._box.seal(self.unseal(stored), key)
                except ValueError:
                    _log.warning("a damaged secret of %s was left as it is", column.table.name)
                    continue
                this = [one == row._mapping[one.name] for one in keys]
                connection.execute(update(column.table).where(*this).values({column: value}))
                sealed += 1
        return sealed

    def _wipe(self) -> None:
        """Has the database give up what it has freed; left for the next start where it cannot."""
        try:
            self._maintain(*_WIPES[self._database.dialect])
            clean = update(encryption).values(to_wipe=False)
            self._database.run_now(lambda connection: connection.execute(clean))
        except ImgsyncError as error:
            _log.warning(
                "tokens are encrypted, but the database could not be rid of what it held before; "
                "that is tried at the next start: %s",
                error,
            )

    def _maintain(self, *statements: str) -> None:
        """Statements that no transaction may have; StoreError where one cannot be done."""
        try:
            connection = self._database.engine.raw_connection()
            try:
                if self._database.dialect == "postgresql":
                    connection.dbapi_connection.autocommit = True  # type: ignore[union-attr]
                cursor = connection.cursor()
                for statement in statements:
                    cursor.execute(statement)
                    if statement.startswith("PRAGMA") and cursor.fetchall()[0][0]:
                        raise StoreError("another process is reading it")
                cursor.close()
            finally:
                with suppress(Exception):
                    connection.invalidate()  # a connection in an unusual state
                connection.close()
        except (SQLAlchemyError, self._database.engine.dialect.loaded_dbapi.Error) as error:
            known = error if isinstance(error, SQLAlchemyError) else SQLAlchemyError(str(error))
            raise failure(self._database.engine, known) from None


def _look(connection: Connection) -> tuple[str | None, bool, bool]:
    """The key that the database names, whether plain secrets may be left in what was freed, and
    whether there are plain ones."""
    plain = or_(
        *(
            select(literal(1))
            .select_from(column.table)
            .where(column.is_not(None), _is_plain(column))
            .exists()
            for column in _SECRETS
        )
    )
    row = connection.execute(
        select(
            select(encryption.c.fingerprint).scalar_subquery(),
            select(encryption.c.to_wipe).scalar_subquery(),
            plain,
        )
    ).one()
    return row[0], bool(row[1]), bool(row[2])


def _is_plain(column: Column[Any]) -> Any:
    return func.substr(cast(column, Text), 1, len(_PREFIX)) != _PREFIX


def _raw(connection: Connection, column: Column[Any]) -> Any:
    """As text that no driver fails to decode."""
    return cast(column, LargeBinary if connection.dialect.name == "sqlite" else Text)


def _present(connection: Connection, *, lock: _Lock | None = None) -> str | None:
    """The database's key."""
    query = select(encryption.c.fingerprint)
    if lock is not None and connection.dialect.name == "postgresql":
        query = query.with_for_update(read=lock is _Lock.KEEP)
    found: str | None = connection.execute(query).scalar()
    return found


def _lock(connection: Connection) -> None:
    """Keeps others from writing secrets; SQLite has one writer at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE encryption IN SHARE ROW EXCLUSIVE MODE"))
