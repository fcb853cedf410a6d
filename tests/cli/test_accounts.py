"""imgsync account and imgsync settings."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import SqlAbilityRepository, SqlAccountRepository
from imgsync.domain.errors import AuthorisationError, ImgsyncError, StoreError, UnavailableError
from imgsync.domain.model import Abilities, Account, AccountRole, Identity, Parking, TokenKind
from imgsync.domain.ports.queue import NewTask
from tests.cli.conftest import Cli, key_of, store
from tests.shop import Shop, pictures
from tests.support.keys import accounts_of

SECRET = "hush-hush-token"
ID = "0a1b2c3d-0000-11ee-0a80-000000000001"
SHOP = Identity(ID, "Shop", TokenKind.SOLUTION)


class Api:
    """What the API says of credentials, as `MoySkladFactory.identify` tells it."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str | None], Identity | ImgsyncError] = {
            (SECRET, None): SHOP,
            ("user-token", None): Identity(ID, "Shop", TokenKind.USER),
            (SECRET, "admin@shop"): Identity(ID, "Shop", TokenKind.PASSWORD),
        }
        self.asked = 0

    def identify(self, secret: str, login: str | None) -> Identity:
        self.asked += 1
        answer = self.answers.get((secret, login))
        if answer is None:
            raise AuthorisationError("401 Unauthorized (code 1056)")
        if isinstance(answer, ImgsyncError):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    fake = Api()

    async def identify(
        _factory: HttpMoySkladFactory, secret: str, login: str | None = None
    ) -> Identity:
        return fake.identify(secret, login)

    monkeypatch.setattr(HttpMoySkladFactory, "identify", identify, raising=False)
    return fake


@pytest.mark.parametrize("way", ["environment", "stdin", "prompt"])
def test_a_token_is_read_without_being_an_argument(cli: Cli, way: str) -> None:
    if way == "environment":
        said = cli.ok("account", "add", IMGSYNC_TOKEN=SECRET)
    else:
        options = ["--token-stdin"] if way == "stdin" else []
        said = cli.ok("account", "add", *options, stdin=f"{SECRET}\n")
    assert "Account 'Shop' is stored." in said
    assert f"ID {ID}, the token of a solution." in said
    assert SECRET not in said
    (listed,) = cli.json("account", "list")
    assert listed == {
        "id": ID,
        "name": "Shop",
        "kind": "solution",
        "login": None,
        "role": None,
        "parked": None,
        "weight": None,
    }


@pytest.mark.parametrize("kind", ["nothing", "a line"])
@pytest.mark.parametrize(
    ("command", "language", "said"),
    [
        (
            ("account", "add", "x", "--offline"),
            "en",
            "No token or password is given, and there is no",
        ),
        (
            ("account", "add", "x", "--offline"),
            "ru",
            "Токен или пароль не указан, а спросить его негде",
        ),
        (("account", "export", "moved"), "en", "No passphrase is given, and there is no terminal"),
        (("solution", "add", ID), "en", "No secret key is given, and there is no terminal"),
    ],
)
def test_without_a_terminal_nobody_is_asked(
    cli: Cli, tmp_path: Path, command: tuple[str, ...], language: str, said: str, kind: str
) -> None:
    """Such as cron and CI. What is piped in counts."""
    cli.ok("account", "list")  # makes the database
    environment = {name: value for name, value in os.environ.items() if "IMGSYNC" not in name}
    ended = subprocess.run(
        [sys.executable, "-m", "imgsync", *command],
        env=environment | cli.env | {"IMGSYNC_LANGUAGE": language},
        cwd=tmp_path,
        input="" if kind == "nothing" else "a-passphrase-or-a-token\n",
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,  # which has no terminal
    )
    assert "GetPassWarning" not in ended.stderr
    if kind == "a line":
        assert ended.returncode == 0, ended.stderr
        return
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.partition(": ")[2].startswith(said)
    assert "IMGSYNC_" in line or "--secret-stdin" in line


