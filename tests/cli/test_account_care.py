"""imgsync account test, rename, rotate and remove."""

import asyncio
from datetime import timedelta

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


def test_accounts_are_listed_as_people_count(cli: Cli) -> None:
    for name in ("Shop 10", "shop 2", "Shop 1"):
        cli.ok("account", "add", name, "--offline", IMGSYNC_TOKEN="t")
    assert [a["name"] for a in cli.json("account", "list")] == ["Shop 1", "shop 2", "Shop 10"]
