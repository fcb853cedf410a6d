"""Adding, finding and linking accounts."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from imgsync.domain.errors import (
    AuthorisationError,
    DamagedLinkError,
    DamagedRowError,
    ImgsyncError,
    NoLinkError,
    StoreError,
    UnavailableError,
    UnknownAccountError,
    WrongAccountError,
    WrongRoleError,
)
from imgsync.domain.model import (
    Account,
    AccountName,
    AccountRole,
    EntityTypes,
    Identity,
    Link,
    LinkSettings,
    StoredLink,
    TokenKind,
    check_links,
    check_role,
    check_roles,
)
from imgsync.domain.ports.differences import Differences
from imgsync.domain.ports.failures import FailedImages
from imgsync.domain.ports.moysklad import MoySkladFactory
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.ports.runs import Proofs
from imgsync.domain.text import natural_key, shown

_log = logging.getLogger(__name__)
LONGEST_NAME = 255
_Named = TypeVar("_Named", Account, AccountName)
_SOLUTION_KINDS = (TokenKind.SOLUTION, TokenKind.DRAFT)

OWNERS = {
    TokenKind.SOLUTION: "the token of a solution",
    TokenKind.DRAFT: "the token of a solution in draft",
    TokenKind.USER: "the token of a user",
    TokenKind.PASSWORD: "a user's login and password",
}
"""What credentials of each kind are, in words."""


class AmbiguousNameError(ImgsyncError):
    """Several accounts have this name; the text lists their ids."""


class WrongKindError(ImgsyncError):
    """Credentials are of another kind than they were said to be."""

    def __init__(self, given: TokenKind, learnt: TokenKind) -> None:
        super().__init__(f"This is {OWNERS[learnt]}, not {OWNERS[given]}; nothing is stored")
        self.given = given
        self.learnt = learnt


def check_name(name: str) -> None:
    """ValueError for what nobody should call an account: it stands in every table and message."""
    if not name.strip():
        raise ValueError("the account name is empty")
    if len(name) > LONGEST_NAME:
        raise ValueError(
            f"the account name has {len(name):,} characters; {LONGEST_NAME} are the most"
        )


@dataclass(frozen=True, slots=True)
class GivenAccount:
    """What a person says of an account; what is None is learnt from the API."""

    secret: str = field(repr=False)
    account_id: str | None = None
    name: str | None = None
    kind: TokenKind | None = None
    login: str | None = None
    role: AccountRole | None = None

    def account(self, account_id: str, name: str, kind: TokenKind) -> Account:
        """ValueError for what no account can be."""
        return Account(account_id, name, kind, self.secret, self.login, self.role)

    def unchecked(self) -> Account:
        """As given alone; ValueError for what no account can be."""
        if self.name is not None:
            check_name(self.name)
        account_id = "?" if self.account_id is None else self.account_id
        kind = self.kind or (TokenKind.SOLUTION if self.login is None else TokenKind.PASSWORD)
        return self.account(account_id, self.name or account_id, kind)


@dataclass(frozen=True, slots=True)
class AddedAccount:
    """A stored account; `woken`: tasks that waited for it and run again; `stays_draft`: it was
    known to be a solution in draft, which the API does not tell, and is still taken for one;
    `namesake`: the id of another account of the name that this one got without being given one."""

    account: Account
    woken: int
    stays_draft: bool = False
    namesake: str | None = None


@dataclass(frozen=True, slots=True)
class AddAccount:
    """Stores an account, or replaces the credentials of a stored one; its name too where the id
    says which one is meant."""

    accounts: AccountRepository
    settings: SettingsRepository
    queue: TaskQueue
    moysklad: MoySkladFactory

    async def __call__(self, given: GivenAccount, replaced_id: str | None = None) -> AddedAccount:
        """Asks MoySklad whose the credentials are; they must be those of the id and of the kind
        where these are given. `replaced_id`: of the account that they are for, as it is stored,
        where its row may be damaged.

        ValueError for what no account can be. AuthorisationError, UnavailableError,
        WrongAccountError, WrongKindError and ImgsyncError where nothing is stored; StoreError where
        a store cannot be used, which says so where the account is stored all the same.
        """
        given.unchecked()
        identity = await self._identify(given)
        wanted = given.account_id
        if wanted is not None and wanted.casefold() != identity.account_id.casefold():
            raise WrongAccountError(
                f"These are the credentials of account '{identity.account_id}' ({identity.name}), "
                f"not of '{wanted}'; nothing is stored"
            )
        if given.kind is not None and not same_kind(given.kind, identity.token_kind):
            raise WrongKindError(given.kind, identity.token_kind)
        known = await self._known(identity.account_id)
        if wanted is None:
            _check_same_name(given.name, known)
        name = given.name or (known.name if known and known.name != known.id else None)
        account_id = known.id if known else replaced_id or identity.account_id
        # The API does not tell a draft; what is known to be one stays one until somebody says
        # else, as a request that costs more than was reckoned is a step towards a ban.
        stays_draft = (
            given.kind is None
            and known is not None
            and known.token_kind is TokenKind.DRAFT
            and identity.token_kind in _SOLUTION_KINDS
        )
        kind = TokenKind.DRAFT if stays_draft else given.kind or identity.token_kind
        name = name or printable_name(identity.name) or account_id
        try:
            account = given.account(account_id, name, kind)
        except ValueError as error:  # the API names an account as none can be named
            raise ImgsyncError(f"Nothing is stored: {error}") from error
        woken = await self._store(account)
        namesake = await self._namesake(account) if given.name is None else None
        return AddedAccount(account, woken, stays_draft, namesake)

    async def unchecked(self, given: GivenAccount) -> AddedAccount:
        """As given, without asking MoySklad; that is done before the first write. ValueError
        without an id, and for what no account can be."""
        if given.account_id is None:
            raise ValueError("an account that is not looked up needs its id")
        account = given.unchecked()
        known = await self._known(account.id)
        if known is not None:
            # What is known of it and not said anew stays.
            kind = account.token_kind
            if given.kind is None and given.login is None and known.login is None:
                kind = known.token_kind
            account = given.account(known.id, given.name or known.name, kind)
        return AddedAccount(account, await self._store(account))

    async def _identify(self, given: GivenAccount) -> Identity:
        try:
            return await self.moysklad.identify(given.secret, given.login)
        except AuthorisationError as error:
            raise AuthorisationError(
                f"MoySklad refuses these credentials, so nothing is stored: {error}"
            ) from error
        except UnavailableError as error:
            raise UnavailableError(
                "MoySklad could not be asked whose credentials these are, so nothing is stored: "
                f"{error}"
            ) from error
        except ImgsyncError as error:
            raise ImgsyncError(f"Nothing is stored: {error}") from error

    async def _known(self, account_id: str) -> Account | None:
        """The stored account; None also for a damaged row, which is about to be replaced."""
        try:
            return await self.accounts.get(account_id)
        except (DamagedRowError, UnknownAccountError):
            return None

    async def _namesake(self, account: Account) -> str | None:
        """None also where it cannot be told: the account is stored."""
        try:
            stored = await self.accounts.all()
        except StoreError as error:
            _log.warning("whether another account has the name cannot be told: %s", error)
            return None
        named = (one.id for one in stored if one.name == account.name and one.id != account.id)
        return next(named, None)

    async def _store(self, account: Account) -> int:
        """Stores the account, which ends its parking; the number of its tasks that are woken."""
        if account.role is AccountRole.MAIN:
            settings = await self.settings.get(account.id)
            if settings.enabled:
                raise WrongAccountError(
                    f"Account '{account.name}' receives images, so it cannot be a main account; "
                    "turn that off first"
                )
        await self.accounts.add(account)
        try:
            return await self.queue.unpark(account.id)
        except ImgsyncError as error:
            raise StoreError(
                f"Account '{account.name}' is stored, but the tasks that wait for it could not be "
                f"woken: {error} (they are once it is stored again)"
            ) from error


def _check_same_name(name: str | None, known: Account | None) -> None:
    """A token that stands twice in somebody's list would else take a stored account's name away
    without a word."""
    if name is None or known is None or known.name in (name, known.id):
        return
    raise WrongAccountError(
        f"These are the credentials of account '{known.name}' ({known.id}), which is stored "
        "already; nothing is changed. For a new token run 'imgsync account rotate', for another "
        "name 'imgsync account rename'"
    )


@dataclass(frozen=True, slots=True)
class LinkAccounts:
    """Links child accounts to a main one."""

    accounts: AccountRepository
    settings: SettingsRepository
    entity_types: EntityTypes
    proofs: Proofs | None = None

    async def __call__(
        self,
        main: Account,
        children: Sequence[Account],
        settings: LinkSettings,
        *,
        keep_switches: bool = False,
        picture_changes: Mapping[str, Any] | None = None,
    ) -> list[Link]:
        """From now on each child receives what `settings` say; linked already, by these from now
        on. `keep_switches`: a child goes on receiving what it does; all images where that is none.
        `picture_changes`: what becomes of a child's pictures stays as it is, but for these fields
        of `PictureSettings`; None where `settings` say it. Its schedule and its guard stay as they
        are. Noted are the sides of all, too.

        Nothing is done where two of these cannot be linked: WrongAccountError where one of them
        stands on the other side already, has another main account or is named twice,
        UnknownEntityTypeError for a type in the settings, ValueError for a change that is none.
        """
        for name in settings.types:
            self.entity_types.get(name)
        links = []
        for child in children:
            before = await self._before(child)
            made = _with_switches_of(before, settings) if keep_switches else settings
            if picture_changes is not None:
                made = replace(made, pictures=replace(before.pictures, **picture_changes))
            made = replace(made, schedule=before.schedule, guard=before.guard)
            links.append(Link(main, child, made))
        twice = next((c for n, c in enumerate(children) if c in children[:n]), None)
        if twice is not None:
            raise WrongAccountError(f"account '{twice.name}' ({twice.id}) is named twice")
        known = await self.settings.links()
        for child in children:
            # The store checks it too, one by one, when others may be linked already.
            check_links(main.id, child.id, known)
        before_by = {one.child_id: one for one in known if one.damage is None}
        for link in links:
            await self.settings.link(main.id, link.child.id, link.settings)
            was = before_by.get(link.child.id)
            if was is None or was.settings.received != link.settings.received:
                await _forget(self.proofs, link.child.id)
        for account, role in (
            (main, AccountRole.MAIN),
            *((child, AccountRole.CHILD) for child in children),
        ):
            if account.role is None:
                await self.accounts.set_role(account.id, role)
        return links

    async def _before(self, child: Account) -> LinkSettings:
        try:
            return await self.settings.get(child.id)
        except DamagedLinkError:  # which is about to be mended
            return LinkSettings()


async def _forget(proofs: Proofs | None, child_id: str) -> None:
    """What was compared is not what the child should show from now on; and tasks of what it should
    have shown may have ended without having copied anything."""
    if proofs is not None:
        await proofs.forget(child_id)


def _with_switches_of(before: LinkSettings, settings: LinkSettings) -> LinkSettings:
    return settings.with_first_only(True) if before.sync_images else settings.with_all(True)


@dataclass(frozen=True, slots=True)
class UnlinkAccounts:
    """Ends links, and forgets which images failed on their children, how these stood, and what
    differed: nothing is missing there. `ended` is called at last, and does not fail."""

    accounts: AccountRepository
    settings: SettingsRepository
    failed: FailedImages | None = None
    proofs: Proofs | None = None
    differences: Differences | None = None
    ended: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, children: Sequence[str]) -> list[Account]:
        """The children, each given by its id or name, which receive nothing from now on; tasks
        that wait for them do nothing.

        ImgsyncError where one of them is not linked, and what `find_account` raises; nothing is
        changed then.
        """
        found = [await find_account(self.accounts, child) for child in children]
        linked = {link.child_id for link in await self.settings.links()}
        for child in found:
            if child.id not in linked:
                raise ImgsyncError(f"Account '{child.name}' ({child.id}) is not linked")
        await self.of_ids([child.id for child in found])
        return found

    async def of_ids(self, child_ids: Sequence[str]) -> None:
        """As the call, of children that may be damaged."""
        for child_id in child_ids:
            await self.settings.unlink(child_id)
            if self.failed is not None:
                await self.failed.forget(child_id)
            if self.proofs is not None:
                await self.proofs.forget(child_id)
            if self.differences is not None:
                await self.differences.forget(child_id)
        if self.ended is not None:
            await self.ended()


Switches = Callable[[LinkSettings], tuple[bool | None, bool | None]]
"""Whether the first image only is received, and whether all; None leaves a switch as it is."""


@dataclass(frozen=True, slots=True)
class ChangeSettings:
    """Changes which images a child account receives, whatever its main account is."""

    accounts: AccountRepository
    settings: SettingsRepository
    proofs: Proofs | None = None

    async def __call__(
        self,
        child: str,
        *,
        first_only: bool | None = None,
        all_images: bool | None = None,
        picture_changes: Mapping[str, Any] | None = None,
        schedule_changes: Mapping[str, Any] | None = None,
        guard: bool | None = None,
        link_changes: Mapping[str, Any] | None = None,
        switches: Switches | None = None,
    ) -> tuple[Account, LinkSettings]:
        """The account of that id or name, and its settings from now on. None leaves a switch as it
        is; turning one on clears the other, and notes that it is a child. `picture_changes`,
        `schedule_changes` and `link_changes`: fields of `PictureSettings`, of `LinkSchedule` and
        of `LinkSettings` itself that are other ones from now on; ValueError for what they cannot
        be. `switches`, in place of both switches, tells them by the settings that there are. Of
        those who change settings at the same time, none undoes what another one does.

        WrongRoleError where a main account would receive images, or be told how to make them;
        what `find_account` raises.
        """
        account = await find_account(self.accounts, child)

        def change(changed: LinkSettings) -> LinkSettings:
            first, every = switches(changed) if switches else (first_only, all_images)
            if first is not None:
                changed = changed.with_first_only(first)
            if every is not None:
                changed = changed.with_all(every)
            if picture_changes:
                changed = replace(changed, pictures=replace(changed.pictures, **picture_changes))
            if schedule_changes:
                changed = replace(changed, schedule=replace(changed.schedule, **schedule_changes))
            if guard is not None:
                changed = replace(changed, guard=guard)
            if link_changes:
                changed = replace(changed, **link_changes)
            if changed.enabled or picture_changes:
                check_role(account, AccountRole.CHILD)
            return changed

        before = await self.settings.get(account.id)
        if change(before).enabled and account.role is None:
            await self.accounts.set_role(account.id, AccountRole.CHILD)
        changed = await self.settings.change(account.id, change)
        if changed.received != before.received:
            await _forget(self.proofs, account.id)
        return account, changed


@dataclass(frozen=True, slots=True)
class FindLinks:
    """Finds what accounts are to each other before anything is copied."""

    accounts: AccountRepository
    settings: SettingsRepository

    async def __call__(self, main: str | None = None, children: Sequence[str] = ()) -> list[Link]:
        """The links of these children, each account given by its id or name; without children
        those of `main`, and without that too all there are. With both, two accounts need not be
        linked: the child's settings count all the same. Those of one main account are together.

        ImgsyncError where there is none. SyncIsOffError where none of the children receives images.
        WrongAccountError where a child is linked to another main account than `main` or cannot be
        linked to it, DamagedLinkError where the settings of one cannot be read; what `find_account`
        raises. One that is not named, beside others, is logged and counts as off where it or one of
        its accounts is damaged, or an account is not stored.
        """
        stored = {account.id: account for account in await self.accounts.all()}
        main_account = None if main is None else await find_account(self.accounts, main)
        found = [await find_account(self.accounts, child) for child in children]
        links = await self._named(main_account, list({c.id: c for c in found}.values()), stored)
        if not any(link.settings.enabled for link in links):
            links[0].check_on()
        return links

    async def of_main(self, main_id: str) -> list[Link]:
        """The links of a main account, given by its id; none where it has none. One that is damaged
        is logged and counts as off. It reads no other account's."""
        links = await self.settings.links(main_id)
        found = [await self._read(link, {}) for link in links]
        for one in found:
            if isinstance(one, ImgsyncError):
                _log.error("%s", one)
        return [
            one if isinstance(one, Link) else self._off(link, {})
            for link, one in zip(links, found, strict=True)
        ]

    async def _named(
        self, main: Account | None, children: Sequence[Account], stored: Mapping[str, Account]
    ) -> list[Link]:
        known = await self.settings.links()
        by_child = {link.child_id: link for link in known}
        if not children:
            links = [link for link in by_child.values() if main is None or link.main_id == main.id]
            if not links:
                of = "" if main is None else f" to account '{main.name}' ({main.id})"
                raise NoLinkError(f"No account is linked{of}")
            links.sort(key=_by_names(stored))
            found = [await self._read(link, stored) for link in links]
            errors = [one for one in found if isinstance(one, ImgsyncError)]
            if len(errors) == len(found):
                raise errors[0]
            for error in errors:
                if not isinstance(error, DamagedRowError):  # which the list of all has named
                    _log.error("%s", error)
            return [
                one if isinstance(one, Link) else self._off(link, stored)
                for link, one in zip(links, found, strict=True)
            ]
        links = []
        for child in children:
            link = by_child.get(child.id)
            if link is None and main is None:
                raise ImgsyncError(f"Account '{child.name}' ({child.id}) is not linked")
            if main is not None:
                check_roles(main, child)
                check_links(main.id, child.id, known)
            if link is not None:
                links.append(link)
            elif main is not None:
                settings = await self.settings.get(child.id)
                links.append(StoredLink(main.id, child.id, settings))
        links.sort(key=_by_names({**stored, **{child.id: child for child in children}}))
        return [await self._link(link, stored) for link in links]

    async def _read(self, link: StoredLink, stored: Mapping[str, Account]) -> Link | ImgsyncError:
        """Or what is wrong with it, which other programs may have written."""
        try:
            return await self._link(link, stored)
        except (
            DamagedRowError,
            DamagedLinkError,
            UnknownAccountError,
            WrongAccountError,
            WrongRoleError,
        ) as error:
            return error

    @staticmethod
    def _off(link: StoredLink, stored: Mapping[str, Account]) -> Link:
        """One that is damaged as one that is off, so that it costs itself only."""
        main, child = (
            # Of one that cannot be read the id alone is known. Nothing is ever sent to it.
            stored.get(one) or Account(shown(one) or "?", shown(one), TokenKind.SOLUTION, "?")
            for one in (link.main_id, link.child_id)
        )
        if main.id.casefold() == child.id.casefold():
            main = replace(main, id=f"{main.id} itself")
        return Link(replace(main, role=None), replace(child, role=None), LinkSettings())

    async def _link(self, link: StoredLink, stored: Mapping[str, Account]) -> Link:
        if link.damage is not None:
            child = stored.get(link.child_id)
            raise DamagedLinkError(link.child_id, link.damage, child.name if child else "")
        main, child = [
            stored.get(account_id) or await self.accounts.get(account_id)
            for account_id in (link.main_id, link.child_id)
        ]
        return Link(main, child, link.settings)


