"""imgsync doctor: what is wrong is named, what is not is told as well, and no secret is shown."""

import os
import re
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.migrations import HEAD
from imgsync.domain.errors import PluginError, StoreError
from imgsync.entrypoints import doctor as checks
from tests.cli.conftest import Cli, key_of, store
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures


@pytest.fixture
def linked(ready: Cli, shop: Shop) -> Cli:
    shop.pair("Lamp", pictures(2), pictures(1))
    ready.ok("link", "Main", "Child")
    return ready


def findings(document: Any, check: str, about: str | None = None) -> list[Any]:
    return [
        one
        for one in document["findings"]
        if one["check"] == check and about in (None, one["about"])
    ]


def test_a_healthy_installation(linked: Cli, shop: Shop) -> None:
    said = linked.ok("doctor")
    assert "✗" not in said
    assert f"✓ database      sqlite, schema {HEAD}" in said
    assert "✓ account       Main: it is 'main', 1 product in sight" in said
    assert "✓ account       Child: it is 'child', 1 product in sight" in said
    assert "✓ accounts      2 accounts, 1 link" in said
    assert re.search(r"Main: images come from localhost:\d+; by permanent links too", said)
    assert re.search(r"✓ clock +\d s from that of MoySklad", said)
    assert "✓ disk          temp_dir: " in said
    assert "api_url: http://127.0.0.1" in said
    assert "set by the variable IMGSYNC_API_URL" in said
    assert "? webhooks" in said
    assert "nothing wrong" in said
    told = linked.json("doctor")
    assert told["exit_status"] == 0
    assert findings(told, "queue")[0]["said"] == "no task is due"
    for secret in (MAIN_TOKEN, CHILD_TOKEN):
        assert secret not in said + str(told)
    assert shop.writes == 0


def test_one_child(linked: Cli, shop: Shop) -> None:
    other = shop.emulator.add_account("Other")
    other.add_user(token="other-token", kind="solution")
    store(linked, other.id, "Other", "other-token")
    assert "Other" in linked.ok("doctor")
    said = linked.ok("doctor", "--child", "Child")
    assert "Main: it is" in said
    assert "Child: it is" in said
    assert "Other" not in said
    assert "did you mean 'Child'" in linked.fail("doctor", "--child", "Chidl")


@pytest.mark.empty_database
def test_a_fresh_machine(cli: Cli, tmp_path: Path) -> None:
    """Nothing is made, and nothing is wrong yet."""
    said = cli.ok("doctor")
    assert f"? database      sqlite: there is none at {tmp_path / 'imgsync.db'} yet" in said
    assert "-> the first 'imgsync account add' makes it" in said
    assert "needs the database" in said
    assert not (tmp_path / "imgsync.db").exists()


def test_a_refused_token_and_a_foreign_one(linked: Cli, shop: Shop) -> None:
    store(linked, shop.child.id, "Child", MAIN_TOKEN)
    store(linked, shop.main.id, "Main", "wrong-token")
    said = linked.run("doctor")
    assert said.exit_code == 1
    assert "✗ account       Child: " in said.output
    assert f"belongs to account {shop.main.id}" in said.output
    assert "-> 'imgsync account rotate' gives it a token of its own" in said.output
    assert "✗ account       Main: MoySklad does not accept its token: 401" in said.output
    assert "wrong-token" not in said.output
    told = linked.failed_json("doctor")
    assert {one["health"] for one in findings(told, "account")} == {"wrong"}
    assert findings(told, "database")[0]["health"] == "well"


def test_images_that_cannot_be_fetched(linked: Cli, shop: Shop) -> None:
    shop.emulator.faults.add(where="storage", method="ANY", status=503, times=1000)
    (told,) = findings(linked.failed_json("doctor", "--child", "Child"), "storage", "Main")
    assert told["health"] == "wrong"
    assert "503" in told["said"]
    assert "let this machine reach that host" in told["todo"]


