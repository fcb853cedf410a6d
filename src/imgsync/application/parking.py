"""Keeps tasks from accounts that take no requests, so that one refusal costs one request.

Every refused request counts towards MoySklad's ban (200 identical failing ones in a minute), and
tasks by the thousand may be queued for an account whose token has just died.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from imgsync.domain.errors import (
    AccountParkedError,
    ImgsyncError,
    LeaseLostError,
    NoRoomError,
    ParkingError,
    StorageFullError,
    UnavailableError,
    UnknownAccountError,
)
from imgsync.domain.model import (
    NO_END,
    TOKEN_ENDED,
    Account,
    AccountName,
    AccountRole,
    LinkSettings,
    Parking,
    StoredLink,
    SyncRequest,
)
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.ports.runner import Listeners, NoListeners
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)

REFUSED_FOR = timedelta(hours=1)
"""Parking of an account whose credentials are refused or whose storage is full: a person must act,
and storing the account anew ends it at once."""

BUSY_FOR = timedelta(minutes=1)
"""Parking of an account that the adapter holds back by itself."""


class TaskParkedError(ImgsyncError):
    """The task waits for an account that takes no requests."""

    def __init__(self, account_id: str, name: str, parking: Parking) -> None:
        super().__init__(f"waits for account '{name}': {parking.reason}")
        self.account_id = account_id
        self.parking = parking


_RECENT_SECONDS = 1.0


@dataclass(slots=True)
class RecentAccounts:
    """Implements `AccountRepository`: accounts as they were at most a second ago, so that tasks
    that run beside one another, and after, do not read them again each.

    A parking is never remembered, only that there was none. What is changed through this object is
    heeded at once; what other processes change, a second later. Credentials that were replaced
    within it are refused to `park` by the store itself, and then forgotten here. `listeners` hear
    of a parking that is noted and is not brief.
    """

    accounts: AccountRepository
    elapsed: Callable[[], float] = uptime
    listeners: Listeners = field(default_factory=NoListeners)
    _known: dict[str, tuple[float, Account]] = field(default_factory=dict)
    _free: dict[str, float] = field(default_factory=dict)

    async def add(self, account: Account, parking: Parking | None = None) -> None:
        try:
            await self.accounts.add(account, parking)
        finally:
            self._forget(account.id)
        if parking is not None:
            await self._tell(AccountName(account.id, account.name), parking)

    async def get(self, account_id: str) -> Account:
        asked = self.elapsed()
        at, account = self._known.get(account_id, (0.0, None))
        if account is not None and asked - at < _RECENT_SECONDS:
            return account
        account = await self.accounts.get(account_id)
        self._known[account_id] = asked, account
        if not account.has_token:  # it was parked since
            self._free.pop(account_id, None)
        return account

    async def all(self) -> list[Account]:
        return await self.accounts.all()

    async def set_role(self, account_id: str, role: AccountRole) -> None:
        try:
            await self.accounts.set_role(account_id, role)
        finally:
            self._forget(account_id)

    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        try:
            noted = await self.accounts.park(account_id, parking, used)
        finally:
            self._forget(account_id)
        if noted:
            await self._tell(AccountName(account_id, used.name if used else account_id), parking)
        return noted

    async def parking(self, account_id: str) -> Parking | None:
        asked = self.elapsed()
        at = self._free.get(account_id)
        if at is not None and asked - at < _RECENT_SECONDS:
            return None
        parking = await self.accounts.parking(account_id)
        if parking is None:
            self._free[account_id] = asked
        return parking

    async def _tell(self, account: AccountName, parking: Parking) -> None:
        if not parking.is_brief:
            await self.listeners.account_parked(account, parking.reason, parking.until)

    def _forget(self, account_id: str) -> None:
        self._known.pop(account_id, None)
        self._free.pop(account_id, None)


@dataclass(slots=True)
class RecentSettings:
    """Implements `SettingsRepository`: settings as they were at most a second ago."""

    settings: SettingsRepository
    elapsed: Callable[[], float] = uptime
    _known: dict[str, tuple[float, LinkSettings]] = field(default_factory=dict)
    _links: tuple[float, list[StoredLink]] | None = None

    async def get(self, child_account_id: str) -> LinkSettings:
        asked = self.elapsed()
        at, settings = self._known.get(child_account_id, (0.0, None))
        if settings is not None and asked - at < _RECENT_SECONDS:
            return settings
        settings = await self.settings.get(child_account_id)
        self._known[child_account_id] = asked, settings
        return settings

    async def put(self, child_account_id: str, settings: LinkSettings) -> None:
        try:
            await self.settings.put(child_account_id, settings)
        finally:
            self._forget(child_account_id)

    async def change(
        self, child_account_id: str, change: Callable[[LinkSettings], LinkSettings]
    ) -> LinkSettings:
        try:
            return await self.settings.change(child_account_id, change)
        finally:
            self._forget(child_account_id)

    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        try:
            await self.settings.link(main_id, child_id, settings)
        finally:
            self._forget(child_id)

    async def unlink(self, child_id: str) -> bool:
        try:
            return await self.settings.unlink(child_id)
        finally:
            self._forget(child_id)

    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        if main_id is not None:
            return await self.settings.links(main_id)
        asked = self.elapsed()
        if self._links is not None and asked - self._links[0] < _RECENT_SECONDS:
            return list(self._links[1])
        links = await self.settings.links()
        self._links = asked, list(links)
        return links

    def _forget(self, child_account_id: str) -> None:
        self._known.pop(child_account_id, None)
        self._links = None


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Ends the parking of an account at once, for a person who has mended what was wrong.

    `clock` is that of the accounts' store.
    """

    accounts: AccountRepository
    queue: TaskQueue
    clock: StoreClock

    async def __call__(self, account_id: str) -> int:
        """How many tasks waited for it and are due now. UnknownAccountError.

        Credentials that are stored meanwhile stay, and are parked no more than they were.
        """
        account = await self.accounts.get(account_id)
        parking = await self.accounts.parking(account_id)
        if parking is not None:
            over = Parking(parking.reason, await self.clock.now(), is_brief=True)
            await self.accounts.park(account_id, over, account)
        return await self.queue.unpark(account_id)


