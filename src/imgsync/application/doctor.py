"""Looks at everything that a sync needs, changes nothing, and says what is to be done.

Each check is guarded and has its own time: what is broken or hangs keeps no other from being told.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from imgsync.application.abilities import known_of
from imgsync.application.parking import PAUSED
from imgsync.domain.errors import (
    AuthorisationError,
    ImgsyncError,
    NoWebhookRightError,
    NoWebhooksError,
    PermissionDeniedError,
    WrongAccountError,
)
from imgsync.domain.model import (
    NO_END,
    TOKEN_ENDED,
    Abilities,
    Account,
    AccountRole,
    EntityPage,
    EntityType,
    TokenKind,
)
from imgsync.domain.ports.clock import Clock, StoreClock
from imgsync.domain.ports.events import WebhookStates
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import AbilityRepository, AccountRepository
from imgsync.domain.tasks import Task, TaskStatus
from imgsync.domain.text import counted, file_size
from imgsync.domain.troubles import TODO, Trouble, trouble_of
from imgsync.domain.webhooks import WebhookState

_log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
"""Accounts that are asked at the same time."""

_LARGEST_DIFFERENCE = timedelta(seconds=60)
_LONGEST_WAIT = timedelta(minutes=10)
"""For which a due task may wait where a worker runs: one account's long queue holds up no other."""

_LOOKED_AT_TASKS = 200
_WEBHOOKS_OLD = timedelta(hours=3)
"""They are looked at each hour."""


