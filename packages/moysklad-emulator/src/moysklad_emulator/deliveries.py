"""Notifications of webhooks, really sent (section Webhooks): in time, again, or lost."""

import asyncio
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from moysklad_emulator.accounts import EmulatedAccount
from moysklad_emulator.events import Change, Event
from moysklad_emulator.images import now_text
from moysklad_emulator.links import Links
from moysklad_emulator.outgoing import NoReplyError, send
from moysklad_emulator.state import Emulator
from moysklad_emulator.webhooks import Webhook

_HEADERS = {
    "User-Agent": "MoySklad webhook touch agent 2.0 (/https://www.moysklad.ru)",
    "Content-Type": "application/json;charset=utf-8",
}
_DELIVERED = (200, 204)
_PARALLEL = 20
_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class _Notification:
    account: EmulatedAccount
    webhooks: tuple[Webhook, ...]
    request_id: str
    url: str
    body: bytes


class Deliveries:
    """Sends to the webhooks of every account what its changes are, in the loop of `run`.

    At most as many wait as the limits say; what is more is lost, as is what waits at the end.
    """

    def __init__(self, emulator: Emulator, links: Links) -> None:
        self._emulator = emulator
        self._links = links
        self._limits = emulator.limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        self._waiting = 0

    def open(self) -> None:
        """Begins to listen, in the loop that sends."""
        self._loop = asyncio.get_running_loop()
        self._parallel = asyncio.Semaphore(_PARALLEL)
        self._emulator.events.listen(self.accept)

    async def close(self) -> None:
        """Listens no more, and ends what is being sent."""
        self._emulator.events.listen(None)
        self._loop = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wait(self, seconds: float) -> bool:
        """Blocks until nothing waits to be sent; False where something still does then."""
        deadline = time.monotonic() + seconds
        while self._waiting:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def accept(self, account: EmulatedAccount, change: Change) -> None:
        """Takes a change of any thread; returns at once."""
        for notification in self._notifications(account, change):
            with self._lock:
                full = self._waiting >= self._limits.max_waiting_notifications
                self._waiting += not full
            loop = self._loop
            if full or loop is None:
                self._emulator.recorder.record_webhook("lost")
                self._waiting -= not full
                continue
            loop.call_soon_threadsafe(self._begin, notification)

    def _begin(self, notification: _Notification) -> None:
        task = asyncio.ensure_future(self._deliver(notification))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _notifications(self, account: EmulatedAccount, change: Change) -> list[_Notification]:
        fired: dict[Webhook, list[Event]] = {}
        for hook in account.live_webhooks():
            events = [
                event
                for event in change.events
                if (event.type, event.action) == (hook.entity_type, hook.action)
            ]
            if events and hook.url.startswith(change.quiet):
                self._emulator.recorder.record_webhook("quiet")
            elif events:
                fired[hook] = events
        return [self._notification(account, change, group) for group in self._grouped(fired)]

    def _grouped(
        self, fired: dict[Webhook, list[Event]]
    ) -> Iterable[Sequence[tuple[Webhook, Event]]]:
        pairs = [(hook, event) for hook, events in fired.items() for event in events]
        grouping = self._emulator.dialect.webhook_events
        if grouping == "single":
            return [[pair] for pair in pairs]
        together = itertools.groupby(
            sorted(pairs, key=lambda pair: pair[0].url) if grouping == "of_url" else pairs,
            key=lambda pair: pair[0].url if grouping == "of_url" else pair[0].id,
        )
        return [list(group) for _, group in together]

    def _notification(
        self, account: EmulatedAccount, change: Change, pairs: Sequence[tuple[Webhook, Event]]
    ) -> _Notification:
        if self._emulator.dialect.webhook_order == "reversed":
            pairs = pairs[::-1]
        request_id, url = str(uuid.uuid4()), pairs[0][0].url
        audit = {"type": "audit", "href": f"{self._links.api_url}/audit/{uuid.uuid4()}"}
        moment = now_text().partition(".")[0]
        body = {
            "auditContext": {"meta": audit, "moment": moment, "uid": change.uid},
            "events": [self._event(account, hook, event) for hook, event in pairs],
        }
        return _Notification(
            account,
            tuple(dict.fromkeys(hook for hook, _ in pairs)),
            request_id,
            f"{url}{'&' if '?' in url else '?'}requestId={request_id}",
            json.dumps(body, ensure_ascii=False).encode(),
        )

    def _event(self, account: EmulatedAccount, hook: Webhook, event: Event) -> dict[str, Any]:
        href = f"{self._links.listing(event.type)}/{event.entity_id}"
        told: dict[str, Any] = {
            "meta": {"type": event.type, "href": href},
            "action": event.action,
            "accountId": account.id,
        }
        if hook.diff_type == "FIELDS":
            told["updatedFields"] = list(event.fields)
        return told

    async def _deliver(self, notification: _Notification) -> None:
        try:
            await asyncio.sleep(self._emulator.dialect.webhook_delay)
            async with self._parallel:
                delivered = await self._attempts(notification)
                if delivered and self._emulator.dialect.webhook_twice:
                    await self._attempt(notification)
        finally:
            with self._lock:
                self._waiting -= 1
        self._emulator.recorder.record_webhook("delivered" if delivered else "lost")
        for hook in notification.webhooks:
            day = self._emulator.clock.day()
            notification.account.note_delivery(hook.id, day, delivered=delivered)

    async def _attempts(self, notification: _Notification) -> bool:
        for _ in range(1 + self._limits.webhook_resends):
            try:
                if await self._attempt(notification):
                    return True
            except NoReplyError as error:
                if error.late and not self._emulator.dialect.webhook_timeout_resends:
                    return False
        return False

    async def _attempt(self, notification: _Notification) -> bool:
        """Whether the program has taken it. NoReplyError where it does not answer in time."""
        self._emulator.recorder.record_webhook("attempt")
        reply = await send(
            "POST",
            notification.url,
            notification.body,
            _HEADERS,
            seconds=self._limits.webhook_seconds,
            want_body=False,
        )
        return reply.status in _DELIVERED
