"""The page of accounts: who takes requests, what each has shown, and whether its webhooks work."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.domain.errors import StoreError, UnlistedQueueError
from imgsync.domain.model import Abilities, Account, AccountRole, StoredLink, TokenKind
from imgsync.domain.ports.moysklad import RateInUse
from imgsync.domain.ports.overview import ChildState
from imgsync.domain.ports.tasks import TaskState, filter_by
from imgsync.domain.tasks import Task
from imgsync.domain.text import natural_key
from imgsync.domain.webhooks import WebhookState
from imgsync.entrypoints.web.auditing import audit, whole_number
from imgsync.entrypoints.web.rendering import go_to, number, render, size
from imgsync.entrypoints.web.tasks import ShownTask, shown_task
from imgsync.entrypoints.web.veiling import Veil
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@dataclass(frozen=True, slots=True)
class AccountCard:
    """An account as the page shows it: nothing of its credentials but their kind. `webhooks`: what
    is known of them, with its tone; `failed`: its last failed task."""

    account: Account
    name: str
    role: str
    token: str
    is_child: bool
    is_off: bool
    state: ChildState
    parked: str
    rate: RateInUse | None
    abilities: list[str]
    webhooks: tuple[str, str]
    hooks: WebhookState | None
    failed: ShownTask | None

    @property
    def try_href(self) -> str:
        return f"/accounts/{quote(self.account.id, safe='')}/try"

    @property
    def is_troubled(self) -> bool:
        return bool(self.parked) or self.webhooks[1] == "bad"


def routes(container: "Container") -> list[BaseRoute]:
    async def rate_of(account: Account) -> RateInUse | None:
        try:
            rate: RateInUse | None = await container.moysklad().rate(account)
        except StoreError:  # it is only shown
            return None
        return rate

    async def last_failed(child_id: str) -> Task | None:
        try:
            tasks = container.task_list()
        except UnlistedQueueError:
            return None
        page = await tasks.find(child=child_id, limit=1, **filter_by(TaskState.FAILED))
        return page.tasks[0] if page.tasks else None

    async def cards() -> list[AccountCard]:
        stored = await container.accounts().all()
        links: list[StoredLink] = await container.settings().links()
        states = await container.overview().states()
        hooks = {one.account_id: one for one in await container.webhook_states().all()}
        mains = {link.main_id for link in links}
        link_of = {link.child_id: link for link in links}
        names, veil = {one.id: one.name for one in stored}, Veil(stored)

        async def card(account: Account) -> AccountCard:
            link = link_of.get(account.id)
            rate, abilities, failed = await asyncio.gather(
                rate_of(account), container.abilities().get(account.id), last_failed(account.id)
            )
            state = states.get(account.id, ChildState())
            role = account.role
            if link is not None or account.id in mains:
                role = AccountRole.MAIN if link is None else AccountRole.CHILD
            return AccountCard(
                account,
                veil(account.name),
                _role(role),
                _token(account.token_kind),
                link is not None,
                link is not None and (bool(link.damage) or not link.settings.enabled),
                state,
                veil(state.parked_reason),
                rate,
                abilities_in_words(abilities),
                webhooks_in_words(
                    hooks.get(account.id), veil, wanted=link is None or link.settings.guard
                ),
                hooks.get(account.id),
                None if failed is None else shown_task(failed, names, veil),
            )

        made = await asyncio.gather(*(card(account) for account in stored))
        return sorted(
            made, key=lambda one: (one.is_child, not one.is_troubled, natural_key(one.name))
        )

    async def listed(request: Request) -> Response:
        woken = whole_number(request.query_params.get("woken"))
        return render(request, "accounts.html", cards=await cards(), woken=woken)

    async def try_again(request: Request) -> Response:
        account = await container.accounts().get(request.path_params["id"])
        woken = await container.try_again()(account.id)
        await audit(request, "try account", account.name, tasks=woken)
        return go_to(f"/accounts?woken={woken}")

    return [
        Route("/accounts", listed),
        Route("/accounts/{id}/try", try_again, methods=["POST"]),
    ]


def abilities_in_words(shown: Abilities) -> list[str]:
    """What is known of an account, a sentence each; empty where that is nothing."""

    def said(value: bool | None, yes: str, no: str) -> list[str]:
        return [] if value is None else [yes if value else no]

    told = said(
        shown.bulk,
        _("The images of many products go in one request."),
        _("The images of each product take a request of their own."),
    )
    told += said(
        shown.bulk_keeps,
        _("In such a request images that are there already can stay."),
        _("In such a request images that are there already are sent again."),
    )
    told += said(
        shown.permanent_links,
        _("Its images are read without costing requests."),
        _("Each image that is read costs a request."),
    )
    told += said(
        shown.images_move_updated,
        _("A change of images alone is found by the quick look for changes."),
        _("A change of images alone is found by the full comparison only."),
    )
    if shown.accepted_image_bytes is not None:
        told.append(
            _("Largest image that was taken: %(size)s.")
            % {"size": size(shown.accepted_image_bytes)}
        )
    if shown.refused_image_bytes is not None:
        told.append(
            _("Smallest image that was refused as too large: %(size)s.")
            % {"size": size(shown.refused_image_bytes)}
        )
    if shown.refused_formats:
        formats = ", ".join(sorted(shown.refused_formats)).upper()
        told.append(_("Formats that it refuses: %(formats)s.") % {"formats": formats})
    return told


def webhooks_in_words(
    state: WebhookState | None, veil: Veil, *, wanted: bool = True
) -> tuple[str, str]:
    """What is known of them, and how that looks. Their address, which ends with a secret, is told
    nowhere. Of a franchise that is not guarded none are `wanted`."""
    if state is None or (state.url is None and not state.problem):
        if not wanted:
            return _("Not needed: those of the main account are enough."), "soft"
        return _("None are set up: changes are found by the schedule."), "soft"
    counts: Mapping[str, str] = {
        "working": number(state.working),
        "wanted": number(state.wanted),
        "off": number(state.switched_off),
    }
    if state.switched_off:
        told = _("MoySklad has switched %(off)s of %(wanted)s off.") % counts
    elif state.wanted and state.working >= state.wanted and not state.problem:
        return _("All %(wanted)s work.") % counts, "good"
    else:
        told = _("%(working)s of %(wanted)s work.") % counts
    return (f"{told} {veil(state.problem)}".strip(), "bad")


def _role(role: AccountRole | None) -> str:
    if role is None:
        return _("Not known yet which")
    return _("Main account") if role is AccountRole.MAIN else _("Franchise")


def _token(kind: TokenKind) -> str:
    return {
        TokenKind.SOLUTION: _("Token of a solution"),
        TokenKind.DRAFT: _("Token of a solution in draft"),
        TokenKind.USER: _("Token of a user"),
        TokenKind.PASSWORD: _("Login and password of a user"),
    }[kind]
