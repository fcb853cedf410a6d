"""Images that could not be copied, and when each is tried again by itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from imgsync.domain.diff import EntityKey
from imgsync.domain.labels import entity_label

IMAGE_RETRY = "image_retry"
"""Kind of the tasks that try failed images of an entity again, and them alone."""

IMAGE_RETRY_DELAYS = (
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=6),
)
"""Waits after the first failed attempts at an image; after the last of them it waits for the next
sync of its entity, or for somebody who asks."""


@dataclass(frozen=True, slots=True)
class FailedEntity:
    """The entities of both accounts whose images are copied; name and code are the main one's, for
    messages, and empty where they are not known."""

    main_account_id: str
    child_account_id: str
    entity_type: str
    main_entity_id: str
    child_entity_id: str
    name: str = ""
    code: str = ""

    @property
    def label(self) -> str:
        """Such as ``product 'Lamp' (code 00017)``."""
        return entity_label(self.entity_type, self.name, self.code, self.main_entity_id)

    @property
    def key(self) -> EntityKey:
        return EntityKey(self.child_account_id, self.entity_type, self.child_entity_id)


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt at an image that failed. `image_id` is main's, `version` tells its versions apart.

    `cause` is a text of `FailureCause`, `reason` the whole story for the user. `settled`: no
    attempt can do better while the image and what concerns it stay the same.
    """

    image_id: str
    filename: str
    version: str
    cause: str
    reason: str
    settled: bool


@dataclass(frozen=True, slots=True)
class FailedImage:
    """An image that is not on the child, after so many `attempts` at this version of it.

    `next_attempt_at`: when it is tried by itself, or was asked for; None where it waits for a sync
    of its entity, or for somebody who asks. `id` is the store's.
    """

    id: int
    entity: FailedEntity
    failure: Failure
    attempts: int
    next_attempt_at: datetime | None
    first_failed_at: datetime
    last_failed_at: datetime

    @property
    def alike(self) -> tuple[str, ...]:
        """Equal for one version of an image of main that failed for one cause, on whichever
        child."""
        failure = self.failure
        return self.entity.main_account_id, failure.image_id, failure.version, failure.cause

    @property
    def is_asked_for(self) -> bool:
        """Whether somebody asked for it, although it is settled."""
        return self.failure.settled and self.next_attempt_at is not None


@dataclass(frozen=True, slots=True)
class FailedCount:
    """How many images of a child failed for a cause; `waiting` of them are tried by themselves,
    the first at `next_attempt_at`."""

    child_account_id: str
    cause: str
    images: int
    waiting: int
    next_attempt_at: datetime | None


def delay_after(attempts: int) -> timedelta | None:
    """How long an image that has failed so often (1 or more) waits; None where no attempt of its
    own follows."""
    if attempts < 1:
        raise ValueError("attempts starts at 1")
    return IMAGE_RETRY_DELAYS[attempts - 1] if attempts <= len(IMAGE_RETRY_DELAYS) else None


def noted(
    entity: FailedEntity,
    failures: Sequence[Failure],
    known: Mapping[str, FailedImage],
    now: datetime,
    *,
    alone: bool,
) -> list[FailedImage]:
    """What is to be kept of these failures; `known` is what is kept of the entity, by image. A new
    one has the id 0. `alone`: whether they are tried by themselves."""
    rows = []
    # An image may stand on an entity twice, and fails as one.
    for failure in {failure.image_id: failure for failure in failures}.values():
        row = known.get(failure.image_id)
        if row is None:
            row = FailedImage(0, entity, failure, 0, None, now, now)
        elif row.failure.version != failure.version:
            row = replace(row, attempts=0, first_failed_at=now)
        attempts = row.attempts + 1
        delay = delay_after(attempts) if alone and not failure.settled else None
        rows.append(
            replace(
                row,
                entity=entity,
                failure=failure,
                attempts=attempts,
                next_attempt_at=None if delay is None else now + delay,
                last_failed_at=now,
            )
        )
    return rows


def first_attempt(rows: Sequence[FailedImage]) -> datetime | None:
    """When the first of them is tried by itself."""
    return min((r.next_attempt_at for r in rows if r.next_attempt_at is not None), default=None)