PAUSED = "paused by hand"
"""Reason of the parking of an account whose tasks somebody lets wait."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Lets the tasks of an account wait until somebody resumes them, or stores its credentials
    anew. Those under way end. Surveys go on, so that what differs is known."""

    accounts: AccountRepository

    async def __call__(self, account_id: str) -> bool:
        """False where it is paused already. UnknownAccountError."""
        account = await self.accounts.get(account_id)
        known = await self.accounts.parking(account_id)
        if known is not None and known.reason == PAUSED:
            return False
        return await self.accounts.park(account_id, Parking(PAUSED, NO_END), account)


@dataclass(frozen=True, slots=True)
class Resume:
    """Ends a pause."""

    accounts: AccountRepository
    try_again: TryAgain

    async def __call__(self, account_id: str) -> bool:
        """False where it is not paused; nothing is done then. UnknownAccountError."""
        await self.accounts.get(account_id)
        known = await self.accounts.parking(account_id)
        if known is None or known.reason != PAUSED:
            return False
        await self.try_again(account_id)
        return True


class CredentialsReplacedError(ImgsyncError):
    """Credentials were refused that have been replaced meanwhile."""


async def park(
    accounts: AccountRepository,
    clock: StoreClock,
    account_id: str,
    error: ParkingError,
    used: Account | None,
) -> Parking | None:
    """The account's parking, for what it answered to these credentials; None where they have been
    replaced meanwhile."""
    known = await accounts.parking(account_id)
    busy = isinstance(error, AccountParkedError)
    if known is not None and (busy or known.reason in (PAUSED, str(error))):
        return known  # what was under way when somebody paused it does not end the pause
    until = await clock.now() + (BUSY_FOR if busy else REFUSED_FOR)
    parking = Parking(str(error), until, is_brief=busy)
    noted = await accounts.park(account_id, parking, used)
    return parking if noted or used is None else None