def test_a_name_that_another_account_has_already_is_told(cli: Cli, api: Api) -> None:
    other = "5f1b8d1e-0000-0000-0000-00000000000a"
    api.answers["other", None] = Identity(other, "Shop", TokenKind.USER)
    first = cli.run("account", "add", IMGSYNC_TOKEN=SECRET)
    assert "called" not in first.stderr
    second = cli.run("account", "add", IMGSYNC_TOKEN="other")
    assert second.exit_code == 0
    (line,) = second.stderr.splitlines()
    assert f"account {ID} is called 'Shop' too" in line
    assert f"'imgsync account rename {other} NAME'" in line
    assert "Account 'Shop' is stored." in second.stdout
    assert [one["name"] for one in cli.json("account", "list")] == ["Shop", "Shop"]
    cli.ok("account", "rename", other, "Two")
    again = cli.run("account", "add", IMGSYNC_TOKEN="other")
    assert "called" not in again.stderr
    assert {one["name"] for one in cli.json("account", "list")} == {"Shop", "Two"}


def test_a_token_that_is_known_takes_no_account_s_name_away(cli: Cli) -> None:
    """Such as one that stands twice in a list of names and tokens."""
    cli.ok("account", "add", "--name", "Omsk", IMGSYNC_TOKEN=SECRET)
    said = cli.fail("account", "add", "--name", "New", IMGSYNC_TOKEN="user-token")
    (line,) = said.splitlines()
    assert f"credentials of account 'Omsk' ({ID}), which is stored already" in line
    assert "'imgsync account rotate'" in line
    assert "'imgsync account rename'" in line
    russian = cli.fail("account", "add", "--name", "New", IMGSYNC_TOKEN=SECRET, LANG="ru_RU.UTF-8")
    assert russian.startswith(f"Ошибка: Это доступ к аккаунту «Omsk» ({ID}), который уже сохранён;")
    (listed,) = cli.json("account", "list")
    assert (listed["name"], listed["kind"]) == ("Omsk", "solution")
    cli.ok("account", "add", "--name", "Omsk", IMGSYNC_TOKEN="user-token")
    (listed,) = cli.json("account", "list")
    assert (listed["name"], listed["kind"]) == ("Omsk", "user")


def test_a_known_account_that_is_named_by_its_id_gets_another_name(cli: Cli) -> None:
    cli.ok("account", "add", "--name", "Omsk", IMGSYNC_TOKEN=SECRET)
    cli.ok("account", "add", ID, "--name", "New", IMGSYNC_TOKEN=SECRET)
    assert [one["name"] for one in cli.json("account", "list")] == ["New"]


def test_a_known_account_without_a_name_gets_one(cli: Cli) -> None:
    cli.ok("account", "add", ID, "--offline", IMGSYNC_TOKEN=SECRET)
    cli.ok("account", "add", "--name", "Omsk", IMGSYNC_TOKEN=SECRET)
    assert [one["name"] for one in cli.json("account", "list")] == ["Omsk"]


def test_the_list_shows_no_token(cli: Cli) -> None:
    assert "No accounts yet" in cli.ok("account", "list")
    cli.ok("account", "add", "--name", "[bold]Shop", "--login", "admin@shop", IMGSYNC_TOKEN=SECRET)
    listed = cli.ok("account", "list")
    for part in (ID, "[bold]Shop", "password", "admin@shop"):
        assert part in listed
    assert SECRET not in listed + cli.ok("account", "list", "--json")


def test_a_script_is_told_what_was_learnt(cli: Cli) -> None:
    told = cli.json("account", "add", "--role", "main", IMGSYNC_TOKEN="user-token")
    assert told == {
        "id": ID,
        "name": "Shop",
        "kind": "user",
        "login": None,
        "role": "main",
        "checked": True,
        "woken": 0,
        "exit_status": 0,
        "status": "done",
    }


@pytest.mark.parametrize(
    ("arguments", "token", "message"),
    [
        (["other-id"], SECRET, f"of account '{ID}' (Shop), not of 'other-id'"),
        (["--kind", "user"], SECRET, "the token of a solution (--kind solution), not the token"),
        (["--kind", "solution"], "user-token", "the token of a user (--kind user), not"),
        (["--kind", "draft"], "user-token", "not the token of a solution in draft (--kind draft)"),
        ([], "revoked", "MoySklad refuses these credentials, so nothing is stored: 401"),
        ([ID, "--name", "X"], "revoked", "nothing is stored"),
    ],
)
def test_credentials_of_someone_else_are_not_stored(
    cli: Cli, arguments: list[str], token: str, message: str
) -> None:
    assert message in cli.fail("account", "add", *arguments, IMGSYNC_TOKEN=token)
    told = cli.failed_json("account", "add", *arguments, IMGSYNC_TOKEN=token)
    assert message in told["error"]
    assert token not in json.dumps(told)
    assert cli.json("account", "list") == []


