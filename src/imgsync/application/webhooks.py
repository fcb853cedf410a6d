"""Makes, looks after and removes the webhooks of accounts."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from imgsync.application.accounts import find_account
from imgsync.domain.errors import (
    DamagedRowError,
    ImgsyncError,
    NotFoundError,
    NoWebhookRightError,
    NoWebhooksError,
    ParkingError,
    PermissionDeniedError,
    StoreError,
    UnknownAccountError,
    WebhookExistsError,
    WebhookLimitError,
    WrongAccountError,
)
from imgsync.domain.model import Account, AccountName, EntityTypes, StoredLink
from imgsync.domain.ports.events import WebhookStates
from imgsync.domain.ports.moysklad import MoySkladFactory
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.ports.runner import Listeners, NoListeners
from imgsync.domain.ports.web import WebSecrets
from imgsync.domain.text import natural_key
from imgsync.domain.webhooks import (
    RECEPTION_PATH,
    RECEPTION_SECRET,
    Webhook,
    WebhookState,
    plan_webhooks,
    reception_prefix,
    wanted_webhooks,
)
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)
_MOST_TURNS = 3
"""Looks at an account's webhooks and mendings, as another host may mend them at the same time."""

_KNOWN_SECONDS = 60.0
_DROP_SECONDS = 20.0
_PASSING = (WebhookExistsError, NotFoundError)
"""Another host was faster; the next look tells."""

_BEYOND_REACH = (ParkingError, PermissionDeniedError, WrongAccountError)
"""With these credentials nothing can be removed, however often it is tried."""

_NEVER = datetime.min.replace(tzinfo=UTC)
_HIDDEN = "…"


class NoWebhooksWantedError(ImgsyncError):
    """An account is neither a main account of a link nor a child whose own changes are guarded."""


@dataclass(frozen=True, slots=True)
class WebhooksOutcome:
    """What became of an account's webhooks. `state`: how they stand; `made`, `changed`,
    `switched_on`, `removed`: how many; `found_off`: how many MoySklad had switched off; `seen`:
    whether they could be looked at, else `state` is of an earlier look; `problem`: why not all
    work, or could not be removed, '' where all is well."""

    account: AccountName
    state: WebhookState
    made: int = 0
    changed: int = 0
    switched_on: int = 0
    removed: int = 0
    found_off: int = 0
    seen: bool = False
    problem: str = ""