@dataclass(slots=True)
class AccountGate:
    """Lets tasks pass to their accounts. Once a parking is over, one task tries; the others of
    that account wait for how it ends.

    `clock` is that of the queue's store: by a host's own, a parking might be over as it begins.
    """

    accounts: AccountRepository
    clock: StoreClock
    _parked: dict[str, Parking] = field(default_factory=dict)
    _tries: dict[str, asyncio.Event] = field(default_factory=dict)
    _parking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @asynccontextmanager
    async def passing(self, request: SyncRequest) -> AsyncIterator[None]:
        """TaskParkedError before anything was sent, or in place of a ParkingError from within."""
        trying: list[str] = []
        credentials: dict[str, Account] = {}
        try:
            # In one order for all, so that no two tasks wait for each other.
            for account_id in sorted({request.main_account_id, request.child_account_id}):
                if await self._enter(account_id):
                    trying.append(account_id)
                if account := await self._account(account_id):
                    if not account.has_token:
                        raise await self._parked_error(account_id, await self._ended(account))
                    credentials[account_id] = account
            try:
                yield
            except ParkingError as error:
                refusal = await self._refusal(error, request, credentials)
                if refusal is error:
                    raise
                raise refusal from error
            except (LeaseLostError, NoRoomError, UnavailableError):
                raise  # which says nothing of the account
            except ImgsyncError:
                self._answered(trying)
                raise
            self._answered(trying)
        finally:
            for account_id in trying:
                self._tries.pop(account_id).set()

    def _answered(self, account_ids: list[str]) -> None:
        for account_id in account_ids:
            self._parked.pop(account_id, None)

    async def _enter(self, account_id: str) -> bool:
        """True where this task is the one that tries a parking that is over."""
        while True:
            parking = await self.accounts.parking(account_id)
            if parking is not None:
                raise await self._parked_error(account_id, parking)
            if account_id not in self._parked:
                return False
            other = self._tries.get(account_id)
            if other is None:
                self._tries[account_id] = asyncio.Event()
                return True
            await other.wait()

    async def _account(self, account_id: str) -> Account | None:
        try:
            return await self.accounts.get(account_id)
        except UnknownAccountError:
            return None  # the task itself says so

    async def _ended(self, account: Account) -> Parking:
        """The parking of an account whose token is gone, which is noted where it is not."""
        known = await self.accounts.parking(account.id)
        if known is None:
            known = Parking(TOKEN_ENDED, NO_END)
            await self.accounts.park(account.id, known, account)
        return known

    async def _refusal(
        self, error: ParkingError, request: SyncRequest, credentials: dict[str, Account]
    ) -> ImgsyncError:
        account_id = error.account_id
        if account_id is None and isinstance(error, StorageFullError):
            account_id = request.child_account_id
        if account_id is None:
            return error
        async with self._parking:
            used = credentials.get(account_id)
            if await self._account(account_id) != used:
                return CredentialsReplacedError(str(error))
            parking = await park(self.accounts, self.clock, account_id, error, used)
        if parking is None:
            return CredentialsReplacedError(str(error))
        return await self._parked_error(account_id, parking)

    async def _parked_error(self, account_id: str, parking: Parking) -> TaskParkedError:
        account = await self._account(account_id)
        name = account.name if account else account_id
        self._note(account_id, name, parking)
        return TaskParkedError(account_id, name, parking)

    def _note(self, account_id: str, name: str, parking: Parking) -> None:
        if self._parked.get(account_id) != parking:
            until = f"until {parking.until:%Y-%m-%d %H:%M:%S} UTC, or "
            _log.error(
                "account '%s': %s; its tasks wait %suntil it is stored anew",
                name,
                parking.reason.removeprefix(f"MoySklad account '{name}': "),
                "" if parking.until == NO_END else until,
            )
        self._parked[account_id] = parking
