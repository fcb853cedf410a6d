"""imgsync account export and import."""

import asyncio
import json
import re
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgsync.adapters.secrets.parcel import write_parcel
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.adapters.sql.solutions import SqlSolutions
from imgsync.domain.errors import StoreError
from imgsync.domain.model import Account, Parking
from imgsync.domain.ports.web import AuditEntry
from imgsync.domain.solutions import (
    CallMethod,
    Installation,
    InstallationState,
    Solution,
    SolutionCall,
    consequence,
)
from tests.cli.conftest import Cli, key_of, store
from tests.support.keys import opened

PASSPHRASE = "correct horse battery"
TOKEN = "hush-hush-token"


@pytest.fixture
def sender(cli: Cli) -> Cli:
    cli.env["IMGSYNC_PASSPHRASE"] = PASSPHRASE
    for account_id, name in (("m", "Main"), ("c1", "Omsk"), ("c2", "Tomsk"), ("c3", "Alone")):
        store(cli, account_id, name, f"{TOKEN}-{account_id}")
    cli.ok("link", "Main", "Omsk", "Tomsk", "--match-by", "code")
    cli.ok("settings", "set", "--child", "Alone", "--sync-images")
    return cli


@pytest.fixture
def receiver(sender: Cli, tmp_path: Path) -> Cli:
    """Another database, with another key."""
    return Cli(
        sender.env
        | {
            "IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'other.db'}",
            "XDG_CONFIG_HOME": str(tmp_path / "other-config"),
        }
    )


def imports(document: dict[str, list[dict[str, str]]]) -> list[str]:
    return [f"{one['name']} {one['what'][:4]} {one['import']}" for one in document["imported"]]