def is_guarded(link: StoredLink) -> bool:
    """Whether changes of the child's own images are to be noticed."""
    return link.settings.guard


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Ids of accounts that are to have webhooks, and of those of which it cannot be told."""

    ids: frozenset[str]
    unsure: frozenset[str]


@dataclass(slots=True)
class KeepWebhooks:
    """What installing, checking and removing have in common."""

    accounts: AccountRepository
    settings: SettingsRepository
    states: WebhookStates
    web_secrets: WebSecrets
    moysklad: MoySkladFactory
    entity_types: EntityTypes
    guards: Callable[[StoredLink], bool] = is_guarded

    async def wanted(self) -> _Wanted:
        links = await self.settings.links()
        mains = {link.main_id for link in links}
        guarded = {link.child_id for link in links if link.damage is None and self.guards(link)}
        unsure = {link.child_id for link in links if link.damage is not None}
        return _Wanted(frozenset(mains | guarded), frozenset(unsure))

    async def by_account(self) -> dict[str, WebhookState]:
        return {state.account_id: state for state in await self.states.all()}

    async def secret(self) -> str:
        known = await self.known_secret()
        return known or await self.web_secrets.keep(RECEPTION_SECRET, secrets.token_urlsafe(32))

    async def known_secret(self) -> str:
        return (await self.web_secrets.get_many([RECEPTION_SECRET])).get(RECEPTION_SECRET, "")

    async def ensure(
        self, account: Account, prefix: str, before: WebhookState | None
    ) -> WebhooksOutcome:
        """Every wanted webhook of the account is there, leads to `prefix` and the secret, and is
        on; or the outcome says why not. StoreError."""
        secret = await self.secret()
        wanted = wanted_webhooks(prefix + secret, self.entity_types.names)
        state = before or WebhookState(account.id, None)
        prefixes = {prefix, state.url or prefix}
        if state.url != prefix:
            # First, so that our own writes are silent before anything can hear them.
            state = replace(state, url=prefix, wanted=len(wanted), problem="not looked at yet")
            await self.states.put(state)
        port = self.moysklad.for_account(account)
        refused: list[ImgsyncError] = []
        outcome = WebhooksOutcome(AccountName(account.id, account.name), state)
        off, working = state.switched_off, state.working
        try:
            for turn in range(_MOST_TURNS + 1):
                found = await port.webhooks()
                plan = plan_webhooks(found, wanted, _is_ours(prefixes, secret))
                working = len(wanted) - len(plan.save)
                off = plan.off
                if turn == 0:
                    outcome = replace(outcome, found_off=off, seen=True)
                if plan.is_done or refused or turn == _MOST_TURNS:
                    break
                if plan.delete:
                    await port.delete_webhooks([hook.id for hook in plan.delete])
                results = await port.save_webhooks(plan.save) if plan.save else []
                saved = [
                    hook for hook, error in zip(plan.save, results, strict=True) if error is None
                ]
                refused = [one for one in results if one and not isinstance(one, _PASSING)]
                outcome = _counted(outcome, found, saved, len(plan.delete))
        except StoreError:
            raise
        except ImgsyncError as error:
            refused = [error]
        problem = _problem(account.name, refused, len(wanted) - working, secret)
        state = WebhookState(account.id, prefix, len(wanted), working, off, problem)
        await self.states.put(state)
        return replace(outcome, state=state, problem=problem)

    async def remove(self, account: Account, before: WebhookState | None) -> int:
        """Deletes the account's webhooks that are ours; how many. What the port raises."""
        secret = await self.known_secret()
        prefixes = {before.url} if before is not None and before.url else set()
        is_ours = _is_ours(prefixes, secret)
        port = self.moysklad.for_account(account)
        ours = [hook.id for hook in await port.webhooks() if is_ours(hook.url)]
        if ours:
            await port.delete_webhooks(ours)
        return len(ours)

    async def explained(self, account: Account, error: ImgsyncError) -> str:
        return _problem(account.name, [error], 0, await self.known_secret())

    async def drop(self, account_id: str, before: WebhookState) -> bool:
        """Removes the webhooks of an account that is to have none any more, and forgets them; also
        where these credentials can never remove them. False where it has to be tried again."""
        try:
            account = await self.accounts.get(account_id)
        except DamagedRowError:
            return False
        except UnknownAccountError:
            await self.states.forget(account_id)
            return True
        try:
            if await self.accounts.parking(account_id) is None:
                await self.remove(account, before)
        except _BEYOND_REACH as error:
            told = await self.explained(account, error)
            _log.warning("webhooks that are not wanted any more are left behind: %s", told)
        except StoreError:
            raise
        except ImgsyncError as error:
            told = await self.explained(account, error)
            _log.warning("webhooks that are not wanted any more are still there: %s", told)
            return False
        await self.states.forget(account_id)
        return True


@dataclass(frozen=True, slots=True)
class InstallWebhooks:
    """Makes the webhooks of main accounts, and of children whose own changes are guarded."""

    keep: KeepWebhooks

    async def __call__(self, base: str, given: Sequence[str] = ()) -> list[WebhooksOutcome]:
        """`base`: the https address at which MoySklad reaches 'imgsync serve'. `given`: ids or
        names; all accounts that are to have webhooks where there are none. Those that are there
        already stay; ours at another address are led to this one; others are never touched.

        ValueError for an address that is none. NoWebhooksWantedError for an account that is to
        have none, and where no account is; what `find_account` raises. Nothing is done then.
        """
        prefix = reception_prefix(base)
        wanted = (await self.keep.wanted()).ids
        if given:
            found = [await find_account(self.keep.accounts, one) for one in given]
            accounts = list({account.id: account for account in found}.values())
            for account in accounts:
                if account.id not in wanted:
                    raise NoWebhooksWantedError(
                        f"Account '{account.name}' ({account.id}) needs no webhooks: it is neither "
                        "the main account of a link nor a child whose own changes are guarded"
                    )
        else:
            accounts = [one for one in await self.keep.accounts.all() if one.id in wanted]
            if not accounts:
                raise NoWebhooksWantedError("No account needs webhooks: none is linked")
        states = await self.keep.by_account()
        if given:
            # Else the next check would make those of the others, too.
            for other in wanted - {account.id for account in accounts} - states.keys():
                await self.keep.states.put(WebhookState(other, None))
        return [
            await self.keep.ensure(account, prefix, states.get(account.id)) for account in accounts
        ]


