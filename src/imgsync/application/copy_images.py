"""Handles the tasks of the kind ``image_sync``."""

from dataclasses import dataclass, field
from functools import partial

from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.application.parking import AccountGate
from imgsync.domain.payloads import PayloadFormats
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
        # A plugin reads it, perhaps, and it may never end.
        request = await in_daemon_thread(partial(self.formats.parse, task.payload))
        async with self._gate.passing(request):
            return await self.sync(request, permit)
