"""Sample plugin: a queue, an image transformation, listeners and an entity type.

``IMGSYNC_QUEUE_URL=journal+sqlite:///queue.db`` keeps tasks where the rest of the URL says, and a
journal beside: one line of JSON for each task that is queued, image that is copied, attempt that
ends and run. It goes into the file that the variable EXAMPLE_JOURNAL names, ``journal.jsonl`` by
default.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, cast

from PIL import Image, ImageOps

from imgsync.plugins import (
    Enqueued,
    Entity,
    EntityType,
    NewTask,
    OpenQueue,
    QueueSetup,
    Task,
    TaskQueue,
    hookimpl,
)

FRAME_PIXELS = 2


def note(event: str, **what: object) -> None:
    """One line in the journal. Lines this short are appended whole, whoever else writes."""
    with open(os.environ.get("EXAMPLE_JOURNAL", "journal.jsonl"), "a", encoding="utf-8") as file:
        file.write(json.dumps({"event": event, **what}) + "\n")


class JournalQueue:
    """The queue that it wraps, which it tells the journal of."""

    def __init__(self, inner: TaskQueue) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def enqueue(self, tasks: Sequence[NewTask]) -> list[Enqueued]:
        for task in tasks:
            note("queued", key=task.dedupe_key)
        return await self._inner.enqueue(tasks)


def open_journal_queue(setup: QueueSetup) -> TaskQueue:
    return cast("TaskQueue", JournalQueue(setup.open_queue(setup.url.removeprefix("journal+"))))


class ByName:
    """Cards are counterparts where their names are equal."""

    name = "name"

    def key(self, entity: Entity) -> str | None:
        return entity.name


@hookimpl
def imgsync_task_queues() -> Mapping[str, OpenQueue]:
    return {"journal": open_journal_queue}


@hookimpl
def imgsync_transform_image(content: bytes) -> bytes:
    """A black frame around the picture."""
    with Image.open(BytesIO(content)) as picture:
        out = BytesIO()
        ImageOps.expand(picture.convert("RGB"), FRAME_PIXELS, "black").save(out, picture.format)
    return out.getvalue()


@hookimpl
def imgsync_transform_version() -> str:
    return f"{FRAME_PIXELS} pixels"


@hookimpl
def imgsync_entity_types() -> Iterable[EntityType]:
    return [EntityType("contentcard", max_images=15, matcher=ByName())]


@hookimpl
def imgsync_image_copied(filename: str, size: int) -> None:
    note("copied", filename=filename, size=size)


@hookimpl
def imgsync_after_task(task: Task, end: str) -> None:
    note("ended", task=task.id, end=end)


@hookimpl
def imgsync_run_ended(ends: Mapping[str, int]) -> None:
    note("run", **ends)
