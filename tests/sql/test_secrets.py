"""Tokens are encrypted at rest, and with the one key that the database names."""

import asyncio
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from imgsync.adapters.secrets.box import fingerprint_of
from imgsync.adapters.secrets.keys import KeyFile
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.secrets import SqlSecrets
from imgsync.adapters.sql.solutions import SqlSolutions
from imgsync.domain.errors import DamagedRowError, MissingKeyError
from imgsync.domain.model import Account, Parking, TokenKind
from imgsync.domain.ports.secrets import key_of
from imgsync.domain.solutions import Solution
from tests.support.keys import accounts_of, opened

pytestmark = pytest.mark.anyio
TOKENS = [f"plain-token-{n}-of-a-child" for n in range(20)]
APP_SECRET, INSTALLED = "plain-secret-of-a-solution", "plain-token-of-an-installation"
ALL_SECRETS = [*TOKENS, APP_SECRET, INSTALLED]
NEW = "INSERT INTO accounts (id, name, token_kind, secret) VALUES (:id, :id, 'user', :secret)"
CHANGE = "UPDATE accounts SET secret = :secret WHERE id = :id"
STORED = """
SELECT secret FROM accounts UNION ALL SELECT secret FROM solutions
UNION ALL SELECT token FROM installations
"""
PREPARE = """
import sys
from pathlib import Path
from imgsync.adapters.sql.database import Database
from tests.support.keys import opened
database = Database.open(sys.argv[1])
opened(database, Path(sys.argv[2])).prepare()
database.close()
"""
REKEY = """
import asyncio, os, sys
from pathlib import Path
from imgsync.adapters.sql import secrets
from imgsync.adapters.sql.database import Database
from tests.support.keys import opened
database = Database.open(sys.argv[1])
stored = opened(database, Path(sys.argv[2]))
if sys.argv[3] == "before the key":
    Path.replace = lambda *_: os._exit(9)
elif sys.argv[3] == "after the key":
    stored._seal_all = lambda *_, **__: os._exit(9)
elif sys.argv[3] == "after all rows":
    sealing = stored._seal_all
    stored._seal_all = lambda *given, **named: (sealing(*given, **named), os._exit(9))
else:
    stored._wipe = lambda: os._exit(9)
asyncio.run(stored.rekey())
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "key"


@pytest.fixture
def plain(database: Database) -> Database:
    """A database of an earlier version."""
    with database.engine.begin() as connection:
        for n, token in enumerate(TOKENS):
            connection.execute(text(NEW), {"id": f"a{n}", "secret": token})
        connection.execute(
            text("INSERT INTO solutions VALUES ('app', :s, false, :at)"),
            {"s": APP_SECRET, "at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(" ")},
        )
        connection.execute(
            text("INSERT INTO installations VALUES ('app', 'a1', 'installed', :t, :at, :at)"),
            {"t": INSTALLED, "at": datetime(2026, 1, 1, tzinfo=UTC).isoformat(" ")},
        )
    return database


def stored_secrets(database: Database) -> list[str]:
    with database.engine.begin() as connection:
        return list(connection.execute(text(STORED)).scalars())


def keys_of(database: Database) -> set[str | None]:
    return {key_of(secret) for secret in stored_secrets(database)}


def bytes_of(url: str) -> bytes:
    path = Path(url.removeprefix("sqlite:///"))
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm", "-journal")]
    return b"".join(one.read_bytes() for one in files if one.exists())


async def read_all(database: Database, file: Path) -> list[str]:
    solution = await SqlSolutions(database, secrets=opened(database, file)).get("app")
    (installed,) = await SqlSolutions(database, secrets=opened(database, file)).installations()
    assert solution is not None
    accounts = {a.id: a.secret for a in await accounts_of(database, file).all()}
    return [*(accounts[f"a{n}"] for n in range(20)), solution.secret, str(installed.token)]


async def test_plain_rows_are_encrypted_at_the_first_start(plain: Database, file: Path) -> None:
    assert set(stored_secrets(plain)) == set(ALL_SECRETS)
    opened(plain, file).prepare()
    (key,) = KeyFile(file).read()
    assert keys_of(plain) == {fingerprint_of(key)}
    assert await read_all(plain, file) == ALL_SECRETS
    before = stored_secrets(plain)
    opened(plain, file).prepare()
    assert stored_secrets(plain) == before
    # Another program writes a plain one: it is read, and encrypted at the next start.
    with plain.engine.begin() as connection:
        connection.execute(text("UPDATE accounts SET secret = 'by-hand' WHERE id = 'a3'"))
    assert (await accounts_of(plain, file).get("a3")).secret == "by-hand"
    opened(plain, file).prepare()
    assert None not in keys_of(plain)
    assert (await accounts_of(plain, file).get("a3")).secret == "by-hand"
    with plain.engine.begin() as connection:
        row = connection.execute(text("SELECT name, token_kind FROM accounts WHERE id = 'a3'"))
        assert tuple(row.one()) == ("a3", "user")


async def test_no_byte_of_a_token_is_left_in_the_files_of_sqlite(
    sqlite_url: str, file: Path
) -> None:
    with closing(Database.open(sqlite_url)) as database:
        for n, token in enumerate(TOKENS):
            with database.engine.begin() as connection:
                connection.execute(text(NEW), {"id": f"a{n}", "secret": "plain-before"})
                connection.execute(text(CHANGE), {"id": f"a{n}", "secret": token})
        with database.engine.begin() as connection:
            connection.execute(text("DELETE FROM accounts WHERE id = 'a7'"))
        assert TOKENS[7].encode() in bytes_of(sqlite_url)
        with closing(Database.open(sqlite_url)) as other, other.engine.connect():
            opened(database, file).prepare()
        await accounts_of(database, file).add(Account("b", "B", TokenKind.USER, "another-plain"))
        await opened(database, file).rekey()
        for token in (*TOKENS, "plain-before", "another-plain"):
            assert token.encode() not in bytes_of(sqlite_url)
    for token in (*TOKENS, "plain-before", "another-plain"):
        assert token.encode() not in bytes_of(sqlite_url)


async def test_what_could_not_be_wiped_is_wiped_at_the_next_start(
    sqlite_database: Database, sqlite_url: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite_database.engine.begin() as connection:
        connection.execute(text(NEW), {"id": "a", "secret": TOKENS[0]})
    with monkeypatch.context() as patched:
        patched.setattr(SqlSecrets, "_wipe", lambda _: None)  # the process is killed before
        opened(sqlite_database, file).prepare()
    assert TOKENS[0].encode() in bytes_of(sqlite_url)
    opened(sqlite_database, file).prepare()
    assert TOKENS[0].encode() not in bytes_of(sqlite_url)


def processes(script: str, *arguments: list[str]) -> list[int]:
    started = [subprocess.Popen([sys.executable, "-c", script, *one]) for one in arguments]
    return [one.wait(120) for one in started]


async def test_two_processes_that_start_at_once_encrypt_all_with_one_key(
    plain: Database, database_url: str, file: Path
) -> None:
    assert processes(PREPARE, *([[database_url, str(file)]] * 3)) == [0, 0, 0]
    (key,) = KeyFile(file).read()
    assert keys_of(plain) == {fingerprint_of(key)}
    assert await read_all(plain, file) == ALL_SECRETS


async def test_a_database_without_its_key_says_which_and_is_left_as_it_is(
    plain: Database, file: Path, tmp_path: Path
) -> None:
    opened(plain, file).prepare()
    (key,) = KeyFile(file).read()
    before = stored_secrets(plain)
    other = tmp_path / "other"
    for make in (lambda: None, lambda: KeyFile(other).make()):
        make()
        stored = opened(plain, other)
        with pytest.raises(MissingKeyError, match=fingerprint_of(key)):
            stored.prepare()
        accounts = accounts_of(plain, other)
        new = Account("b", "B", TokenKind.USER, "t")
        for use in (accounts.all(), accounts.get("a1"), accounts.add(new), stored.rekey()):
            with pytest.raises(MissingKeyError, match=fingerprint_of(key)):
                await use
        if other.exists():
            assert len(KeyFile(other).read()) == 1
    assert stored_secrets(plain) == before
    assert await read_all(plain, file) == ALL_SECRETS


async def test_of_two_hosts_with_keys_of_their_own_the_second_is_refused(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    with closing(Database.open(database_url)) as elsewhere:
        for host in (database, elsewhere):
            opened(host, tmp_path / "unused").prepare()
        assert not (tmp_path / "unused").exists()  # nothing was to be encrypted
        first = accounts_of(database, tmp_path / "one")
        second = accounts_of(elsewhere, tmp_path / "two")
        await first.add(Account("a", "A", TokenKind.USER, "t"))
        with pytest.raises(MissingKeyError):
            await second.add(Account("b", "B", TokenKind.USER, "t"))
        assert [a.id for a in await first.all()] == ["a"]


async def test_rekeying_encrypts_all_anew_and_running_processes_go_on(
    plain: Database, database_url: str, file: Path
) -> None:
    opened(plain, file).prepare()
    with closing(Database.open(database_url)) as elsewhere:
        running = accounts_of(elsewhere, file)
        assert (await running.get("a1")).secret == TOKENS[1]
        done = await opened(plain, file).rekey()
        assert done.secrets == len(ALL_SECRETS)
        assert keys_of(plain) == {done.now}
        assert done.now != done.before
        assert (await running.get("a1")).secret == TOKENS[1]
        await running.add(Account("b", "B", TokenKind.USER, "t"))
    assert keys_of(plain) == {done.now}
    assert await read_all(plain, file) == ALL_SECRETS
    # A backup of the database is worth something, as its key is kept.
    assert [fingerprint_of(key) for key in KeyFile(file).read()] == [done.now, done.before]


async def test_accounts_stored_while_all_are_rekeyed_can_be_read(
    plain: Database, database_url: str, file: Path
) -> None:
    opened(plain, file).prepare()
    with closing(Database.open(database_url)) as elsewhere:
        running = accounts_of(elsewhere, file)

        async def add(n: int) -> None:
            await running.add(Account(f"b{n}", "B", TokenKind.USER, f"t{n}"))

        async def rekey() -> None:
            for _ in range(3):
                await opened(plain, file).rekey()

        await asyncio.gather(rekey(), *(add(n) for n in range(30)))
        found = {a.id: a.secret for a in await accounts_of(plain, file).all()}
    assert len(keys_of(plain)) == 1
    assert [found[f"b{n}"] for n in range(30)] == [f"t{n}" for n in range(30)]


@pytest.mark.parametrize(
    "when", ["before the key", "after the key", "after all rows", "after the end"]
)
async def test_killed_in_rekeying_nothing_is_lost(
    plain: Database, database_url: str, file: Path, when: str
) -> None:
    opened(plain, file).prepare()
    (old,) = keys_of(plain)
    assert processes(REKEY, [database_url, str(file), when]) == [9]
    assert await read_all(plain, file) == ALL_SECRETS
    assert (keys_of(plain) == {old}) is (when != "after the end")
    await opened(plain, file).rekey()
    assert await read_all(plain, file) == ALL_SECRETS
    (new,) = keys_of(plain)
    assert new != old
    assert sorted(one.name for one in file.parent.iterdir()) == ["key"]


async def test_a_damaged_token_costs_its_account_alone(plain: Database, file: Path) -> None:
    opened(plain, file).prepare()
    with plain.engine.begin() as connection:
        connection.execute(
            text("UPDATE accounts SET secret = substr(secret, 1, 80) WHERE id = 'a3'")
        )
    accounts = accounts_of(plain, file)
    with pytest.raises(DamagedRowError, match="'a3' is damaged: its encrypted token"):
        await accounts.get("a3")
    assert len(await accounts.all()) == 19
    await opened(plain, file).rekey()
    assert len(await accounts.all()) == 19
    await accounts.add(Account("a3", "a3", TokenKind.USER, "new"))
    assert (await accounts.get("a3")).secret == "new"


async def test_what_compares_tokens_does_so_when_they_are_encrypted(
    plain: Database, file: Path
) -> None:
    opened(plain, file).prepare()
    accounts = accounts_of(plain, file)
    parking = Parking("refused", datetime(2100, 1, 1, tzinfo=UTC))
    used = await accounts.get("a1")
    await accounts.add(Account("a1", "a1", TokenKind.USER, "newer"))
    assert not await accounts.park("a1", parking, used)
    assert await accounts.park("a1", parking, await accounts.get("a1"))
    # The accounts that go by a solution's token are of its kind.
    await accounts.add(Account("s", "S", TokenKind.SOLUTION, INSTALLED))
    await accounts.add(Account("o", "O", TokenKind.SOLUTION, "of-another"))
    await SqlSolutions(plain, secrets=opened(plain, file)).put(Solution("app", APP_SECRET, True))
    assert (await accounts.get("s")).token_kind is TokenKind.DRAFT
    assert (await accounts.get("o")).token_kind is TokenKind.SOLUTION
