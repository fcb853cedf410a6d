"""Parts of the runner from an installed plugin, through the command line."""

import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.plugins.conftest import RunImgsync, installed_module

COMMANDS = """
import click
from imgsync.plugins import hookimpl

@click.group()
def acme():
    "What Acme needs."

@acme.command()
@click.pass_obj
async def waiting(program):
    "Number of waiting tasks."
    click.echo(f"{(await program.queue().counts())['pending']} wait")
    return 3

@acme.command()
async def late():
    raise ZeroDivisionError("by nothing")

@acme.command()
def broken():
    raise ZeroDivisionError("by nothing")

@acme.command()
def leaves():
    raise SystemExit(0)

@hookimpl
def imgsync_commands(): return [acme]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def test_a_plugins_commands_are_beside_the_built_in_ones(
    run_imgsync: RunImgsync, site: Path
) -> None:
    installed_module(site, COMMANDS)
    listed = run_imgsync("--help", site=site).stdout
    assert re.search(r"acme +What Acme needs\.", listed)
    assert "sync " in listed
    assert "Number of waiting tasks." in run_imgsync("acme", "--help", site=site).stdout
    done = run_imgsync("acme", "waiting", site=site)
    assert (done.stdout, done.returncode) == ("0 wait\n", 3)
    wrong = run_imgsync("acme", "nonsense", site=site)
    assert wrong.returncode == 2
    assert "No such command 'nonsense'" in wrong.stderr


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("broken", "ZeroDivisionError: by nothing"),
        ("late", "ZeroDivisionError: by nothing"),
        ("leaves", "SystemExit: 0"),
    ],
)
def test_a_command_that_fails_is_one_line_that_names_its_plugin(
    run_imgsync: RunImgsync, site: Path, command: str, problem: str
) -> None:
    installed_module(site, COMMANDS)
    done = run_imgsync("acme", command, site=site)
    assert done.returncode == 1
    assert done.stderr == f"Error: plugin 'broken' failed in command 'acme': {problem}\n"


def test_what_needs_no_plugin_runs_beside_one_that_cannot_be_loaded(
    run_imgsync: RunImgsync, site: Path
) -> None:
    installed_module(site, "import no_such_module")
    assert run_imgsync("account", "list", site=site).returncode == 0
    assert run_imgsync("settings", "show", site=site).returncode == 0
    helped = run_imgsync("--help", site=site)
    assert helped.returncode == 0
    assert "worker" in helped.stdout
    assert "plugin 'broken' cannot be loaded" in helped.stderr


HANDLER = """
from imgsync.plugins import SyncResult, hookimpl

def make(services):
    async def greet(task, permit):
        await permit.confirm()
        return SyncResult("greeted " + task.payload["name"], warnings=("quietly",))
    return greet

@hookimpl
def imgsync_task_handlers(): return {"greet": make}
"""


def test_a_worker_takes_the_kinds_that_have_a_handler(
    run_imgsync: RunImgsync, site: Path, tmp_path: Path
) -> None:
    installed_module(site, HANDLER)
    assert run_imgsync("queue", "status").returncode == 0
    rows = [("greet", '{"name": "you"}'), ("nobodys", "{}")]
    with closing(sqlite3.connect(tmp_path / "q.db")) as connection, connection:
        connection.executemany("INSERT INTO sync_queue (entity_type, payload) VALUES (?, ?)", rows)
    without = json.loads(run_imgsync("worker", "--drain", "--json").stdout)
    assert without["completed"] == 0
    done = json.loads(run_imgsync("worker", "--drain", "--json", site=site).stdout)
    assert done["outcomes"] == {"greeted you": 1}
    assert done["warnings"] == ["Task 1: quietly"]
    with closing(sqlite3.connect(tmp_path / "q.db")) as connection:
        left = connection.execute(
            "SELECT entity_type, status FROM sync_queue ORDER BY id"
        ).fetchall()
    assert left == [("greet", "completed"), ("nobodys", "pending")]
