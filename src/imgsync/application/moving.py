"""Moving accounts, links, settings, pauses and solutions to another database."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from imgsync.application.parking import PAUSED
from imgsync.application.solutions import solution_of
from imgsync.domain.errors import (
    AlreadyLinkedError,
    DamagedLinkError,
    DamagedRowError,
    ImgsyncError,
    UnknownAccountError,
)
from imgsync.domain.model import (
    NO_END,
    Account,
    AccountRole,
    LinkSettings,
    Parking,
    StoredLink,
    TokenKind,
    check_links,
)
from imgsync.domain.ports.accounts import AccountShelf
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.ports.solutions import Solutions
from imgsync.domain.solutions import Installation, InstallationState, Solution

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
    is_paused: bool = False

    def account(self) -> Account:
        return Account(self.id, self.name, self.kind, self.secret, self.login, self.role)


@checked(frozen=True, config=_STRICT)
class _PackedLink:
    """Settings of a child, which has a main account or none."""

    child_id: str
    main_id: str | None
    settings: LinkSettings


@checked(frozen=True, config=_STRICT)
class _PackedInstallation:
    account_id: str
    state: InstallationState
    issued_at: AwareDatetime
    token: str | None = field(default=None, repr=False)


@checked(frozen=True, config=_STRICT)
class _PackedSolution:
    app_id: str
    secret: str = field(repr=False)
    is_draft: bool
    installations: tuple[_PackedInstallation, ...]


@checked(frozen=True, config=_STRICT)
class _Parcel:
    """Of version 1 without pauses and solutions."""

    version: int
    accounts: tuple[_PackedAccount, ...]
    links: tuple[_PackedLink, ...]
    solutions: tuple[_PackedSolution, ...] = ()


_VERSION = 2
_PARCEL = TypeAdapter(_Parcel)


class Change(StrEnum):
    """What an import does with a part of the export, or would do."""

    ADD = "add"
    SAME = "same"
    REPLACE = "replace"
    KEEP = "keep"


class Part(StrEnum):
    """What an export is made of; a LINK is the settings of an account as a child, an INSTALLATION
    that of a solution on an account."""

    ACCOUNT = "account"
    LINK = "link and settings"
    PAUSE = "pause"
    SOLUTION = "solution"
    INSTALLATION = "installation"


@dataclass(frozen=True, slots=True)
class Moved:
    """`id`: of an account, or of a solution. KEEP where it is another one there and is not to be
    replaced."""

    id: str
    name: str
    part: Part
    change: Change


@dataclass(frozen=True, slots=True)
class ExportAccounts:
    """Packs all accounts, with credentials, links, settings and pauses, and the solutions."""

    accounts: AccountRepository
    settings: SettingsRepository
    shelf: AccountShelf
    solutions: Solutions

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
            _PackedAccount(
                a.id,
                a.name,
                a.token_kind,
                a.secret,
                a.login,
                a.role,
                await _is_paused(self.accounts, a.id),
            )
            for a in accounts
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
        solutions = await self._solutions(left_out)
        parcel = _Parcel(_VERSION, tuple(packed), tuple(links), tuple(solutions))
        return _PARCEL.dump_json(parcel), left_out

    async def _solutions(self, left_out: list[str]) -> list[_PackedSolution]:
        installed = await self.solutions.installations()
        packed = []
        for app_id in await self.solutions.ids():
            try:
                solution = await self.solutions.get(app_id)
            except DamagedRowError as error:
                left_out.append(str(error))
                continue
            if solution is None:  # removed meanwhile
                continue
            there = []
            for one in installed:
                if one.app_id != app_id:
                    continue
                if one.state is InstallationState.INSTALLED and one.token is None:
                    left_out.append(
                        f"The stored token of solution {app_id!a} on account {one.account_id!a} "
                        "cannot be read; install the solution there anew"
                    )
                    continue
                there.append(
                    _PackedInstallation(one.account_id, one.state, one.issued_at, one.token)
                )
            packed.append(_PackedSolution(app_id, solution.secret, solution.is_draft, tuple(there)))
        return packed


async def _is_paused(accounts: AccountRepository, account_id: str) -> bool:
    """By hand. What else an account waits for is learnt anew by the first request."""
    parking = await accounts.parking(account_id)
    return parking is not None and parking.reason == PAUSED


@dataclass(slots=True)
class _Changes:
    """What is to be stored, and the main account that each child has before. `paused`: ids of
    accounts that are to wait then."""

    accounts: list[Account] = field(default_factory=list)
    links: list[_PackedLink] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    solutions: list[_PackedSolution] = field(default_factory=list)
    installations: list[Installation] = field(default_factory=list)
    mains: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImportAccounts:
    """Takes what `ExportAccounts` has packed. MoySklad is not asked whose the credentials are; that
    is done before the first write."""

    accounts: AccountRepository
    settings: SettingsRepository
    queue: TaskQueue
    solutions: Solutions

    async def plan(self, content: bytes, *, replace: bool) -> list[Moved]:
        """What would be done. BadParcelError, ImgsyncError as of the call; StoreError."""
        moved, _ = await self._look(content, replace=replace)
        return moved

    async def __call__(self, content: bytes, *, replace: bool) -> list[Moved]:
        """Adds what is not there; what is there and differs is replaced only where that is said.
        Where it is cut off, it can be done again. BadParcelError, and ImgsyncError for links that
        cannot stand beside those that are there, before anything is changed; StoreError."""
        moved, changes = await self._look(content, replace=replace)
        for account in changes.accounts:
            # Somebody's pause here outlasts another token.
            is_paused = account.id in changes.paused or await _is_paused(self.accounts, account.id)
            await self.accounts.add(account, Parking(PAUSED, NO_END) if is_paused else None)
            if not is_paused:
                await self.queue.unpark(account.id)
        stored = {account.id for account in changes.accounts}
        for account_id in changes.paused:
            if account_id not in stored:
                await self.accounts.park(account_id, Parking(PAUSED, NO_END))
        # What ends comes first, as it may be in the way of what begins.
        for link in sorted(changes.links, key=lambda link: link.main_id is not None):
            await self._link(link, changes.mains.get(link.child_id))
        # First who has them: what is told of a solution is put right by the solution itself.
        if changes.installations:
            await self.solutions.take_over(changes.installations)
        for packed in changes.solutions:
            await self.solutions.put(Solution(packed.app_id, packed.secret, packed.is_draft))
        return moved

    async def _look(self, content: bytes, *, replace: bool) -> tuple[list[Moved], _Changes]:
        parcel, packed = _opened(content)
        moved, changes = list[Moved](), _Changes()
        for account, as_packed in zip(packed, parcel.accounts, strict=True):
            change = await self._change_of(account, replace=replace)
            moved.append(Moved(account.id, account.name, Part.ACCOUNT, change))
            if change in (Change.ADD, Change.REPLACE):
                changes.accounts.append(account)
            if as_packed.is_paused:
                change = await self._change_of_pause(account.id, change)
                moved.append(Moved(account.id, account.name, Part.PAUSE, change))
                if change is Change.ADD:
                    changes.paused.append(account.id)
        names = {account.id: account.name for account in packed}
        stored = await self.settings.links()
        changes.mains = {link.child_id: link.main_id for link in stored}
        for packed_link in parcel.links:
            child_id = packed_link.child_id
            change = await self._change_of_link(
                packed_link, changes.mains.get(child_id), replace=replace
            )
            moved.append(Moved(child_id, names.get(child_id, child_id), Part.LINK, change))
            if change in (Change.ADD, Change.REPLACE):
                changes.links.append(packed_link)
        _check(changes.accounts, changes.links, stored)
        for solution in parcel.solutions:
            change = await self._change_of_solution(solution, replace=replace)
            moved.append(Moved(solution.app_id, "", Part.SOLUTION, change))
            if change in (Change.ADD, Change.REPLACE):
                changes.solutions.append(solution)
        known = {(one.app_id, one.account_id): one for one in await self.solutions.installations()}
        for one in _installations(parcel):
            there = known.get((one.app_id, one.account_id))
            change = _change_of_installation(one, there, replace=replace)
            name = names.get(one.account_id, one.account_id)
            moved.append(Moved(one.account_id, name, Part.INSTALLATION, change))
            if change in (Change.ADD, Change.REPLACE):
                changes.installations.append(one)
        return moved, changes

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

    async def _change_of_pause(self, account_id: str, of_account: Change) -> Change:
        if of_account is Change.KEEP:
            return Change.KEEP
        return Change.SAME if await _is_paused(self.accounts, account_id) else Change.ADD

    async def _change_of_solution(self, packed: _PackedSolution, *, replace: bool) -> Change:
        try:
            there = await self.solutions.get(packed.app_id)
        except DamagedRowError:
            return Change.REPLACE if replace else Change.KEEP
        if there is None:
            return Change.ADD
        if there == Solution(packed.app_id, packed.secret, packed.is_draft):
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


def _installations(parcel: _Parcel) -> list[Installation]:
    return [
        Installation(solution.app_id, one.account_id, one.state, one.issued_at, one.token)
        for solution in parcel.solutions
        for one in solution.installations
    ]


def _change_of_installation(
    given: Installation, there: Installation | None, *, replace: bool
) -> Change:
    if there is None:
        return Change.ADD
    told, known = [(one.state, one.token, one.issued_at) for one in (given, there)]
    if told == known:
        return Change.SAME
    # What MoySklad has told since stays. Else it goes with the account, which is not parked when
    # the solution ends unless both have the same token.
    return Change.REPLACE if replace and there.issued_at <= given.issued_at else Change.KEEP


def _version(content: bytes) -> int | None:
    """Before all else, as nothing is known of what a later one holds."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    version = found.get("version") if isinstance(found, dict) else None
    return version if type(version) is int else None


def _opened(content: bytes) -> tuple[_Parcel, Sequence[Account]]:
    version = _version(content)
    if version is not None and version > _VERSION:
        raise BadParcelError(f"The export is of version {version}: update imgsync on this machine")
    try:
        parcel = _PARCEL.validate_json(content)
        if parcel.version < 1:
            raise BadParcelError("This is not what an export makes: version")
    except ValidationError as error:
        places = ", ".join(
            ".".join(map(str, one["loc"])) for one in error.errors(include_input=False)[:3]
        )
        raise BadParcelError(f"This is not what an export makes: {places}") from None
    for solution in parcel.solutions:
        try:
            solution_of(solution.app_id, solution.secret, is_draft=solution.is_draft)
        except ImgsyncError as error:
            raise BadParcelError(
                f"Solution {solution.app_id!a} of the export is none: {error}"
            ) from None
    accounts = []
    for one in parcel.accounts:
        try:
            accounts.append(one.account())
        except ValueError as error:
            raise BadParcelError(f"Account {one.id!a} of the export is none: {error}") from None
    return parcel, accounts
