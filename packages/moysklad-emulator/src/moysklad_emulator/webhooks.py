"""Webhooks of an account: their rules, and which of them an event fires (section Webhooks)."""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from urllib.parse import urlsplit

from moysklad_emulator.errors import api_error, not_found
from moysklad_emulator.events import Action

WebhookRight = Literal["all", "own", "none"]
"""An administrator's, or the solution's useAllWebhooks; useOwnWebhooks; none of them."""

_ACTIONS = ("CREATE", "UPDATE", "DELETE")
_DIFF_TYPES = ("NONE", "FIELDS")
_MAX_URL = 255
_URL = re.compile(r"https?://[!-~]+")
_MAX_OF_USERS = 5
_MAX_OF_SOLUTION = 1
_FAILING_DAYS = 7
_WINDOW_DAYS = 10


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook. `author`: the solution that made it (its ``alias.vendor@account``), None: a user.

    `author_id`: id of that solution.
    """

    id: str
    entity_type: str
    action: Action
    url: str
    diff_type: str = "NONE"
    enabled: bool = True
    author: str | None = None
    author_id: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who works with webhooks. `solution`: its ``alias.vendor@account``, None for a user."""

    right: WebhookRight
    solution: str | None
    solution_id: str | None


@dataclass(slots=True)
class _Health:
    """On which days nothing but failures came, and when the last success."""

    failed: set[int] = field(default_factory=set)
    succeeded: int | None = None


class Webhooks:
    """The webhooks of one account. `plan`: whether its tariff has them. Not thread-safe: its owner
    holds the lock.
    """

    def __init__(self, types: Iterable[str], *, plan: bool) -> None:
        self.plan = plan
        self._types = frozenset(types)
        self._webhooks: dict[str, Webhook] = {}
        self._health: dict[str, _Health] = {}

    def __iter__(self) -> Iterator[Webhook]:
        return iter(list(self._webhooks.values()))

    def seen_by(self, caller: Caller, *, others: bool) -> list[Webhook]:
        """Those that a caller may see. `others`: whether a solution sees more than its own."""
        _check_right(caller)
        return [
            hook
            for hook in self
            if caller.right == "all" or others or hook.author == caller.solution
        ]

    def find(self, caller: Caller, webhook_id: str, *, others: bool) -> Webhook:
        """ApiError 1021 where there is none that the caller may see."""
        for hook in self.seen_by(caller, others=others):
            if hook.id == webhook_id:
                return hook
        raise not_found("webhook", webhook_id)

    def create(self, caller: Caller, item: Mapping[str, Any]) -> Webhook:
        """ApiError 3000, 3005, 1007 or 30000…30010: nothing is created then."""
        _check_right(caller)
        self._check_plan()
        for name in ("url", "action", "entityType"):
            if item.get(name) in (None, ""):
                raise api_error(3000, parameter=name)
        empty = Webhook(
            str(uuid.uuid4()),
            "",
            "CREATE",
            "",
            author=caller.solution,
            author_id=caller.solution_id,
        )
        return self._store(self._changed(empty, item))

    def update(self, caller: Caller, webhook_id: str, item: Mapping[str, Any]) -> Webhook:
        """Changes the fields that `item` has. ApiError as `create`, or 1021."""
        _check_right(caller)
        self._check_plan()
        before = self._of(caller, webhook_id)
        after = self._store(self._changed(before, item))
        if after.enabled and not before.enabled:
            self._health.pop(webhook_id, None)
        return after

    def delete(self, caller: Caller, webhook_id: str) -> None:
        """ApiError 1021 where there is none that the caller may delete."""
        _check_right(caller)
        self._of(caller, webhook_id)
        del self._webhooks[webhook_id]
        self._health.pop(webhook_id, None)

    def note_delivery(self, webhook_id: str, day: int, *, delivered: bool) -> None:
        """Takes note of a notification's end; may switch the webhook off (section Restrictions)."""
        hook = self._webhooks.get(webhook_id)
        if hook is None:
            return
        health = self._health.setdefault(webhook_id, _Health())
        if delivered:
            health.succeeded = day
            health.failed.discard(day)
            return
        health.failed = {d for d in health.failed | {day} if d > day - _WINDOW_DAYS}
        lately = health.succeeded is not None and health.succeeded > day - _WINDOW_DAYS
        if len(health.failed) > _FAILING_DAYS and not lately:
            self._webhooks[webhook_id] = replace(hook, enabled=False)

    def _of(self, caller: Caller, webhook_id: str) -> Webhook:
        hook = self._webhooks.get(webhook_id)
        if hook is None or (caller.right == "own" and hook.author != caller.solution):
            raise not_found("webhook", webhook_id)
        return hook

    def _check_plan(self) -> None:
        if not self.plan:
            raise api_error(30006)

    def _changed(self, hook: Webhook, item: Mapping[str, Any]) -> Webhook:
        if item.get("method", "POST") != "POST":
            raise api_error(30001, detail=item["method"])
        hook = replace(
            hook,
            entity_type=self._type(item.get("entityType", hook.entity_type)),
            action=_action(item.get("action", hook.action)),
            url=_url(item.get("url", hook.url)),
            enabled=item.get("enabled", hook.enabled),
        )
        if not isinstance(hook.enabled, bool):
            raise api_error(2016, parameter="enabled")
        if hook.action != "UPDATE":
            if "diffType" in item:
                raise api_error(30009, parameter="diffType", detail=hook.action)
            return replace(hook, diff_type="NONE")
        diff_type = item.get("diffType", hook.diff_type)
        if diff_type not in _DIFF_TYPES:
            raise api_error(3005, parameter="diffType", detail=diff_type)
        return replace(hook, diff_type=diff_type)

    def _type(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self._types:
            raise api_error(30000, detail=value)
        return value

    def _store(self, hook: Webhook) -> Webhook:
        alike = [
            other
            for other in self._webhooks.values()
            if other.id != hook.id
            and (other.entity_type, other.action) == (hook.entity_type, hook.action)
        ]
        if any(other.url == hook.url for other in alike):
            raise api_error(30003)
        maximum = _MAX_OF_USERS if hook.author is None else _MAX_OF_SOLUTION
        if sum(other.author == hook.author for other in alike) >= maximum:
            raise api_error(30007, maximum=maximum)
        self._webhooks[hook.id] = hook
        return hook


def _check_right(caller: Caller) -> None:
    if caller.right == "none":
        raise api_error(30004)


def _action(value: Any) -> Action:
    if value == "PROCESSED":
        raise api_error(30008, detail=value)
    for action in _ACTIONS:
        if value == action:
            return action  # type: ignore[return-value]
    raise api_error(30002, detail=value)


def _url(value: Any) -> str:
    if not isinstance(value, str) or not _is_address(value):
        raise api_error(30005, parameter="url")
    if len(value) > _MAX_URL:
        raise api_error(30010, parameter="url")
    return value


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return bool(_URL.fullmatch(text)) and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
