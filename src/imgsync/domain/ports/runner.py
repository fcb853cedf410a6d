"""Ports of the runner: what handles a task, changes an image on its way, or only looks on."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

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