def test_clocks_that_differ(linked: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = timedelta(minutes=10)
    monkeypatch.setattr(SystemClock, "now", lambda _: datetime.now(UTC) + ahead)
    told = findings(linked.failed_json("doctor"), "clock")
    assert [one["health"] for one in told][:2] == ["wrong", "wrong"]
    assert all(re.search(r"is (6\d\d|59\d) s ahead of", one["said"]) for one in told)


def test_a_broken_database_leaves_the_rest_to_be_told(
    linked: Cli, shop: Shop, tmp_path: Path
) -> None:
    shop.unjudged = "there is no database to judge by"
    for name in ("imgsync.db-wal", "imgsync.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "imgsync.db").write_bytes(b"SQLite format 3\0" + b"overwritten" * 1000)
    told = linked.failed_json("doctor")
    assert findings(told, "database")[0]["health"] == "wrong"
    assert findings(told, "disk", "temp_dir")[0]["health"] == "well"
    assert findings(told, "plugins", "imgsync")[0]["health"] == "well"
    assert findings(told, "webhooks")[0]["health"] == "unknown"


def test_a_database_that_can_be_read_alone_leaves_the_rest_to_be_told(
    linked: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.unjudged = "the database cannot be used"

    def refuse(url: str) -> Database:
        raise StoreError("attempt to write a readonly database")

    monkeypatch.setattr(Database, "open", refuse)
    said = linked.run("doctor")
    assert said.exit_code == 1
    assert "✓ database" not in said.output  # one answer, not two
    assert said.output.count("✗ database      attempt to write a readonly database") == 1
    for name in ("clock", "accounts", "webhooks", "workers", "queue"):
        assert f"? {name:<13} needs the database, which cannot be used now" in said.output
    assert "✓ plugins" in said.output


@pytest.mark.parametrize(
    ("revision", "health", "todo"),
    [("0009", "unknown", "updates it"), ("9999", "wrong", "update imgsync")],
)
def test_another_schema_is_told_and_left_as_it_is(
    linked: Cli, tmp_path: Path, revision: str, health: str, todo: str
) -> None:
    file = tmp_path / "imgsync.db"
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    result = linked.run("doctor", "--json")
    assert result.exit_code == int(health == "wrong")
    assert f'"health": "{health}"' in result.stdout
    assert todo in result.stdout
    with sqlite3.connect(file) as connection:
        (left,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.close()
    assert left == revision


def test_a_paused_child_and_a_parked_one(linked: Cli) -> None:
    linked.ok("queue", "pause", "Child")
    said = linked.ok("doctor", "--child", "Child")
    assert "? account       Child: it is paused by hand" in said
    assert "'imgsync queue resume 'Child''" in said
    _execute(linked, "UPDATE accounts SET parked_reason = 'its storage is full'")
    said = linked.run("doctor").output
    assert (
        "✗ account       Child: it takes no requests until a new token comes: its storage" in said
    )
    assert "-> mend what the reason names; 'imgsync account rotate' with a new token wakes" in said


def test_a_refused_token_has_one_advice(linked: Cli, shop: Shop) -> None:
    linked.ok("enqueue")
    store(linked, shop.child.id, "Child", "wrong-token")
    linked.run("worker", "--drain")  # which parks it
    advice = "give it a new token or password with 'imgsync account rotate'"
    told = findings(linked.failed_json("doctor", "--child", "Child"), "account", "Child")
    assert len(told) == 2
    assert told[0]["said"].startswith("it takes no requests until ")
    assert [one["todo"] for one in told] == [advice, advice]
    assert not [one for one in told if "account rotate" in one["said"]]


def test_a_server_that_cannot_be_reached_is_told_with_what_to_do(cli: Cli) -> None:
    cli.env["IMGSYNC_DATABASE_URL"] = "postgresql://me:hush@127.0.0.1:1/shop"
    said = cli.run("doctor").output
    why = 'connection to server at "127.0.0.1", port 1 failed: Connection refused'
    assert re.search(rf"✗ database +Cannot use the database \S+: {re.escape(why)}\n", said)
    assert "-> see whether that server runs and this machine reaches it" in said
    assert "hush" not in said
    assert cli.fail("links").endswith(f": {why}\n")
    russian = cli.run("doctor", IMGSYNC_LANGUAGE="ru").output
    assert "нет соединения с сервером «127.0.0.1», порт 1: в соединении отказано\n" in russian
    assert "-> проверьте, работает ли этот сервер" in russian


def test_a_missing_package_is_told_with_what_to_do(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.env["IMGSYNC_DATABASE_URL"] = "postgresql://me@127.0.0.1:1/shop"
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    assert "-> pip install 'imgsync[postgresql]'" in cli.run("doctor").output


def test_a_variable_that_was_meant_otherwise_in_russian(cli: Cli) -> None:
    cli.env["IMGSYNC_CONCURENCY"] = "2"
    said = cli.run("doctor", IMGSYNC_LANGUAGE="ru").output
    assert "в imgsync она ничего не настраивает; может быть, «IMGSYNC_CONCURRENCY»?" in said
    assert "configures" not in said


def test_a_broken_plugin_leaves_the_rest_to_be_told(
    linked: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise PluginError("plugin 'mine' cannot be loaded")

    monkeypatch.setattr("imgsync.entrypoints.container.load_plugins", broken)
    told = linked.failed_json("doctor")
    assert findings(told, "plugins")[0]["said"] == "plugin 'mine' cannot be loaded"
    assert {one["health"] for one in findings(told, "account")} == {"well"}
    assert findings(told, "workers")[0]["health"] == "wrong"


def test_a_lost_key_and_a_lost_account(linked: Cli, tmp_path: Path) -> None:
    other = tmp_path / "other.key"
    told = linked.failed_json("doctor", IMGSYNC_KEY_FILE=str(other))
    assert "key" in str([one for one in told["findings"] if one["health"] == "wrong"])
    assert findings(told, "queue")[0]["health"] == "well"
    assert not other.exists()
    _execute(linked, "DELETE FROM accounts WHERE name = 'Main'")
    told = linked.failed_json("doctor")
    assert any("imgsync account add" in one["todo"] for one in findings(told, "accounts"))


def _execute(cli: Cli, statement: str) -> None:
    path = cli.env["IMGSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def test_passwords_of_addresses_are_not_shown(linked: Cli) -> None:
    url = "postgresql://me:hush-hush@localhost:1/db?password=hush-too"
    told = linked.failed_json(
        "doctor",
        IMGSYNC_DATABASE_URL=url,
        IMGSYNC_METRICS_TOKEN="hush-metrics",
        IMGSYNC_NOTIFY_URLS="json://hush-notify",
        IMGSYNC_TYPO="1",
    )
    assert "hush" not in str(told)
    values = {one["about"]: one["said"] for one in findings(told, "configuration")}
    assert values["database_url"].startswith("postgresql://me@localhost:1/db, set by the variable")
    assert values["metrics_token"].startswith("set, not shown")
    assert values["notify_urls"].startswith("set, not shown")
    assert values["IMGSYNC_TYPO"] == "it configures nothing in imgsync"
    assert findings(told, "database")[0]["health"] == "wrong"


@pytest.mark.parametrize("url", ["postgresql://me:hu/sh@host/db", "postgresql://me:hush@h:x/d"])
def test_a_password_that_is_no_address_is_not_shown(url: str) -> None:
    assert checks._without_password(url) == "set, not shown"


def test_a_disk_that_is_full_or_not_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.disk_finding("temp_dir", tmp_path / "a" / "b").health == "well"
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    assert "is no folder" in checks.disk_finding("temp_dir", tmp_path / "file" / "b").said
    monkeypatch.setattr(checks, "_LEAST_FREE_BYTES", 2**70)
    told = checks.disk_finding("temp_dir", tmp_path)
    assert (told.health, told.todo) == ("wrong", "make room, or name another folder")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot be written" in checks.disk_finding("temp_dir", tmp_path).said


def test_an_end_that_was_told_is_found(linked: Cli, shop: Shop) -> None:
    """A parked account, webhooks that do not work, tasks that nobody takes."""
    linked.ok("webhooks", "install", "--url", "https://sync.example")
    assert findings(linked.json("doctor"), "webhooks", "Main")[0]["health"] == "well"
    shop.main.set_webhooks(False)
    linked.run("webhooks", "check")
    linked.ok("enqueue")
    _make_old(linked)
    told = linked.failed_json("doctor")
    (workers,) = findings(told, "workers")
    assert (workers["health"], workers["said"]) == (
        "wrong",
        "none takes tasks, though some are due",
    )
    (queue,) = findings(told, "queue")
    assert queue["said"] == "the oldest due task has waited for 3 hours"


def _make_old(cli: Cli) -> None:
    path = cli.env["IMGSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        (at,) = connection.execute("SELECT scheduled_at FROM sync_queue").fetchone()
        old = datetime.fromisoformat(str(at)) - timedelta(hours=3, minutes=1)
        connection.execute("UPDATE sync_queue SET scheduled_at = ?", (_alike(at, old),))
    connection.close()


def _alike(at: str, moment: datetime) -> str:
    return moment.isoformat(sep=at[10], timespec="microseconds" if "." in at else "seconds")


@pytest.mark.slow
def test_a_probe_asks_first_and_leaves_nothing(linked: Cli, shop: Shop) -> None:
    asked = linked.fail("doctor", "--probe", "Child", "--no-sizes", stdin="n\n")
    assert "Make a scratch product in 'Child', upload less than 1 MB to it and delete it?" in asked
    assert "Nothing was done" in asked
    assert "--yes agrees" in linked.fail("doctor", "--probe", "Child", stdin="")
    assert shop.writes == 0
    said = linked.ok("doctor", "--probe", "Child", "--no-sizes", stdin="y\n")
    assert re.search(r"Images of many entities in one request +taken", said)
    assert re.search(r"WEBP +refused \(51002\)", said)
    assert re.search(r"A list that is refused +leaves what was there", said)
    told = linked.json("doctor", "--probe", "Child", "--no-sizes", "--yes")["probe"]
    assert (told["bulk"], told["gif"], told["refused_list"]) == (True, False, "keeps")
    for secret in (CHILD_TOKEN, "Child", shop.child.id, "127.0.0.1", "localhost"):
        assert secret not in said + str(told)
    assert [entity.name for entity in shop.child.entities("product")] == ["Lamp"]
    abilities = linked.json("account", "show", "Child")["abilities"]
    assert (abilities["bulk"], abilities["refused_formats"]) == (True, ["bmp", "gif", "webp"])
    assert "many entities in one request: yes" in linked.ok("doctor", "--child", "Child")


def test_a_main_account_is_never_probed_though_its_role_is_not_known(
    linked: Cli, shop: Shop, tmp_path: Path
) -> None:
    """As after its row was lost, and stored anew."""
    with sqlite3.connect(tmp_path / "imgsync.db") as connection:
        connection.execute("UPDATE accounts SET role = NULL")
    assert "is a main account" in linked.fail("doctor", "--probe", "Main", "--yes")
    assert shop.writes == 0


@pytest.mark.slow
def test_a_probe_that_is_refused(linked: Cli, shop: Shop) -> None:
    assert "is a main account" in linked.fail("doctor", "--probe", "Main", "--yes")
    shop.emulator.faults.add(method="POST", path_regex="entity/product$", status=403)
    assert "403" in linked.fail("doctor", "--probe", "Child", "--yes")
    shop.child.storage_quota = 2500
    result = linked.run("doctor", "--probe", "Child", "--yes", "--no-sizes", "--json")
    assert result.exit_code == 3, result.output
    assert "the account's storage is full (51003)" in result.stdout
    assert "Child" not in result.stdout
    assert [entity.name for entity in shop.child.entities("product")] == ["Lamp"]


@pytest.mark.parametrize(
    "options",
    [("--yes",), ("--no-sizes",), ("--probe", "Child", "--child", "Child")],
)
def test_options_that_do_not_go_together(cli: Cli, options: tuple[str, ...]) -> None:
    assert "Error: " in cli.fail("doctor", *options, status=2)


def test_tokens_that_are_plain_are_told_and_left(linked: Cli, tmp_path: Path) -> None:
    """As in the database of an earlier version: to encrypt them is not for a look."""
    file = tmp_path / "imgsync.db"
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM encryption")
        connection.execute("UPDATE accounts SET secret = ? WHERE name = 'Main'", [MAIN_TOKEN])
        connection.execute("UPDATE accounts SET secret = ? WHERE name = 'Child'", [CHILD_TOKEN])
    key_of(linked).unlink()
    told = linked.json("doctor")
    (plain,) = [one for one in findings(told, "accounts") if "not encrypted" in one["said"]]
    assert plain["health"] == "unknown"
    assert "account list" in plain["todo"]
    assert len(findings(told, "account")) == 2
    assert not key_of(linked).exists()
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT count(*) FROM encryption").fetchone() == (0,)
        stored = {secret for (secret,) in connection.execute("SELECT secret FROM accounts")}
    assert stored == {MAIN_TOKEN, CHILD_TOKEN}
    linked.ok("account", "list")
    assert "not encrypted" not in linked.ok("doctor")


def test_a_key_that_is_not_here_is_told_once(linked: Cli) -> None:
    key_of(linked).rename(key_of(linked).with_name("elsewhere"))
    said = linked.run("doctor").output
    assert said.count("are encrypted with key") == 1
    assert not key_of(linked).exists()
