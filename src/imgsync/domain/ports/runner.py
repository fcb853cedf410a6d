"""Ports of the runner: what handles a task, changes an image on its way, or only looks on."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, runtime_checkable

from imgsync.domain.model import AccountName, SyncRequest
from imgsync.domain.pictures import PictureFacts, PictureSettings, Transformed
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.tasks import SyncResult, Task


class TaskHandler(Protocol):
    """Does the tasks of one kind."""

    async def __call__(self, task: Task, permit: WritePermit) -> SyncResult:
        """What was done. An ImgsyncError fails the task, or has it tried again where it is
        `retryable`; any other exception has it tried again.

        `permit` is confirmed right before each write to a child: a worker that lost its lease must
        not write any more. Cancelled, it ends at once.
        """
        ...


class Together(TaskHandler, Protocol):
    """Does tasks of one child that were claimed together, side by side."""

    async def begin(self, task: Task) -> None:
        """Returns once the task may begin. It is called for each, in the order of the claim."""
        ...

    def ended(self, task: Task) -> None:
        """The task ended, however that was, and whether it had begun or not."""
        ...

    def close(self) -> None:
        """No further task begins."""
        ...


@runtime_checkable
class HandlesTogether(Protocol):
    """A `TaskHandler` that does some tasks of a child at less cost together."""

    def together(self, tasks: Sequence[Task], at_first: int) -> Together | None:
        """For these tasks, of which `at_first` begin until one has shown that the accounts answer.
        None where it does each by itself."""
        ...


class SyncRequests(Protocol):
    """Copies the images that a request names."""

    async def __call__(self, request: SyncRequest, permit: WritePermit) -> SyncResult: ...


class ImageTransform(Protocol):
    """Changes pictures between their download and their upload, beside the event loop."""

    @property
    def versions(self) -> str:
        """The names and versions of the transformations that plugins bring, in order; '' where
        there are none. What they make may differ from child to child."""
        ...

    @property
    def own_version(self) -> str:
        """Changes whenever imgsync's own steps would make other bytes of the same picture."""
        ...

    def room(self, size: int) -> AbstractAsyncContextManager[None]:
        """Entered once a picture of so many bytes may be in memory, and leave again: of all tasks
        together no more are at work than can be."""
        ...

    async def __call__(
        self,
        content: bytes,
        filename: str,
        facts: PictureFacts,
        settings: PictureSettings,
        max_bytes: int,
        request: SyncRequest,
    ) -> Transformed:
        """The JPEG or PNG file to upload, of at most `max_bytes`; the very `content` where it is
        to stay as it is. `facts` are those of the whole picture `content`.

        ImageError or PluginError where there is none; the image is then not copied.
        """
        ...


class Listeners(Protocol):
    """Who hears of tasks and accounts. Nothing that a listener does changes anything; no method
    raises."""

    async def before_task(self, task: Task) -> None:
        """An attempt begins."""
        ...

    async def after_task(
        self, task: Task, end: str, result: SyncResult | None, error: str | None
    ) -> None:
        """An attempt ended; `end` is a text of `TaskEnd`."""
        ...

    async def image_copied(self, request: SyncRequest, filename: str, size: int, href: str) -> None:
        """An image of `size` bytes stands on the child as `href`."""
        ...

    async def run_ended(self, ends: Mapping[str, int]) -> None:
        """A worker's run ended; how many attempts ended in which way."""
        ...

    async def sweep_ended(
        self, child: AccountName, numbers: Mapping[str, int], equal: bool, error: str | None
    ) -> None:
        """A scheduled full survey of a child ended: what it found, by name; whether the child is
        as it should be, nothing waiting nor failed; why it broke off."""
        ...

    async def account_parked(self, account: AccountName, reason: str, until: datetime) -> None:
        """The tasks of an account wait until then, for this reason."""
        ...

    async def webhooks_off(self, account: AccountName, count: int) -> None:
        """MoySklad had switched off so many webhooks of an account."""
        ...


class NoListeners:
    """Nobody hears; implements `Listeners`."""

    async def before_task(self, task: Task) -> None:
        return

    async def after_task(
        self, task: Task, end: str, result: SyncResult | None, error: str | None
    ) -> None:
        return

    async def image_copied(self, request: SyncRequest, filename: str, size: int, href: str) -> None:
        return

    async def run_ended(self, ends: Mapping[str, int]) -> None:
        return

    async def sweep_ended(
        self, child: AccountName, numbers: Mapping[str, int], equal: bool, error: str | None
    ) -> None:
        return

    async def account_parked(self, account: AccountName, reason: str, until: datetime) -> None:
        return

    async def webhooks_off(self, account: AccountName, count: int) -> None:
        return
