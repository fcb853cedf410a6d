"""What a command imports: the time it takes to start is that of its imports."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from imgsync.entrypoints.cli.commands import LazyCommand, imgsync_commands

_HEAVY = frozenset(
    {
        "PIL",
        "alembic",
        "apprise",
        "dependency_injector",
        "httpcore",
        "httpx",
        "prometheus_client",
        "pydantic",
        "pydantic_settings",
        "rich",
        "sqlalchemy",
        "starlette",
        "structlog",
    }
)
_RUN = """
import sys
from imgsync.entrypoints.cli.main import main
try:
    main({arguments!r}, prog_name="imgsync")
finally:
    print(*sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""


def imported(arguments: list[str], **environment: str) -> tuple[str, set[str]]:
    """What a command says, and the packages that are imported at its end."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(arguments=arguments)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return done.stdout, set(done.stderr.split())


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "said"), [(["--version"], "version"), (["--help"], "cleanup-temp")]
)
def test_what_needs_no_account_imports_nothing_heavy(arguments: list[str], said: str) -> None:
    output, packages = imported(arguments)
    assert said in output
    assert "click" in packages
    assert packages & _HEAVY == set()


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "said"), [("imgsync clean", "cleanup-temp"), ("imgsync queue rel", "release")]
)
def test_shell_completion_imports_nothing_heavy(words: str, said: str) -> None:
    output, packages = imported(
        [],
        _IMGSYNC_COMPLETE="bash_complete",
        COMP_WORDS=words,
        COMP_CWORD=str(words.count(" ")),
    )
    assert output == f"plain,{said}\n"
    assert packages & _HEAVY == set()


@pytest.mark.process
@pytest.mark.database
def test_the_queue_is_looked_at_without_http_and_pictures(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'q.db'}"
    imported(["queue", "status"], IMGSYNC_DATABASE_URL=database)  # makes it, with alembic
    output, packages = imported(["queue", "status"], IMGSYNC_DATABASE_URL=database)
    assert "pending" in output
    assert packages & {"PIL", "alembic", "httpx", "rich"} == set()


@pytest.mark.parametrize("listed", imgsync_commands(), ids=lambda command: str(command.name))
def test_a_command_is_listed_as_what_it_is(listed: click.Command) -> None:
    assert isinstance(listed, LazyCommand)
    assert listed.name == listed.loaded.name
    for limit in (45, 60, 1000):
        assert listed.get_short_help_str(limit) == listed.loaded.get_short_help_str(limit)
    assert (listed.hidden, listed.deprecated) == (listed.loaded.hidden, listed.loaded.deprecated)


@pytest.mark.process
def test_as_many_files_may_be_open_as_the_system_lets_a_process_have() -> None:
    """A shell's 1024 are too few for the tasks that are under way at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    script = (
        "import resource\n"
        "from imgsync.entrypoints.cli.runtime import allow_open_files\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, {hard}))\n"
        "allow_open_files()\n"
        "print(*resource.getrlimit(resource.RLIMIT_NOFILE))\n"
    )
    for most, expected in ((2000, 2000), (hard, min(hard, 65_536))):
        done = subprocess.run(
            [sys.executable, "-c", script.format(hard=most)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [str(expected), str(most)]


@pytest.mark.process
@pytest.mark.database
def test_a_command_asks_for_more_open_files(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from imgsync.entrypoints.cli.main import main\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))\n"
        "try:\n"
        "    main(['worker', '--drain'], prog_name='imgsync')\n"
        "finally:\n"
        "    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'q.db'}"},
    )
    assert int(done.stdout.split()[-1]) > 256
