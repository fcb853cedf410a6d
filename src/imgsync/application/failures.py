"""Keeps what could not be copied, and queues the task that tries it again."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from imgsync.domain.diff import FailureCause, ImageOutcome
from imgsync.domain.failures import (
    IMAGE_RETRY,
    FailedEntity,
    FailedImage,
    Failure,
    first_attempt,
)
from imgsync.domain.model import SourceImage, SyncRequest, Upload
from imgsync.domain.ports.failures import FailedImages
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.queue import NewTask, TaskQueue
from imgsync.domain.replace import Replacement

_NOW = timedelta(0)


@dataclass(frozen=True, slots=True)
class NoteFailures:
    """Notes how an attempt at an entity ended.

    It is called before the record of the attempt is put: where the process ends between the two,
    the task is run again and notes it again.
    """

    failed: FailedImages
    queue: TaskQueue

    async def __call__(
        self,
        request: SyncRequest,
        failures: Sequence[Failure],
        permit: WritePermit,
        *,
        untried: Collection[str] = (),
        alone: bool = True,
    ) -> None:
        """`untried`: main's ids of images that failed before and were left as they are. `alone`:
        False where the whole entity is tried again by its own task."""
        entity = entity_of(request)
        if not failures and not await self.failed.of(entity.key):
            return
        # A worker that lost its lease must not say how its heir's attempt ended.
        await permit.confirm()
        rows = await self.failed.note(entity, failures, untried=untried, alone=alone)
        at = first_attempt(rows)
        if at is not None:
            noted = max(row.last_failed_at for row in rows)
            await self.queue.enqueue([retry_task(entity, delay=max(_NOW, at - noted))])


def entity_of(request: SyncRequest) -> FailedEntity:
    return FailedEntity(
        request.main_account_id,
        request.child_account_id,
        request.entity_type,
        request.main_entity_id,
        request.child_entity_id,
        request.name,
        request.code,
    )


def version_of(image: SourceImage) -> str:
    """Another text for another version of an image, as far as main's list tells."""
    return f"{image.size or '?'} {image.updated or '?'}"


def failures_of(
    outcomes: Sequence[ImageOutcome], replacement: Replacement | None = None
) -> list[Failure]:
    """What is not on the child in the version that main has. `replacement`: of the list, where it
    was set.

    An image without an id, which only a payload that another program wrote can name, is told of in
    the task's warnings alone: nothing would find it again.
    """
    failures = []
    for outcome in outcomes:
        ended = outcome if replacement is None else outcome.after(replacement)
        image_id = outcome.image.id
        if ended.problem is None or image_id is None:
            continue
        settled, reason = outcome.settled, outcome.problem
        if replacement is not None and isinstance(outcome.element, Upload):
            # A file that the child refused is refused again.
            settled = outcome.element.key in replacement.rejected
            reason = (replacement.rejected | replacement.stopped).get(outcome.element.key)
        failures.append(
            Failure(
                image_id,
                outcome.image.filename,
                version_of(outcome.image),
                str(ended.cause or FailureCause.NOT_DOWNLOADED),
                reason or ended.problem,
                settled,
            )
        )
    return failures


def retry_task(
    entity: FailedEntity, *, also: Sequence[str] = (), delay: timedelta = _NOW
) -> NewTask:
    """The task that tries the failed images of an entity again: those that may pass, and settled
    ones where their ids are named (`also`).

    It has the key of the entity's own task, so that the two never write at once, and leaves one
    that waits alone: that one tries them too.
    """
    payload: dict[str, Any] = {
        "main_account_id": entity.main_account_id,
        "child_account_id": entity.child_account_id,
        "parent_entity_type": entity.entity_type,
        "parent_entity_id": entity.main_entity_id,
        "child_entity_id": entity.child_entity_id,
        "name": entity.name,
        "code": entity.code,
        "also": list(also),
    }
    return NewTask(
        payload,
        entity.key.dedupe_key,
        entity.child_account_id,
        entity.main_entity_id,
        delay=delay,
        kind=IMAGE_RETRY,
        yields=True,
    )


@dataclass(frozen=True, slots=True)
class RetryFailed:
    """Queues tasks that try failed images at once."""

    failed: FailedImages
    queue: TaskQueue

    async def __call__(self, rows: Sequence[FailedImage]) -> int:
        """In how many entities these are; of one whose task waits, it is left to that."""
        # It is told by the rows, as another task may take the place of the one that is queued here.
        ids = [row.id for row in rows]
        for start in range(0, len(ids), _PAGE):
            await self.failed.ask(ids[start : start + _PAGE])
        entities: dict[str, tuple[FailedEntity, list[str]]] = {}
        for row in rows:
            _, also = entities.setdefault(row.entity.key.dedupe_key, (row.entity, []))
            if row.failure.settled:
                also.append(row.failure.image_id)
        tasks = [retry_task(entity, also=also) for entity, also in entities.values()]
        for start in range(0, len(tasks), _BATCH):
            await self.queue.enqueue(tasks[start : start + _BATCH])
        return len(tasks)

    async def all(
        self,
        child_ids: Collection[str] = (),
        *,
        cause: str | None = None,
        text: str = "",
        settled: bool | None = None,
    ) -> list[FailedImage]:
        """Every failed image that is meant, as `FailedImages.find` finds them page by page."""
        rows: list[FailedImage] = []
        while page := await self.failed.find(
            child_ids=child_ids,
            cause=cause,
            text=text,
            settled=settled,
            limit=_PAGE,
            after=rows[-1].id if rows else 0,
        ):
            rows += page
        return rows


_BATCH = 100
_PAGE = 1000
