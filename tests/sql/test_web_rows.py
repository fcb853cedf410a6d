"""What the web server keeps, on both databases."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, event, text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.differences import SqlDifferences
from imgsync.adapters.sql.overview import SqlOverview
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import SqlAccountRepository, SqlSettingsRepository
from imgsync.adapters.sql.web import SqlAudit, SqlWebSecrets
from imgsync.domain.model import Account, LinkSettings, Parking, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.web import AuditEntry
from imgsync.domain.runs import ChildProof

pytestmark = pytest.mark.anyio
LEASE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def test_who_keeps_a_secret_at_the_same_time_keeps_the_same(database: Database) -> None:
    one, other = SqlWebSecrets(database), SqlWebSecrets(database)
    kept = await asyncio.gather(*(s.keep("key", f"{n}") for n, s in enumerate([one, other] * 10)))
    assert len(set(kept)) == 1
    assert await one.get_many(["key", "none"]) == {"key": kept[0]}
    await one.put("key", "new")
    assert await other.keep("key", "late") == "new"
    assert await one.drop("key")
    assert not await one.drop("key")


async def test_older_ones_of_a_kind_are_dropped(database: Database) -> None:
    secrets = SqlWebSecrets(database)
    for name, value in (("ended a", "2026-01"), ("ended b", "2026-03"), ("ended%", "2026-01")):
        await secrets.put(name, value)
    await secrets.put("password", "2026-01")
    assert await secrets.drop_older("ended ", "2026-02") == 1
    left = await secrets.get_many(["ended a", "ended b", "ended%", "password"])
    assert sorted(left) == ["ended b", "ended%", "password"]


async def test_changes_are_read_page_by_page_and_damage_costs_itself(
    database: Database, engine: Engine
) -> None:
    audit = SqlAudit(database)
    for number in range(5):
        entry = AuditEntry("key \ud800a\x00", "sync", f"s{number}", {"о": [number, "\x00\ud800"]})
        await audit.note(entry)
    first = await audit.find(limit=3)
    assert [one.subject for one in first] == ["s4", "s3", "s2"]
    assert (first[0].who, first[0].detail) == ("key ?a", {"о": [4, "?"]})
    assert first[0].at is not None
    assert [one.subject for one in await audit.find(before=first[-1].id)] == ["s1", "s0"]
    assert await audit.find(before=-1) == []
    if engine.dialect.name == "sqlite":
        with engine.begin() as connection:
            connection.execute(text("UPDATE audit SET detail = 'none', who = CAST(x'ff' AS TEXT)"))
        assert [one.detail for one in await audit.find()] == [{}] * 5


async def test_the_overview_tells_of_each_child_in_few_statements(
    database: Database, engine: Engine
) -> None:
    accounts, queue = SqlAccountRepository(database), SqlTaskQueue(database)
    for number in range(30):
        await accounts.add(Account(f"c{number}", f"Child {number}", TokenKind.USER, "t"))
    until = datetime.now(UTC) + HOUR
    await accounts.park("c1", Parking("refused", until))
    await queue.enqueue([NewTask({"n": n}, f"k{n}", "c0") for n in range(3)])
    (task,) = await queue.claim(lease=LEASE, limit=1)
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    found = await SqlOverview(database).states()
    assert (found["c0"].waiting, found["c0"].running, found["c0"].completed) == (2, 1, 0)
    assert found["c1"].parked_reason == "refused"
    assert len([one for one in statements if one.lstrip().startswith("SELECT")]) <= 6
    await queue.complete(task, result="done", warnings=[])
    found = await SqlOverview(database).states()
    assert (found["c0"].running, found["c0"].completed) == (0, 1)


async def test_what_differed_counts_as_copied_once_as_many_tasks_have_ended_well(
    database: Database,
) -> None:
    queue, proofs, overview = SqlTaskQueue(database), SqlProofs(database), SqlOverview(database)

    async def is_equal() -> bool:
        return (await overview.states())["child"].is_equal

    began = datetime.now(UTC) - HOUR
    proof = ChildProof("child", "main", began, began, {"equal": 5})
    await proofs.put(proof)
    assert await is_equal()
    # All that was found at first is copied; it was never compared since.
    await proofs.put(ChildProof("child", "main", began, None, {"equal": 5}))
    assert await is_equal()
    # Found by a survey of what has changed: not that of `equal_at`.
    await proofs.put(proof.with_found({"different": 2}))
    assert not await is_equal()
    await queue.enqueue([NewTask({"n": n}, f"k{n}", "child") for n in range(2)])
    one, other = await queue.claim(lease=LEASE, limit=2)
    await queue.complete(one, result="done", warnings=[])
    assert not await is_equal()
    await queue.complete(other, result="done", warnings=[])
    assert await is_equal()
    # Of three that were found, two are copied; the third was taken from the queue.
    await proofs.put(proof.with_found({"different": 3}))
    assert not await is_equal()
    await proofs.put(proof.with_found({"different": 2, "left": 1}))
    assert not await is_equal()
    await proofs.put(proof.with_found({"different": 2}))
    await queue.enqueue([NewTask({"n": 3}, "k3", "child")])
    assert not await is_equal()
    (last,) = await queue.claim(lease=LEASE, limit=1)
    await queue.fail(last, error="no")
    assert not await is_equal()
    # What failed does not matter any more once a newer task has done it.
    await queue.enqueue([NewTask({"n": 3}, "k3", "child")])
    (newer,) = await queue.claim(lease=LEASE, limit=1)
    assert not await is_equal()
    await queue.complete(newer, result="done", warnings=[])
    assert await is_equal()


async def test_the_fingerprint_is_another_one_after_each_change(
    database: Database, engine: Engine
) -> None:
    accounts, queue = SqlAccountRepository(database), SqlTaskQueue(database)
    settings, overview = SqlSettingsRepository(database), SqlOverview(database)
    for name in ("main", "child"):
        await accounts.add(Account(name, name, TokenKind.USER, f"token-of-{name}"))
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    seen = [await overview.fingerprint()]
    assert len([one for one in statements if "UNION ALL" in one]) == 1
    assert not any("secret" in one for one in statements)
    assert await overview.fingerprint() == seen[0]

    async def changed() -> None:
        seen.append(await overview.fingerprint())
        assert seen[-1] not in seen[:-1]

    await settings.link("main", "child", LinkSettings(sync_images=True))
    await changed()
    await accounts.park("child", Parking("refused", datetime.now(UTC) + HOUR))
    await changed()
    await SqlAudit(database).note(AuditEntry("me", "sync", "child", {}))
    await changed()
    await SqlProofs(database).put(ChildProof("child", "main", datetime.now(UTC)))
    await changed()
    await SqlDifferences(database).begin("main", "child")
    await changed()
    await queue.enqueue([NewTask({"n": n}, f"k{n}", "child") for n in range(2)])
    await changed()
    tasks = await queue.claim(lease=LEASE, limit=2)
    await changed()
    for task in tasks:
        await queue.complete(task, result="done", warnings=[])
        await changed()
    # Nothing waits any more, so the time alone changes nothing.
    assert await overview.fingerprint() == seen[-1]


async def test_the_fingerprint_is_taken_of_rows_that_nobody_can_read(
    database: Database, engine: Engine
) -> None:
    if engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL holds no such text")
    await SqlAccountRepository(database).add(Account("c", "Child", TokenKind.USER, "t"))
    before = await SqlOverview(database).fingerprint()
    with engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET name = CAST(x'ff' AS TEXT)"))
    assert await SqlOverview(database).fingerprint() != before