@dataclass(frozen=True, slots=True)
class CheckWebhooks:
    """Looks whether the webhooks that were installed are there and on, and mends what is not. An
    account that was linked since has its own made; of one that is to have none any more they go."""

    keep: KeepWebhooks
    listeners: Listeners = field(default_factory=NoListeners)

    async def __call__(self) -> list[WebhooksOutcome]:
        """Of each account for itself; none where no webhooks were installed. StoreError."""
        states = await self.keep.by_account()
        installed = {key: state for key, state in states.items() if state.url}
        if not installed:
            return []
        wanted = await self.keep.wanted()
        for account_id in installed.keys() - wanted.ids - wanted.unsure:
            await self.keep.drop(account_id, installed[account_id])
        newest = max(installed.values(), key=lambda state: state.checked_at or _NEVER)
        outcomes = []
        for account in await self.keep.accounts.all():
            before = states.get(account.id)
            never = before is None or (before.url is None and before.checked_at is None)
            prefix = (newest.url or "") if never else before and before.url
            if account.id in wanted.ids and prefix:
                outcomes.append(await self._check(account, prefix, before))
        return outcomes

    async def _check(
        self, account: Account, prefix: str, before: WebhookState | None
    ) -> WebhooksOutcome:
        name = AccountName(account.id, account.name)
        parking = await self.keep.accounts.parking(account.id)
        if parking is not None:
            problem = f"account '{account.name}' takes no requests: {parking.reason}"
            state = replace(before or WebhookState(account.id, prefix), url=prefix, problem=problem)
            if state != before:
                await self.keep.states.put(state)
            outcome = WebhooksOutcome(name, state, problem=problem)
        else:
            outcome = await self.keep.ensure(account, prefix, before)
        is_old = bool(outcome.problem) and before is not None and before.problem == outcome.problem
        if is_old:
            return outcome
        if outcome.problem:
            _log.warning("webhooks of account '%s' do not all work: %s", name, outcome.problem)
        if outcome.made and before is not None and before.url and not before.problem:
            _log.warning(
                "account '%s': %d webhooks were gone and are there again", name, outcome.made
            )
        off = outcome.found_off
        if off:
            now = "could not be switched on again" if outcome.problem else "are on again"
            _log.warning(
                "account '%s': MoySklad had switched %d webhooks off; they %s", name, off, now
            )
            await self.listeners.webhooks_off(name, off)
        return outcome


@dataclass(frozen=True, slots=True)
class RemoveWebhooks:
    """Removes the webhooks that imgsync has made, and no others."""

    keep: KeepWebhooks

    async def __call__(self, given: Sequence[str] = ()) -> list[WebhooksOutcome]:
        """`given`: ids or names; all accounts that have any where there are none. Where they cannot
        be removed, the outcome says why, and everything is as it was. What `find_account` raises;
        nothing is done then. StoreError."""
        states = await self.keep.by_account()
        if given:
            found = [await find_account(self.keep.accounts, one) for one in given]
            accounts = list({account.id: account for account in found}.values())
        else:
            stored = {account.id: account for account in await self.keep.accounts.all()}
            accounts = [stored[key] for key, one in states.items() if one.url and key in stored]
            accounts.sort(key=lambda account: (natural_key(account.name), account.id))
        return [await self._remove(account, states) for account in accounts]

    async def _remove(
        self, account: Account, states: Mapping[str, WebhookState]
    ) -> WebhooksOutcome:
        name = AccountName(account.id, account.name)
        before = states.get(account.id) or WebhookState(account.id, None)
        try:
            removed = await self.keep.remove(account, before)
        except StoreError:
            raise
        except ImgsyncError as error:
            problem = await self.keep.explained(account, error)
            return WebhooksOutcome(name, before, problem=problem)
        state = WebhookState(account.id, None)
        await self.keep.states.put(state)
        return WebhooksOutcome(name, state, removed=removed)


