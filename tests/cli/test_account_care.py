"""imgsync account test, rename, rotate and remove."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.events import SqlWebhookStates
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.webhooks import WebhookState
from tests.cli.conftest import Cli, key_of
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop
from tests.support.keys import accounts_of


def test_good_credentials_are_told(ready: Cli, shop: Shop) -> None:
    said = ready.ok("account", "test")
    assert said.count("good, the token of a") == 2
    document = ready.json("account", "test", "Child")
    (one,) = document["accounts"]
    assert (one["id"], one["problem"], one["no_webhooks"]) == (shop.child.id, None, None)
    assert "weight" in one  # None until answers have shown it
    assert CHILD_TOKEN not in said + str(document)


def test_credentials_that_are_not_good_are_told_and_the_others_too(ready: Cli, shop: Shop) -> None:
    # Of the other account, as after a mistake.
    ready.ok("account", "add", shop.child.id, "--offline", IMGSYNC_TOKEN=MAIN_TOKEN)
    document = ready.failed_json("account", "test")
    problems = {one["name"]: one["problem"] for one in document["accounts"]}
    assert problems["Main"] is None
    assert f"({shop.main.id})" in problems["Child"]
    ready.ok("account", "add", shop.child.id, "--offline", IMGSYNC_TOKEN="hush-refused")
    result = ready.run("account", "test")
    assert result.exit_code == 1
    assert "not good: " in result.stdout
    assert "1 of 2" in result.stderr
    assert "hush-refused" not in result.output
    assert "did you mean 'Child'" in ready.fail("account", "test", "Chil")


def test_an_account_gets_another_name(ready: Cli, shop: Shop) -> None:
    assert "'Омск 2'" in ready.ok("account", "rename", "Child", " Омск 2 ")
    assert "Омск 2" in ready.ok("links") + ready.ok("account", "list")
    assert "Another account is called 'main'" in ready.fail("account", "rename", "Омск 2", "main")
    assert "empty" in ready.fail("account", "rename", "Main", " ", status=2)
    assert "printed" in ready.fail("account", "rename", "Main", "a\nb", status=2)
    long = "N" * 256
    for command in (["rename", "Main", long], ["add", "x", "--name", long, "--offline"]):
        said = ready.fail("account", *command, status=2, IMGSYNC_TOKEN="x-token")
        assert "has 256 characters; 255 are the most" in said
        assert long not in said
    assert [a["name"] for a in ready.json("account", "list")] == ["Main", "Омск 2"]
    assert long[:-1] in ready.ok("account", "rename", "Main", long[:-1])


def test_a_new_token_is_the_same_account_s_or_nothing_changes(
    ready: Cli, shop: Shop, sqlite_database: Database
) -> None:
    def stored() -> str:
        accounts = accounts_of(sqlite_database, key_of(ready))
        return asyncio.run(accounts.get(shop.child.id)).secret

    said = ready.fail("account", "rotate", "Child", IMGSYNC_TOKEN=MAIN_TOKEN)
    assert "nothing is stored" in said
    said = ready.fail("account", "rotate", "Child", IMGSYNC_TOKEN="hush-refused")
    assert "refuses these credentials" in said
    assert "hush-refused" not in said
    assert stored() == CHILD_TOKEN
    ready.ok("account", "add", shop.child.id, "--offline", IMGSYNC_TOKEN="hush-gone")
    assert "has its new token" in ready.ok("account", "rotate", "Child", IMGSYNC_TOKEN=CHILD_TOKEN)
    assert stored() == CHILD_TOKEN
    assert "not stored" in ready.fail("account", "rotate", "Nobody", IMGSYNC_TOKEN=CHILD_TOKEN)


def test_what_hangs_on_an_account_is_shown_before_it_goes(
    ready: Cli, shop: Shop, sqlite_database: Database
) -> None:
    ready.ok("link", "Main", "Child")
    task = NewTask({"child_account_id": shop.child.id}, account_id=shop.child.id)
    asyncio.run(SqlTaskQueue(sqlite_database).enqueue([task]))
    result = ready.run("account", "remove", "Child", stdin="n\n")
    assert result.exit_code == 1
    assert "Nothing was done" in result.stderr
    assert f"the link to main account {shop.main.id}" in result.stderr
    assert "1 waiting task" in result.stderr
    assert len(ready.json("account", "list")) == 2
    assert "give --yes" in ready.fail("account", "remove", "Child", "--json", status=2)
    assert "the links of 1 child" in ready.run("account", "remove", "Main", stdin="n\n").stderr
    document = ready.json("account", "remove", "Child", "--yes")
    assert (document["removed"], document["waiting"]) == (shop.child.id, 1)
    assert [a["name"] for a in ready.json("account", "list")] == ["Main"]
    assert ready.json("links")["links"] == []
    assert "is removed" in ready.ok("account", "remove", "Main", stdin="y\n")
    assert ready.json("account", "list") == []


def test_webhooks_that_cannot_be_removed_are_told_and_keep_no_account(
    ready: Cli, shop: Shop, sqlite_database: Database
) -> None:
    state = WebhookState(shop.child.id, "https://sync.example/hook")
    asyncio.run(SqlWebhookStates(sqlite_database).put(state))
    ready.ok("account", "add", shop.child.id, "--offline", IMGSYNC_TOKEN="hush-refused")
    said = ready.run("account", "remove", "Child", "--yes")
    assert said.exit_code == 0
    assert "its webhooks are still in MoySklad" in said.stderr
    assert "hush-refused" not in said.output
    assert [a["name"] for a in ready.json("account", "list")] == ["Main"]


def test_an_account_that_workers_are_at_stays(
    ready: Cli, shop: Shop, sqlite_database: Database
) -> None:
    ready.ok("link", "Main", "Child")
    queue = SqlTaskQueue(sqlite_database)
    task = NewTask({"child_account_id": shop.child.id}, account_id=shop.child.id)

    async def claim() -> None:
        await queue.enqueue([task])
        assert await queue.claim(lease=timedelta(minutes=5))

    asyncio.run(claim())
    for name in ("Main", "Child"):
        said = ready.fail("account", "remove", name, "--yes")
        assert "Workers are at 1 task of account" in said
    assert len(ready.json("account", "list")) == 2
    assert len(ready.json("links")["links"]) == 1


DAMAGES = {
    "cut": ("secret = substr(secret, 1, 60)", "its encrypted token cannot be read"),
    "another key": (
        "secret = 'sealed:00000000:' || substr(secret, 17)",
        "its token is encrypted with key 00000000, which is not here",
    ),
    "kind": ("token_kind = '?'", "'?' is not a valid TokenKind"),
    "role": ("role = '?'", "'?' is not a valid AccountRole"),
    "name": ("name = 'Chi' || char(10) || 'ld'", "cannot be printed"),
    "login": ("login = 'admin@shop'", "a login goes with a password"),
}


@pytest.fixture(params=DAMAGES)
def damaged(request: pytest.FixtureRequest, ready: Cli, shop: Shop, tmp_path: Path) -> str:
    """The child's account is; why."""
    ready.ok("link", "Main", "Child")
    change, why = DAMAGES[request.param]
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection, connection:
        connection.execute(f"UPDATE accounts SET {change} WHERE id = ?", [shop.child.id])  # noqa: S608
    return why


