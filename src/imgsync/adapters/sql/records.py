"""Stored records of earlier syncs."""

from dataclasses import asdict

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Engine, select

from imgsync.adapters.sql.tables import sync_records
from imgsync.adapters.sql.transactions import transaction
from imgsync.adapters.sql.upsert import put_row
from imgsync.domain.records import EntityKey, SyncRecord

_RECORD = TypeAdapter(SyncRecord)


class SqlSyncRecordRepository:
    """Implements the port `SyncRecordRepository`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get(self, key: EntityKey) -> SyncRecord | None:
        columns = sync_records.c
        query = select(columns.record).where(
            *(columns[name] == value for name, value in asdict(key).items())
        )
        with transaction(self._engine, reads=True) as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        try:
            return _RECORD.validate_python(row.record)
        except ValidationError:
            return None  # of another version: the entity is copied anew

    def put(self, key: EntityKey, record: SyncRecord) -> None:
        values = {**asdict(key), "record": _RECORD.dump_python(record, mode="json")}
        put_row(self._engine, sync_records, values)
