"""What a message is about, in one form wherever it is read: stderr, the log, the queue, runs, JSON.

``Omsk: product 'Lamp' (code 00017), task 7: big.jpg: 10.5 MB is over the limit of 10 MB``: the
child, the main entity, the task where there is one, the image, and what is to be said of it. What
is not known is left out.
"""

from collections.abc import Iterable

from imgsync.domain.tasks import TaskId
from imgsync.domain.text import natural_key


def entity_label(entity_type: str, name: str, code: str | None = None, entity_id: str = "") -> str:
    """Such as ``product 'Lamp' (code 00017)``, or by its id where it has no name; '' where neither
    is known, or no type is."""
    if not entity_type or not (name or entity_id):
        return ""
    told = f"{entity_type} '{name}'" if name else f"{entity_type} {entity_id}"
    return f"{told} (code {code})" if code else told


def label(child: str = "", entity: str = "", task: TaskId | None = None) -> str:
    """Such as ``Omsk: product 'Lamp' (code 00017), task 7``; '' of nothing.

    `child`: the name of the account, its id where that is all that is known; `entity`: a text of
    `entity_label`.
    """
    of_task = "" if task is None else f"task {task}"
    what = ", ".join(part for part in (entity, of_task) if part)
    told = ": ".join(part for part in (child, what) if part)
    return told if child or entity else told[:1].upper() + told[1:]


def lines_by_children(lines: Iterable[str]) -> list[str]:
    """Lines that begin with a `label`, as people count the children: "Child 2" before "Child 10";
    those of one child stay in their order."""
    return sorted(lines, key=lambda line: natural_key(line.partition(": ")[0]))
