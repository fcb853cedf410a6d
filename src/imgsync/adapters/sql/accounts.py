"""Stored accounts."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, LargeBinary, Row, cast, select, update

from imgsync.adapters.sql.tables import accounts
from imgsync.adapters.sql.transactions import DatabaseError, now_of, transaction
from imgsync.adapters.sql.types import storable
from imgsync.adapters.sql.upsert import put_row
from imgsync.domain.errors import UnknownAccountError
from imgsync.domain.model import Account, AccountRole, Parking, TokenKind
from imgsync.domain.ports.clock import Clock

_FREE = {"parked_until": None, "parked_reason": None}
_STORED = ("id", "name", "token_kind", "secret", "login", "role")


class SqlAccountRepository:
    """Implements the port `AccountRepository`. Secrets are stored as they are.

    `clock` is for tests; without it the time is the database's.
    """

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        self._engine = engine
        self._clock = clock

    def add(self, account: Account) -> None:
        values = {
            "id": account.id,
            "name": account.name,
            "token_kind": account.token_kind.value,
            "secret": account.secret,
            "login": account.login,
            **_FREE,
        }
        if account.role is not None:
            values["role"] = account.role.value
        put_row(self._engine, accounts, values)

    def get(self, account_id: str) -> Account:
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(_rows(connection).where(accounts.c.id == account_id)).first()
        if row is None:
            raise UnknownAccountError(account_id)
        return _account(row)

    def all(self) -> list[Account]:
        with transaction(self._engine, reads=True) as connection:
            rows = connection.execute(_rows(connection)).all()
        return sorted(map(_account, rows), key=lambda account: (account.name, account.id))

    def set_role(self, account_id: str, role: AccountRole) -> None:
        self._change(account_id, {"role": role.value})

    def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        values = {"parked_until": parking.until, "parked_reason": storable(parking.reason)}
        same: list[ColumnElement[bool]] = []
        if used is not None:
            # In the statement itself: this process may have been stopped since it read them.
            same = [
                accounts.c.token_kind == used.token_kind.value,
                accounts.c.secret == used.secret,
                accounts.c.login.is_not_distinct_from(used.login),
            ]
        return self._change(account_id, values, *same)

    def parking(self, account_id: str) -> Parking | None:
        query = select(accounts.c.parked_reason, accounts.c.parked_until).where(
            accounts.c.id == account_id, accounts.c.parked_until.is_not(None)
        )
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(query).first()
            if row is None or row.parked_until <= now_of(connection, self._clock):
                return None
        return Parking(row.parked_reason or "", row.parked_until)

    def _change(
        self, account_id: str, values: dict[str, Any], *conditions: ColumnElement[bool]
    ) -> bool:
        this = update(accounts).where(accounts.c.id == account_id, *conditions)
        with transaction(self._engine) as connection:
            return connection.execute(this.values(values)).rowcount == 1


def _rows(connection: Connection) -> Any:
    """The columns of `_STORED`, as text that no driver fails to decode."""
    columns = [accounts.c[name] for name in _STORED]
    if connection.dialect.name == "sqlite":
        return select(*(cast(column, LargeBinary).label(column.name) for column in columns))
    return select(*columns)


def _account(row: Row[Any]) -> Account:
    """The account in a row, which another program may have written."""
    values = dict(row._mapping)
    try:
        texts = {name: _text(value) for name, value in values.items()}
        role = texts["role"]
        return Account(
            texts["id"] or "",
            texts["name"] or "",
            TokenKind(texts["token_kind"] or ""),
            texts["secret"] or "",
            texts["login"],
            None if role is None else AccountRole(role),
        )
    except ValueError as error:
        shown = values["id"]
        if isinstance(shown, bytes):
            shown = shown.decode("utf-8", "replace")
        reason = "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error
        raise DatabaseError(
            f"The stored account {shown!a} is damaged: {reason}; "
            "add it anew with 'imgsync account add'"
        ) from None


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8") if isinstance(value, bytes) else value
