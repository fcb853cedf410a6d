"""Stored records of earlier syncs."""

from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Column, ColumnElement, Engine, case, func, or_, select

from imgsync.adapters.sql.tables import sync_records
from imgsync.adapters.sql.transactions import transaction
from imgsync.adapters.sql.upsert import put_row
from imgsync.domain.diff import EntityKey, SyncRecord

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
        try:
            with transaction(self._engine, reads=True) as connection:
                row = connection.execute(query).first()
            return None if row is None else _RECORD.validate_python(row.record)
        except (ValueError, RecursionError):
            return None  # damaged, or of another version: the entity is copied anew

    def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        columns = sync_records.c
        # By the database, as there may be a record for each entity of a large catalogue.
        left = self._text(columns.record, "child_image_ids")
        begun = self._text(columns.record, "begun_on")
        query = select(columns.child_entity_id).where(
            columns.child_account_id == child_account_id,
            columns.entity_type == entity_type,
            or_(left != "[]", begun.is_not(None)),
        )
        with transaction(self._engine, reads=True) as connection:
            return set(connection.execute(query).scalars())

    def _text(self, record: Column[Any], name: str) -> ColumnElement[str | None]:
        found: ColumnElement[str | None] = record[name].as_string()
        if self._engine.dialect.name == "sqlite":  # which stores anything, and fails on reading it
            return case((func.json_valid(record) == 1, found))
        return found

    def put(self, key: EntityKey, record: SyncRecord) -> None:
        values = {**asdict(key), "record": _RECORD.dump_python(record, mode="json")}
        put_row(self._engine, sync_records, values)