def test_accounts_move_with_their_tokens_links_and_settings(
    sender: Cli, receiver: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "all"
    said = sender.ok("account", "export", str(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert TOKEN.encode() not in file.read_bytes()
    assert TOKEN not in said
    shown = receiver.ok("account", "import", str(file), "--dry-run")
    assert shown.count("is added") == 7
    assert "Nothing is changed" in shown
    assert receiver.json("account", "list") == []
    assert receiver.run("account", "import", str(file), stdin="n\n").exit_code != 0
    assert receiver.json("account", "list") == []
    assert "7 changes made" in receiver.ok("account", "import", str(file), stdin="y\n")
    for command in (["account", "list"], ["links"], ["settings", "show", "--child", "Alone"]):
        assert receiver.json(*command) == sender.json(*command)
    again = tmp_path / "again"
    receiver.ok("account", "export", str(again))
    known = sender.json("account", "import", str(again), "--yes")
    assert {one["import"] for one in known["imported"]} == {"same"}  # the tokens too


def test_nothing_is_replaced_unless_that_is_said(
    sender: Cli, receiver: Cli, tmp_path: Path
) -> None:
    file = str(tmp_path / "all")
    sender.ok("account", "export", file)
    store(receiver, "c1", "Омск", "newer-token")
    store(receiver, "x", "Other main", "t")
    receiver.ok("link", "Other main", "Омск")
    before = receiver.json("links")["links"]
    done = imports(receiver.json("account", "import", file, "--yes"))
    assert "Omsk acco keep" in done
    assert "Omsk link keep" in done
    assert "Tomsk link add" in done
    assert [one for one in receiver.json("links")["links"] if one in before] == before
    assert "Омск" in receiver.ok("account", "list")
    done = imports(receiver.json("account", "import", file, "--yes", "--replace"))
    assert "Omsk acco replace" in done
    assert "Omsk link replace" in done
    assert receiver.json("links") == sender.json("links")


def test_a_file_that_is_cut_or_damaged_or_of_another_passphrase_changes_nothing(
    sender: Cli, receiver: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "all"
    sender.ok("account", "export", str(file))
    whole = file.read_bytes()
    said = receiver.fail(
        "account", "import", str(file), "--yes", IMGSYNC_PASSPHRASE="incorrect horse"
    )
    assert "the passphrase is another one" in said
    assert "horse" not in said
    for content, told in (
        (whole[:-100], "is not whole"),
        (whole[:40], "is none that"),
        (b"", "is none that"),
        (whole[:-30] + b"AAAA" + whole[-26:], "cannot be decrypted"),
        (whole.replace(b"scrypt 15", b"scrypt 60", 1), "is none that"),
        (whole.replace(b"scrypt 15", b"scrypt 20", 1), "is none that"),
        (whole.replace(b"scrypt 15", b"scrypt 0", 1), "is none that"),
        (whole.replace(b"scrypt 15", b"scrypt 16", 1), "cannot be decrypted"),
    ):
        file.write_bytes(content)
        said = receiver.fail("account", "import", str(file), "--yes")
        assert told in said
        assert str(file) in said
    assert "Cannot read" in receiver.fail("account", "import", str(tmp_path / "none"), "--yes")
    assert receiver.json("account", "list") == []


def test_a_passphrase_may_be_of_another_encoding(sender: Cli, tmp_path: Path) -> None:
    file, latin = str(tmp_path / "all"), "pass\udce9 with an accent"  # as Python reads such a byte
    sender.ok("account", "export", file, IMGSYNC_PASSPHRASE=latin)
    assert "already" in sender.ok("account", "import", file, IMGSYNC_PASSPHRASE=latin)


def test_links_that_cannot_be_are_told_before_anything_is_changed(
    sender: Cli, receiver: Cli, tmp_path: Path
) -> None:
    """There the main account of the file receives images itself."""
    file = str(tmp_path / "all")
    sender.ok("account", "export", file)
    store(receiver, "m", "Main", "m-token")
    store(receiver, "x", "Other main", "t")
    receiver.ok("link", "Other main", "Main")
    before = [receiver.json("account", "list"), receiver.json("links")]
    for options in (["--dry-run"], ["--yes"], ["--yes", "--replace"]):
        said = receiver.fail("account", "import", file, *options)
        assert "nothing is changed" in said
        assert "'m'" in said
        assert "unlink" in said
        assert [receiver.json("account", "list"), receiver.json("links")] == before
    receiver.ok("unlink", "Main")
    receiver.ok("account", "import", file, "--yes", "--replace")
    assert receiver.json("links") == sender.json("links")


def test_a_main_account_of_the_file_that_receives_images_here_stays_what_it_is(
    sender: Cli, receiver: Cli, tmp_path: Path
) -> None:
    file = str(tmp_path / "all")
    sender.ok("unlink", "Omsk", "Tomsk")
    sender.ok("account", "export", file)
    store(receiver, "m", "Main", "m-token")
    store(receiver, "x", "Other main", "t")
    receiver.ok("link", "Other main", "Main")
    said = receiver.fail("account", "import", file, "--yes", "--replace")
    assert "nothing is changed" in said
    assert receiver.json("account", "import", file, "--yes")["exit_status"] == 0
    (main,) = [one for one in receiver.json("account", "list") if one["id"] == "m"]
    assert main["role"] == "child"


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b'{"version": 3, "accounts": [], "links": [], "unknown": []}',
        b'{"version": 0, "accounts": [], "links": []}',
        b'{"version": 2, "accounts": [], "links": [], "solutions": [{"app_id": "a", "secret": '
        b'"hush-hush", "is_draft": false, "installations": []}]}',
        b'{"version": 1, "accounts": [{"id": "a", "name": "A", "kind": "?", "secret": "hush"}], '
        b'"links": []}',
        b'{"version": 1, "accounts": [{"id": "a", "name": "A", "kind": "user", "secret": "hu sh"}],'
        b' "links": []}',
    ],
)
def test_what_no_export_makes_changes_nothing(cli: Cli, tmp_path: Path, content: bytes) -> None:
    write_parcel(tmp_path / "bad", content, PASSPHRASE)
    said = cli.fail(
        "account", "import", str(tmp_path / "bad"), "--yes", IMGSYNC_PASSPHRASE=PASSPHRASE
    )
    assert "export" in said
    assert said.count("\n") == 1
    assert "hu" not in said
    assert cli.json("account", "list") == []


def test_an_export_overwrites_nothing_and_wants_a_passphrase(sender: Cli, tmp_path: Path) -> None:
    file = tmp_path / "all"
    file.write_text("mine")
    assert "already" in sender.fail("account", "export", str(file), status=2)
    assert file.read_text() == "mine"
    said = sender.fail("account", "export", "new", status=2, IMGSYNC_PASSPHRASE="short")
    assert "12 characters" in said
    said = sender.fail("account", "export", str(tmp_path / "no" / "folder"))
    assert "Cannot write" in said
    assert sorted(path.name for path in tmp_path.glob("*all*")) == ["all"]


def test_an_account_that_is_damaged_is_told_to_be_left_out(
    sender: Cli, receiver: Cli, tmp_path: Path
) -> None:
    with sqlite3.connect(tmp_path / "imgsync.db") as connection:
        connection.execute("UPDATE accounts SET secret = substr(secret, 1, 60) WHERE id = 'c3'")
        connection.execute("UPDATE accounts SET token_kind = '?' WHERE id = 'c2'")
    file = str(tmp_path / "all")
    told = sender.run("account", "export", file, "--json")
    assert told.exit_code == 3
    for name in ("'Tomsk' (c2)", "'Alone' (c3)"):
        assert f"Left out: The stored account {name} is damaged" in told.stderr
    assert len(json.loads(told.stdout)["left_out"]) == 2
    receiver.ok("account", "import", file, "--yes")
    assert [one["name"] for one in receiver.json("account", "list")] == ["Main", "Omsk"]


APP = "5f3c5489-6a17-48b7-9fe5-b2000eb807fe"
INSTALLED = Installation(
    APP, "c1", InstallationState.INSTALLED, datetime(2026, 1, 1, tzinfo=UTC), "token-of-c1"
)


def solutions_of(cli: Cli) -> SqlSolutions:
    database = Database.open(cli.env["IMGSYNC_DATABASE_URL"])
    return SqlSolutions(database, secrets=opened(database, key_of(cli)))


@pytest.fixture
def with_solution(sender: Cli) -> Cli:
    sender.ok("solution", "add", APP, "--draft", "--secret-stdin", stdin="hush-hush-secret\n")
    asyncio.run(solutions_of(sender).take_over([INSTALLED]))
    return sender


def test_solutions_move_with_their_secrets_and_whoever_has_installed_them(
    with_solution: Cli, receiver: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "all"
    with_solution.ok("account", "export", str(file))
    assert b"hush-hush" not in file.read_bytes()
    assert f"{APP}  solution  is added" in re.sub(
        " {2,}", "  ", receiver.ok("account", "import", str(file), "--dry-run")
    )
    assert receiver.json("solution", "list") == []
    receiver.ok("account", "import", str(file), "--yes")
    assert receiver.json("solution", "list") == with_solution.json("solution", "list")
    there = solutions_of(receiver)
    assert asyncio.run(there.get(APP)) == Solution(APP, "hush-hush-secret", True)
    assert asyncio.run(there.installations()) == [replace(INSTALLED, is_draft=True)]
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        stored = [*connection.execute("SELECT secret FROM solutions")]
        stored += connection.execute("SELECT token FROM installations")
    assert all(secret.startswith("sealed:") for (secret,) in stored)
    # What is there stays, unless that is said; what MoySklad has told since stays in any case.
    receiver.ok("solution", "add", APP, "--secret-stdin", stdin="hush-newer-secret\n")
    before = datetime(2025, 12, 31, tzinfo=UTC)
    asyncio.run(there.take_over([replace(INSTALLED, token="older-token", issued_at=before)]))
    assert " solu keep" in imports(receiver.json("account", "import", str(file), "--yes"))
    assert asyncio.run(there.get(APP)) == Solution(APP, "hush-newer-secret", False)
    done = imports(receiver.json("account", "import", str(file), "--yes", "--replace"))
    assert " solu replace" in done
    assert asyncio.run(there.get(APP)) == Solution(APP, "hush-hush-secret", True)
    assert asyncio.run(there.installations())[0].token == INSTALLED.token


def test_whoever_installs_a_solution_later_is_taken_over_by_a_later_import(
    with_solution: Cli, receiver: Cli, tmp_path: Path
) -> None:
    """The solution itself is there already, or is another one there, which stays."""
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    with_solution.ok("account", "export", first)
    receiver.ok("account", "import", first, "--yes")
    new = [replace(INSTALLED, account_id=one, token=f"token-of-{one}") for one in ("c2", "c3")]
    asyncio.run(solutions_of(with_solution).take_over(new[:1]))
    with_solution.ok("account", "export", second)
    done = imports(receiver.json("account", "import", second, "--yes"))
    assert {" solu same", "Omsk inst same", "Tomsk inst add"} <= set(done)
    everyone = asyncio.run(solutions_of(with_solution).installations())
    assert asyncio.run(solutions_of(receiver).installations()) == everyone
    assert "Tomsk inst same" in imports(receiver.json("account", "import", second, "--yes"))
    third = str(tmp_path / "third")
    asyncio.run(solutions_of(with_solution).take_over(new))
    with_solution.ok("account", "export", third)
    receiver.ok("solution", "add", APP, "--draft", "--secret-stdin", stdin="hush-newer-secret\n")
    done = imports(receiver.json("account", "import", third, "--yes"))
    assert {" solu keep", "Alone inst add"} <= set(done)
    assert len(asyncio.run(solutions_of(receiver).installations())) == 3


def test_a_replaced_account_is_parked_when_its_solution_ends(
    with_solution: Cli, receiver: Cli, tmp_path: Path
) -> None:
    """It goes by the token of the installation, which is replaced with it."""
    file, older = str(tmp_path / "all"), str(tmp_path / "older")
    with_solution.ok("account", "export", older)
    receiver.ok("account", "import", older, "--yes")
    installed_anew = replace(
        INSTALLED, token="token-anew", issued_at=INSTALLED.issued_at + timedelta(hours=1)
    )
    store(with_solution, "c1", "Omsk", "token-anew")
    asyncio.run(solutions_of(with_solution).take_over([installed_anew]))
    with_solution.ok("account", "export", file)
    there = solutions_of(receiver)
    done = imports(receiver.json("account", "import", file, "--yes"))
    assert {"Omsk acco keep", "Omsk inst keep"} <= set(done)
    assert asyncio.run(there.installations())[0].token == INSTALLED.token
    done = imports(receiver.json("account", "import", file, "--yes", "--replace"))
    assert {"Omsk acco replace", "Omsk inst replace"} <= set(done)
    # What MoySklad has told since stays in any case.
    assert "Omsk inst keep" in imports(
        receiver.json("account", "import", older, "--dry-run", "--replace")
    )
    issued_at = installed_anew.issued_at + timedelta(minutes=1)
    call = SolutionCall(
        APP,
        "c1",
        CallMethod.DELETE,
        "token-id",
        "request-id",
        issued_at,
        issued_at + timedelta(minutes=5),
        cause="Suspend",
    )
    asyncio.run(there.take(call, consequence, AuditEntry("x", "x", "c1", {})))
    assert paused(receiver) == ["Omsk"]


def test_a_solution_whose_import_was_cut_off_is_whole_after_the_next(
    with_solution: Cli, receiver: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "all")
    with_solution.ok("account", "export", file)

    async def killed(*_: object) -> None:
        raise StoreError("killed here")

    for method in ("take_over", "put"):
        with monkeypatch.context() as patched:
            patched.setattr(SqlSolutions, method, killed)
            assert "killed here" in receiver.fail("account", "import", file, "--yes")
    receiver.ok("account", "import", file, "--yes")
    assert receiver.json("solution", "list") == with_solution.json("solution", "list")


def test_a_damaged_solution_is_told_to_be_left_out(
    with_solution: Cli, receiver: Cli, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection, connection:
        connection.execute("UPDATE solutions SET secret = substr(secret, 1, 60)")
    file = str(tmp_path / "all")
    told = with_solution.run("account", "export", file)
    assert told.exit_code == 3
    assert f"Left out: The stored solution '{APP}' is damaged" in told.stderr
    receiver.ok("account", "import", file, "--yes")
    assert len(receiver.json("account", "list")) == 4
    assert receiver.json("solution", "list") == []


def test_a_token_of_a_solution_that_cannot_be_read_is_told_to_be_left_out(
    with_solution: Cli, receiver: Cli, tmp_path: Path
) -> None:
    """Else it would take the place of one that is good there."""
    first, file = str(tmp_path / "first"), str(tmp_path / "all")
    with_solution.ok("account", "export", first)
    receiver.ok("account", "import", first, "--yes")
    ended = Installation(APP, "c2", InstallationState.SUSPENDED, INSTALLED.issued_at, None)
    asyncio.run(solutions_of(with_solution).take_over([ended]))
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection, connection:
        connection.execute("UPDATE installations SET token = substr(token, 1, 60)")
    told = with_solution.run("account", "export", file)
    assert told.exit_code == 3
    assert f"Left out: The stored token of solution '{APP}' on account 'c1'" in told.stderr
    done = imports(receiver.json("account", "import", file, "--yes", "--replace"))
    assert [one for one in done if " inst " in one] == ["Tomsk inst add"]
    assert asyncio.run(solutions_of(receiver).installations())[0].token == INSTALLED.token


def paused(cli: Cli) -> list[str]:
    return [one["name"] for one in cli.json("account", "list") if one["parked"]]


def test_pauses_by_hand_move_and_end_none_that_is_there(
    sender: Cli, receiver: Cli, tmp_path: Path
) -> None:
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    sender.ok("account", "export", first)
    sender.ok("queue", "pause", "Omsk")
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection, connection:
        # Not by hand: the first request learns it anew.
        connection.execute(
            "UPDATE accounts SET parked_reason = '401', parked_until = '9999-01-01' WHERE id = 'c2'"
        )
    sender.ok("account", "export", second)
    receiver.ok("account", "import", first, "--yes")
    assert paused(receiver) == []
    # As where an import was cut off before the pause: the account is there already.
    done = imports(receiver.json("account", "import", second, "--yes"))
    assert {"Omsk acco same", "Omsk paus add"} <= set(done)
    assert paused(receiver) == ["Omsk"]
    assert "Omsk paus same" in imports(receiver.json("account", "import", second, "--yes"))
    # Another token, and a file without the pause: somebody here has said that it waits.
    store(receiver, "c1", "Omsk", "newer-token")
    receiver.ok("queue", "pause", "Omsk")
    done = imports(receiver.json("account", "import", first, "--yes", "--replace"))
    assert "Omsk acco replace" in done
    assert paused(receiver) == ["Omsk"]
    receiver.ok("queue", "resume", "Omsk")
    store(receiver, "c1", "Omsk", "newer-token")
    assert "Omsk paus keep" in imports(receiver.json("account", "import", second, "--yes"))
    assert paused(receiver) == []


def test_a_pause_outlasts_an_import_that_is_cut_off(
    sender: Cli, receiver: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "all")
    sender.ok("account", "export", file)
    store(receiver, "c1", "Omsk", "older-token")
    receiver.ok("queue", "pause", "Omsk")
    add = SqlAccountRepository.add

    async def killed_behind(
        self: SqlAccountRepository, account: Account, parking: Parking | None = None
    ) -> None:
        await add(self, account, parking)
        if account.id == "c1":
            raise StoreError("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(SqlAccountRepository, "add", killed_behind)
        said = receiver.fail("account", "import", file, "--yes", "--replace")
    assert "killed here" in said
    assert paused(receiver) == ["Omsk"]
    done = imports(receiver.json("account", "import", file, "--yes", "--replace"))
    assert "Omsk acco same" in done
    assert paused(receiver) == ["Omsk"]


def test_an_export_of_the_version_before_is_taken(cli: Cli, tmp_path: Path) -> None:
    content = (
        b'{"version": 1, "accounts": [{"id": "a", "name": "A", "kind": "user", "secret": "t",'
        b' "login": null, "role": null}], "links": []}'
    )
    write_parcel(tmp_path / "old", content, PASSPHRASE)
    cli.ok("account", "import", str(tmp_path / "old"), "--yes", IMGSYNC_PASSPHRASE=PASSPHRASE)
    assert [one["name"] for one in cli.json("account", "list")] == ["A"]
    write_parcel(tmp_path / "new", b'{"version": 3, "what": "ever"}', PASSPHRASE)
    said = cli.fail(
        "account", "import", str(tmp_path / "new"), "--yes", IMGSYNC_PASSPHRASE=PASSPHRASE
    )
    assert "The export is of version 3: update imgsync on this machine" in said
