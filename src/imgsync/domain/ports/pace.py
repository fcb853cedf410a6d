"""Port to what the processes that use a credential know of its pace."""

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")

Step = Callable[[str | None, float], tuple[str, T]]
"""The new text and a result, from the text that is kept (None for none) and the store's time.

It has no effect besides, and may be called again where another process came first.
"""


class PaceStore(Protocol):
    """A short text for each key, which one process at a time changes.

    It need not outlive a restart of the store. A process that dies in the midst of a change leaves
    the text as it was.
    """

    async def change(self, key: str, step: Step[T]) -> T:
        """The result of `step`, once the text that it made is kept.

        Time is in seconds, the same for all processes, and never earlier than that of a change
        which ended before this one began, but where the store's clock is set back.
        StoreError where the store cannot be used; what `step` raises comes as it is, and nothing
        is changed.
        """
        ...

    async def close(self) -> None:
        """Lets go of what the store holds open."""
        ...
