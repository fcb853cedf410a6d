"""Testing, renaming and removing stored accounts, and giving them other credentials."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from imgsync.application.accounts import (
    OWNERS,
    AddAccount,
    AddedAccount,
    GivenAccount,
    UnlinkAccounts,
    check_name,
    find_account,
    same_kind,
)
from imgsync.application.webhooks import RemoveWebhooks
from imgsync.domain.errors import ImgsyncError, StoreError
from imgsync.domain.model import Account, Parking, TokenKind
from imgsync.domain.ports.accounts import AccountShelf, BusyAccountError, Holdings
from imgsync.domain.ports.moysklad import MoySkladFactory
from imgsync.domain.ports.repositories import AccountRepository
from imgsync.domain.text import counted, natural_key

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class TestedAccount:
    """What MoySklad says of an account's credentials. `problem`: what is wrong, None where they are
    good; `weight`: units that a request costs, as far as known; `no_webhooks`: why webhooks cannot
    be seen to, None where they can."""

    __test__ = False  # for pytest, which takes it for tests

    account: Account
    problem: str | None
    weight: int | None = None
    no_webhooks: str | None = None
    parking: Parking | None = None


@dataclass(frozen=True, slots=True)
class TestAccounts:
    """Asks MoySklad whose the stored credentials are; nothing is changed anywhere."""

    __test__ = False

    accounts: AccountRepository
    moysklad: MoySkladFactory

    async def __call__(self, names: Sequence[str] = ()) -> list[TestedAccount]:
        """Of these accounts, each given by its id or name, in their order; of all, by name, where
        none is given. What is wrong with one is told of it alone. What `find_account` raises;
        StoreError."""
        if names:
            found = [await find_account(self.accounts, name) for name in names]
            tested = list({account.id: account for account in found}.values())
        else:
            tested = sorted(await self.accounts.all(), key=lambda a: (natural_key(a.name), a.id))
        few = asyncio.Semaphore(_AT_ONCE)

        async def test(account: Account) -> TestedAccount:
            async with few:
                return await self._test(account)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(test(account)) for account in tested]
        return [task.result() for task in tasks]

    async def _test(self, account: Account) -> TestedAccount:
        parking = await self.accounts.parking(account.id)
        if not account.has_token:
            return TestedAccount(account, "it has no token any more", parking=parking)
        try:
            identity = await self.moysklad.identify(account.secret, account.login)
        except StoreError:
            raise
        except ImgsyncError as error:
            return TestedAccount(account, str(error), parking=parking)
        problem = None
        if identity.account_id.casefold() != account.id.casefold():
            problem = (
                f"these are the credentials of another account, '{identity.name}' "
                f"({identity.account_id})"
            )
        elif not same_kind(account.token_kind, identity.token_kind):
            problem = f"this is {OWNERS[identity.token_kind]}, not {OWNERS[account.token_kind]}"
        if problem is not None:
            return TestedAccount(account, problem, parking=parking)
        no_webhooks = None
        try:
            await self.moysklad.for_account(account).webhooks()
        except StoreError:
            raise
        except ImgsyncError as error:
            no_webhooks = str(error)
        weight = await self.moysklad.weight(account)
        return TestedAccount(account, None, weight, no_webhooks, parking)


@dataclass(frozen=True, slots=True)
class RenameAccount:
    """Gives an account another name; links and tasks go by its id."""

    accounts: AccountRepository
    shelf: AccountShelf

    async def __call__(self, name: str, new_name: str) -> Account:
        """The account as it is from now on. ValueError for what no account can be called,
        ImgsyncError where another one is; what `find_account` raises."""
        found = await find_account(self.accounts, name)
        new_name = new_name.strip()
        check_name(new_name)
        renamed = Account(
            found.id, new_name, found.token_kind, found.secret, found.login, found.role
        )
        for other in await self.accounts.all():
            taken = new_name.casefold() in (other.name.casefold(), other.id.casefold())
            if taken and other.id != found.id:
                raise ImgsyncError(f"Another account is called '{new_name}' already ({other.id})")
        if not await self.shelf.rename(found.id, new_name):
            raise ImgsyncError(f"Account '{found.name}' was removed meanwhile")
        return renamed


@dataclass(frozen=True, slots=True)
class RotateAccount:
    """Gives an account other credentials, which must be its own."""

    accounts: AccountRepository
    add: AddAccount

    async def __call__(self, found: Account, secret: str, login: str | None = None) -> AddedAccount:
        """`found`: the account as `find_account` tells. `login` as before where it is None. Tasks
        that wait for the account run again. Nothing is changed where MoySklad says that they are
        another account's, or refuses them; raises as `AddAccount`."""
        if found.token_kind is TokenKind.PASSWORD:
            login = login or found.login
        return await self.add(GivenAccount(secret, found.id, found.name, login=login))


@dataclass(frozen=True, slots=True)
class RemovedAccount:
    """`webhooks_left`: why webhooks that imgsync made are still in the account, None where there
    are none."""

    account: Account
    held: Holdings
    webhooks_left: str | None


@dataclass(frozen=True, slots=True)
class RemoveAccount:
    """Forgets an account and what hangs on it. Images stay where they are."""

    accounts: AccountRepository
    shelf: AccountShelf
    unlink: UnlinkAccounts
    webhooks: RemoveWebhooks

    async def look(self, name: str) -> tuple[Account, Holdings]:
        """What `find_account` raises."""
        found = await find_account(self.accounts, name)
        return found, await self.shelf.holdings(found.id)

    async def __call__(self, found: Account) -> RemovedAccount:
        """Its links end first, then its webhooks go where MoySklad can be reached. Where it is cut
        off it can be done again. BusyAccountError, before anything is changed, where workers are at
        its tasks; one that begins one later is waited for in the same way, with the links ended."""
        held = await self.shelf.holdings(found.id)
        if running := held.running + held.running_of_children:
            raise BusyAccountError(
                f"Workers are at {counted(running, 'task')} of account '{found.name}'; nothing is "
                "changed: stop them, or wait until these have ended"
            )
        linked = [*held.child_ids, *([found.id] if held.main_id is not None else [])]
        if linked:
            await self.unlink(linked)
        left = None
        if held.has_webhooks and found.has_token:
            (outcome,) = await self.webhooks([found.id])
            left = outcome.problem or None
        try:
            await self.shelf.remove(found.id)
        except BusyAccountError:
            raise BusyAccountError(
                f"A worker has begun a task of account '{found.name}' meanwhile: its links are "
                "ended, the account is still stored; do it again"
            ) from None
        return RemovedAccount(found, held, left)
