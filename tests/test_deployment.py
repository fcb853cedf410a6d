"""What containers and services start: each command, option and variable is one that imgsync has."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from imgsync.entrypoints.cli.commands import LazyCommand
from imgsync.entrypoints.cli.main import main
from imgsync.entrypoints.config import Config

PROJECT = Path(__file__).parents[1]
UNITS = sorted((PROJECT / "deploy" / "systemd").glob("*.service"))
VARIABLE = re.compile(r"\bIMGSYNC_([A-Z_]+)\b")
OF_COMPOSE = {"DB_PASSWORD"}
GRACE = Config.model_fields["grace_seconds"].default


def command_of(words: list[str]) -> None:
    """Parses what would be run; a command or an option that is none raises."""
    command: click.Command = main
    context = click.Context(command, info_name="imgsync")
    while isinstance(command, click.Group):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found.loaded if isinstance(found, LazyCommand) else found
        context = click.Context(command, parent=context, info_name=name)
    command.parse_args(context, words)


def compose() -> Any:
    return yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))


def deployments() -> list[Path]:
    named = ("Dockerfile", "compose.yaml", "docs/deploy.md")
    return [*(PROJECT / name for name in named), *UNITS]


@pytest.mark.parametrize("path", deployments(), ids=lambda path: path.name)
def test_each_variable_is_a_setting_of_imgsync(path: Path) -> None:
    named = set(VARIABLE.findall(path.read_text(encoding="utf-8"))) - OF_COMPOSE
    assert {name.lower() for name in named} <= set(Config.model_fields)


def test_compose_starts_commands_that_there_are() -> None:
    services = compose()["services"]
    started = [one["command"] for one in services.values() if "command" in one]
    assert len(started) == 2
    for words in started:
        command_of(list(words))


def test_the_units_start_commands_that_there_are() -> None:
    assert len(UNITS) == 2
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)
        program, *words = shlex.split(line)
        assert program.endswith("/bin/imgsync")
        command_of(words)


def test_a_command_that_there_is_not_is_found_out() -> None:
    with pytest.raises(click.ClickException):
        command_of(["serve", "--no-such-option"])
    with pytest.raises(click.ClickException):
        command_of(["dance"])


def test_what_is_stopped_gets_longer_than_a_worker_takes_to_end() -> None:
    for service in ("serve", "worker"):
        seconds = compose()["services"][service]["stop_grace_period"]
        assert int(seconds.removesuffix("s")) > GRACE
    for unit in UNITS:
        (told,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit.read_text("utf-8"), re.MULTILINE)
        assert int(told) > GRACE


@pytest.mark.process
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8").replace("/opt/imgsync/bin/imgsync", "/bin/true")
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    names = [str(tmp_path / unit.name.replace("@", "@1")) for unit in UNITS]
    for unit in UNITS:
        if "@" in unit.name:
            (tmp_path / unit.name).rename(tmp_path / unit.name.replace("@", "@1"))
    found = subprocess.run(
        ["systemd-analyze", "verify", *names], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in found.stderr.splitlines() if "imgsync" in line]
    assert complaints == []


@pytest.mark.process
@pytest.mark.slow
def test_the_image_is_given_all_files_that_the_package_is_built_of(tmp_path: Path) -> None:
    text = (PROJECT / "Dockerfile").read_text(encoding="utf-8")
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    ignored = (PROJECT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(ignored)
    source = tmp_path / "source"
    source.mkdir()
    for name in copied:
        path = PROJECT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=source,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "imgsync/entrypoints/web/templates/overview.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_commands_by_hand_find_the_key_and_the_database_of_the_services(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        assert re.findall(r"^Environment\w*=(.*)$", text, re.MULTILINE) == [
            "/etc/imgsync/environment"
        ]
    told = (UNITS[0].parent / "environment").read_text(encoding="utf-8")
    for name, value in re.findall(r"^(\w+)=(.*)$", told, re.MULTILINE):
        monkeypatch.setenv(name, value)
    described = (PROJECT / "docs" / "deploy.md").read_text(encoding="utf-8")
    config = Config()
    assert str(config.key_file) == "/etc/imgsync/imgsync.key"
    assert f"/dev/stdin {config.key_file}\n" in described
    assert config.database_url == "sqlite:////var/lib/imgsync/imgsync.db"
    assert "install -m 0600 deploy/systemd/environment /etc/imgsync/environment" in described