def name_now(cli: Cli, shop: Shop, tmp_path: Path) -> str:
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection:
        query = "SELECT name FROM accounts WHERE id = ?"
        return str(connection.execute(query, [shop.child.id]).fetchone()[0])


def test_a_damaged_account_is_removed_after_it_was_shown(
    ready: Cli, shop: Shop, damaged: str, sqlite_database: Database, tmp_path: Path
) -> None:
    state = WebhookState(shop.child.id, "https://sync.example/hook")
    asyncio.run(SqlWebhookStates(sqlite_database).put(state))
    name = name_now(ready, shop, tmp_path)
    told = ready.run("account", "remove", name, stdin="n\n")
    assert told.exit_code == 1
    assert f"({shop.child.id}) is damaged: " in told.stderr
    assert damaged in told.stderr
    assert f"the link to main account {shop.main.id}" in told.stderr
    assert len(ready.json("links")["links"]) == 1
    document = ready.json("account", "remove", shop.child.id, "--yes")
    assert (document["removed"], document["main_id"]) == (shop.child.id, shop.main.id)
    assert document["webhooks_left"] == "its token cannot be read"
    assert [one["name"] for one in ready.json("account", "list")] == ["Main"]
    assert ready.json("links")["links"] == []
    assert "not stored" in ready.fail("account", "remove", shop.child.id, "--yes")


