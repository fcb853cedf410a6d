"""Judges by the pictures: what the queue says of an entity is held against the child's bytes.

It reads the tables by plain SQL and the pictures from the emulator: no code of imgsync has a say.
What is a copy of a picture, `tests/likeness.py` tells.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import create_engine, text

from moysklad_emulator import Dialect, EmulatedEntity, Emulator
from moysklad_emulator.encoded import recoded
from tests.likeness import Taken, unlike

_GOOD = ("completed", "unchanged")
_LAST_TASKS = text(
    "SELECT dedupe_key, status, result FROM sync_queue AS last"
    " WHERE dedupe_key IS NOT NULL AND id = "
    "(SELECT max(id) FROM sync_queue WHERE dedupe_key = last.dedupe_key)"
)
_SETTINGS = text("SELECT account_id, sync_images, pictures FROM sync_settings")


@dataclass(frozen=True, slots=True)
class Pair:
    """A main entity and its counterpart in a child account."""

    main: EmulatedEntity
    child: EmulatedEntity


def judge(emulator: Emulator, pairs: list[Pair], database_url: str) -> None:
    """Fails where the last task of a pair says that all is well and the child's pictures differ."""
    by_child = {pair.child.id: pair for pair in pairs}
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            settings = {row.account_id: row for row in connection.execute(_SETTINGS)}
            rows = connection.execute(_LAST_TASKS).all()
    finally:
        engine.dispose()
    for key, status, result in rows:
        account_id, _, entity_id = key.rsplit("/", 2)
        pair = by_child.get(entity_id)
        if pair is None or status != "completed" or result not in _GOOD:
            continue
        row = settings.get(account_id)
        taken = taken_by(emulator.dialect, row.pictures if row else None)
        wanted = [image.content for image in emulator.images_of(pair.main)]
        if row and row.sync_images:
            wanted = first_of(wanted, taken)
        there = [image.content for image in emulator.images_of(pair.child)]
        problem = problem_of(there, wanted, taken, recodes=emulator.dialect.recodes)
        assert problem is None, (
            f"the queue says '{result}' of '{pair.child.name}', but its pictures differ: "
            f"{problem}; "
            f"{[len(c) for c in there]} bytes in place of {[len(c) for c in wanted]}"
        )


def taken_by(dialect: Dialect, pictures: str | Mapping[str, Any] | None) -> Taken:
    """What an account of a dialect takes; `pictures`: the settings of its link, as stored."""
    given = json.loads(pictures) if isinstance(pictures, str) else pictures or {}
    return Taken(
        dialect.image_megabytes * 1024**2,
        changes=bool(given.get("max_side") or given.get("quality")),
        converts=given.get("convert", True),
        fits=given.get("fit", True),
    )


def first_of(wanted: Sequence[bytes], taken: Taken) -> list[bytes]:
    """The first that can be copied; the first of all where none can."""
    return [c for c in wanted if taken.can_be_copied(c)][:1] or list(wanted[:1])


def problem_of(
    there: Sequence[bytes], wanted: Sequence[bytes], taken: Taken, *, recodes: bool = False
) -> str | None:
    """What makes a child's list no copy of main's; None where it is one. `recodes`: of a storage
    that encodes anew, a file need not come back as it was sent."""
    if len(there) != len(wanted):
        return f"there are {len(there)} pictures in place of {len(wanted)}"
    for number, (child, main) in enumerate(zip(there, wanted, strict=True), 1):
        if recodes and child == recoded(main):
            continue
        if problem := unlike(main, child, taken):
            return f"picture {number}: {problem}"
    return None
