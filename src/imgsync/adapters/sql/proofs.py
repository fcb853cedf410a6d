"""How children stand beside their main accounts, in the table proofs."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.rows import Reader, raw_of
from imgsync.adapters.sql.runs import numbers_of
from imgsync.adapters.sql.tables import proofs, storable
from imgsync.domain.runs import ChildProof

_row = proofs.c


class SqlProofs:
    """Implements the port `Proofs`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, proof: ChildProof) -> None:
        values = {
            "child_account_id": storable(proof.child_id),
            "main_account_id": storable(proof.main_id),
            "compared_at": proof.compared_at,
            "equal_at": proof.equal_at,
            "numbers": dict(proof.numbers),
        }
        insert = postgresql.insert if self._database.dialect == "postgresql" else sqlite.insert
        new = insert(proofs).values(values)
        later = new.excluded.compared_at >= _row.compared_at
        other = new.excluded.main_account_id != _row.main_account_id
        statement = new.on_conflict_do_update(
            index_elements=["child_account_id"],
            set_={name: new.excluded[name] for name in values if name != "child_account_id"},
            where=or_(later, other),
        )
        await self._database.run(lambda connection: connection.execute(statement))

    async def get(self, child_id: str) -> ChildProof | None:
        found = await self._read(_row.child_account_id == storable(child_id))
        return found[0] if found else None

    async def all(self) -> list[ChildProof]:
        # In an order of their own: databases sort texts by rules of theirs.
        return sorted(await self._read(), key=lambda proof: proof.child_id)

    async def forget(self, child_id: str) -> None:
        this = delete(proofs).where(_row.child_account_id == storable(child_id))
        await self._database.run(lambda connection: connection.execute(this))

    async def _read(self, *wanted: ColumnElement[bool]) -> list[ChildProof]:
        query = select(*raw_of(self._database.dialect, proofs.c)).where(*wanted)

        def read(connection: Connection) -> list[ChildProof]:
            return [_proof(row) for row in connection.execute(query)]

        return await self._database.run(read, reads=True)


def _proof(row: Row[Any]) -> ChildProof:
    read = Reader(row)
    return ChildProof(
        row.child_account_id,
        read.text("main_account_id") or "",
        read.time("compared_at"),
        read.time_or_none("equal_at"),
        numbers_of(read, "numbers"),
    )
