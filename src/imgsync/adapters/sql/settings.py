"""Stored image settings."""

from sqlalchemy import Engine, select

from imgsync.adapters.sql.tables import child_settings
from imgsync.adapters.sql.transactions import transaction
from imgsync.adapters.sql.upsert import put_row
from imgsync.domain.settings import ChildSettings


class SqlSettingsRepository:
    """Implements the port `SettingsRepository`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, child_account_id: str) -> ChildSettings:
        query = select(child_settings.c.sync_images, child_settings.c.sync_images_all).where(
            child_settings.c.child_account_id == child_account_id
        )
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(query).first()
        return ChildSettings(*row) if row else ChildSettings()

    def put(self, child_account_id: str, settings: ChildSettings) -> None:
        put_row(
            self._engine,
            child_settings,
            {
                "child_account_id": child_account_id,
                "sync_images": settings.sync_images,
                "sync_images_all": settings.sync_images_all,
            },
        )
