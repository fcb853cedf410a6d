"""Tell how the tasks of a queue stand, failed ones that nobody has to look at apart."""

from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.tasks import TaskList
from imgsync.domain.tasks import Task, TaskStatus


async def tell_counts(queue: TaskQueue, tasks: TaskList | None) -> dict[str, int]:
    """How many there are by status, and of the failed ones apart how many are `cancelled` and
    `superseded`. `tasks`: None for a queue that cannot be listed, where these are not told.
    StoreError where the store cannot be used."""
    apart = {} if tasks is None else await tasks.count_ended()
    counts = {status.value: number for status, number in (await queue.counts()).items()}
    counts[TaskStatus.FAILED.value] -= sum(apart.values())
    return {**counts, **apart}


async def tell_superseded(tasks: TaskList | None, task: Task) -> bool:
    """Whether the task has failed and a newer one of its key has taken its place. StoreError where
    the store cannot be used."""
    if tasks is None or task.status is not TaskStatus.FAILED or not isinstance(task.id, int):
        return False
    page = await tasks.find(before=task.id + 1, limit=1)
    return task.id in page.superseded
