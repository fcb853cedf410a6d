"""Attempts to log in, counted by both databases: a botnet shuts nobody out and stays slow."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, func, select

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.tables import login_failures
from imgsync.adapters.sql.web import SqlLoginAttempts
from imgsync.domain.logins import Admission, LoginLimits, known_browser
from imgsync.testing.memory import SetClock

pytestmark = pytest.mark.anyio
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
SMALL = LoginLimits(calm=20, in_an_hour=200)
"""A twentieth of what the pages have."""


def rows(database: Database) -> int:
    with database.engine.connect() as connection:
        found: int = connection.execute(select(func.count(login_failures.c.id))).scalar_one()
        return found


async def test_of_many_attempts_at_once_so_many_are_let_through(database: Database) -> None:
    attempts = SqlLoginAttempts(database)
    limits = LoginLimits(own=3)
    begun = await asyncio.gather(*(attempts.begin("1.2.3.4", limits) for _ in range(12)))
    assert sorted(begun) == [Admission.CHECKED] * 3 + [Admission.OWN] * 9
    await attempts.forget("1.2.3.4")
    assert await attempts.begin("1.2.3.4", limits) is Admission.CHECKED


async def test_of_many_strangers_at_once_so_many_are_let_through(database: Database) -> None:
    attempts, limits = SqlLoginAttempts(database), LoginLimits(calm=2, in_an_hour=5)
    begun = await asyncio.gather(*(attempts.begin(f"10.0.0.{n}", limits) for n in range(12)))
    assert sorted(begun) == [Admission.CHECKED] * 5 + [Admission.CROWD] * 7


async def test_an_attempt_of_long_ago_does_not_count(database: Database) -> None:
    clock = SetClock()
    attempts, limits = SqlLoginAttempts(database, clock), LoginLimits(own=1)
    assert await attempts.begin("a", limits) is Admission.CHECKED
    assert await attempts.begin("a", limits) is Admission.OWN
    clock.advance(limits.lately)
    assert await attempts.begin("a", limits) is Admission.CHECKED


async def test_several_hosts_count_together_by_the_time_of_the_database(
    database: Database, database_url: str
) -> None:
    with closing(Database.open(database_url)) as elsewhere:
        one, other = SqlLoginAttempts(database), SqlLoginAttempts(elsewhere)
        limits = LoginLimits(own=2)
        assert await one.begin("a", limits) is Admission.CHECKED
        assert await other.begin("a", limits) is Admission.CHECKED
        assert await one.begin("a", limits) is await other.begin("a", limits) is Admission.OWN
    if database.dialect == "postgresql":
        with database.engine.connect() as connection:
            now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
            noted = connection.scalars(select(login_failures.c.failed_at)).all()
        assert all(now - MINUTE < at.astimezone(UTC) <= now for at in noted)


async def test_whoever_is_refused_writes_nothing(database: Database) -> None:
    attempts, limits = SqlLoginAttempts(database), LoginLimits(own=1)
    await attempts.begin("a", limits)
    statements: list[str] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda *told: statements.append(told[2].lstrip())
    )
    assert await attempts.begin("a", limits) is Admission.OWN
    assert [one.split()[0] for one in statements if "login_failures" in one] == ["SELECT"] * 2


Guess = Callable[[str], Awaitable[Admission]]


async def rounds(guess: Guess, addresses: int, most: int) -> int:
    """Each address guesses until it is refused, or `most` times; how many passwords are checked."""
    checked = 0
    for number in range(addresses):
        origin = f"10.{number >> 8}.0.{number & 255}"
        for _ in range(most):
            if await guess(origin) is not Admission.CHECKED:
                break
            checked += 1
    return checked


async def test_a_botnet_guesses_so_often_an_hour_and_no_more(database: Database) -> None:
    """For a day and whatever it does; the table does not grow beyond what is kept."""
    clock = SetClock()
    attempts, checked = SqlLoginAttempts(database, clock), list[datetime]()

    async def guess(origin: str) -> Admission:
        admission = await attempts.begin(origin, SMALL)
        if admission is Admission.CHECKED:
            checked.append(clock.now())
        return admission

    for _ in range(30):
        await rounds(guess, 120, most=20)
        assert rows(database) <= SMALL.in_an_hour * (SMALL.kept // HOUR)
        clock.advance(25 * MINUTE)
    for began in set(checked):
        assert sum(began <= at < began + HOUR for at in checked) <= SMALL.in_an_hour
    # Those who go on are told from those who come: after the first hours little is left to them.
    later = [at for at in checked if at >= checked[0] + HOUR]
    hours = (clock.now() - checked[0]) / HOUR - 1
    assert len(later) / hours <= SMALL.calm + 120 * SMALL.own_in_a_crowd / (SMALL.kept / HOUR) + 20
    clock.advance(SMALL.kept)
    assert await attempts.begin("a", SMALL) is Admission.CHECKED
    assert rows(database) == 1


async def test_more_addresses_than_that_shut_out_strangers_alone(
    sqlite_database: Database,
) -> None:
    attempts = SqlLoginAttempts(sqlite_database, SetClock())

    async def guess(origin: str) -> Admission:
        return await attempts.begin(origin, SMALL)

    assert await rounds(guess, 300, most=20) == SMALL.in_an_hour
    assert await guess("203.0.113.1") is Admission.CROWD
    for _ in range(SMALL.own):
        assert await guess(known_browser("mine")) is Admission.CHECKED
    assert await guess(known_browser("mine")) is Admission.OWN
    assert await guess(known_browser("another")) is Admission.CHECKED
    assert rows(sqlite_database) == SMALL.in_an_hour + SMALL.own + 1