def test_refused_credentials_do_not_replace_good_ones(cli: Cli, sqlite_database: Database) -> None:
    cli.ok("account", "add", IMGSYNC_TOKEN=SECRET)
    cli.fail("account", "add", ID, IMGSYNC_TOKEN="revoked")
    assert asyncio.run(accounts_of(sqlite_database, key_of(cli)).get(ID)).secret == SECRET


def test_behind_an_outage_an_account_is_stored_unchecked_on_demand(cli: Cli, api: Api) -> None:
    api.answers[SECRET, None] = UnavailableError("no answer from the API")
    said = cli.fail("account", "add", ID, IMGSYNC_TOKEN=SECRET)
    assert "could not be asked whose credentials these are, so nothing is stored" in said
    assert "no answer from the API" in said
    assert "--offline" in said
    assert cli.json("account", "list") == []
    asked = api.asked
    result = cli.run("account", "add", ID, "--offline", IMGSYNC_TOKEN=SECRET)
    assert result.exit_code == 0
    assert "Warning: nobody has checked" in result.stderr
    assert api.asked == asked
    assert cli.json("account", "list")[0]["kind"] == "solution"
    assert "--offline needs the ID" in cli.fail(
        "account", "add", "--offline", status=2, IMGSYNC_TOKEN=SECRET
    )


def test_what_is_stored_unchecked_keeps_what_is_known(cli: Cli) -> None:
    cli.ok("account", "add", "--name", "Main shop", "--kind", "draft", IMGSYNC_TOKEN=SECRET)
    result = cli.run("account", "add", ID, "--offline", IMGSYNC_TOKEN="another")
    assert f"credentials of 'Main shop' ({ID})" in result.stderr
    (stored,) = cli.json("account", "list")
    assert (stored["name"], stored["kind"]) == ("Main shop", "draft")
    cli.ok("account", "add", ID, "--offline", "--login", "a@b", IMGSYNC_TOKEN="another")
    cli.ok("account", "add", ID, "--offline", "--name", "New", IMGSYNC_TOKEN="another")
    (stored,) = cli.json("account", "list")
    assert (stored["name"], stored["kind"], stored["login"]) == ("New", "solution", None)


def test_an_account_that_shows_nothing_is_not_stored(cli: Cli, api: Api) -> None:
    api.answers[SECRET, None] = ImgsyncError("no entity tells the account")
    assert "Error: Nothing is stored: no entity tells" in cli.fail(
        "account", "add", IMGSYNC_TOKEN=SECRET
    )


def test_an_id_is_compared_as_an_uuid(cli: Cli) -> None:
    cli.ok("account", "add", ID.upper(), IMGSYNC_TOKEN=SECRET)
    assert cli.json("account", "list")[0]["id"] == ID


def test_a_draft_is_told_by_the_user_and_kept(cli: Cli) -> None:
    cli.ok("account", "add", "--kind", "draft", IMGSYNC_TOKEN=SECRET)
    result = cli.run("account", "add", IMGSYNC_TOKEN=SECRET)
    assert "Kept as a solution in draft" in result.stderr
    assert cli.json("account", "list")[0]["kind"] == "draft"
    cli.ok("account", "add", "--kind", "solution", IMGSYNC_TOKEN=SECRET)
    assert cli.json("account", "list")[0]["kind"] == "solution"


def test_a_hostile_name_from_the_api_is_stored_harmless(cli: Cli, api: Api) -> None:
    api.answers[SECRET, None] = Identity(ID, "A\x1b[31m\u202eB\u00a0C\n", TokenKind.SOLUTION)
    cli.ok("account", "add", IMGSYNC_TOKEN=SECRET)
    assert cli.json("account", "list")[0]["name"] == r"A\x1b[31m\u202eB C"
    api.answers[SECRET, None] = Identity(ID, "", TokenKind.SOLUTION)
    cli.ok("account", "add", IMGSYNC_TOKEN=SECRET)


