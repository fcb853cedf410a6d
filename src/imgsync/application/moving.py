"""Moving accounts, links and settings to another database."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from imgsync.domain.errors import (
    AlreadyLinkedError,
    DamagedLinkError,
    DamagedRowError,
    ImgsyncError,
    UnknownAccountError,
)
from imgsync.domain.model import (
    Account,
    AccountRole,
    LinkSettings,
    StoredLink,
    TokenKind,
    check_links,
)
from imgsync.domain.ports.accounts import AccountShelf
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository

_log = logging.getLogger(__name__)
_STRICT = ConfigDict(extra="forbid")


class BadParcelError(ImgsyncError):
    """What is to be imported is not what an export makes; nothing is changed."""


@checked(frozen=True, config=_STRICT)
class _PackedAccount:
    id: str
    name: str
    kind: TokenKind
    secret: str = field(repr=False)
    login: str | None = None
    role: AccountRole | None = None

    def account(self) -> Account:
        return Account(self.id, self.name, self.kind, self.secret, self.login, self.role)


@checked(frozen=True, config=_STRICT)
class _PackedLink:
    """Settings of a child, which has a main account or none."""

    child_id: str
    main_id: str | None
    settings: LinkSettings


@checked(frozen=True, config=_STRICT)
class _Parcel:
    version: int
    accounts: tuple[_PackedAccount, ...]
    links: tuple[_PackedLink, ...]


_PARCEL = TypeAdapter(_Parcel)


class Change(StrEnum):
    """What an import does with an account or a link, or would do."""

    ADD = "add"
    SAME = "same"
    REPLACE = "replace"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Moved:
    """An account, or where `is_link` the settings of one as a child. KEEP where it is another one
    there and is not to be replaced."""

    account_id: str
    name: str
    is_link: bool
    change: Change


@dataclass(frozen=True, slots=True)
class ExportAccounts:
    """Packs all accounts, with credentials, links and settings."""

    accounts: AccountRepository
    settings: SettingsRepository
    shelf: AccountShelf

    async def __call__(self) -> tuple[bytes, list[str]]:
        """What `ImportAccounts` takes, with the tokens in plain text; and in words what had to be
        left out, as it is damaged. StoreError."""
        left_out = []
        accounts = await self.accounts.all()
        known = {account.id for account in accounts}
        for one in await self.shelf.names():
            if one.id in known:
                continue
            try:
                accounts.append(await self.accounts.get(one.id))
            except DamagedRowError as error:
                left_out.append(str(error))
            except UnknownAccountError:  # removed meanwhile
                continue
        packed = [
            _PackedAccount(a.id, a.name, a.token_kind, a.secret, a.login, a.role) for a in accounts
        ]
        stored = {link.child_id: link for link in await self.settings.links()}
        links = []
        for account_id in dict.fromkeys([*(a.id for a in accounts), *stored]):
            link = stored.get(account_id)
            try:
                if link is not None and link.damage is not None:
                    raise DamagedLinkError(account_id, link.damage)
                settings = await self.settings.get(account_id)
            except DamagedLinkError as error:
                left_out.append(str(error))
                continue
            if link is not None or settings != LinkSettings():
                links.append(_PackedLink(account_id, link.main_id if link else None, settings))
        return _PARCEL.dump_json(_Parcel(1, tuple(packed), tuple(links))), left_out


_Changes = tuple[list[Account], list[_PackedLink], Mapping[str, str]]
"""Accounts and links to be stored, and the main account that each child has before."""


@dataclass(frozen=True, slots=True)
class ImportAccounts:
    """Takes what `ExportAccounts` has packed. MoySklad is not asked whose the credentials are; that
    is done before the first write."""

    accounts: AccountRepository
    settings: SettingsRepository
    queue: TaskQueue

    async def plan(self, content: bytes, *, replace: bool) -> list[Moved]:
        """What would be done. BadParcelError, ImgsyncError as of the call; StoreError."""
        moved, _ = await self._look(content, replace=replace)
        return moved

    async def __call__(self, content: bytes, *, replace: bool) -> list[Moved]:
        """Adds what is not there; what is there and differs is replaced only where that is said.
        Where it is cut off, it can be done again. BadParcelError, and ImgsyncError for links that
        cannot stand beside those that are there, before anything is changed; StoreError."""
        moved, (accounts, links, mains) = await self._look(content, replace=replace)
        for account in accounts:
            await self.accounts.add(account)
            await self.queue.unpark(account.id)
        # What ends comes first, as it may be in the way of what begins.
        for link in sorted(links, key=lambda link: link.main_id is not None):
            await self._link(link, mains.get(link.child_id))
        return moved

    async def _look(self, content: bytes, *, replace: bool) -> tuple[list[Moved], _Changes]:
        parcel, packed = _opened(content)
        moved, accounts, links = list[Moved](), list[Account](), list[_PackedLink]()
        for account in packed:
            change = await self._change_of(account, replace=replace)
            moved.append(Moved(account.id, account.name, False, change))
            if change in (Change.ADD, Change.REPLACE):
                accounts.append(account)
        names = {account.id: account.name for account in packed}
        stored = await self.settings.links()
        mains = {link.child_id: link.main_id for link in stored}
        for packed_link in parcel.links:
            child_id = packed_link.child_id
            change = await self._change_of_link(packed_link, mains.get(child_id), replace=replace)
            moved.append(Moved(child_id, names.get(child_id, child_id), True, change))
            if change in (Change.ADD, Change.REPLACE):
                links.append(packed_link)
        _check(accounts, links, stored)
        return moved, (accounts, links, mains)

    async def _change_of(self, account: Account, *, replace: bool) -> Change:
        try:
            there = await self.accounts.get(account.id)
        except UnknownAccountError:
            return Change.ADD
        except DamagedRowError:
            there = None
        if there == account and account.role in (None, there.role):
            return Change.SAME
        return Change.REPLACE if replace else Change.KEEP

    async def _change_of_link(
        self, link: _PackedLink, main_id: str | None, *, replace: bool
    ) -> Change:
        try:
            there = await self.settings.get(link.child_id)
        except DamagedLinkError:
            return Change.REPLACE if replace else Change.KEEP
        if main_id == link.main_id and there == link.settings:
            return Change.SAME
        if main_id is None and there == LinkSettings():
            return Change.ADD
        return Change.REPLACE if replace else Change.KEEP

    async def _link(self, link: _PackedLink, main_id: str | None) -> None:
        if main_id not in (None, link.main_id):
            await self.settings.unlink(link.child_id)
        if link.main_id is None:
            await self.settings.put(link.child_id, link.settings)
            return
        try:
            await self.settings.link(link.main_id, link.child_id, link.settings)
        except AlreadyLinkedError as error:
            raise ImgsyncError(
                f"The link of '{link.child_id}' cannot be made: {error}; what came before it is "
                "imported"
            ) from error


def _check(
    accounts: Sequence[Account], links: Sequence[_PackedLink], stored: Sequence[StoredLink]
) -> None:
    """ImgsyncError where what would be linked then cannot be."""
    ends = {link.child_id for link in links}
    known = [link for link in stored if link.child_id not in ends]
    known += [
        StoredLink(link.main_id, link.child_id, link.settings) for link in links if link.main_id
    ]
    try:
        for link in links:
            if link.main_id is not None:
                check_links(link.main_id, link.child_id, known)
        for account in accounts:
            if account.role is AccountRole.MAIN:
                check_links(account.id, "", known)
            elif account.role is AccountRole.CHILD:
                check_links("", account.id, [one for one in known if one.child_id != account.id])
    except AlreadyLinkedError as error:
        raise ImgsyncError(
            f"The links of the export do not go with those here, so nothing is changed: {error}"
        ) from error


def _opened(content: bytes) -> tuple[_Parcel, Sequence[Account]]:
    try:
        parcel = _PARCEL.validate_json(content)
    except ValidationError as error:
        places = ", ".join(
            ".".join(map(str, one["loc"])) for one in error.errors(include_input=False)[:3]
        )
        raise BadParcelError(f"This is not what an export makes: {places}") from None
    if parcel.version != 1:
        raise BadParcelError(
            f"The export is of version {parcel.version}: update imgsync on this machine"
        )
    accounts = []
    for one in parcel.accounts:
        try:
            accounts.append(one.account())
        except ValueError as error:
            raise BadParcelError(f"Account {one.id!a} of the export is none: {error}") from None
    return parcel, accounts
