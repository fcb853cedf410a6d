"""The key of the tokens, as a person meets it."""

import asyncio
from pathlib import Path

import pytest

from imgsync.adapters.secrets.box import fingerprint_of
from imgsync.adapters.secrets.keys import KeyFile, is_key
from imgsync.adapters.sql.database import Database
from tests.cli.conftest import Cli, key_of, store
from tests.support.keys import accounts_of


def test_a_new_key_for_all_tokens(cli: Cli, sqlite_database: Database) -> None:
    store(cli, "a", "Shop", "hush-hush")
    (old,) = KeyFile(key_of(cli)).read()
    said = cli.ok("account", "rekey")
    new, kept = KeyFile(key_of(cli)).read()
    assert kept == old
    assert f"1 token encrypted with the new key {fingerprint_of(new)}." in said
    assert f"The key before, {fingerprint_of(old)}, is kept" in said
    assert new not in said
    assert asyncio.run(accounts_of(sqlite_database, key_of(cli)).get("a")).secret == "hush-hush"
    document = cli.json("account", "rekey")
    assert document["key_before"] == fingerprint_of(new)
    assert document["secrets"] == 1


def test_a_file_that_a_killed_rekeying_left_is_told_and_taken_up(
    cli: Cli, caplog: pytest.LogCaptureFixture
) -> None:
    store(cli, "a", "Shop", "hush-hush")
    file = key_of(cli)
    left = file.with_name(f".{file.name}.0123456789abcdef")
    left.write_text(f"{cli.ok('account', 'new-key')}{file.read_text()}")
    (told,) = [one for one in cli.failed_json("doctor")["findings"] if one["check"] == "key"]
    assert (told["about"], told["health"]) == (str(left), "unknown")
    assert "'imgsync account rekey'" in told["todo"]
    assert left.exists()
    cli.ok("account", "rekey")
    assert f"removed {left}, which a rekeying that was cut off has left" in caplog.text
    assert not left.exists()
    assert len(KeyFile(file).read()) == 3
    assert "Shop" in cli.ok("account", "list")


def test_a_database_without_its_key_says_so_in_one_line(cli: Cli, tmp_path: Path) -> None:
    store(cli, "a", "Shop", "hush-hush")
    (key,) = KeyFile(key_of(cli)).read()
    key_of(cli).rename(tmp_path / "elsewhere")
    for command in (["account", "list"], ["account", "rekey"], ["links"]):
        said = cli.fail(*command)
        assert said.count("\n") == 1
        assert f"encrypted with key {fingerprint_of(key)}" in said
        assert str(key_of(cli)) in said
    assert not key_of(cli).exists()
    assert "Shop" in cli.ok("account", "list", IMGSYNC_KEY_FILE=str(tmp_path / "elsewhere"))
    assert "Shop" in cli.ok("account", "list", IMGSYNC_KEY=f"{cli.ok('account', 'new-key')},{key}")
    # What needs no token goes on without.
    assert "0" in cli.ok("queue", "status")


def test_a_key_given_by_the_environment_is_changed_there(cli: Cli) -> None:
    old, new = (cli.ok("account", "new-key").strip() for _ in range(2))
    assert is_key(old)
    cli.env["IMGSYNC_KEY"] = old
    store(cli, "a", "Shop", "hush-hush")
    said = cli.fail("account", "rekey")
    assert "The key is given by the variable IMGSYNC_KEY" in said
    assert old not in said
    assert cli.json("account", "rekey", IMGSYNC_KEY=f"{new}, {old}")["key"] == fingerprint_of(new)
    assert "Shop" in cli.ok("account", "list", IMGSYNC_KEY=new)
    said = cli.fail("account", "list")
    assert f"encrypted with key {fingerprint_of(new)}" in said
    bad = cli.fail("account", "list", IMGSYNC_KEY=f"{new},secret-mistyped")
    assert "as key 2 of 2" in bad
    assert "mistyped" not in bad
    assert not key_of(cli).exists()
