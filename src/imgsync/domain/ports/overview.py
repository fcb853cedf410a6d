"""Port to how all children stand, in few statements whatever their number.

Errors: StoreError where the store cannot be used.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from imgsync.domain.model import NO_END


@dataclass(slots=True)
class ChildState:
    """`waiting`, `running`: its tasks; `completed`: in the last minute. `compared_at`, `equal_at`:
    when it was last compared as a whole, and last found equal; `different`: entities that were not,
    or were found not to be since. `is_copied`: all of these were queued, and as many tasks have
    ended well since then, and none badly.
    `parked_until`, `parked_reason`: until when, and why, it takes no requests. `unmatched`:
    entities that the last whole comparison found without a counterpart, as far as it told."""

    waiting: int = 0
    running: int = 0
    completed: int = 0
    compared_at: datetime | None = None
    equal_at: datetime | None = None
    different: int = 0
    is_copied: bool = False
    parked_until: datetime | None = None
    parked_reason: str = ""
    unmatched: int = 0

    @property
    def is_equal(self) -> bool:
        """As of the last comparison, and of what was copied after it."""
        return self.compared_at is not None and (not self.different or self.is_copied)

    @property
    def is_copied_since(self) -> bool:
        """Whether it is equal by what was copied, and no comparison has found it so since."""
        if not self.is_equal or self.compared_at is None:
            return False
        return self.equal_at is None or self.equal_at < self.compared_at

    @property
    def is_parked_for_good(self) -> bool:
        """Whether only a new token ends that, and no time does."""
        return self.parked_until == NO_END


class Overview(Protocol):
    async def states(self) -> dict[str, ChildState]:
        """By account id; of those of which anything is known."""
        ...

    async def fingerprint(self) -> str:
        """A short text that is another one whenever a page may show something else: tasks, what is
        known of children, failed images, settings, runs and comparisons. It changes every few
        seconds while tasks wait or run. Cheap enough to be asked for every second."""
        ...
