"""Handles the tasks of the kind ``image_sync``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.application.parking import AccountGate
from imgsync.domain.errors import PayloadError
from imgsync.domain.payloads import PayloadFormats, SyncRequest, stored_request
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.repositories import AccountRepository
from imgsync.domain.ports.runner import SyncRequests
from imgsync.domain.tasks import SyncResult, Task


@dataclass(slots=True)
class CopyImagesHandler:
    """Reads the payload and syncs the entity, once its accounts take requests; implements
    `TaskHandler`."""

    accounts: AccountRepository
    formats: PayloadFormats
    sync: SyncRequests
    clock: Clock
    _gate: AccountGate = field(init=False)

    def __post_init__(self) -> None:
        self._gate = AccountGate(self.accounts, self.clock)

    async def __call__(self, task: Task, permit: WritePermit) -> SyncResult:
        request = stored_request(task.payload)
        if request is None:
            # A plugin reads it, perhaps, and it may never end.
            request = await in_daemon_thread(partial(self.formats.parse, _payload(task)))
        _check_child(task, request)
        async with self._gate.passing(request):
            return await self.sync(request, permit)


def _payload(task: Task) -> Any:
    """The payload; some programs name the child in the row alone."""
    payload = task.payload
    if not task.account_id or not isinstance(payload, Mapping):
        return payload
    named = payload.get("child_account_id")
    return payload if named is not None else {**payload, "child_account_id": task.account_id}


def _check_child(task: Task, request: SyncRequest) -> None:
    """PayloadError where the row is for another account than its payload: either may be wrong."""
    if task.account_id and task.account_id.strip() != request.child_account_id:
        raise PayloadError(
            "account_id",
            f"the row is for account '{task.account_id}', its payload for "
            f"'{request.child_account_id}'",
        )
