"""What the shell completes, asked as the shell asks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from imgsync.entrypoints.cli.main import main
from tests.cli.conftest import Cli, store


def completed(cli: Cli, *words: str, **env: str) -> list[str]:
    """What bash is told for the last word, which may be empty."""
    asked = {
        "_I_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("i", *words)),
        "COMP_CWORD": str(len(words)),
    }
    done = CliRunner().invoke(main, [], prog_name="i", env=cli.env | asked | env)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.fixture
def stored(cli: Cli) -> Cli:
    for number, name in enumerate(("Child 10", "Child 2", "Main")):
        store(cli, f"id-{number}", name, "t")
    return cli


@pytest.mark.parametrize(
    "words",
    [
        ("sync", "--child", "ch"),
        ("check", "--main", "Ch"),
        ("link", "Main", "Ch"),
        ("queue", "list", "--child", "Ch"),
        ("undo", "--child", "Ch"),
        ("settings", "set", "--child", "Ch"),
        ("webhooks", "install", "Ch"),
    ],
)
def test_names_of_accounts_are_completed(stored: Cli, words: tuple[str, ...]) -> None:
    assert completed(stored, *words) == ["Child 2", "Child 10"]


def test_the_configuration_that_is_named_is_read(stored: Cli, tmp_path: Path) -> None:
    url = stored.env.pop("IMGSYNC_DATABASE_URL")
    (tmp_path / "own.toml").write_text(f'database_url = "{url}"\n')
    assert completed(stored, "--config", "own.toml", "sync", "--main", "M") == ["Main"]


def test_types_are_completed(cli: Cli, tmp_path: Path) -> None:
    assert completed(cli, "enqueue", "--type", "") == ["bundle", "product", "variant"]
    assert completed(cli, "check", "--type", "pr") == ["product"]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///new/none.db",
        "postgresql://u:hush@127.0.0.1:1/d",
        "nonsense",
        "sqlite:///broken.db",
        "sqlite:///empty.db",
    ],
)
def test_what_cannot_be_read_completes_nothing_and_makes_nothing(
    cli: Cli, tmp_path: Path, url: str
) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database" * 1000)
    (tmp_path / "empty.db").touch()
    before = sorted(tmp_path.rglob("*"))
    assert completed(cli, "sync", "--child", "C", IMGSYNC_DATABASE_URL=url) == []
    assert completed(cli, "sync", "--child", "C", IMGSYNC_CONCURRENCY="x") == []
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "empty.db").stat().st_size == 0


@pytest.mark.process
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_of_the_readme_get_their_script(shell: str) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"{shell}_source" in readme
    done = subprocess.run(
        [sys.executable, "-m", "imgsync"],
        env={**os.environ, "_IMGSYNC_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"_IMGSYNC_COMPLETE={shell}_complete" in done.stdout
