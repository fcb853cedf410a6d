"""Notes every change that is made by the pages, the HTTP API or as a solution; the page of them."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.domain.ports.web import AuditEntry
from imgsync.entrypoints.web.rendering import render
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_PAGE = 50


async def audit(request: Request, action: str, subject: str, **detail: Any) -> None:
    """Notes a change. Who made it is `request.state.who`, which the middleware sets for sessions,
    and whoever checks other credentials for those."""
    who = getattr(request.state, "who", "?")
    container = request.app.state.container
    await container.audit_log().note(AuditEntry(who, action, subject, detail))


@dataclass(frozen=True, slots=True)
class Shown:
    """A change as the page shows it; `detail` is for technicians."""

    at: datetime | None
    who: str
    action: str
    subject: str
    detail: str


def who_in_words(who: str) -> str:
    kind, _space, name = who.partition(" ")
    if kind == "key":
        return _("A program with the key “%(name)s”") % {"name": name}
    if kind == "solution":
        return _("MoySklad, for the solution %(name)s") % {"name": name}
    return {
        "password": _("Somebody with the password"),
        "nobody logged in": _("Somebody at the server itself"),
    }.get(who, who)


def action_in_words(action: str) -> str:
    """Of a kind that is not known here, its own name."""
    return {
        "login": _("Logged in, from the address"),
        "settings": _("Changed the settings"),
        "sync": _("Began a sync"),
        "check": _("Began a comparison"),
        "compare": _("Began a comparison"),
        "link": _("Linked to a main account"),
        "unlink": _("Ended the link"),
        "retry": _("Had failed images tried again"),
        "retry images": _("Had failed images tried again"),
        "retry task": _("Had a task tried again"),
        "retry tasks": _("Had tasks tried again"),
        "queue tasks": _("Queued tasks"),
        "cancel task": _("Cancelled a task"),
        "delete task": _("Deleted a task"),
        "try account": _("Had an account tried again"),
        "take up account": _("Took up the account, as the solution was installed or paid for"),
        "let go of account": _("Let go of the account, as the solution was removed or suspended"),
    }.get(action, action)


def routes(container: "Container") -> list[BaseRoute]:
    async def listed(request: Request) -> Response:
        before = whole_number(request.query_params.get("before"))
        found = await container.audit_log().find(before=before, limit=_PAGE + 1)
        names = {account.id: account.name for account in await container.accounts().all()}
        entries = [
            Shown(
                entry.at,
                who_in_words(entry.who),
                action_in_words(entry.action),
                names.get(entry.subject, entry.subject),
                json.dumps(dict(entry.detail), ensure_ascii=False) if entry.detail else "",
            )
            for entry in found[:_PAGE]
        ]
        older = found[_PAGE - 1].id if len(found) > _PAGE else None
        return render(request, "audit.html", entries=entries, older=older, is_first=before is None)

    return [Route("/audit", listed)]


def whole_number(text: str | None) -> int | None:
    """A number from 0 that a database can hold; None for anything else."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 18:
        return None
    return int(text)
