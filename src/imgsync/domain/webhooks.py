"""Webhooks of accounts, and the events that they bring."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

RECEPTION_PATH = "/webhooks/moysklad/"
"""Of every webhook's address, before the secret that ends it."""

RECEPTION_SECRET = "reception"  # noqa: S105 (the name of a secret)
"""Name of the secret that ends every webhook's address."""

LONGEST_URL = 255
_SECRET_LENGTH = 43
"""Of a secret of 32 bytes."""

_ADDRESS = re.compile(r"(https?)://([^/?#@:\s]+)(:[0-9]{1,5})?(/[^?#\s]*)?", re.IGNORECASE)
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+;=:@%-]*)*")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+")
_LOOPBACK = re.compile(r"127(?:\.[0-9]{1,3}){3}")


class EventAction(StrEnum):
    """What was done to an entity, as the API names it."""

    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Event:
    """Something was done to an entity of an account."""

    account_id: str
    entity_type: str
    entity_id: str
    action: EventAction


@dataclass(frozen=True, slots=True)
class ClaimedEvents:
    """Events of one account that one process works upon, each entity once, with what was done to
    it last.

    `child_id`: the child alone that they still concern, '' for all. `token` tells this claim from
    others; `oldest` is when the first of them came.
    """

    account_id: str
    child_id: str
    token: str
    events: Sequence[Event]
    oldest: datetime

    def of_type(self, entity_type: str, *, deleted: bool) -> list[str]:
        """Ids of the entities of a type that were deleted, or that were not."""
        return [
            event.entity_id
            for event in self.events
            if event.entity_type == entity_type and (event.action is EventAction.DELETE) == deleted
        ]


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events that nobody has acted upon yet, and when the first of them came."""

    events: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook of an account. `id` is '' for one that is to be made; `fields`: whether its events
    name the fields that changed (diffType FIELDS), which those of UPDATE alone can."""

    id: str
    url: str = field(repr=False)
    entity_type: str
    action: str
    fields: bool = False
    enabled: bool = True

    @property
    def subject(self) -> tuple[str, str]:
        """What it is about: type and action."""
        return self.entity_type, self.action


@dataclass(frozen=True, slots=True)
class WebhookState:
    """What the last look at an account's webhooks found.

    `url`: where they lead, without the secret that ends it, None where none are wanted any more;
    `working`: how many of the `wanted` ones are there and on; `problem`: why not all, '' where all
    are; `switched_off`: how many MoySklad has switched off that could not be switched on again. The
    times are None until there is one.
    """

    account_id: str
    url: str | None
    wanted: int = 0
    working: int = 0
    switched_off: int = 0
    problem: str = ""
    checked_at: datetime | None = None
    last_event_at: datetime | None = None


def reception_prefix(base: str) -> str:
    """The address of the reception, without the secret that ends it, of a server that the outside
    reaches at `base`. ValueError, in one line, for what MoySklad could not or should not call."""
    parts = _ADDRESS.fullmatch(base.strip())
    if parts is None:
        raise ValueError(
            f"{base!r} is not an address such as https://sync.example.com: it may have a host, a "
            "port and a path, and nothing else"
        )
    scheme, host, port, path = parts[1].lower(), parts[2], parts[3] or "", parts[4] or ""
    try:
        host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        host = ""
    # MoySklad takes no other host in the header that keeps our own writes silent.
    if not _HOST.fullmatch(host) or not _PATH.fullmatch(path) or int(port[1:] or 1) > 65_535:
        raise ValueError(
            f"{base!r} is not an address that MoySklad takes: it wants a whole domain name such as "
            "sync.example.com"
        )
    if scheme == "http" and not _LOOPBACK.fullmatch(host):
        raise ValueError(f"{base!r} begins with http; MoySklad is given https addresses only")
    prefix = f"{scheme}://{host}{port}{path.rstrip('/')}{RECEPTION_PATH}"
    if len(prefix) + _SECRET_LENGTH > LONGEST_URL:
        most = LONGEST_URL - _SECRET_LENGTH - len(RECEPTION_PATH)
        raise ValueError(f"the address is too long: at most {most} characters")
    return prefix


@dataclass(frozen=True, slots=True)
class WebhookPlan:
    """What makes an account's webhooks the wanted ones. `off`: how many of them were switched
    off; `missing`: how many were not there; `save`: these, and those to be changed."""

    save: list[Webhook]
    delete: list[Webhook]
    off: int
    missing: int

    @property
    def is_done(self) -> bool:
        return not self.save and not self.delete


def wanted_webhooks(url: str, entity_types: Iterable[str]) -> list[Webhook]:
    """One for each type and action."""
    return [
        Webhook("", url, name, action.value, fields=action is EventAction.UPDATE)
        for name in entity_types
        for action in EventAction
    ]


def plan_webhooks(
    found: Sequence[Webhook], wanted: Sequence[Webhook], is_ours: Callable[[str], bool]
) -> WebhookPlan:
    """Webhooks that are ours and lead elsewhere are led to the wanted address, and what is left
    of them goes; one at that address whose type nobody here knows stays, as another host may. By
    `is_ours` alone others are told apart: they are never touched."""
    ours: dict[tuple[str, str], list[Webhook]] = {}
    for hook in found:
        if is_ours(hook.url):
            ours.setdefault(hook.subject, []).append(hook)
    plan = WebhookPlan([], [], 0, 0)
    off = missing = 0
    for want in wanted:
        hooks = sorted(ours.pop(want.subject, []), key=lambda hook: hook.url != want.url)
        if not hooks:
            missing += 1
            plan.save.append(want)
            continue
        kept, *others = hooks
        plan.delete.extend(others)
        off += not kept.enabled
        if kept != replace(want, id=kept.id):
            plan.save.append(replace(want, id=kept.id))
    urls = {want.url for want in wanted}
    for left in ours.values():
        plan.delete.extend(hook for hook in left if hook.url not in urls)
    return replace(plan, off=off, missing=missing)
