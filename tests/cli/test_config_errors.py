"""What is said of a wrong configuration: file or variable, key, what is wanted, no secret."""

from pathlib import Path

import pytest

from imgsync.entrypoints.config import Config, ConfigError, fixed_config, load_config
from tests.cli.conftest import Cli

_WORDS_OF_THE_LIBRARY = (
    "input should",
    "valid",
    "type=",
    "ctx",
    "pydantic",
    "value error",
    "literal",
    "instance of",
    "parsing",
)
_IN_FILES = (
    *("5", "-5", "1e300", "nan", "inf", "true", '"hush"', '""', "[]", "[1]", '["hush"]'),
    *("[[1]]", "{ hush = 1 }", "1979-05-27", "07:32:00", '"~nobody-at-all/x"', '"\\u0000"'),
)
_IN_VARIABLES = ("hush", "", "-5", "1e300", "nan", "1.5", "hush,5", "~nobody-at-all/x", "a b://")
_SECRETS = ("key", "metrics_token", "notify_urls", "database_url", "queue_url", "content_url")


@pytest.fixture(autouse=True)
def _no_outer_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def _said() -> str | None:
    try:
        load_config()
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", Config.model_fields)
def test_a_wrong_value_of_a_file_is_told_in_plain_words(tmp_path: Path, name: str) -> None:
    refused = 0
    for value in _IN_FILES:
        (tmp_path / "imgsync.toml").write_text(f"{name} = {value}\n")
        if (said := _said()) is None:
            continue
        refused += 1
        assert said.startswith(f"./imgsync.toml: {name}"), (value, said)
        assert not any(word in said.lower() for word in _WORDS_OF_THE_LIBRARY), (value, said)
        assert "\n" not in said
        if name in _SECRETS:
            assert "hush" not in said
    assert refused >= 4


# Others take every text; what is wrong with an address is told where it is used.
_TAKE_ANY_TEXT = {
    *("database_url", "queue_url", "content_url", "replace_strategy", "key", "key_file"),
    *("temp_dir", "miniatures_dir", "backup_dir", "download_hosts", "metrics_token"),
    "notify_urls",
}


@pytest.mark.parametrize("name", Config.model_fields)
def test_a_wrong_value_of_a_variable_is_told_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    variable, refused = f"IMGSYNC_{name.upper()}", 0
    for value in _IN_VARIABLES:
        monkeypatch.setenv(variable, value)
        if (said := _said()) is None:
            continue
        refused += 1
        assert said.startswith(variable), (value, said)
        assert not any(word in said.lower() for word in _WORDS_OF_THE_LIBRARY), (value, said)
    assert refused >= 1 or name in _TAKE_ANY_TEXT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("concurency = 4", "'concurency' is no key; did you mean 'concurrency'?"),
        ("IMGSYNC_Log-Level = 4", "'IMGSYNC_Log-Level' is no key; did you mean 'log_level'?"),
        ("colour = 4", "'colour' is no key"),
        ("[imgsync]\nconcurrency = 4", "'imgsync' is no key"),
        ('concurrency = "x"', "concurrency is a whole number from 1 to 64, not 'x'"),
        ("concurrency = 65", "concurrency is a whole number from 1 to 64, not '65'"),
        ("content_bytes = -1", "content_bytes is a whole number of 0 or more, not '-1'"),
        ("poll_seconds = 0", "poll_seconds is a number above 0 and at most 86400, not '0'"),
        ('web_https = "maybe"', "web_https is true or false, not 'maybe'"),
        ('adopt = "all"', "adopt is one of 'size', 'hash', 'none', not 'all'"),
        ('cleanup_at = "25:00"', "cleanup_at is a time of the day such as 03:00, not '25:00'"),
        ("web_hosts = 5", "web_hosts is a list of texts"),
        ('web_hosts = ["a:1"]', "web_hosts: a host is a name such as sync.example, without a port"),
        ("temp_dir = 5", "temp_dir is a path in quotes"),
        ("database_url = 5", "database_url is a text in quotes"),
    ],
)
def test_file_key_and_the_nearest_right_one_are_named(
    cli: Cli, tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "imgsync.toml").write_text(content)
    cli.env |= dict.fromkeys(("IMGSYNC_TEMP_DIR", "IMGSYNC_DATABASE_URL"))  # type: ignore[arg-type]
    assert cli.fail("queue", "status") == f"Error: ./imgsync.toml: {said}\n"
    named = tmp_path / "named.toml"
    named.write_text(content)
    assert cli.fail("--config", str(named), "queue", "status") == f"Error: {named}: {said}\n"


def test_a_variable_is_named_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "imgsync.toml").write_text("concurrency = 4\ncolour = 1\nlease_seconds = 0\n")
    monkeypatch.setenv("imgsync_concurrency", "x")
    assert _said() is not None
    assert set((_said() or "").split("; ")) == {
        "imgsync_concurrency is a whole number from 1 to 64, not 'x'",
        "./imgsync.toml: 'colour' is no key",
        "./imgsync.toml: lease_seconds is a number above 0 and at most 86400, not '0'",
    }


def test_what_may_be_a_token_at_the_wrong_place_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IMGSYNC_CONCURRENCY", "f00d" * 10)
    assert _said() == "IMGSYNC_CONCURRENCY is a whole number from 1 to 64"


def test_a_program_is_told_the_key() -> None:
    with pytest.raises(ConfigError, match="Bad configuration: concurrency is a whole number"):
        fixed_config(concurrency=0)
    with pytest.raises(ConfigError, match="did you mean 'temp_dir'"):
        fixed_config(temp_dirs="x")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"[broken", "it is not TOML: "),
        (b"match_by = code", "; texts stand in quotes"),
        (b"\xff\xfe", "it is not text in UTF-8"),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    cli: Cli, tmp_path: Path, content: bytes | None, why: str
) -> None:
    if content is not None:
        (tmp_path / "own.toml").write_bytes(content)
    said = cli.fail("--config", "own.toml", "queue", "status")
    assert said.startswith("Error: Cannot read the configuration file ./own.toml: ")
    assert why in said
    assert said.count("\n") == 1
    assert "Errno" not in said


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("IMGSYNC_CONCURENCY", "; did you mean 'IMGSYNC_CONCURRENCY'?"),
        ("IMGSYNC_COLOUR", ""),
    ],
)
def test_a_variable_of_no_setting_is_warned_of_with_the_nearest(
    cli: Cli, caplog: pytest.LogCaptureFixture, variable: str, near: str
) -> None:
    cli.ok("queue", "status", **{variable: "9", "IMGSYNC_LOG_LEVEL": "WARNING"})
    assert [r.getMessage() for r in caplog.records] == [
        f"the variable {variable} configures nothing in imgsync{near}"
    ]
