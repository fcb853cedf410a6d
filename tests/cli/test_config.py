"""Configuration: environment, TOML file, errors; help."""

from pathlib import Path

import click
import pytest

from imgsync.entrypoints.cli.commands import LazyCommand
from imgsync.entrypoints.cli.main import main
from imgsync.entrypoints.config import Config, ConfigError, FixedConfig, load_config
from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def _no_outer_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_defaults() -> None:
    config = load_config()
    assert config.api_url == "https://api.moysklad.ru/api/remap/1.2"
    assert config.database_url.startswith("sqlite:///")
    assert (config.cleanup_at.isoformat(), config.cleanup_hours) == ("03:00:00", 24)
    assert config.replace_strategy == "atomic"


def test_the_environment_wins_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imgsync.toml").write_text(
        'concurrency = 7\nmatch_by = "code"\ndownload_hosts = ["a.example", "*.b.example"]\n'
        "cleanup_at = 04:30:00\n"
    )
    monkeypatch.setenv("IMGSYNC_CONCURRENCY", "9")
    config = load_config()
    assert (config.concurrency, config.match_by.value) == (9, "code")
    assert config.download_hosts == ("a.example", "*.b.example")
    assert config.cleanup_at.isoformat() == "04:30:00"


@pytest.mark.parametrize("wrong", ["sync.example", "ftp://sync.example", "https://a b", "https://"])
def test_a_webhook_prefix_is_an_address(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("IMGSYNC_WEBHOOK_PREFIXES", "https://a.example/hook, https://b.example")
    assert load_config().webhook_prefixes == ("https://a.example/hook", "https://b.example")
    monkeypatch.setenv("IMGSYNC_WEBHOOK_PREFIXES", f"https://a.example,{wrong}")
    with pytest.raises(ConfigError, match="IMGSYNC_WEBHOOK_PREFIXES: a prefix"):
        load_config()


def test_files_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(
        ("config/imgsync/config.toml", "imgsync.toml", "env.toml", "given.toml"), start=1
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"concurrency = {number}\n")
        if name == "env.toml":
            monkeypatch.setenv("IMGSYNC_CONFIG", str(path))
        given = path if name == "given.toml" else None
        assert load_config(given).concurrency == number


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('replace_strategy = "magic"', "replace_strategy: "),
        ('api_url = "ftp://x"', "api_url: "),
        ('api_url = "http://api.moysklad.ru"', "plain http is allowed for loopback only"),
        ("[broken", "Cannot read the configuration file"),
    ],
)
def test_a_wrong_setting_is_named(cli: Cli, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "imgsync.toml").write_text(content)
    assert message in cli.fail("queue", "status")


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml"):
        load_config(tmp_path / "missing.toml")


def test_the_database_password_is_in_no_repr() -> None:
    assert "hush" not in repr(Config(database_url="postgresql://u:hush@h/d"))


def test_an_unusable_database_is_one_line(cli: Cli) -> None:
    said = cli.fail("queue", "status", IMGSYNC_DATABASE_URL="postgresql://u:hush@127.0.0.1:1/d")
    assert said.startswith("Error: Cannot use the database")
    assert "hush" not in said


def test_a_database_that_breaks_is_one_line(cli: Cli, tmp_path: Path) -> None:
    cli.ok("queue", "status")
    (tmp_path / "imgsync.db").write_bytes(b"overwritten" * 1000)
    for name in ("imgsync.db-wal", "imgsync.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert cli.fail("queue", "status").startswith("Error: ")


def commands(group: click.Group, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for name, listed in group.commands.items():
        found.append((*prefix, name))
        command = listed.loaded if isinstance(listed, LazyCommand) else listed
        if isinstance(command, click.Group):
            found += commands(command, (*prefix, name))
    return found


def test_every_command_has_help_in_english(cli: Cli) -> None:
    names = commands(main)
    assert {n[0] for n in names} == {
        "account",
        "api-key",
        "check",
        "cleanup-temp",
        "demo",
        "doctor",
        "enqueue",
        "images",
        "link",
        "links",
        "notify-test",
        "plugins",
        "queue",
        "runs",
        "serve",
        "serve-password",
        "settings",
        "solution",
        "sync",
        "undo",
        "unlink",
        "webhooks",
        "worker",
    }
    for name in [(), *names]:
        text = cli.ok(*name, "--help")
        assert text.isascii(), name
        body = text.split("\n\n")[1]
        assert body.strip().endswith((".", ").")), name


@pytest.mark.parametrize(
    ("name", "value"),
    [("LEASE_SECONDS", "inf"), ("LEASE_SECONDS", "1e300"), ("CLEANUP_HOURS", "1e9")],
)
def test_numbers_that_no_date_can_hold_are_refused(cli: Cli, name: str, value: str) -> None:
    cli.env[f"IMGSYNC_{name}"] = value
    assert cli.fail("queue", "status").startswith(f"Error: IMGSYNC_{name} is a number ")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite://", "an SQLite database needs a file, such as sqlite:///q.db"),
        ("postgresql://u:secret@h:port/d", "not a database URL"),
    ],
)
@pytest.mark.parametrize("name", ["database_url", "queue_url"])
def test_a_wrong_url_is_told_by_the_setting_that_holds_it(
    cli: Cli, name: str, url: str, problem: str
) -> None:
    variable = f"IMGSYNC_{name.upper()}"
    cli.env[variable] = url
    assert cli.fail("queue", "status").strip() == (f"Error: {variable}: {problem}")


def test_the_home_folder_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/shop")
    assert Config(temp_dir=Path("~/temp")).temp_dir == Path("/home/shop/temp")


def test_fixed_settings_do_not_heed_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMGSYNC_DATABASE_URL", "sqlite:////real.db")
    monkeypatch.setenv("IMGSYNC_CONCURRENCY", "9")
    config = FixedConfig(database_url="sqlite:///mine.db")
    assert (config.database_url, config.concurrency) == ("sqlite:///mine.db", 4)