class Health(StrEnum):
    """UNKNOWN: it could not be found out, or is not there yet."""

    WELL = "well"
    UNKNOWN = "unknown"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found: `check` names it, `about` the account or value that it is of, '' for
    none; `said` tells it in one line, `todo` what a person can do, '' for nothing."""

    check: str
    about: str
    health: Health
    said: str
    todo: str = ""


Look = Callable[[], Awaitable[Sequence[Finding]]]


@dataclass(frozen=True, slots=True)
class Check:
    """`look` finds out within `seconds`; where it fails, that is the finding, of `name` and
    `about`."""

    name: str
    look: Look
    seconds: float = 20.0
    about: str = ""
    todo: str = ""


async def examine(checks: Sequence[Check]) -> list[Finding]:
    """The findings of all checks, which run at the same time, in their order."""
    found = await asyncio.gather(*map(_guarded, checks))
    return [finding for findings in found for finding in findings]


async def _guarded(check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(check.seconds):
            return await check.look()
    except TimeoutError:
        said, health = f"no answer within {check.seconds:g} s", Health.WRONG
    except ImgsyncError as error:
        said, health = str(error), Health.WRONG
    except Exception as error:
        _log.debug("the check of %s failed", check.name, exc_info=error)
        said, health = f"the check itself failed: {type(error).__name__}", Health.UNKNOWN
    return [Finding(check.name, check.about, health, said, check.todo)]


@dataclass(slots=True)
class ExamineAccounts:
    """Asks the API of each account who it is, what it lets its credentials see, where its images
    come from, and the time."""

    accounts: AccountRepository
    abilities: AbilityRepository
    moysklad: MoySkladFactory
    clock: Clock
    _has_told_time: bool = field(default=False, init=False)

    def checks(self, accounts: Sequence[Account], seconds: float = 60.0) -> list[Check]:
        turns = asyncio.Semaphore(MOST_AT_ONCE)

        def check(account: Account) -> Check:
            async def look() -> Sequence[Finding]:
                async with turns:
                    # Its own time, as whoever waits for a turn has not asked yet.
                    return await _guarded(self._check(account, seconds))

            # The longest that all before it may take; the time of the account itself is above.
            rounds = 1 + len(accounts) // MOST_AT_ONCE
            return Check("account", look, seconds * rounds + 1, account.name)

        return [check(account) for account in accounts]

    def _check(self, account: Account, seconds: float) -> Check:
        todo = "see whether this machine reaches MoySklad, and whether the token is still valid"
        return Check("account", lambda: self._look(account), seconds, account.name, todo)

    async def _look(self, account: Account) -> Sequence[Finding]:
        def finding(health: Health, said: str, todo: str = "") -> Finding:
            return Finding("account", account.name, health, said, todo)

        if not account.has_token:
            return [finding(Health.WRONG, TOKEN_ENDED, "install the solution there again")]
        parking = await self.accounts.parking(account.id)
        found = []
        if parking is not None and parking.reason == PAUSED:
            todo = f"go on with 'imgsync queue resume {account.name!r}'"
            found.append(finding(Health.UNKNOWN, f"it is {PAUSED}", todo))
        elif parking is not None:
            until = "a new token comes"
            if parking.until != NO_END:
                until = f"{parking.until:%Y-%m-%d %H:%M} UTC"
            todo = "mend what the reason names; 'imgsync account rotate' with a new token wakes it"
            trouble = trouble_of(parking.reason)
            if trouble in TODO:
                todo = TODO[trouble]
            # Where the reason ends with it already, it is told once.
            said = f"it takes no requests until {until}: {parking.reason.removesuffix(f'; {todo}')}"
            found.append(finding(Health.WRONG, said, todo))
        try:
            found += await self._ask(account)
        except AuthorisationError as error:
            why = str(error).removeprefix(f"MoySklad account '{account.name}': ")
            trouble = trouble_of(str(error))
            todo = TODO.get(trouble or Trouble.REFUSED, TODO[Trouble.REFUSED])
            why = why.removesuffix(f"; {todo}")
            said = f"MoySklad does not accept its {_credentials(account)}: {why}"
            found.append(finding(Health.WRONG, said, todo))
        except WrongAccountError as error:
            todo = "'imgsync account rotate' gives it a token of its own"
            found.append(finding(Health.WRONG, str(error), todo))
        except ImgsyncError as error:
            todo = "see whether this machine reaches MoySklad, and whether the token is valid"
            found.append(finding(Health.WRONG, str(error), todo))
        return found

    async def _ask(self, account: Account) -> list[Finding]:
        def finding(health: Health, said: str, todo: str = "", check: str = "account") -> Finding:
            return Finding(check, account.name, health, said, todo)

        found = []
        port = self.moysklad.for_account(account)
        try:
            page = await self._page(port)
        except PermissionDeniedError as error:
            page, todo = EntityPage([]), "give its credentials the right to view products"
            found.append(finding(Health.WRONG, str(error), todo))
        time = self._time(page)
        who = await self.moysklad.identify(account.secret, account.login)
        if who.account_id.casefold() != account.id.casefold():
            said = f"its token belongs to account {who.account_id} ('{who.name}')"
            todo = "'imgsync account rotate' gives it a token of its own"
            return [finding(Health.WRONG, said, todo)]
        solutions = TokenKind.SOLUTION, TokenKind.DRAFT
        if (account.token_kind in solutions) != (who.token_kind in solutions):
            said = f"it is stored as '{account.token_kind}', and is '{who.token_kind}'"
            todo = "give its token anew with 'imgsync account rotate'"
            found.append(finding(Health.WRONG, said, todo))
        weight = await self.moysklad.weight(account)
        total = page.total if page.total is not None else len(page.entities)
        told = [
            f"it is '{who.name}', {counted(total, 'product')} in sight",
            f"a request costs {counted(weight, 'unit')} of 45 in 3 s" if weight else "",
            await _webhook_right(port),
        ]
        found.append(finding(Health.WELL, "; ".join(filter(None, told))))
        shown = await known_of(self.abilities, port, account.id)
        found.append(finding(Health.WELL, _tariff(account, shown), check="abilities"))
        found += time
        found.append(await self._storage(account, port, page))
        return found

    async def _page(self, port: MoySkladPort) -> EntityPage:
        """The first of the products, with images."""
        product = EntityType("product")
        async for page in port.list_entities(product, with_images=True, permanent_links=True):
            return page
        return EntityPage([])

    def _time(self, page: EntityPage) -> list[Finding]:
        """Once, as all accounts have one API; each where it is wrong."""
        if page.answered is None:
            return []
        finding = clock_finding("MoySklad", page.answered, self.clock.now())
        if finding.health is Health.WELL and self._has_told_time:
            return []
        self._has_told_time = True
        return [finding]

    async def _storage(self, account: Account, port: MoySkladPort, page: EntityPage) -> Finding:
        def finding(health: Health, said: str, todo: str = "") -> Finding:
            return Finding("storage", account.name, health, said, todo)

        images = [image for entity in page.entities for image in entity.images]
        image = next((image for image in images if image.download_href), None)
        if image is None:
            return finding(Health.UNKNOWN, "none of its first products has an image to ask for")
        todo = "let this machine reach that host by https: all images come from there"
        try:
            host = await port.storage_of(image.download_href)
        except ImgsyncError as error:
            return finding(Health.WRONG, f"an image cannot be fetched: {error}", todo)
        links = "; by permanent links too" if image.permanent_href else ""
        return finding(Health.WELL, f"images come from {host}{links}")


def _tariff(account: Account, shown: Abilities) -> str:
    said = {
        "many entities in one request": shown.bulk,
        "permanent links": shown.permanent_links,
        "HEAD": shown.head,
    }
    parts = [f"{what}: {'yes' if can else 'no'}" for what, can in said.items() if can is not None]
    if shown.refused_image_bytes is not None:
        parts.append(f"images below {file_size(shown.refused_image_bytes)}")
    told = ", ".join(parts) or "nothing is known yet"
    if account.role is AccountRole.MAIN or shown.bulk is not None:
        return told
    return f"{told}; the rest shows with the first copies, or by 'imgsync doctor --probe'"


def _credentials(account: Account) -> str:
    return "token" if account.login is None else f"password (login '{account.login}')"


async def _webhook_right(port: MoySkladPort) -> str:
    try:
        await port.webhooks()
    except NoWebhookRightError:
        return "no right to manage webhooks"
    except NoWebhooksError:
        return "its tariff has no webhooks"
    return "may manage webhooks"


def clock_finding(of: str, told: datetime, here: datetime, about: str = "") -> Finding:
    """How far this machine's clock is from another."""
    difference = abs(told - here)
    seconds = f"{difference.total_seconds():.0f} s"
    if difference <= _LARGEST_DIFFERENCE:
        return Finding("clock", about, Health.WELL, f"{seconds} from that of {of}")
    way = "behind" if told > here else "ahead of"
    said = f"this machine's clock is {seconds} {way} that of {of}"
    return Finding("clock", about, Health.WRONG, said, "set it by NTP, on this machine first")


