"""Judges by the pictures: what the queue says of an entity is held against the child's bytes.

It reads the tables by plain SQL and the pictures from the emulator: no code of imgsync has a say.
"""

from dataclasses import dataclass

from sqlalchemy import Connection, create_engine, text

from moysklad_emulator import EmulatedEntity, Emulator

_GOOD = ("completed", "unchanged")
_LAST_TASKS = text(
    "SELECT dedupe_key, status, result FROM sync_queue AS last"
    " WHERE dedupe_key IS NOT NULL AND id = "
    "(SELECT max(id) FROM sync_queue WHERE dedupe_key = last.dedupe_key)"
)
_SETTINGS = text("SELECT account_id, sync_images FROM sync_settings")


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
            first_only = _first_only(connection)
            rows = connection.execute(_LAST_TASKS).all()
    finally:
        engine.dispose()
    for key, status, result in rows:
        account_id, _, entity_id = key.rsplit("/", 2)
        pair = by_child.get(entity_id)
        if pair is None or status != "completed" or result not in _GOOD:
            continue
        wanted = [image.content for image in emulator.images_of(pair.main)]
        limit = 1 if account_id in first_only else len(wanted)
        there = [image.content for image in emulator.images_of(pair.child)]
        assert there == wanted[:limit], (
            f"the queue says '{result}' of '{pair.child.name}', but its pictures differ: "
            f"{[len(c) for c in there]} bytes in place of {[len(c) for c in wanted[:limit]]}"
        )


def _first_only(connection: Connection) -> set[str]:
    return {account for account, first in connection.execute(_SETTINGS) if first}