@dataclass(frozen=True, slots=True)
class DropWebhooks:
    """After links have ended: webhooks that nobody wants any more go. What cannot be done now, the
    next check does."""

    keep: KeepWebhooks

    async def __call__(self) -> None:
        try:
            async with asyncio.timeout(_DROP_SECONDS):
                states = {k: s for k, s in (await self.keep.by_account()).items() if s.url}
                wanted = await self.keep.wanted() if states else None
                if wanted is not None:
                    for account_id in states.keys() - wanted.ids - wanted.unsure:
                        await self.keep.drop(account_id, states[account_id])
        except (ImgsyncError, TimeoutError) as error:
            why = str(error) or "it takes too long"
            _log.warning("webhooks that are not wanted any more are still there: %s", why)


@dataclass(slots=True)
class OwnPrefixes:
    """The beginnings of addresses that our own writes must not fire: those that configuration
    names, and those of the webhooks that are installed, as they were at most a minute ago."""

    states: WebhookStates
    given: Collection[str] = ()
    elapsed: Callable[[], float] = uptime
    _known: tuple[float, list[str]] | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self) -> list[str]:
        """StoreError where they were never known."""
        async with self._asking:
            now = self.elapsed()
            if self._known is not None and now - self._known[0] < _KNOWN_SECONDS:
                return self._known[1]
            try:
                installed = [state.url for state in await self.states.all() if state.url]
            except StoreError:
                if self._known is None:
                    raise
                return self._known[1]
            self._known = now, list(dict.fromkeys([*self.given, *installed]))
            return self._known[1]


def _is_ours(prefixes: Collection[str], secret: str) -> Callable[[str], bool]:
    """Those at an address of ours, and those that end with our secret wherever they lead: only
    imgsync has made these."""
    ending = RECEPTION_PATH + secret

    def is_ours(url: str) -> bool:
        return url.startswith(tuple(prefixes)) or (bool(secret) and url.endswith(ending))

    return is_ours


def _counted(
    outcome: WebhooksOutcome, found: Sequence[Webhook], saved: Sequence[Webhook], removed: int
) -> WebhooksOutcome:
    were_off = {hook.id for hook in found if not hook.enabled}
    on = sum(hook.id in were_off for hook in saved)
    made = sum(not hook.id for hook in saved)
    return replace(
        outcome,
        made=outcome.made + made,
        switched_on=outcome.switched_on + on,
        changed=outcome.changed + len(saved) - made - on,
        removed=outcome.removed + removed,
    )


def _problem(name: str, errors: Sequence[ImgsyncError], missing: int, secret: str) -> str:
    """In one line, without the secret, which an answer may repeat."""
    if not errors:
        return f"account '{name}': MoySklad does not show {missing} of them" if missing else ""
    first = errors[0]
    match first:
        case NoWebhookRightError():
            text = (
                f"account '{name}': its credentials may not manage webhooks; they have to be an "
                "administrator's, or a solution's with the right useOwnWebhooks"
            )
        case NoWebhooksError():
            text = f"account '{name}': its tariff has no webhooks"
        case WebhookLimitError():
            text = (
                f"account '{name}': other programs have as many webhooks as MoySklad allows for "
                f"{len(errors)} of those that are wanted; remove some of theirs"
            )
        case _:
            text = str(first)
    return text.replace(secret, _HIDDEN) if secret else text