def _by_names(stored: Mapping[str, Account]) -> Callable[[StoredLink], list[tuple[Any, str]]]:
    """Sorts links as people count: those of each main account together, so that it is surveyed
    once, and of each "Child 2" before "Child 10"."""

    def key(link: StoredLink) -> list[tuple[Any, str]]:
        ids = link.main_id, link.child_id
        names = (stored[one].name if one in stored else one for one in ids)
        return [(natural_key(name), one) for name, one in zip(names, ids, strict=True)]

    return key


async def find_account(accounts: AccountRepository, given: str) -> Account:
    """The account with that id, else the only one of that name.

    AmbiguousNameError; UnknownAccountError, which names the nearest ones.
    """
    try:
        return await accounts.get(given)
    except UnknownAccountError:
        pass
    return only_named(await accounts.all(), given)


def only_named(stored: Sequence[_Named], given: str) -> _Named:
    """The only one of that name, in small or capital letters where none has it as it is given.
    AmbiguousNameError; UnknownAccountError, which names the nearest ones."""
    named = [a for a in stored if a.name == given]
    if not named:
        named = [a for a in stored if given.casefold() in (a.name.casefold(), a.id.casefold())]
    if len(named) == 1:
        return named[0]
    if named:
        ids = ", ".join(a.id for a in named)
        raise AmbiguousNameError(f"{len(named)} accounts are called '{given}'; give the ID: {ids}")
    near = get_close_matches(given, [text for a in stored for text in (a.name, a.id)])
    raise UnknownAccountError(given, list(dict.fromkeys(near)))


def same_kind(given: TokenKind, learnt: TokenKind) -> bool:
    return given is learnt or (given in _SOLUTION_KINDS and learnt in _SOLUTION_KINDS)


def printable_name(name: str) -> str:
    """A name from the API as one that an account may have."""
    spelled = (c if c.isprintable() else " " if c.isspace() else shown(c) for c in name)
    return "".join(c for c in "".join(spelled) if c.isprintable()).strip()
