"""MoySklad accounts, their credentials and sides."""

import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from imgsync.domain.errors import WrongAccountError


class TokenKind(StrEnum):
    """How an account authenticates: Bearer token of a solution or user, or Basic login:password.

    DRAFT is the token of a solution in draft or moderation: as SOLUTION, but each request costs 4.
    """

    SOLUTION = "solution"
    DRAFT = "draft"
    USER = "user"
    PASSWORD = "password"  # noqa: S105 (a kind, not a secret)


class AccountRole(StrEnum):
    """Which side of a copy an account stands on. An account never stands on both."""

    MAIN = "main"
    CHILD = "child"


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose credentials these are, as the API tells: account id, a name, and the kind.

    `token_kind` is SOLUTION for every token of a solution; the API does not tell a draft.
    """

    account_id: str
    name: str
    token_kind: TokenKind


@dataclass(frozen=True, slots=True)
class Parking:
    """An account takes no requests until the aware moment `until`; `reason` is for the user."""

    reason: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """An account and its credentials. `secret` is left out of repr so that no log shows it.

    `login` is set exactly when `token_kind` is PASSWORD; `role` is None until it is known.
    """

    id: str
    name: str
    token_kind: TokenKind
    secret: str = field(repr=False)
    login: str | None = None
    role: AccountRole | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.id.strip():
            raise ValueError("account id is empty")
        if not (self.id + self.name + (self.login or "")).isprintable():
            raise ValueError("the id, name or login has characters that cannot be printed")
        if not self.secret:
            raise ValueError("the token or password is empty")
        is_password = self.token_kind is TokenKind.PASSWORD
        if not is_password and not re.fullmatch(r"[!-~]+", self.secret):
            raise ValueError("the token has spaces, line breaks or other than ASCII characters")
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in self.secret):
            raise ValueError("the password has control characters")
        if is_password != (self.login is not None):
            raise ValueError("a login goes with a password, and only with a password")


def check_roles(main: Account, child: Account) -> None:
    """WrongAccountError where these two cannot be the main and the child account of a copy."""
    if main.id.casefold() == child.id.casefold():
        raise WrongAccountError(
            f"the main and the child account are the same: {_named(main)} and {_named(child)}"
        )
    for account, role, other in (
        (main, AccountRole.MAIN, child),
        (child, AccountRole.CHILD, main),
    ):
        if account.role not in (None, role):
            raise WrongAccountError(
                f"{_named(account)} is a {account.role} account and cannot be the {role} account "
                f"beside {_named(other)}; if it should be, say so with "
                f"'imgsync account add {account.id} --role {role}'"
            )


def _named(account: Account) -> str:
    return f"account '{account.name}' ({account.id})"
