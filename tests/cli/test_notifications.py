"""imgsync notify-test, and how notifications are configured."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgsync.entrypoints.config import fixed_config, load_config
from tests.cli.conftest import Cli, store
from tests.shop import Shop, pictures
from tests.support.receiver import Receiver

NOBODY = "json://user:hush-hush@127.0.0.1:1/hush-path"
WRONG = "Error: Bad configuration: IMGSYNC_NOTIFY_URLS (notify_urls): "


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def test_a_test_message_is_told_by_target(cli: Cli, receiver: Receiver) -> None:
    done = cli.run(
        "notify-test", IMGSYNC_NOTIFY_URLS=f"{receiver.url}, {NOBODY}", IMGSYNC_NOTIFY_LANGUAGE="ru"
    )
    assert done.exit_code == 3
    assert done.stdout == "address 1 (JSON): sent\n"
    assert done.stderr.startswith("address 2 (JSON): it cannot be reached")
    assert receiver.texts == ["Это проверка. Уведомления imgsync приходят сюда."]
    assert "hush" not in done.output
    all_went = cli.json("notify-test", IMGSYNC_NOTIFY_URLS=receiver.url)
    assert all_went["targets"] == [{"target": "address 1 (JSON)", "went": True, "why": ""}]
    assert cli.failed_json("notify-test", IMGSYNC_NOTIFY_URLS=NOBODY)["status"] == "error"


def test_it_says_where_nothing_is_configured(cli: Cli) -> None:
    assert "set IMGSYNC_NOTIFY_URLS" in cli.fail("notify-test")


@pytest.mark.parametrize("command", ["notify-test", "worker", "serve"])
def test_a_wrong_address_ends_a_service_at_its_start(cli: Cli, command: str) -> None:
    said = cli.fail(command, IMGSYNC_NOTIFY_URLS=f"{NOBODY} tgram://hush-hush")
    assert said == f"{WRONG}address 2 is none that Apprise knows\n"


def test_without_the_extra_one_line_says_so(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    said = cli.fail("sync", IMGSYNC_NOTIFY_URLS=NOBODY)
    assert said == (f"{WRONG}notifications need more packages: pip install 'imgsync[notify]'\n")


def test_addresses_may_have_commas_and_are_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    mail = "mailto://u:hush-hush@a.example?to=b@c.example,d@e.example"
    monkeypatch.setenv("IMGSYNC_NOTIFY_URLS", f"{mail}, {NOBODY}\ntgram://hush/1")
    monkeypatch.setenv("IMGSYNC_NOTIFY_EVENTS", "parked, sweep")
    config = load_config()
    found = [url.get_secret_value() for url in config.notify_urls]
    assert found == [mail, NOBODY, "tgram://hush/1"]
    assert config.notify_events == ("parked", "sweep")
    assert "hush" not in repr(config) + str(config.model_dump()) + config.model_dump_json()


def test_a_wrong_value_is_named_without_the_addresses(cli: Cli) -> None:
    said = cli.fail("notify-test", IMGSYNC_NOTIFY_URLS=NOBODY, IMGSYNC_NOTIFY_EVENTS="all")
    assert "IMGSYNC_NOTIFY_EVENTS" in said
    assert "hush" not in said


def test_a_file_may_list_them() -> None:
    assert len(fixed_config(notify_urls=[NOBODY, "tgram://hush/1"]).notify_urls) == 2


def test_a_command_that_parks_an_account_tells_it_before_it_ends(
    ready: Cli, shop: Shop, receiver: Receiver
) -> None:
    shop.pair("Lamp", pictures(1))
    ready.ok("enqueue", "--main", "Main", "--child", "Child")
    store(ready, shop.child.id, "Child", "revoked-hush")
    ready.run("worker", "--drain", IMGSYNC_NOTIFY_URLS=receiver.url)
    (said,) = receiver.texts
    assert said.startswith("Child takes no requests: ")
    assert "hush" not in said
