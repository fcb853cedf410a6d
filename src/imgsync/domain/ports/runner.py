"""Ports of the runner: what handles a task, changes an image on its way, or only looks on."""

from collections.abc import Mapping
from typing import Protocol

from imgsync.domain.model import SyncRequest
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


class SyncRequests(Protocol):
    """Copies the images that a request names."""

    async def __call__(self, request: SyncRequest, permit: WritePermit) -> SyncResult: ...


class ImageTransform(Protocol):
    """Changes images between their download and their upload. Not called on the event loop."""

    def __call__(
        self, content: bytes, filename: str, request: SyncRequest, max_bytes: int
    ) -> bytes:
        """The JPEG or PNG file to upload, of at most `max_bytes`; the very `content` where it is
        to stay as it is.

        PluginError where there is none; the image is then not copied.
        """
        ...


class Listeners(Protocol):
    """Who hears of tasks. Nothing that a listener does changes a task; no method raises."""

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
