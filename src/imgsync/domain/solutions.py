"""Solutions of MoySklad's catalogue: what it tells of accounts that install them, and what follows.

Its calls may come twice, late, in another order, and to several hosts at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from imgsync.domain.model import NO_END, NO_TOKEN, Account, Parking, TokenKind

SUSPENDED = (
    "the solution is suspended in MoySklad, as its subscription is not paid for; "
    "it goes on by itself once that is"
)
REMOVED = (
    "the solution was removed from the account in MoySklad; "
    "install it again there, or give another token"
)


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution of ours, by its id in the catalogue. `secret` signs MoySklad's calls; a draft's
    requests cost four units instead of one."""

    app_id: str
    secret: str = field(repr=False)
    is_draft: bool = False


class InstallationState(StrEnum):
    INSTALLED = "installed"
    SUSPENDED = "suspended"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Installation:
    """A solution on an account. `issued_at`: when MoySklad signed the last call that was heeded;
    `token` is None where it has ended."""

    app_id: str
    account_id: str
    state: InstallationState
    issued_at: datetime
    token: str | None = field(default=None, repr=False)
    is_draft: bool = False


class CallMethod(StrEnum):
    """What MoySklad asks: to take up an account, to let go of it, how it stands."""

    PUT = "PUT"
    DELETE = "DELETE"
    GET = "GET"


@dataclass(frozen=True, slots=True)
class SolutionCall:
    """A call of MoySklad's whose signature is right.

    `token_id` tells its JSON Web Token, which serves once, from others; `request_id` is the same
    when the call is repeated, None where it was left out. `cause` is MoySklad's word, '' where it
    gave none. `token`: of the account, where it came.
    """

    app_id: str
    account_id: str
    method: CallMethod
    token_id: str
    request_id: str | None
    issued_at: datetime
    expires_at: datetime
    cause: str = ""
    account_name: str = ""
    token: str | None = field(default=None, repr=False)


class Verdict(StrEnum):
    """What becomes of a call. A refused one leaves nothing behind, so that it may come again."""

    DONE = "done"
    REPEATED = "repeated"
    """It was done before; how the account stands is told again."""
    LATE = "late"
    """A later call was heeded already."""
    REPLAYED = "replayed"
    """Its token was used by another call."""
    NO_TOKEN = "no token"  # noqa: S105
    """The solution was installed without access to the account."""
    UNKNOWN = "unknown"
    """It tells of an installation that is not known (yet)."""

    @property
    def is_refusal(self) -> bool:
        return self in (Verdict.REPLAYED, Verdict.NO_TOKEN, Verdict.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Consequence:
    """What follows from a call: what is to be stored, None where nothing is. Storing the account
    ends its parking; `parking` begins one."""

    verdict: Verdict
    installation: Installation | None = None
    account: Account | None = None
    parking: Parking | None = None


_WITHOUT_TOKEN = ("TariffChanged", "Autoprolongation")
"""Causes of a PUT that carries no access: what is paid for has changed, and the token stays."""


def consequence(
    call: SolutionCall, solution: Solution, there: Sequence[Installation], account: Account | None
) -> Consequence:
    """`there`: solutions on the account of the call; `account`: as it is stored. ValueError for a
    token that can be none."""
    before = next((one for one in there if one.app_id == call.app_id), None)
    if call.method is CallMethod.GET:
        return Consequence(Verdict.DONE, before)
    if before is not None and call.issued_at < before.issued_at:
        return Consequence(Verdict.LATE, before)
    if call.method is CallMethod.DELETE:
        others = [one for one in there if one.app_id != call.app_id]
        return _ended(call, before, others, account)
    if call.token is not None:
        return _installed(call, solution, account, call.token)
    if call.cause not in _WITHOUT_TOKEN:
        return Consequence(Verdict.NO_TOKEN)
    if before is None or before.state is InstallationState.REMOVED:
        return Consequence(Verdict.UNKNOWN)
    return Consequence(Verdict.DONE, _now(call, before.state, before.token))


def _installed(
    call: SolutionCall, solution: Solution, account: Account | None, token: str
) -> Consequence:
    kind = TokenKind.DRAFT if solution.is_draft else TokenKind.SOLUTION
    account_id = account.id if account else call.account_id
    named = account.name if account and account.name != account.id else call.account_name
    stored = Account(account_id, named or account_id, kind, token)
    return Consequence(Verdict.DONE, _now(call, InstallationState.INSTALLED, token), stored)


def _ended(
    call: SolutionCall,
    before: Installation | None,
    others: Sequence[Installation],
    account: Account | None,
) -> Consequence:
    state, reason = InstallationState.REMOVED, REMOVED
    if call.cause == "Suspend":
        state, reason = InstallationState.SUSPENDED, SUSPENDED
    after = _now(call, state, None)
    if account is None or before is None or account.secret != (before.token or NO_TOKEN):
        return Consequence(Verdict.DONE, after)  # it goes by another token, or is not ours
    tokens = [one for one in others if one.token is not None]
    if tokens:
        other = max(tokens, key=lambda one: one.issued_at)
        kind = TokenKind.DRAFT if other.is_draft else TokenKind.SOLUTION
        return Consequence(
            Verdict.DONE, after, Account(account.id, account.name, kind, other.token or "")
        )
    forgotten = Account(account.id, account.name, account.token_kind, NO_TOKEN)
    return Consequence(Verdict.DONE, after, forgotten, Parking(reason, NO_END))


def _now(call: SolutionCall, state: InstallationState, token: str | None) -> Installation:
    return Installation(call.app_id, call.account_id, state, call.issued_at, token)
