"""Where MoySklad's webhooks arrive."""

import asyncio
import hashlib
import json
import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.domain.errors import DamagedRowError, ImgsyncError, UnknownAccountError
from imgsync.domain.model import last_segment
from imgsync.domain.text import counted, shown
from imgsync.domain.webhooks import RECEPTION_PATH, RECEPTION_SECRET, Event, EventAction
from imgsync.entrypoints.web.guarding import TooLargeError
from imgsync.entrypoints.web.sessions import is_same
from imgsync.uptime import uptime

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.webhooks")
_LIMIT_SECONDS = 1.2
"""MoySklad waits for 1.5 s, and then counts the request as failed."""
_SECRET_SECONDS = 5.0
_AGAIN_SECONDS = 1.0
"""Before what was not found is looked for again."""
_ACCOUNT_SECONDS = 10.0
_MOST_ACCOUNTS = 10_000
_MOST_TOLD = 100
_FAILURES_SECONDS = 60.0
_LONGEST_REQUEST_ID = 200
_DEEPEST = 20
_ID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class MalformedError(ValueError):
    """It is nothing that a webhook sends."""


def routes(container: "Container") -> list[BaseRoute]:
    reception = _Reception(container)
    return [Route(RECEPTION_PATH + "{secret}", reception.answer, methods=["POST"])]


@dataclass(slots=True)
class _Reception:
    """Keeps what comes. What it has learnt of the secret and the accounts is a few seconds old at
    most. No answer and no record of the log names the secret, nor the path that ends with it."""

    container: "Container"
    _secret: tuple[float, str | None] | None = None
    _accounts: OrderedDict[str, tuple[float, bool]] = field(default_factory=OrderedDict)
    _types: frozenset[str] | None = None
    _told: set[str] = field(default_factory=set)
    _failures: int = 0
    _failed_at: float = 0.0

    async def answer(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(_LIMIT_SECONDS):
                return Response(status_code=await self._received(request))
        except TimeoutError:
            self._fail(f"the database took more than {_LIMIT_SECONDS} s")
        except ImgsyncError as error:
            self._fail(str(error))
        except ClientDisconnect:
            return Response(status_code=400)
        except TooLargeError:
            raise
        except Exception:
            _log.exception("events could not be kept")
        # They come again at once, three times at most.
        return Response(status_code=503)

    async def _received(self, request: Request) -> int:
        if not await self._is_ours(request.path_params["secret"]):
            return 404
        body = await request.body()
        try:
            given = _events_in(body)
        except MalformedError as error:
            # A cut one comes again whole.
            self._tell(f"a webhook sent what cannot be read: {error}")
            return 400
        events = [event for one in given if (event := await self._event(one)) is not None]
        if events:
            is_new = await self.container.event_store().receive(_id_of(request, body), events)
            for account_id, came in Counter(event.account_id for event in events).items():
                self._count(request, account_id, came, 0 if is_new else came)
        return 204

    def _count(self, request: Request, account_id: str, came: int, dropped: int) -> None:
        """In the loop in which all others count, if that is another."""
        count = self.container.meter().events
        home: asyncio.AbstractEventLoop | None = getattr(request.app.state, "home", None)
        if home is None or home is asyncio.get_running_loop():
            count(account_id, came, dropped)
        else:
            with suppress(RuntimeError):  # closed: nobody counts any more
                home.call_soon_threadsafe(count, account_id, came, dropped)

    async def _is_ours(self, given: str) -> bool:
        """Whether that is the secret. A wrong one may be newer than what is known."""
        now = uptime()
        known = self._secret
        if known is not None and now - known[0] < _SECRET_SECONDS:
            if known[1] is not None and is_same(known[1], given):
                return True
            if now - known[0] < _AGAIN_SECONDS:
                return False
        found = await self.container.web_secrets().get_many((RECEPTION_SECRET,))
        secret = found.get(RECEPTION_SECRET) or None
        self._secret = now, secret
        return secret is not None and is_same(secret, given)

    async def _event(self, given: Any) -> Event | None:
        """None for what is none, or not of an account and a type that there are."""
        try:
            event = _event_of(given)
        except MalformedError as error:
            self._tell(f"an event of a webhook is left out: {error}")
            return None
        if event.entity_type not in self._known_types():
            return None
        if not await self._is_stored(event.account_id):
            account = shown(event.account_id)
            self._tell(f"webhooks of the account {account} arrive, which is not stored here")
            return None
        return event

    def _known_types(self) -> Collection[str]:
        if self._types is None:
            types = self.container.plugins().entity_types
            self._types = frozenset(entity_type.name for entity_type in types)
        return self._types

    async def _is_stored(self, account_id: str) -> bool:
        now = uptime()
        at, is_stored = self._accounts.get(account_id, (0.0, False))
        if at and now - at < (_ACCOUNT_SECONDS if is_stored else _AGAIN_SECONDS):
            return is_stored
        try:
            await self.container.accounts().get(account_id)
            is_stored = True
        except (UnknownAccountError, DamagedRowError):
            is_stored = False
        self._accounts[account_id] = now, is_stored
        if len(self._accounts) > _MOST_ACCOUNTS:
            self._accounts.popitem(last=False)
        return is_stored

    def _fail(self, why: str) -> None:
        """Tells of failures once a minute: they may be hundreds in a second."""
        self._failures += 1
        if not self._failed_at or uptime() - self._failed_at > _FAILURES_SECONDS:
            requests = counted(self._failures, "request")
            _log.error("events of %s could not be kept: %s", requests, why)
            self._failures, self._failed_at = 0, uptime()

    def _tell(self, text: str) -> None:
        if text not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(text)
            _log.warning("%s", text)


def _events_in(body: bytes) -> list[Any]:
    """The events of a request, as they came."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedError("it is no JSON, or too deep") from error
    if _is_deep(told, _DEEPEST):
        raise MalformedError("it is too deep")
    events = told.get("events") if isinstance(told, dict) else None
    if not isinstance(events, list):
        raise MalformedError("it has no list of events")
    return events


def _is_deep(value: Any, left: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return left == 0 or any(_is_deep(one, left - 1) for one in inner)


def _event_of(given: Any) -> Event:
    meta = given.get("meta") if isinstance(given, dict) else None
    if not isinstance(meta, dict):
        raise MalformedError("it has no meta")
    account_id, entity_type = given.get("accountId"), meta.get("type")
    href, action = meta.get("href"), given.get("action")
    if not isinstance(account_id, str) or not account_id:
        raise MalformedError("it names no account")
    if not isinstance(entity_type, str) or not isinstance(href, str):
        raise MalformedError("its meta has no type or no href")
    entity_id = last_segment(href)
    if not _ID.fullmatch(entity_id):
        raise MalformedError("its href ends with no id")
    if not isinstance(action, str) or action not in set(EventAction):
        raise MalformedError(f"its action is {shown(str(action)[:40])!r}")
    return Event(account_id, entity_type, entity_id, EventAction(action))


def _id_of(request: Request, body: bytes) -> str:
    """What tells a request that comes again from a new one. No document says that the webhooks
    which one change fires have an id each, so the body counts, too."""
    given = request.query_params.get("requestId", "")
    digest = hashlib.sha256(given.encode("utf-8", "replace") + b"\n" + body).hexdigest()
    return f"{given if len(given) <= _LONGEST_REQUEST_ID else ''} sha256:{digest}".lstrip()
