"""What lines of the log are about: the run, the task, its child and its entity.

Whoever writes the log (the program, or another that uses imgsync as a library) asks `about_now`
for each record; nothing here needs to know of its format.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from imgsync.domain import labels
from imgsync.domain.tasks import Task

COPY_LOG = "imgsync.copying"
"""Logger of each step of a copy, of level INFO: a service writes them, a command with a progress
bar does not."""

EVENT, DETAIL = "imgsync_event", "imgsync_detail"
"""Attributes of a record: the event's name, the same for each of its kind, and its values."""

ABOUT = "imgsync_about"
"""Attribute of a record that was made outside of what it is about: as `about_now`."""

_about: ContextVar[Mapping[str, Any]] = ContextVar("imgsync_about", default={})  # noqa: B039
_NO_TASK = dict.fromkeys(("task", "entity_type", "entity", "entity_id", "code"))


@contextmanager
def about(**values: Any) -> Iterator[None]:
    """Records that are made within are about these values too; those that are None or '' are
    about no such thing."""
    token = _about.set({k: v for k, v in {**_about.get(), **values}.items() if v not in (None, "")})
    try:
        yield
    finally:
        _about.reset(token)


@contextmanager
def about_no_task() -> Iterator[None]:
    """For what is done for several tasks of a child at once."""
    with about(**_NO_TASK):
        yield


def about_now() -> Mapping[str, Any]:
    """Of these, what is known: `run`, `task` (its id), `child` (name, or id), `entity_type`,
    `entity` (main's name), `entity_id` (main's), `code`."""
    return _about.get()


def about_task(task: Task, child: str = "") -> dict[str, Any]:
    """What a record about the task is about, as far as its row and payload tell."""
    payload = task.payload if isinstance(task.payload, Mapping) else {}

    def text(*names: str) -> str:
        found = (payload.get(name) for name in names)
        return next((value for value in found if isinstance(value, str) and value), "")

    return {
        "task": task.id,
        "child": child or task.account_id or text("child_account_id"),
        "entity_type": text("parent_entity_type", "entity_type"),
        "entity": text("name"),
        "entity_id": text("parent_entity_id") or task.entity_id,
        "code": text("code"),
    }


def label_of(values: Mapping[str, Any]) -> str:
    """Such as ``Omsk: product 'Lamp' (code 00017), task 7``, as far as they tell."""
    return labels.label(values.get("child") or "", entity_label(values), values.get("task"))


def entity_label(values: Mapping[str, Any]) -> str:
    """Such as ``product 'Lamp' (code 00017)``, or by id where it has no name; '' where none is
    told."""
    of = (values.get(key) or "" for key in ("entity_type", "entity", "code", "entity_id"))
    return labels.entity_label(*of)


def note(
    log: logging.Logger, event: str, text: str = "", *, level: int = logging.INFO, **detail: Any
) -> None:
    """A record of the `event`, a name such as ``image downloaded``: `text` is for people, `detail`
    the same for programs."""
    if log.isEnabledFor(level):
        line = f"{event}: {text}" if text else event
        # stacklevel: the line of the caller.
        log.log(level, "%s", line, extra={EVENT: event, DETAIL: detail}, stacklevel=2)