async def check_database_clock(stored: StoreClock, clock: Clock) -> Sequence[Finding]:
    before = clock.now()
    told = await stored.now()
    return [clock_finding("the database", told, before)]


async def check_webhooks(
    states: WebhookStates, names: Mapping[str, str], now: datetime
) -> Sequence[Finding]:
    """How those of the named accounts, by their ids, stood at the last look."""
    installed = [one for one in await states.all() if one.url and one.account_id in names]
    if not installed:
        said = "none are installed: changes are found by the schedule alone"
        todo = "for seconds in place of hours: 'imgsync webhooks install --url https://...'"
        return [Finding("webhooks", "", Health.UNKNOWN, said, todo)]
    return [_webhooks(one, names[one.account_id], now) for one in installed]


def _webhooks(state: WebhookState, name: str, now: datetime) -> Finding:
    said = f"{state.working} of {state.wanted} work"
    if state.problem or state.working < state.wanted:
        said += f": {state.problem}" if state.problem else ""
        todo = "'imgsync webhooks check' looks again and mends what it can"
        return Finding("webhooks", name, Health.WRONG, said, todo)
    if state.checked_at is None or now - state.checked_at > _WEBHOOKS_OLD:
        todo = "'imgsync serve' looks each hour: see whether it runs, or 'imgsync webhooks check'"
        seen = f"{state.checked_at:%Y-%m-%d %H:%M} UTC" if state.checked_at else "never"
        said += f", last looked at: {seen}"
        return Finding("webhooks", name, Health.UNKNOWN, said, todo)
    last = f"{state.last_event_at:%Y-%m-%d %H:%M} UTC" if state.last_event_at else "none yet"
    return Finding("webhooks", name, Health.WELL, f"{said}; last event: {last}")


async def check_workers(queue: TaskQueue, now: datetime, oldest: float | None) -> Sequence[Finding]:
    """Whether any takes tasks, by the leases that they hold; `oldest`: seconds for which the
    oldest due task has waited, None where the queue does not tell."""
    held = await queue.find(TaskStatus.PROCESSING, limit=_LOOKED_AT_TASKS)
    alive = [task for task in held if _is_held(task, now)]
    lost = len(held) - len(alive)
    waits = timedelta(seconds=oldest or 0.0)
    found = []
    start = "start one with 'imgsync worker' or 'imgsync serve'"
    if alive:
        count = f"{counted(len(alive), 'task')} under way"
        found.append(Finding("workers", "", Health.WELL, f"alive: {count}"))
    elif lost:
        said = f"{counted(lost, 'task')} taken by a worker that is gone, and none runs"
        found.append(Finding("workers", "", Health.WRONG, said, start))
    elif waits > _LONGEST_WAIT:
        said = "none takes tasks, though some are due"
        found.append(Finding("workers", "", Health.WRONG, said, start))
    else:
        said = "no task is under way, so that none shows"
        found.append(Finding("workers", "", Health.UNKNOWN, said, f"if none runs, {start}"))
    found.append(_oldest(oldest, waits))
    return found


def _is_held(task: Task, now: datetime) -> bool:
    return task.lease_expires_at is not None and task.lease_expires_at > now


def _oldest(oldest: float | None, waits: timedelta) -> Finding:
    if oldest is None:
        said = "a queue of this kind does not tell which task waits longest"
        return Finding("queue", "", Health.UNKNOWN, said)
    if not oldest:
        return Finding("queue", "", Health.WELL, "no task is due")
    said = f"the oldest due task has waited for {duration(waits)}"
    if waits <= _LONGEST_WAIT:
        return Finding("queue", "", Health.WELL, said)
    todo = "'imgsync queue status' shows what waits; more workers, or fewer children at a time"
    return Finding("queue", "", Health.WRONG, said, todo)


def duration(waits: timedelta) -> str:
    """As ``40 s``, ``12 minutes``, ``3 hours`` or ``2 days``."""
    seconds = int(waits.total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length or (unit == "minute" and seconds >= length):
            return counted(seconds // length, unit)
    return f"{seconds} s"
