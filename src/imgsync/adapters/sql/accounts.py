"""Stored accounts."""

from typing import Any

from sqlalchemy import Engine, Row, select

from imgsync.adapters.sql.tables import accounts
from imgsync.adapters.sql.upsert import put_row
from imgsync.domain.accounts import Account, TokenKind
from imgsync.domain.errors import UnknownAccountError


class SqlAccountRepository:
    """Implements the port `AccountRepository`. Secrets are stored as they are."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, account: Account) -> None:
        put_row(
            self._engine,
            accounts,
            {
                "id": account.id,
                "name": account.name,
                "token_kind": account.token_kind.value,
                "secret": account.secret,
                "login": account.login,
            },
        )

    def get(self, account_id: str) -> Account:
        with self._engine.begin() as connection:
            row = connection.execute(select(accounts).where(accounts.c.id == account_id)).first()
        if row is None:
            raise UnknownAccountError(account_id)
        return _account(row)

    def all(self) -> list[Account]:
        with self._engine.begin() as connection:
            rows = connection.execute(select(accounts)).all()
        return sorted(map(_account, rows), key=lambda account: (account.name, account.id))


def _account(row: Row[Any]) -> Account:
    return Account(row.id, row.name, TokenKind(row.token_kind), row.secret, row.login)
