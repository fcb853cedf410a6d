"""Counters of what the emulator was asked and answered."""

import copy
import threading
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

WebhookFate = Literal["attempt", "delivered", "lost", "quiet"]


@dataclass(slots=True)
class Stats:
    """A snapshot of the counters. Bytes are those of bodies on the wire, of both ports.

    `requests`: by (method, route), such as ``("POST", "entity/{type}/{id}/images")``; routes of
    the storage port begin with ``storage/``, unknown ones are ``(unknown)``.
    `throttled`: answers 429. `api_calls`: requests to the API port, refused ones too.
    `uploads`: successful POSTs to ``images``. `deletions`: successful DELETEs of an image and
    POSTs to ``images/delete``. `downloads`: image files served.
    `authorization_leaks`: requests to the storage port with an Authorization header.
    `max_parallel`: most requests at once by user id.
    `accounts`: by account id, of requests with credentials: how many, units spent, answers 429;
    and the bytes of these and of the account's files.
    `webhooks`: notifications by what became of them: ``attempt`` (each request), ``delivered``,
    ``lost``, and ``quiet``, those that a request to the API did not want.
    """

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    throttled: int = 0
    api_calls: int = 0
    storage_requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    uploads: int = 0
    deletions: int = 0
    downloads: int = 0
    authorization_leaks: int = 0
    max_parallel: dict[str, int] = field(default_factory=dict)
    accounts: dict[str, "AccountUse"] = field(default_factory=dict)
    webhooks: Counter[WebhookFate] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The counters for JSON; `requests` is keyed by ``"METHOD route"``."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        requests = {" ".join(key): count for key, count in self.requests.items()}
        statuses = {str(status): count for status, count in self.statuses.items()}
        accounts = {account_id: asdict(use) for account_id, use in self.accounts.items()}
        return {**fields, "requests": requests, "statuses": statuses, "accounts": accounts}


@dataclass(slots=True)
class AccountUse:
    """What the users of one account asked for: `requests` counts refused ones too, a request that
    was answered 429 has spent no `units`."""

    requests: int = 0
    units: int = 0
    throttled: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


class StatsRecorder:
    """Thread-safe owner of the counters."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stats = Stats()

    def snapshot(self) -> Stats:
        with self._lock:
            return copy.deepcopy(self._stats)

    def reset(self) -> None:
        with self._lock:
            self._stats = Stats()

    def record_api(
        self, method: str, route: str, status: int | None, bytes_in: int, bytes_out: int
    ) -> None:
        """Counts an API request. `status` is None where the connection was dropped before one."""
        with self._lock:
            self._stats.api_calls += 1
            self._stats.throttled += status == 429
            succeeded = status is not None and status < 300
            self._stats.uploads += succeeded and method == "POST" and route.endswith("/images")
            self._stats.deletions += succeeded and (
                method == "DELETE" or route.endswith("/images/delete")
            )
            self._count(method, route, status, bytes_in, bytes_out)

    def record_storage(
        self, method: str, route: str, status: int | None, bytes_in: int, bytes_out: int
    ) -> None:
        """Counts a request to the storage port."""
        with self._lock:
            self._stats.storage_requests += 1
            is_image = route in ("storage/temporary", "storage/permanent")
            self._stats.downloads += method == "GET" and status == 200 and is_image
            self._count(method, route, status, bytes_in, bytes_out)

    def record_leak(self) -> None:
        with self._lock:
            self._stats.authorization_leaks += 1

    def record_parallel(self, user_id: str, used: int) -> None:
        with self._lock:
            highest = self._stats.max_parallel
            highest[user_id] = max(used, highest.get(user_id, 0))

    def record_use(self, account_id: str, units: int, *, throttled: bool) -> None:
        """Counts a request of an account."""
        with self._lock:
            use = self._stats.accounts.setdefault(account_id, AccountUse())
            use.requests += 1
            use.units += units
            use.throttled += throttled

    def record_bytes(self, account_id: str, bytes_in: int, bytes_out: int) -> None:
        """Counts the bytes of a request of an account, or for one of its files."""
        with self._lock:
            use = self._stats.accounts.setdefault(account_id, AccountUse())
            use.bytes_in += bytes_in
            use.bytes_out += bytes_out

    def record_webhook(self, fate: WebhookFate) -> None:
        """Counts a notification, or an attempt to send one."""
        with self._lock:
            self._stats.webhooks[fate] += 1

    def _count(
        self, method: str, route: str, status: int | None, bytes_in: int, bytes_out: int
    ) -> None:
        self._stats.requests[method, route] += 1
        if status is not None:
            self._stats.statuses[status] += 1
        self._stats.bytes_in += bytes_in
        self._stats.bytes_out += bytes_out
