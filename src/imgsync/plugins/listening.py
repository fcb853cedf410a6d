"""Tells the plugins' listeners of tasks and accounts; whatever they do, nothing changes."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.domain.errors import PluginError
from imgsync.domain.model import AccountName, SyncRequest
from imgsync.domain.tasks import SyncResult, Task
from imgsync.plugins.guard import PluginGuard

LISTENER_HOOKS = (
    "imgsync_before_task",
    "imgsync_after_task",
    "imgsync_image_copied",
    "imgsync_run_ended",
    "imgsync_sweep_ended",
    "imgsync_account_parked",
    "imgsync_webhooks_off",
)


@dataclass(frozen=True, slots=True)
class Listener:
    """The hooks of one plugin that listen, by name, behind one guard: the plugin's failures are
    logged once."""

    guard: PluginGuard
    hooks: Mapping[str, Callable[..., Any]]

    async def tell(self, hook_name: str, **told: Any) -> None:
        if hook := self.hooks.get(hook_name):
            await in_daemon_thread(partial(self._call, hook_name, hook, told))

    def _call(self, hook_name: str, hook: Callable[..., Any], told: dict[str, Any]) -> None:
        try:
            # A copy: what it does to a payload is its own affair.
            self.guard.call(hook_name, lambda: hook(**deepcopy(told)), ())
        except PluginError as error:
            self.guard.warn(error)


@dataclass(frozen=True, slots=True)
class PluginListeners:
    """Implements the port `Listeners`. A listener that hangs holds a task up once, for as long as a
    call may take; until it ends it is told nothing more."""

    listeners: tuple[Listener, ...]

    async def before_task(self, task: Task) -> None:
        await self._tell("imgsync_before_task", task=task)

    async def after_task(
        self, task: Task, end: str, result: SyncResult | None, error: str | None
    ) -> None:
        await self._tell("imgsync_after_task", task=task, end=end, result=result, error=error)

    async def image_copied(self, request: SyncRequest, filename: str, size: int, href: str) -> None:
        await self._tell(
            "imgsync_image_copied", request=request, filename=filename, size=size, href=href
        )

    async def run_ended(self, ends: Mapping[str, int]) -> None:
        await self._tell("imgsync_run_ended", ends=ends)

    async def sweep_ended(
        self, child: AccountName, numbers: Mapping[str, int], equal: bool, error: str | None
    ) -> None:
        await self._tell(
            "imgsync_sweep_ended", child=child, numbers=dict(numbers), equal=equal, error=error
        )

    async def account_parked(self, account: AccountName, reason: str, until: datetime) -> None:
        await self._tell("imgsync_account_parked", account=account, reason=reason, until=until)

    async def webhooks_off(self, account: AccountName, count: int) -> None:
        await self._tell("imgsync_webhooks_off", account=account, count=count)

    async def _tell(self, hook_name: str, **told: Any) -> None:
        for listener in self.listeners:
            await listener.tell(hook_name, **told)
