"""A file of SQLite's that may not be written: the message says whose it is and what to do."""

import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from imgsync.adapters.sql import access
from imgsync.adapters.sql.access import obstacle
from imgsync.adapters.sql.database import Database
from imgsync.domain.errors import ImgsyncError, StoreError
from imgsync.entrypoints.translation import speaking, translated

NOBODY = 65_534


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a database, that another user may look into, unlike those of pytest."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    folder = made / "data"
    folder.mkdir(mode=0o755)
    Database.open(url_of(folder)).close()
    yield folder
    for one in (folder, *folder.iterdir()):
        one.chmod(0o700)
    shutil.rmtree(made)


@pytest.fixture
def another(folder: Path) -> Iterator[str]:
    """From here on this process is of a user to whom nothing belongs; its name."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    yield pwd.getpwuid(os.geteuid()).pw_name
    os.seteuid(before)


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'imgsync.db'}"


def writes(folder: Path) -> None:
    with closing(Database.open(url_of(folder))) as database:
        change = text("UPDATE accounts SET name = 'x'")
        database.run_now(lambda connection: connection.execute(change))


def said_of(folder: Path) -> str:
    began = time.monotonic()
    with pytest.raises(ImgsyncError) as caught:
        writes(folder)
    assert time.monotonic() - began < 15  # others that are busy are waited for, but this is not
    assert isinstance(caught.value, StoreError)
    said = str(caught.value)
    assert "\n" not in said
    return said


CASES = {
    "file": ("data/imgsync.db", 0o444, "may not write"),
    "unreadable": ("data/imgsync.db", 0o000, "may not write"),
    "folder": ("data", 0o555, "may not write in"),
    "above": (".", 0o700, "may not enter"),
    "log": ("data/imgsync.db-wal", 0o444, "may not write"),
}


@pytest.mark.parametrize("what", CASES)
def test_the_owner_the_mode_the_user_and_what_to_do_are_told(
    folder: Path, request: pytest.FixtureRequest, what: str
) -> None:
    name, mode, told = CASES[what]
    path = folder.parent / name
    path.touch()
    (folder / "imgsync.db").chmod(0o666)
    folder.chmod(0o777)
    path.chmod(mode if os.geteuid() == 0 or what != "above" else 0o600)
    owner = path.owner()
    user = request.getfixturevalue("another")
    said = said_of(folder)
    target = str(path).removesuffix("/.")
    assert f"user {user} {told} {target}, which is {owner}'s with mode " in said
    if owner == user:
        assert "'chmod u+" in said
    else:
        assert said.endswith(f"; give it to {user}: 'chown {user} {target}'")
    with speaking("ru", is_for_programs=False):
        assert f"пользователь {user} не может" in translated(said)
        assert "may not" not in translated(said)


def test_of_two_users_who_are_not_root_either_may_run_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "imgsync.db"
    file.chmod(0o600)
    there, real = file.stat(), Path.stat
    fake = os.stat_result([*there[:4], 1, *there[5:]])
    monkeypatch.setattr(access, "_may", lambda path, mode: path != file)
    monkeypatch.setattr(Path, "stat", lambda p, **how: fake if p == file else real(p, **how))
    owner, me = (pwd.getpwuid(uid).pw_name for uid in (1, os.geteuid()))
    assert (obstacle(file) or "").endswith(
        f"is {owner}'s with mode -rw-------; run imgsync as {owner}, or give it to {me}: "
        f"'chown {me} {file}'"
    )


def test_an_own_file_that_was_made_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "imgsync.db").chmod(0o400)
    monkeypatch.setattr(access, "_may", lambda path, mode: path.name != "imgsync.db")
    me = pwd.getpwuid(os.geteuid()).pw_name
    file = folder / "imgsync.db"
    assert obstacle(file) == (
        f"user {me} may not write {file}, which is {me}'s with mode -r--------; 'chmod u+rw {file}'"
    )
    file.chmod(0o600)  # and yet it may not, as where it is immutable
    assert "see 'lsattr'" in (obstacle(file) or "")


def test_a_file_system_that_turned_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mounted:
        f_flag = os.ST_RDONLY

    monkeypatch.setattr(os, "statvfs", lambda _: Mounted)
    assert f"the file system of {folder} is read-only: mount it for writing" in (
        obstacle(folder / "imgsync.db") or ""
    )
    assert f"file system of {folder} is" in (obstacle(folder / "new" / "imgsync.db") or "")


def test_a_file_that_becomes_read_only_under_way(folder: Path) -> None:
    """As where somebody has copied it back as another user."""
    with closing(Database.open(url_of(folder))) as database:
        database.engine.dispose()
        change = text("UPDATE accounts SET name = 'x'")
        (folder / "imgsync.db").chmod(0o666)
        before = os.geteuid()
        folder.chmod(0o555)
        if before == 0:
            os.seteuid(NOBODY)
        try:
            with pytest.raises(StoreError, match=f"may not write in {folder}, which is"):
                database.run_now(lambda connection: connection.execute(change))
        finally:
            os.seteuid(before)
        folder.chmod(0o755)
        database.run_now(lambda connection: connection.execute(change))


def test_what_is_no_obstacle_is_none(folder: Path) -> None:
    assert obstacle(folder / "imgsync.db") is None
    assert obstacle(folder / "new" / "deep" / "imgsync.db") is None
    assert obstacle(Path()) is None
    assert "is no folder" in (obstacle(folder / "imgsync.db" / "x" / "imgsync.db") or "")
