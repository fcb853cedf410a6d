"""imgsync solution, as a person uses it."""

import asyncio
from datetime import UTC, datetime

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.solutions import SqlSolutions
from imgsync.domain.model import Account, TokenKind
from imgsync.domain.ports.web import AuditEntry
from imgsync.domain.solutions import CallMethod, SolutionCall, consequence
from tests.cli.conftest import Cli, key_of
from tests.support.keys import opened

APP = "5f3c5489-6a17-48b7-9fe5-b2000eb807fe"
OMSK = "f088b0a7-9490-4a57-b804-393163e7680f"
SECRET = "hush-hush-hush"


def install(cli: Cli, url: str, method: CallMethod = CallMethod.PUT) -> None:
    now = datetime.now(UTC)
    token = "t0ken" if method is CallMethod.PUT else None
    call = SolutionCall(
        APP, OMSK, method, method.value, method.value, now, now, "Suspend", "omsk", token
    )
    database = Database.open(url)
    try:
        entry = AuditEntry("x", "x", OMSK, {})
        asyncio.run(
            SqlSolutions(database, secrets=opened(database, key_of(cli))).take(
                call, consequence, entry
            )
        )
    finally:
        database.close()


def test_a_solution_is_stored_listed_and_removed_and_its_secret_is_never_shown(
    cli: Cli, sqlite_url: str
) -> None:
    assert "No solutions yet" in cli.ok("solution", "list")
    said = cli.run("solution", "add", APP.upper(), "--draft", stdin=f"{SECRET}\n")
    assert said.exit_code == 0
    assert f"Solution {APP} is stored, as a draft." in said.stdout
    assert SECRET not in said.output
    said = cli.run("solution", "add", APP, "--secret-stdin", "--json", stdin=f"  {SECRET}\n")
    assert said.exit_code == 0
    assert SECRET not in said.output
    assert cli.json("solution", "list") == [{"app_id": APP, "draft": False, "accounts": []}]
    install(cli, sqlite_url)
    listed = cli.ok("solution", "list")
    assert f"Solution {APP}: 1 account." in listed
    assert [word in listed for word in ("omsk", OMSK, "installed")] == [True] * 3
    assert SECRET not in listed
    assert "t0ken" not in listed
    assert cli.json("solution", "remove", APP) == {"removed": APP}
    assert "There is no solution" in cli.fail("solution", "remove", APP)
    assert "There is no solution 'x'" in cli.fail("solution", "remove", "x")


@pytest.mark.parametrize(
    ("app_id", "secret", "named"),
    [
        ("x", SECRET, "'x' is no appId"),
        (f"{APP}0", SECRET, "is no appId"),
        (APP, "short", "The secret key"),
        (APP, "with a space in it", "The secret key"),
        (APP, "", "The secret key"),
    ],
)
def test_what_can_be_no_solution_is_refused(cli: Cli, app_id: str, secret: str, named: str) -> None:
    said = cli.fail("solution", "add", app_id, "--secret-stdin", stdin=f"{secret}\n")
    assert named in said
    assert len(said.splitlines()) == 1
    assert cli.json("solution", "list") == []


def test_an_account_whose_solution_is_suspended_says_so(cli: Cli, sqlite_url: str) -> None:
    cli.ok("solution", "add", APP, "--secret-stdin", stdin=f"{SECRET}\n")
    install(cli, sqlite_url)
    install(cli, sqlite_url, CallMethod.DELETE)
    (account,) = cli.json("account", "list")
    assert "suspended in MoySklad" in account["parked"]["reason"]
    for command in (("list",), ("show", "omsk")):
        said = cli.ok("account", *command)
        assert "until a new token comes: the solution is suspended" in said
        assert "9999" not in said


def test_a_new_token_of_one_s_own_ends_it(cli: Cli, sqlite_url: str) -> None:
    cli.ok("solution", "add", APP, "--secret-stdin", stdin=f"{SECRET}\n")
    install(cli, sqlite_url)
    install(cli, sqlite_url, CallMethod.DELETE)
    cli.ok("account", "add", OMSK, "--kind", "user", "--offline", IMGSYNC_TOKEN="mine")
    (account,) = cli.json("account", "list")
    assert (account["parked"], account["kind"], account["name"]) == (None, "user", "omsk")
    assert Account(OMSK, "omsk", TokenKind.USER, "mine").has_token