@pytest.fixture
def parked(cli: Cli, sqlite_database: Database) -> Cli:
    """A parked account with two tasks that wait for it."""
    cli.ok("account", "add", "--name", "Mine", "--role", "child", IMGSYNC_TOKEN=SECRET)
    until = datetime.now(UTC) + timedelta(hours=1)

    async def park() -> None:
        parking = Parking("storage \x1b[31mfull", until)
        await SqlAccountRepository(sqlite_database).park(ID, parking)
        queue = SqlTaskQueue(sqlite_database)
        await queue.enqueue([NewTask({"n": number}) for number in range(2)])
        for task in await queue.claim(lease=timedelta(minutes=1), limit=2):
            await queue.park(task, account_id=ID, until=until, error="parked")

    asyncio.run(park())
    return cli


def test_a_parked_account_is_shown_with_its_reason(parked: Cli) -> None:
    said = parked.ok("account", "list")
    assert r"UTC: storage \x1b[31mfull" in said
    assert "child" in said
    (listed,) = parked.json("account", "list")
    assert listed["parked"]["reason"] == "storage \x1b[31mfull"
    assert datetime.fromisoformat(listed["parked"]["until"]) > datetime.now(UTC)
    counts = parked.json("queue", "status")
    assert (counts["pending"], counts["parked"]) == (2, 2)
    assert "pending    2 (2 parked)" in parked.ok("queue", "status")


def test_new_credentials_wake_the_tasks_and_keep_role_and_name(parked: Cli) -> None:
    said = parked.ok("account", "add", IMGSYNC_TOKEN="user-token")
    assert "2 tasks that waited for it run again." in said
    (listed,) = parked.json("account", "list")
    assert (listed["kind"], listed["role"], listed["name"]) == ("user", "child", "Mine")
    assert listed["parked"] is None
    assert parked.json("queue", "status")["parked"] == 0
    assert parked.json("account", "add", IMGSYNC_TOKEN="user-token")["woken"] == 0


@pytest.mark.parametrize(
    ("options", "token", "message"),
    [
        (["--kind", "password"], SECRET, "a login goes with a password"),
        (["--kind", "user", "--login", "me"], SECRET, "a login goes with a password"),
        ([], " ", "the token or password is empty"),
        (["--kind", "nonsense"], SECRET, "Invalid value for '--kind'"),
    ],
)
def test_incomplete_accounts_are_refused(
    cli: Cli, api: Api, options: list[str], token: str, message: str
) -> None:
    said = cli.fail("account", "add", *options, status=2, IMGSYNC_TOKEN=token)
    assert message in said
    assert cli.json("account", "list") == []
    assert api.asked == 0


def test_an_empty_id_is_refused(cli: Cli) -> None:
    assert "account id is empty" in cli.fail("account", "add", " ", status=2, IMGSYNC_TOKEN=SECRET)


@pytest.fixture
def child(cli: Cli) -> Cli:
    store(cli, "c1", "Branch", SECRET)
    return cli


USUAL = {"sweep": "03:30", "survey_minutes": 15, "copies": True}
AS_BY_DEFAULT = {
    "fit": True,
    "convert": True,
    "max_side": None,
    "quality": None,
    "drop_metadata": True,
}


def test_settings_are_off_by_default(child: Cli) -> None:
    assert child.json("settings", "show") == [
        {
            "account": "c1",
            "sync_images": False,
            "sync_images_all": False,
            "limit": 0,
            "pictures": AS_BY_DEFAULT,
            "schedule": USUAL,
            "guard": False,
        }
    ]


def test_what_becomes_of_pictures_is_changed_one_by_one(child: Cli) -> None:
    def set_(*options: str) -> object:
        return child.json("settings", "set", "--child", "c1", *options)["pictures"]

    assert set_("--no-fit") == AS_BY_DEFAULT | {"fit": False}
    assert set_("--no-convert", "--max-side", "1600") == AS_BY_DEFAULT | {
        "fit": False,
        "convert": False,
        "max_side": 1600,
    }
    changed = {"fit": True, "convert": False, "max_side": 1600, "quality": 80}
    assert set_("--fit", "--quality", "80", "--keep-metadata") == changed | {"drop_metadata": False}
    shown = child.ok("settings", "show")
    assert "made to fit, not converted, 1600 pixels at most, quality 80, metadata kept" in shown
    assert child.json("settings", "set", "--child", "c1", "--sync-images")["pictures"] == (
        changed | {"drop_metadata": False}
    )
    told = child.ok(
        *("settings", "set", "--child", "c1", "--convert", "--max-side", "none"),
        *("--quality", "none", "--drop-metadata"),
    )
    assert told.strip() == "'Branch' now receives the first image (made to fit, converted)."
    assert child.json("settings", "show")[0]["pictures"] == AS_BY_DEFAULT


