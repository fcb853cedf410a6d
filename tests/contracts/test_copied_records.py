"""Which child entities hold images of imgsync's, on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from imgsync.adapters.sql.records import SqlSyncRecordRepository
from imgsync.domain.diff import NOTHING_LEFT, CopiedImage, EntityKey, SyncRecord
from imgsync.domain.model import ImageFingerprint

ONE = ImageFingerprint("i1", 10, "2026-01-01 00:00:00.000")
KEY = EntityKey("child", "product", "p1")
COPIED = SyncRecord((ONE,), (CopiedImage(ONE, "c1"),), ("c1",), True)
FOREIGN = SyncRecord((), (), ("c2",), False, ('a warning with "child_image_ids": []',))


@pytest.fixture
def records(engine: Engine) -> SqlSyncRecordRepository:
    return SqlSyncRecordRepository(engine)


def test_entities_with_images_of_imgsync(records: SqlSyncRecordRepository) -> None:
    assert records.copied("child", "product") == set()
    records.put(KEY, COPIED)
    records.put(replace(KEY, child_entity_id="p2"), FOREIGN)
    records.put(replace(KEY, child_entity_id="p3"), NOTHING_LEFT)
    assert records.copied("child", "product") == {"p1", "p2"}
    records.put(KEY, NOTHING_LEFT)
    assert records.copied("child", "product") == {"p2"}
    # A write that broke off may have left some, even on what was empty before.
    records.put(KEY, NOTHING_LEFT.begun([]))
    assert records.copied("child", "product") == {"p1", "p2"}
    assert records.get(KEY) == NOTHING_LEFT.begun([])


@pytest.mark.parametrize("field", ["child_account_id", "entity_type"])
def test_those_of_others_are_apart(records: SqlSyncRecordRepository, field: str) -> None:
    records.put(replace(KEY, **{field: "other"}), COPIED)
    assert records.copied("child", "product") == set()


@pytest.mark.parametrize("record", ['{"v": 0}', "[]", "null", '"text"', "5"])
def test_a_record_of_another_version_tells_of_no_images(
    records: SqlSyncRecordRepository, engine: Engine, record: str
) -> None:
    records.put(KEY, COPIED)
    records.put(replace(KEY, child_entity_id="p2"), COPIED)
    with engine.begin() as connection:
        statement = text("UPDATE sync_records SET record = :r WHERE child_entity_id = 'p1'")
        if engine.dialect.name == "postgresql":
            statement = text(
                "UPDATE sync_records SET record = CAST(:r AS json) WHERE child_entity_id = 'p1'"
            )
        connection.execute(statement, {"r": record})
    assert records.copied("child", "product") == {"p2"}


@pytest.mark.parametrize("record", ["", "{oops", "[" * 3000])
def test_a_damaged_record_costs_only_itself(sqlite_engine: Engine, record: str) -> None:
    records = SqlSyncRecordRepository(sqlite_engine)
    records.put(KEY, COPIED)
    records.put(replace(KEY, child_entity_id="p2"), COPIED)
    with sqlite_engine.begin() as connection:
        statement = text("UPDATE sync_records SET record = :r WHERE child_entity_id = 'p1'")
        connection.execute(statement, {"r": record})
    assert records.copied("child", "product") == {"p2"}
    assert records.get(KEY) is None
    assert records.get(replace(KEY, child_entity_id="p2")) == COPIED
