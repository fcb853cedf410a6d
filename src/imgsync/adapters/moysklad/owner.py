"""Whose credentials these are, asked of the API itself (documentation, Context; facts on tokens).

A user's token or password is told by context/employee. A solution is refused there (55006) and has
context/application, which names no account id; but every entity names the account that it is in.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from imgsync.adapters.moysklad.answers import WrongContextError
from imgsync.domain.errors import (
    ApiError,
    NotFoundError,
    PermissionDeniedError,
    WrongAccountError,
)
from imgsync.domain.model import Account, Identity, TokenKind

Get = Callable[[str], Awaitable[Any]]
"""Decoded answer to a GET on a path below the API's base."""

_TELLING_TYPES = ("organization", "product", "variant", "bundle", "counterparty")
_REFUSALS = (ApiError, NotFoundError, PermissionDeniedError)


async def identify(get: Get, *, is_password: bool) -> Identity:
    """Account id, name and kind of the credentials that `get` uses.

    ApiError where they see no entity that tells the account.
    """
    try:
        employee = await get("context/employee")
    except WrongContextError:
        return await _identify_solution(get)
    account_id, name = _text(employee, "accountId"), _text(employee, "uid").rpartition("@")[2]
    if not account_id:
        raise ApiError("unexpected answer of the API: context/employee names no accountId")
    kind = TokenKind.PASSWORD if is_password else TokenKind.USER
    return Identity(account_id, name or _text(employee, "name") or account_id, kind)


async def _identify_solution(get: Get) -> Identity:
    application = await get("context/application")
    account_id = await _row_account(get, _TELLING_TYPES)
    # appUid is alias.vendor@account-name.
    name = _text(application, "appUid").rpartition("@")[2]
    return Identity(account_id, name or account_id, TokenKind.SOLUTION)


async def _row_account(get: Get, types: Iterable[str]) -> str:
    """accountId of one row of the first list that shows one."""
    for name in types:
        try:
            answer = await get(f"entity/{name}?limit=1")
        except _REFUSALS:
            continue
        rows = answer.get("rows") if isinstance(answer, dict) else None
        for row in rows if isinstance(rows, list) else []:
            if found := _text(row, "accountId"):
                return found
    raise ApiError(
        "the token sees no organization, product or other entity, so that its account cannot be "
        "told; give it the right to view products"
    )


class OwnerCheck:
    """Makes sure, once, that an account's credentials are those of its id.

    Rows that are listed anyhow tell it for nothing; else it is asked in one request.
    """

    def __init__(self, account: Account) -> None:
        self._account = account
        self._confirmed = False
        self._error = ""
        self._lock = asyncio.Lock()

    def saw(self, account_id: str | None) -> None:
        """Notes the accountId of a row. WrongAccountError where it is another account's."""
        if not account_id:
            return
        if _same(account_id, self._account.id):
            self._confirmed = True
            return
        self._error = (
            f"Account '{self._account.name}' is stored under id {self._account.id}, but its "
            f"{'password' if self._account.login else 'token'} belongs to account {account_id}; "
            "nothing is read or written with it; give it its own with 'imgsync account rotate'"
        )
        self.check()

    async def confirm(self, get: Get, entity_path: str | None = None) -> None:
        """WrongAccountError where the credentials are another account's; `entity_path` is that of
        the one entity which is about to be written. NotFoundError where it does not exist."""
        async with self._lock:
            self.check()
            if not self._confirmed:
                self.saw(await self._ask(get, entity_path))

    async def suspect(self, get: Get) -> None:
        """Asks after something was not found, which another account's credentials would explain.

        WrongAccountError where that is so; where it cannot be told, nothing.
        """
        async with self._lock:
            self.check()
            if not self._confirmed:
                try:
                    found = await self._ask(get)
                except _REFUSALS:
                    return
                self.saw(found)

    async def _ask(self, get: Get, entity_path: str | None = None) -> str:
        if self._account.token_kind in (TokenKind.USER, TokenKind.PASSWORD):
            try:
                if found := _text(await get("context/employee"), "accountId"):
                    return found
            except _REFUSALS:
                pass  # such as a solution's token that is stored as a user's
        found = _text(await get(entity_path), "accountId") if entity_path else ""
        return found or await _row_account(get, _TELLING_TYPES)

    def check(self) -> None:
        """WrongAccountError where the credentials are known to be another account's."""
        if self._error:
            raise WrongAccountError(self._error)


def _same(left: str, right: str) -> bool:
    return left.strip().lower() == right.strip().lower()


def _text(value: object, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    return found.strip() if isinstance(found, str) and found.isprintable() else ""
