"""What MoySklad tells of the accounts that install our solutions."""

import re
from dataclasses import dataclass

from imgsync.application.accounts import printable_name
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.model import AccountName
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.runner import Listeners
from imgsync.domain.ports.solutions import Solutions
from imgsync.domain.ports.web import AuditEntry
from imgsync.domain.solutions import (
    CallMethod,
    Consequence,
    InstallationState,
    Solution,
    SolutionCall,
    Verdict,
    consequence,
)

LONGEST_NAME = 255
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SECRET = re.compile(r"[!-~]{8,1000}")


def id_of(text: str) -> str | None:
    """The id of an account or a solution as MoySklad writes it; None where it can be none."""
    found = text.strip().lower()
    return found if _ID.fullmatch(found) else None


def solution_of(app_id: str, secret: str, *, is_draft: bool) -> Solution:
    """ImgsyncError for what can be no id or no secret."""
    known = id_of(app_id)
    if known is None:
        raise ImgsyncError(f"'{app_id}' is no appId, such as 5f3c5489-6a17-48b7-9fe5-b2000eb807fe")
    if not _SECRET.fullmatch(secret):
        raise ImgsyncError(
            "The secret key is that of the solution's page: at least 8 characters, no spaces"
        )
    return Solution(known, secret, is_draft)


@dataclass(frozen=True, slots=True)
class AddSolution:
    """Stores a solution, whose calls are taken from now on."""

    solutions: Solutions

    async def __call__(self, app_id: str, secret: str, *, is_draft: bool) -> Solution:
        """ImgsyncError for what can be no id or no secret."""
        solution = solution_of(app_id, secret, is_draft=is_draft)
        await self.solutions.put(solution)
        return solution


@dataclass(frozen=True, slots=True)
class TakeCall:
    """Heeds a call of MoySklad's: an account that installs or resumes gets its token and its tasks
    run again, one that suspends or removes the solution is parked. Links, settings and records
    stay as they are."""

    solutions: Solutions
    queue: TaskQueue
    listeners: Listeners

    async def __call__(self, call: SolutionCall) -> Consequence:
        """As `Solutions.take`. Of a call that comes again tasks are woken again, as whoever took it
        first may have ended before that."""
        detail = {"cause": call.cause, "account": printable_name(call.account_name)}
        what = "take up account" if call.method is CallMethod.PUT else "let go of account"
        entry = AuditEntry(f"solution {call.app_id}", what, call.account_id, detail)
        taken = await self.solutions.take(call, consequence, entry)
        if taken.verdict is Verdict.DONE and taken.account and taken.parking:
            told = AccountName(taken.account.id, taken.account.name)
            await self.listeners.account_parked(told, taken.parking.reason, taken.parking.until)
        is_on = taken.installation and taken.installation.state is InstallationState.INSTALLED
        if call.method is CallMethod.PUT and is_on and not taken.verdict.is_refusal:
            account_id = taken.account.id if taken.account else call.account_id
            await self.queue.unpark(account_id)
        return taken
