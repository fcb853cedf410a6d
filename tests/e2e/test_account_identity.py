"""imgsync account add against the emulator: whose credentials these are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imgsync.entrypoints.cli.main import main
from moysklad_emulator import Emulator, EmulatorServer
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures


class AccountsOf:
    """The command line for a shop, with no account stored."""

    def __init__(self, env: dict[str, str]) -> None:
        self._env = env

    def run(self, *arguments: str, token: str = "") -> Result:
        return CliRunner().invoke(main, arguments, env=self._env | {"IMGSYNC_TOKEN": token})

    def ok(self, *arguments: str, token: str = "") -> str:
        result = self.run(*arguments, token=token)
        assert result.exit_code == 0, result.output
        return result.stdout

    def stored(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(self.ok("account", "list", "--json"))
        return listed


@pytest.fixture
def shop() -> Iterator[Shop]:
    with EmulatorServer(Emulator()) as server:
        yield Shop.on(server)


@pytest.fixture
def cli(shop: Shop, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AccountsOf:
    monkeypatch.chdir(tmp_path)
    return AccountsOf(shop.environment(sqlite_url, str(tmp_path / "temp")))


def test_a_solution_is_learnt(cli: AccountsOf, shop: Shop) -> None:
    cli.ok("account", "add", token=MAIN_TOKEN)
    (stored,) = cli.stored()
    assert (stored["id"], stored["kind"]) == (shop.main.id, "solution")
    assert stored["name"]


def test_a_user_and_a_password_are_learnt(cli: AccountsOf, shop: Shop) -> None:
    shop.main.add_user(token="a-users-token", kind="user")
    shop.child.add_user(login="admin@child", password="a password")
    cli.ok("account", "add", "--name", "By token", token="a-users-token")
    cli.ok("account", "add", "--login", "admin@child", "--name", "By word", token="a password")
    assert [(a["name"], a["id"], a["kind"]) for a in cli.stored()] == [
        ("By token", shop.main.id, "user"),
        ("By word", shop.child.id, "password"),
    ]


def test_tokens_under_each_other_s_id_are_refused(cli: AccountsOf, shop: Shop) -> None:
    result = cli.run("account", "add", shop.main.id, token=CHILD_TOKEN)
    assert result.exit_code == 1
    assert f"account '{shop.child.id}'" in result.stderr
    assert f"not of '{shop.main.id}'" in result.stderr
    assert cli.stored() == []


@pytest.mark.parametrize(
    ("options", "token", "message"),
    [
        ([], "revoked-token", "refuses these credentials, so nothing is stored: 401"),
        (["--kind", "user"], MAIN_TOKEN, "the token of a solution (--kind solution), not"),
    ],
)
def test_what_is_not_as_said_is_not_stored(
    cli: AccountsOf, options: list[str], token: str, message: str
) -> None:
    result = cli.run("account", "add", *options, token=token)
    assert result.exit_code == 1
    assert message in result.stderr
    assert token not in result.output
    assert cli.stored() == []


def test_an_api_that_is_gone_stores_nothing(cli: AccountsOf, shop: Shop) -> None:
    shop.emulator.faults.add(method="GET", status=503, times=100)
    result = cli.run("account", "add", shop.main.id, token=MAIN_TOKEN)
    assert result.exit_code == 1
    assert "could not be asked whose credentials these are" in result.stderr
    assert "Traceback" not in result.output
    assert cli.stored() == []


def test_an_account_stored_unchecked_is_checked_before_it_is_written_to(
    cli: AccountsOf, shop: Shop
) -> None:
    """The tokens of main and child exchanged: the main account keeps its photographs."""
    lamp = shop.pair("Lamp", pictures(2), pictures(1, 90))
    main_images = shop.main.entities("product")[0].images
    for account, token in ((shop.main, CHILD_TOKEN), (shop.child, MAIN_TOKEN)):
        cli.ok("account", "add", account.id, "--name", account.name, "--offline", token=token)
    cli.ok("settings", "set", "--child", "Child", "--sync-images-all")
    result = cli.run("sync", "--main", "Main", "--child", "Child")
    assert result.exit_code in (1, 3), result.output
    assert "belong" in result.stderr
    assert shop.main.entities("product")[0].images == main_images
    assert shop.images(lamp) == pictures(1, 90)


def test_tasks_queued_before_the_tokens_were_exchanged_say_so(cli: AccountsOf, shop: Shop) -> None:
    lamps = [shop.pair(f"L{n}", pictures(1, 100 + n)) for n in range(3)]
    cli.ok("account", "add", "--name", "Main", token=MAIN_TOKEN)
    cli.ok("account", "add", "--name", "Child", token=CHILD_TOKEN)
    cli.ok("settings", "set", "--child", "Child", "--sync-images-all")
    cli.ok("enqueue", "--main", "Main", "--child", "Child")
    for account, token in ((shop.main, CHILD_TOKEN), (shop.child, MAIN_TOKEN)):
        cli.ok("account", "add", account.id, "--offline", token=token)
    assert cli.run("worker", "--drain").exit_code == 3
    failed = json.loads(cli.ok("queue", "failed", "--json"))
    assert len(failed) == len(lamps)
    for task in failed:
        assert task["error"].startswith(f"Account 'Child' is stored under id {shop.child.id}, but")
    assert [len(e.images) for e in shop.main.entities("product")] == [1, 1, 1]


def test_a_refused_token_parks_its_tasks_until_it_is_replaced(cli: AccountsOf, shop: Shop) -> None:
    lamps = [shop.pair(f"L{n}", pictures(1, 100 + n)) for n in range(5)]
    cli.ok("account", "add", "--name", "Main", token=MAIN_TOKEN)
    cli.ok("account", "add", "--name", "Child", token=CHILD_TOKEN)
    cli.ok("settings", "set", "--child", "Child", "--sync-images-all")
    cli.ok("enqueue", "--main", "Main", "--child", "Child")
    cli.ok("account", "add", shop.child.id, "--offline", token="revoked-token")
    assert cli.run("worker", "--drain").exit_code == 3
    assert json.loads(cli.ok("queue", "status", "--json"))["parked"] == 5
    (parked,) = [a for a in cli.stored() if a["parked"]]
    assert parked["id"] == shop.child.id
    assert "401" in parked["parked"]["reason"]
    said = cli.ok("account", "add", shop.child.id, token=CHILD_TOKEN)
    assert "5 tasks that waited for it run again." in said
    cli.ok("worker", "--drain")
    assert all(shop.images(lamp) for lamp in lamps)
