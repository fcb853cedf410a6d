"""Which pictures the pages show, from the tables differences and failed_images."""

from typing import Any

from sqlalchemy import Connection, and_, exists, or_, select

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.rows import Reader, raw_of
from imgsync.adapters.sql.tables import comparisons, differences, failed_images, storable


class SqlShownPictures:
    """Implements the port `ShownPictures`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __call__(
        self, account_id: str, entity_type: str, entity_id: str, image_id: str
    ) -> bool:
        account, kind = storable(account_id), storable(entity_type)
        entity, image = storable(entity_id), storable(image_id)
        row, failed = differences.c, failed_images.c
        is_mains = exists().where(
            comparisons.c.child_account_id == row.child_account_id,
            comparisons.c.main_account_id == account,
        )
        lists = select(*raw_of(self._database.dialect, (row.main_images, row.child_images))).where(
            row.entity_type == kind,
            or_(
                and_(row.main_entity_id == entity, is_mains),
                and_(row.child_entity_id == entity, row.child_account_id == account),
            ),
        )
        has_failed = select(failed.id).where(
            failed.main_account_id == account,
            failed.entity_type == kind,
            failed.main_entity_id == entity,
            failed.image_id == image,
        )

        def look(connection: Connection) -> bool:
            if connection.execute(has_failed.limit(1)).first() is not None:
                return True
            return any(image in _ids(Reader(found)) for found in connection.execute(lists))

        return await self._database.run(look, reads=True)


def _ids(read: Reader) -> set[Any]:
    """Those of both lists: an image's id is the same in no two accounts."""
    found = set()
    for name in ("main_images", "child_images"):
        written = read.json(name) if read.text(name) is not None else None
        for image in written if isinstance(written, list) else ():
            if isinstance(image, list) and image and isinstance(image[0], str):
                found.add(image[0])
    return found
