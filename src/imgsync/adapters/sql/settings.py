"""Stored image settings."""

from sqlalchemy import Engine, select

from imgsync.adapters.sql.tables import sync_settings
from imgsync.adapters.sql.transactions import transaction
from imgsync.adapters.sql.upsert import put_row
from imgsync.domain.settings import ChildSettings


class SqlSettingsRepository:
    """Implements the port `SettingsRepository`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, child_account_id: str) -> ChildSettings:
        query = select(sync_settings.c.sync_images, sync_settings.c.sync_images_all).where(
            sync_settings.c.account_id == child_account_id
        )
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(query).first()
        if row is None:
            return ChildSettings()
        # Both are on only where the table has lost its triggers.
        return ChildSettings(row.sync_images and not row.sync_images_all, row.sync_images_all)

    def put(self, child_account_id: str, settings: ChildSettings) -> None:
        put_row(
            self._engine,
            sync_settings,
            {
                "account_id": child_account_id,
                "sync_images": settings.sync_images,
                "sync_images_all": settings.sync_images_all,
            },
        )