def test_a_damaged_main_account_is_removed_with_its_links(
    ready: Cli, shop: Shop, tmp_path: Path
) -> None:
    ready.ok("link", "Main", "Child")
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection, connection:
        connection.execute("UPDATE accounts SET secret = 'sealed:' WHERE name = 'Main'")
    assert "is removed" in ready.ok("account", "remove", "main", "--yes")
    assert [one["name"] for one in ready.json("account", "list")] == ["Child"]
    assert ready.json("links")["links"] == []


def test_a_damaged_account_is_mended_by_a_new_token(
    ready: Cli, shop: Shop, damaged: str, tmp_path: Path
) -> None:
    name = name_now(ready, shop, tmp_path)
    for token, said in ((MAIN_TOKEN, "not of"), ("hush-refused", "refuses these credentials")):
        assert said in ready.fail("account", "rotate", name, IMGSYNC_TOKEN=token)
    assert damaged in ready.fail("account", "show", shop.child.id)
    assert "has its new token" in ready.ok("account", "rotate", name, IMGSYNC_TOKEN=CHILD_TOKEN)
    (child,) = [one for one in ready.json("account", "list") if one["id"] == shop.child.id]
    assert (child["name"], child["kind"]) == (" ".join(name.split()), "solution")
    (link,) = ready.json("links")["links"]
    assert link["child"] == shop.child.id
    assert "of 2" not in ready.ok("account", "test")


def test_a_damaged_account_and_a_good_one_of_its_name_are_told_apart(
    ready: Cli, shop: Shop, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(tmp_path / "imgsync.db")) as connection, connection:
        connection.execute("UPDATE accounts SET name = 'Main', role = '?' WHERE name = 'Child'")
    said = ready.fail("account", "remove", "Main", "--yes")
    assert "2 accounts are called 'Main'; give the ID: " in said
    assert shop.child.id in said
    assert "did you mean 'Main'" in ready.fail("account", "remove", "Mian", "--yes")
    assert ready.json("account", "remove", shop.child.id, "--yes")["removed"] == shop.child.id
    assert [one["id"] for one in ready.json("account", "list")] == [shop.main.id]


def test_a_token_takes_the_place_of_a_password_and_back(
    ready: Cli, shop: Shop, sqlite_database: Database
) -> None:
    shop.child.add_user(login="admin@child", password="pass word")
    shop.child.add_user(token="token-of-a-user", kind="user")
    shop.main.add_user(login="admin@main", password="main's")

    def stored() -> tuple[str, str, str | None]:
        accounts = accounts_of(sqlite_database, key_of(ready))
        found = asyncio.run(accounts.get(shop.child.id))
        return found.token_kind.value, found.secret, found.login

    def rotate(secret: str, *options: str) -> str:
        return ready.ok("account", "rotate", "Child", *options, IMGSYNC_TOKEN=secret)

    def refused(secret: str, *options: str, status: int = 1) -> str:
        before = stored()
        said = ready.fail(
            "account", "rotate", "Child", *options, status=status, IMGSYNC_TOKEN=secret
        )
        assert stored() == before
        return said

    assert "needs its --login" in refused("pass word", "--kind", "password", status=2)
    assert "take --kind away" in refused("x", "--kind", "user", "--login", "a", status=2)
    assert "not of" in refused("main's", "--login", "admin@main")
    assert "has its new password" in rotate("pass word", "--login", "admin@child")
    assert stored() == ("password", "pass word", "admin@child")
    # Of one and the same login nothing else has to be said.
    assert "has its new password" in rotate("pass word")
    assert "refuses these credentials" in refused("token-of-a-user")
    assert "not of" in refused(MAIN_TOKEN, "--kind", "solution")
    said = refused(CHILD_TOKEN, "--kind", "user")
    assert "This is the token of a solution (--kind solution), not the token of a user" in said
    assert "has its new token" in rotate("token-of-a-user", "--kind", "user")
    assert stored() == ("user", "token-of-a-user", None)
    assert "has its new token" in rotate(CHILD_TOKEN)
    assert stored() == ("solution", CHILD_TOKEN, None)


def test_accounts_are_listed_as_people_count(cli: Cli) -> None:
    for name in ("Shop 10", "shop 2", "Shop 1"):
        cli.ok("account", "add", name, "--offline", IMGSYNC_TOKEN="t")
    assert [a["name"] for a in cli.json("account", "list")] == ["Shop 1", "shop 2", "Shop 10"]
