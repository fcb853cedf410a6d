"""Testing, renaming and removing stored accounts, and giving them other credentials."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from imgsync.application.accounts import (
    LONGEST_NAME,
    OWNERS,
    AddAccount,
    AddedAccount,
    GivenAccount,
    UnlinkAccounts,
    check_name,
    find_account,
    only_named,
    printable_name,
    same_kind,
)
from imgsync.application.webhooks import RemoveWebhooks
from imgsync.domain.errors import DamagedRowError, ImgsyncError, StoreError
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
class FoundAccount:
    """A stored account; where its row cannot be read, `account` is None and `damage` says why."""

    id: str
    name: str
    account: Account | None
    damage: str = ""


async def find_stored(accounts: AccountRepository, shelf: AccountShelf, given: str) -> FoundAccount:
    """As `find_account`, of those too that are damaged."""
    stored = await shelf.names()
    one = next((one for one in stored if one.id == given), None) or only_named(stored, given)
    try:
        account = await accounts.get(one.id)
    except DamagedRowError as error:
        return FoundAccount(one.id, one.name or one.id, None, str(error))
    return FoundAccount(one.id, account.name, account)


@dataclass(frozen=True, slots=True)
class RotateAccount:
    """Gives an account other credentials, which must be its own. It mends one whose row is
    damaged."""

    accounts: AccountRepository
    shelf: AccountShelf
    add: AddAccount

    async def find(self, name: str) -> FoundAccount:
        """What `find_stored` raises."""
        return await find_stored(self.accounts, self.shelf, name)

    async def __call__(
        self,
        found: FoundAccount,
        secret: str,
        login: str | None = None,
        kind: TokenKind | None = None,
    ) -> AddedAccount:
        """A password where `login` is given, or where `kind` says so; what it is of before where
        neither is. Tasks that wait for the account run again. Nothing is changed where MoySklad
        says that they are another account's, or of another kind, or refuses them; raises as
        `AddAccount`, ValueError too for a password without a login."""
        before = found.account
        if before is not None and kind in (None, TokenKind.PASSWORD):
            login = login or before.login
        name = printable_name(found.name)[:LONGEST_NAME] or None
        if before is None and name == found.id:
            name = None  # it had none
        return await self.add(GivenAccount(secret, found.id, name, kind, login), found.id)


@dataclass(frozen=True, slots=True)
class RemovedAccount:
    """`webhooks_left`: why webhooks that imgsync made are still in the account, None where there
    are none."""

    account: FoundAccount
    held: Holdings
    webhooks_left: str | None


@dataclass(frozen=True, slots=True)
class RemoveAccount:
    """Forgets an account and what hangs on it. Images stay where they are."""

    accounts: AccountRepository
    shelf: AccountShelf
    unlink: UnlinkAccounts
    webhooks: RemoveWebhooks

    async def look(self, name: str) -> tuple[FoundAccount, Holdings]:
        """What `find_stored` raises."""
        found = await find_stored(self.accounts, self.shelf, name)
        return found, await self.shelf.holdings(found.id)

    async def __call__(self, found: FoundAccount) -> RemovedAccount:
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
            await self.unlink.of_ids(linked)
        left = None
        if held.has_webhooks and found.account is None:
            left = "its token cannot be read"
        elif held.has_webhooks and found.account is not None and found.account.has_token:
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
