"""imgsync account and imgsync settings."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from imgsync.adapters.sql.accounts import SqlAccountRepository
from tests.cli.conftest import Cli

SECRET = "hush-hush-token"


@pytest.mark.parametrize("way", ["environment", "stdin", "prompt"])
def test_a_token_is_read_without_being_an_argument(cli: Cli, way: str) -> None:
    if way == "environment":
        said = cli.ok("account", "add", "m1", "--name", "Shop", IMGSYNC_TOKEN=SECRET)
    else:
        options = ["--token-stdin"] if way == "stdin" else []
        said = cli.ok("account", "add", "m1", "--name", "Shop", *options, stdin=f"{SECRET}\n")
    assert "Account 'Shop' is stored." in said
    assert SECRET not in said
    assert cli.json("account", "list") == [
        {"id": "m1", "name": "Shop", "kind": "solution", "login": None}
    ]


def test_the_list_shows_no_token(cli: Cli) -> None:
    assert "No accounts yet" in cli.ok("account", "list")
    password = ["--kind", "password", "--login", "admin@shop"]
    cli.ok("account", "add", "m1", "--name", "[bold]Shop", *password, IMGSYNC_TOKEN=SECRET)
    listed = cli.ok("account", "list")
    for part in ("m1", "[bold]Shop", "password", "admin@shop"):
        assert part in listed
    assert SECRET not in listed + cli.ok("account", "list", "--json")


@pytest.mark.parametrize(
    ("options", "token", "message"),
    [
        (["--kind", "password"], SECRET, "a login goes with a password"),
        (["--login", "me"], SECRET, "a login goes with a password"),
        ([], " ", "the token or password is empty"),
        (["--kind", "nonsense"], SECRET, "Invalid value for '--kind'"),
    ],
)
def test_incomplete_accounts_are_refused(
    cli: Cli, options: list[str], token: str, message: str
) -> None:
    said = cli.fail("account", "add", "m1", *options, status=2, IMGSYNC_TOKEN=token)
    assert message in said
    assert cli.json("account", "list") == []


def test_an_empty_id_is_refused(cli: Cli) -> None:
    assert "account id is empty" in cli.fail("account", "add", " ", status=2, IMGSYNC_TOKEN=SECRET)


@pytest.fixture
def child(cli: Cli) -> Cli:
    cli.ok("account", "add", "c1", "--name", "Branch", IMGSYNC_TOKEN=SECRET)
    return cli


def test_settings_are_off_by_default(child: Cli) -> None:
    assert child.json("settings", "show") == [
        {"account": "c1", "sync_images": False, "sync_images_all": False, "limit": 0}
    ]


def test_one_setting_clears_the_other(child: Cli) -> None:
    assert "all images" in child.ok("settings", "set", "--child", "c1", "--sync-images-all")
    assert child.json("settings", "show", "--child", "c1")[0]["limit"] is None
    assert "the first image" in child.ok("settings", "set", "--child", "c1", "--sync-images")
    assert child.json("settings", "show")[0] == {
        "account": "c1",
        "sync_images": True,
        "sync_images_all": False,
        "limit": 1,
    }
    shown = child.ok("settings", "show")
    assert "Branch" in shown
    assert "on" in shown
    changed = child.json("settings", "set", "--child", "c1", "--no-sync-images")
    assert changed["limit"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give --sync-images or --sync-images-all"),
        (["--sync-images", "--sync-images-all"], "exclude each other"),
    ],
)
def test_unclear_settings_change_nothing(child: Cli, options: list[str], message: str) -> None:
    said = child.fail("settings", "set", "--child", "c1", *options, status=2)
    assert message in said
    assert child.json("settings", "show")[0]["limit"] == 0


def test_settings_of_an_unknown_account_are_refused(child: Cli) -> None:
    for command in (["show"], ["set", "--sync-images"]):
        said = child.fail("settings", *command, "--child", "nobody")
        assert "Account 'nobody' is not configured" in said


def test_the_database_is_private(child: Cli, tmp_path: Path) -> None:
    assert (tmp_path / "imgsync.db").stat().st_mode & 0o077 == 0


def test_standard_input_wins_over_the_environment(cli: Cli, sqlite_engine: Engine) -> None:
    cli.ok("account", "add", "m1", "--token-stdin", stdin="given\n", IMGSYNC_TOKEN="other")
    assert SqlAccountRepository(sqlite_engine).get("m1").secret == "given"


@pytest.mark.parametrize(
    ("arguments", "token"),
    [
        (["m1"], "two\nlines"),
        (["m1"], "токен"),
        (["m\x07"], SECRET),
        (["m\udcff"], SECRET),
        (["m1", "--name", "a\x1b[31m"], SECRET),
    ],
)
def test_what_no_request_or_terminal_can_hold_is_refused(
    cli: Cli, arguments: list[str], token: str
) -> None:
    said = cli.fail("account", "add", *arguments, status=2, IMGSYNC_TOKEN=token)
    assert "printed" in said or "line breaks" in said
    assert token not in said
    assert cli.json("account", "list") == []


def test_long_names_are_shown_whole_where_a_script_reads_them(cli: Cli) -> None:
    ids = [f"3f8a1c2e-1111-2222-3333-44445555666{n}" for n in range(2)]
    for account_id in ids:
        cli.ok("account", "add", account_id, "--name", "N" * 70, IMGSYNC_TOKEN=SECRET)
    for command in (["account", "list"], ["settings", "show"]):
        shown = cli.ok(*command)
        assert all(account_id in shown for account_id in ids)
        assert "N" * 70 in shown
    assert "sync_images_all" in cli.ok("settings", "show")


def test_an_id_that_is_no_text_is_one_line(cli: Cli) -> None:
    assert cli.fail("settings", "show", "--child", "\udcff").startswith("Error: ")