@pytest.mark.parametrize("command", [["settings", "set", "--child", "c1"], ["link", "m", "c1"]])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-side", "0"], "'0' is neither a whole number from 64 to 100000 nor 'none'"),
        (["--max-side", "-5"], "'-5' is neither a whole number"),
        (["--max-side", "1e3"], "'1e3' is neither a whole number"),
        (["--max-side", "9" * 5000], "is neither a whole number"),
        (["--quality", "200"], "'200' is neither a whole number from 20 to 95 nor 'none'"),
        (["--quality", "19"], "'19' is neither a whole number"),
        (["--quality", "٨٠"], "is neither a whole number"),
        (["--quality", ""], "'' is neither a whole number"),
    ],
)
def test_what_pictures_cannot_be_made_by_is_one_line(
    child: Cli, command: list[str], options: list[str], message: str
) -> None:
    said = child.fail(*command, *options, status=2)
    assert message in said
    assert len([line for line in said.splitlines() if line.startswith("Error: ")]) == 1
    assert child.json("settings", "show")[0]["pictures"] == AS_BY_DEFAULT


def test_one_setting_clears_the_other(child: Cli) -> None:
    assert "all images" in child.ok("settings", "set", "--child", "c1", "--sync-images-all")
    assert child.json("settings", "show", "--child", "c1")[0]["limit"] is None
    assert "the first image" in child.ok("settings", "set", "--child", "c1", "--sync-images")
    assert child.json("settings", "show")[0] == {
        "account": "c1",
        "sync_images": True,
        "sync_images_all": False,
        "limit": 1,
        "pictures": AS_BY_DEFAULT,
        "schedule": USUAL,
        "guard": False,
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
        assert "Account 'nobody' is not stored" in said


@pytest.mark.empty_database
def test_the_database_is_private(child: Cli, tmp_path: Path) -> None:
    assert (tmp_path / "imgsync.db").stat().st_mode & 0o077 == 0


def test_standard_input_wins_over_the_environment(cli: Cli, sqlite_database: Database) -> None:
    add = ("account", "add", "m1", "--offline", "--token-stdin")
    cli.ok(*add, stdin="given\n", IMGSYNC_TOKEN="other")
    assert asyncio.run(accounts_of(sqlite_database, key_of(cli)).get("m1")).secret == "given"


@pytest.mark.parametrize(
    ("arguments", "token"),
    [
        (["m1"], "two\nlines"),
        (["m1"], "токен"),
        (["m\x07"], SECRET),
        (["m\udcff"], SECRET),
        (["m1", "--name", "a\x1b[31m"], SECRET),
        (["m1", "--name", " "], SECRET),
    ],
)
def test_what_no_request_or_terminal_can_hold_is_refused(
    cli: Cli, arguments: list[str], token: str
) -> None:
    said = cli.fail("account", "add", *arguments, status=2, IMGSYNC_TOKEN=token)
    assert any(text in said for text in ("printed", "line breaks", "name is empty"))
    assert token not in said
    assert cli.json("account", "list") == []


def test_long_names_are_shown_whole_where_a_script_reads_them(cli: Cli) -> None:
    assert "No accounts yet" in cli.ok("settings", "show")
    ids = [f"3f8a1c2e-1111-2222-3333-44445555666{n}" for n in range(2)]
    for account_id in ids:
        store(cli, account_id, "N" * 70, SECRET)
    for command in (["account", "list"], ["settings", "show"]):
        shown = cli.ok(*command)
        assert all(account_id in shown for account_id in ids)
        assert "N" * 70 in shown
    assert "sync_images_all" in cli.ok("settings", "show")


def test_an_id_that_is_no_text_is_one_line(cli: Cli) -> None:
    assert cli.fail("settings", "show", "--child", "\udcff").startswith("Error: ")


def test_an_account_is_named_by_id_or_name(child: Cli) -> None:
    for given in ("c1", "Branch", "branch", "C1"):
        assert child.json("settings", "show", "--child", given)[0]["account"] == "c1"


def test_an_id_wins_over_a_name(child: Cli) -> None:
    store(child, "c2", "c1", SECRET)
    assert child.json("settings", "show", "--child", "c1")[0]["account"] == "c1"


def test_a_name_of_several_accounts_is_refused_with_their_ids(child: Cli) -> None:
    store(child, "c2", "Branch", SECRET)
    for command in (["settings", "show"], ["sync", "--main", "c1"], ["enqueue", "--main", "c1"]):
        said = child.fail(*command, "--child", "Branch")
        assert said.strip() == "Error: 2 accounts are called 'Branch'; give the ID: c1, c2"


def test_an_unknown_name_is_answered_with_the_nearest(child: Cli) -> None:
    said = child.fail("settings", "show", "--child", "Brunch")
    assert "Account 'Brunch' is not stored" in said
    assert "(did you mean 'Branch'?)" in said


def test_a_main_account_never_receives_images(child: Cli, sqlite_database: Database) -> None:
    asyncio.run(accounts_of(sqlite_database, key_of(child)).set_role("c1", AccountRole.MAIN))
    said = child.fail("settings", "set", "--child", "c1", "--sync-images")
    assert "account 'Branch' (c1) is a main account and cannot be the child account" in said
    assert child.json("settings", "show")[0]["limit"] == 0
    child.ok("settings", "set", "--child", "c1", "--no-sync-images")


def test_a_wrong_side_is_refused_with_the_way_out(child: Cli, sqlite_database: Database) -> None:
    asyncio.run(accounts_of(sqlite_database, key_of(child)).set_role("c1", AccountRole.MAIN))
    store(child, "m1", "Main", SECRET)
    said = child.fail("sync", "--main", "m1", "--child", "c1")
    assert "'Branch' (c1) is a main account" in said
    assert "say so with 'imgsync account add c1 --role child'" in said


def test_settings_make_an_account_a_child(child: Cli, sqlite_database: Database) -> None:
    child.ok("settings", "set", "--child", "c1", "--no-sync-images")
    assert child.json("account", "list")[0]["role"] is None
    child.ok("settings", "set", "--child", "c1", "--sync-images")
    assert child.json("account", "list")[0]["role"] == "child"
    add = ("account", "add", "c1", "--offline", "--role", "main")
    said = child.fail(*add, IMGSYNC_TOKEN=SECRET)
    assert "'Branch' receives images, so it cannot be a main account" in said
    assert child.json("account", "list")[0]["role"] == "child"
    stored: Account = asyncio.run(accounts_of(sqlite_database, key_of(child)).get("c1"))
    assert stored.role is AccountRole.CHILD


def test_an_account_that_is_stored_though_its_tasks_were_not_woken_is_told_so(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue may be elsewhere, where it cannot be used now."""

    async def fail(*_: object) -> int:
        raise StoreError("Cannot use the queue: connection refused")

    monkeypatch.setattr(SqlTaskQueue, "unpark", fail)
    said = cli.fail("account", "add", ID, "--offline", IMGSYNC_TOKEN=SECRET)
    assert "is stored, but the tasks that wait for it could not be woken: Cannot use" in said
    assert ID in cli.ok("account", "list")


def test_a_store_that_fails_while_it_is_asked_does_not_make_a_known_account_a_new_one(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lose its name and that it is a draft, whose requests cost four times as much."""
    cli.ok("account", "add", ID, "--name", "Mine", "--kind", "draft", IMGSYNC_TOKEN=SECRET)
    with monkeypatch.context() as patched:

        async def fail(*_: object) -> Account:
            raise StoreError("Cannot use the database: connection refused")

        patched.setattr(SqlAccountRepository, "get", fail)
        assert "connection refused" in cli.fail("account", "add", ID, IMGSYNC_TOKEN=SECRET)
    (stored,) = cli.json("account", "list")
    assert (stored["name"], stored["kind"]) == ("Mine", "draft")


SHOWN = Abilities(
    bulk=True,
    bulk_keeps=False,
    permanent_links=True,
    permanent_hosts=frozenset({"cdn.two", "cdn.moysklad.ru"}),
    images_move_updated=False,
    accepted_image_bytes=3_000_000,
    refused_image_bytes=3_200_001,
    refused_formats=frozenset({"webp", "gif"}),
    head=True,
)


def learn(database: Database, account_id: str, shown: Abilities) -> None:
    asyncio.run(SqlAbilityRepository(database).learn(account_id, shown))


def test_an_account_is_shown_with_what_it_has_shown(cli: Cli, sqlite_database: Database) -> None:
    cli.ok("account", "add", "--name", "[b]Mine", "--role", "child", IMGSYNC_TOKEN=SECRET)
    lines = cli.ok("account", "show", "[b]Mine").splitlines()
    assert lines[0] == f"Account '[b]Mine', ID {ID}, the token of a solution."
    assert [line.rpartition("  ")[2] for line in lines[2:]] == [
        *["not yet"] * 6,
        "none",
        "not yet",
    ]
    learn(sqlite_database, ID, SHOWN)
    said = cli.ok("account", "show", ID)
    assert [line.rpartition("  ")[2] for line in said.splitlines()[2:]] == [
        "taken",
        "not kept",
        "given, on cdn.moysklad.ru, cdn.two",
        "stays",
        "3.0 MB (3,000,000 bytes)",
        "3.2 MB (3,200,001 bytes)",
        "GIF, WEBP",
        "told",
    ]
    told = cli.json("account", "show", ID)
    assert told.pop("abilities") == {
        "bulk": True,
        "bulk_keeps": False,
        "permanent_links": True,
        "permanent_hosts": ["cdn.moysklad.ru", "cdn.two"],
        "images_move_updated": False,
        "accepted_image_bytes": 3_000_000,
        "refused_image_bytes": 3_200_001,
        "refused_formats": ["gif", "webp"],
        "head": True,
    }
    assert told == {
        "id": ID,
        "name": "[b]Mine",
        "kind": "solution",
        "login": None,
        "role": "child",
        "parked": None,
        "exit_status": 0,
        "status": "done",
    }
    assert SECRET not in said + json.dumps(told)


def test_the_contrary_is_shown_in_words(cli: Cli, sqlite_database: Database) -> None:
    cli.ok("account", "add", IMGSYNC_TOKEN=SECRET)
    learn(
        sqlite_database,
        ID,
        Abilities(False, True, False, images_move_updated=True, head=False),
    )
    said = cli.ok("account", "show", ID)
    assert [line.rpartition("  ")[2] for line in said.splitlines()[2:]] == [
        "not taken",
        "kept",
        "not given",
        "moves",
        "not yet",
        "not yet",
        "none",
        "not told",
    ]


def test_a_parked_account_is_shown_with_the_reason(parked: Cli) -> None:
    said = parked.ok("account", "show", "Mine")
    assert "It is parked until " in said
    assert r"storage \x1b[31mfull" in said
    assert parked.json("account", "show", "Mine")["parked"]["reason"] == "storage \x1b[31mfull"


def test_what_accounts_have_shown_is_forgotten(cli: Cli, sqlite_database: Database) -> None:
    cli.ok("account", "add", "--name", "Mine", IMGSYNC_TOKEN=SECRET)
    for account_id in (ID, "other"):
        learn(sqlite_database, account_id, SHOWN)
    said = cli.ok("account", "forget-abilities", "Mine", ID)
    assert said == "What account 'Mine' has shown is forgotten; it is shown anew.\n"
    assert cli.json("account", "show", ID)["abilities"]["bulk"] is None
    assert asyncio.run(SqlAbilityRepository(sqlite_database).get("other")) == SHOWN
    told = cli.json("account", "forget-abilities", ID)
    assert told == {"forgotten": [ID], "exit_status": 0, "status": "done"}


def test_of_a_wrong_name_nothing_is_shown_and_nothing_forgotten(
    cli: Cli, sqlite_database: Database
) -> None:
    cli.ok("account", "add", "--name", "Mine", IMGSYNC_TOKEN=SECRET)
    learn(sqlite_database, ID, SHOWN)
    for command in (["show"], ["forget-abilities", "Mine"]):
        said = cli.fail("account", *command, "Mnie")
        assert "'Mnie' is not stored (did you mean 'Mine'?)" in said
        assert len(said.splitlines()) == 1
    assert "Missing argument" in cli.fail("account", "forget-abilities", status=2)
    assert cli.json("account", "show", ID)["abilities"]["bulk"] is True


@pytest.mark.database
def test_a_copy_shows_what_accounts_can_do(ready: Cli, shop: Shop) -> None:
    (picture,) = pictures(1, 5000)
    shop.pair("Lamp", [picture])
    ready.ok("link", shop.main.id, shop.child.id)
    ready.ok("sync")
    main = ready.json("account", "show", shop.main.id)["abilities"]
    child = ready.json("account", "show", shop.child.id)["abilities"]
    assert main["permanent_links"] is True
    assert len(main["permanent_hosts"]) == 1
    assert child["accepted_image_bytes"] == 5000
