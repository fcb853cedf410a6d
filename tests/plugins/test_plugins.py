"""Plugins join by entry point: a real installed package, and broken ones."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgsync.plugins.manager import load_plugins
from moysklad_emulator import Emulator, EmulatorServer
from tests.plugins.conftest import RunImgsync, installed_module
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures

IDS = "main child contentcard m1 c1"


def test_the_built_in_types_and_formats_come_through_the_hooks() -> None:
    registry = load_plugins()
    builtin, *own = registry.plugins
    assert [plugin.name for plugin in own] == ["convert", "optimise", "fit"]
    assert builtin.entity_types == ("product", "bundle", "variant")
    assert builtin.payload_formats == ("batch", "legacy")
    assert registry.entity_types.names == ["product", "bundle", "variant"]


def test_an_installed_plugin_is_found(run_imgsync: RunImgsync, installed_sample: Path) -> None:
    done = run_imgsync("plugins", "--json", site=installed_sample)
    assert done.returncode == 0, done.stderr
    plugins = {p["name"]: p for p in json.loads(done.stdout)}
    assert plugins["contentcard"] == {
        "name": "contentcard",
        "distribution": "imgsync-contentcard",
        "version": "1.0.0",
        "entity_types": ["contentcard"],
        "payload_formats": ["acme"],
        "task_handlers": [],
        "task_queues": [],
        "content_stores": [],
        "replace_strategies": [],
        "transformations": [],
        "listeners": [],
        "commands": [],
    }
    assert plugins["builtin"]["entity_types"] == ["product", "bundle", "variant"]


def test_a_plugins_payload_format_and_type_are_used(
    run_imgsync: RunImgsync, installed_sample: Path, tmp_path: Path
) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps({"acme": IDS, "urls": ["https://api.moysklad.ru/a.png"]}))
    for account_id in ("main", "child"):
        run_imgsync("account", "add", account_id, "--offline", IMGSYNC_TOKEN="token")
    run_imgsync("settings", "set", "--child", "child", "--sync-images-all")
    done = run_imgsync("enqueue", "--payload", str(payload), site=installed_sample)
    assert done.returncode == 0, done.stderr
    assert "Queued 1 task" in done.stdout
    without = run_imgsync("enqueue", "--payload", str(payload))
    assert without.returncode == 1
    assert "field 'images'" in without.stderr


def test_a_plugins_error_names_its_field(
    run_imgsync: RunImgsync, installed_sample: Path, tmp_path: Path
) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps([{"acme": IDS, "urls": []}]))
    done = run_imgsync("enqueue", "--payload", str(payload), site=installed_sample)
    assert done.returncode == 1
    assert "Payload 1: Bad payload: field 'urls'" in done.stderr
    assert json.loads(run_imgsync("queue", "status", "--json").stdout)["pending"] == 0


HEADER = "from imgsync.plugins import *\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "plugin 'broken' cannot be loaded"),
        (HEADER + "@hookimpl\ndef imgsync_nonsense(): pass", "plugin 'broken' cannot be loaded"),
        (HEADER + "@hookimpl\ndef imgsync_entity_types(): 1 / 0", "plugin 'broken' failed"),
        (HEADER + "raise SystemExit(0)", "plugin 'broken' cannot be loaded: SystemExit: 0"),
        (HEADER + "raise KeyboardInterrupt", "plugin 'broken' cannot be loaded: KeyboardInterrupt"),
        (
            HEADER + "@hookimpl\ndef imgsync_entity_types(): raise SystemExit(0)",
            "plugin 'broken' failed in imgsync_entity_types: SystemExit: 0",
        ),
        (
            HEADER + "@hookimpl\ndef imgsync_entity_types(): return [EntityType('a b')]",
            "plugin 'broken' failed in imgsync_entity_types: entity type name 'a b'",
        ),
        (HEADER + "@hookimpl\ndef imgsync_entity_types(): return ['x']", "not an EntityType"),
        (
            HEADER + "@hookimpl\ndef imgsync_entity_types(): return [EntityType('product')]",
            "entity type 'product' is registered twice",
        ),
        (HEADER + "@hookimpl\ndef imgsync_payload_formats(): return [7]", "not a PayloadFormat"),
    ],
)
def test_a_broken_plugin_is_named(
    run_imgsync: RunImgsync, tmp_path: Path, source: str, message: str
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    installed_module(site, source)
    done = run_imgsync("plugins", site=site)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def platform(server: EmulatorServer, number: int) -> dict[str, object]:
    href = f"{server.api_url}/entity/saleplatform/0f9b8b4c-4597-4772-b896-c8aff047a11{number}"
    return {"salePlatform": {"meta": {"href": href, "type": "saleplatform"}}}


def test_content_cards_are_copied_by_what_can_be_equal_in_two_accounts(
    run_imgsync: RunImgsync, installed_sample: Path, tmp_path: Path
) -> None:
    images = pictures(15)
    with EmulatorServer(Emulator()) as server:
        shop = Shop.on(server)
        one, two = platform(server, 1), platform(server, 2)
        shop.main.add_entity("contentcard", name="Lamp", images=images, objects=one)
        lost = shop.main.add_entity("contentcard", name="Lost", images=images[:1], objects=one)
        card = shop.child.add_entity("contentcard", name="Lamp", objects=one)
        others = [
            shop.child.add_entity("contentcard", name="Lamp", images=images[:1], objects=two),
            shop.child.add_entity("contentcard", name="Lamp shade", objects=one),
        ]
        env = {"IMGSYNC_API_URL": server.api_url}
        main, child = shop.main.id, shop.child.id
        for account_id, token in ((main, MAIN_TOKEN), (child, CHILD_TOKEN)):
            added = run_imgsync("account", "add", account_id, IMGSYNC_TOKEN=token, **env)
            assert added.returncode == 0, added.stderr
        run_imgsync("settings", "set", "--child", child, "--sync-images-all")
        both = ("--main", main, "--child", child)
        without = run_imgsync("sync", *both, "--type", "contentcard", **env)
        assert "unknown entity type 'contentcard'" in without.stderr
        done = run_imgsync("sync", *both, "--json", site=installed_sample, **env)
        assert done.returncode == 0, done.stderr
        found, run = (json.loads(done.stdout)[part] for part in ("enqueue", "run"))
        assert shop.images(card) == images
        assert [len(shop.images(other)) for other in others] == [1, 0]
        assert run["warnings"] == []
        (skipped,) = found["skipped"]
        assert skipped["name"] == lost.name
        assert "no child entity has cardContentName, name and salePlatform" in skipped["reason"]
        again = run_imgsync("sync", *both, "--json", site=installed_sample, **env)
        assert json.loads(again.stdout)["run"]["outcomes"] == {}
        assert json.loads(again.stdout)["enqueue"]["unchanged"] == 1


def test_a_card_that_lost_its_images_loses_them_on_the_child(
    run_imgsync: RunImgsync, installed_sample: Path
) -> None:
    with EmulatorServer(Emulator()) as server:
        shop = Shop.on(server)
        objects = platform(server, 1)
        source = shop.main.add_entity(
            "contentcard", name="Lamp", images=pictures(2), objects=objects
        )
        card = shop.child.add_entity("contentcard", name="Lamp", objects=objects)
        env = {"IMGSYNC_API_URL": server.api_url}
        main, child = shop.main.id, shop.child.id
        for account_id, token in ((main, MAIN_TOKEN), (child, CHILD_TOKEN)):
            run_imgsync("account", "add", account_id, IMGSYNC_TOKEN=token, **env)
        run_imgsync("settings", "set", "--child", child, "--sync-images-all")
        sync = ("sync", "--main", main, "--child", child, "--json")
        assert run_imgsync(*sync, site=installed_sample, **env).returncode == 0
        assert shop.images(card) == pictures(2)
        source.images = ()
        done = run_imgsync(*sync, site=installed_sample, **env)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["enqueue"]["clears"] == 1
        assert json.loads(done.stdout)["run"]["outcomes"] == {"cleared": 1}
        assert shop.images(card) == []
        assert json.loads(run_imgsync(*sync, site=installed_sample, **env).stdout)["enqueue"] == {
            "entities": 0,
            "images": 0,
            "unchanged": 0,
            "adopted": 0,
            "clears": 0,
            "clears_refused": 0,
            "created": 0,
            "updated": 0,
            "task_ids": [],
            "skipped": [],
            "warnings": [],
            "off": [],
            "failed": [],
        }


def test_a_plugins_format_is_asked_before_the_built_in_ones(
    run_imgsync: RunImgsync, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    installed_module(
        site,
        HEADER
        + """
class Mine:
    name = "mine"
    def matches(self, payload): return "images" in payload
    def parse(self, payload): raise PayloadError("mine", "read by the plugin")

@hookimpl
def imgsync_payload_formats(): return [Mine()]
""",
    )
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps({"images": []}))
    done = run_imgsync("enqueue", "--payload", str(payload), site=site)
    assert "read by the plugin" in done.stderr


BATCH: dict[str, object] = {
    "main_account_id": "nobody",
    "child_account_id": "nobody",
    "parent_entity_type": "product",
    "parent_entity_id": "p1",
    "child_entity_id": "c1",
    "images": [],
}
FORMAT = (
    HEADER
    + """
import pathlib, time
class Mine:
    name = "mine"
    def matches(self, payload): {matches}
    def parse(self, payload): {parse}

@hookimpl
def imgsync_payload_formats(): return [Mine()]
"""
)


@pytest.mark.parametrize(
    "failure", ["raise ValueError('oops')", "raise SystemExit(0)", "raise KeyboardInterrupt"]
)
@pytest.mark.parametrize("method", ["matches", "parse"])
def test_a_format_that_raises_is_named_and_other_tasks_go_on(
    run_imgsync: RunImgsync, tmp_path: Path, failure: str, method: str
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    methods = {"matches": "return 'acme' in payload", "parse": "raise AssertionError"}
    source = FORMAT.format(**methods | {method: failure})
    installed_module(site, source)
    assert run_imgsync("queue", "status").returncode == 0
    insert(tmp_path / "q.db", [{"acme": 1}, BATCH])
    done = run_imgsync("worker", "--drain", "--json", site=site)
    assert "Traceback" not in done.stderr
    counts = json.loads(done.stdout)
    errors = "\n".join(counts["errors"])
    assert f"plugin 'broken' failed in {method} of payload format 'mine'" in errors
    assert "Account 'nobody' is not stored" in errors  # read by the built-in format
    passed_over = done.stderr.count("it is passed over")
    assert passed_over == (1 if method == "matches" else 0)


def insert(database: Path, payloads: list[dict[str, object]]) -> None:
    """Queues payloads as another program does, unread."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            "INSERT INTO sync_queue (payload) VALUES (?)", [(json.dumps(p),) for p in payloads]
        )


@pytest.mark.parametrize(
    "hang",
    ["time.sleep(1e6)", "exec('while True: pass')"],
    ids=["asleep", "busy"],
)
@pytest.mark.parametrize("method", ["matches", "parse"])
def test_sigterm_ends_a_worker_whatever_a_plugin_does(
    run_imgsync: RunImgsync, tmp_path: Path, hang: str, method: str
) -> None:
    site, begun = tmp_path / "site", tmp_path / "begun"
    site.mkdir()
    hanging = f"pathlib.Path({str(begun)!r}).touch(); {hang}"
    methods = {"matches": "return True", "parse": "raise AssertionError"}
    installed_module(site, FORMAT.format(**methods | {method: hanging}))
    assert run_imgsync("queue", "status").returncode == 0
    insert(tmp_path / "q.db", [BATCH])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IMGSYNC_")}
    environment |= {
        "IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'q.db'}",
        "IMGSYNC_TEMP_DIR": str(tmp_path / "temp"),
        "IMGSYNC_GRACE_SECONDS": "1",
        "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "imgsync", "worker"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 30
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert begun.exists()
        told = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=20)
        assert time.monotonic() - told < 6, errors
        assert "Traceback" not in errors
    finally:
        worker.kill()
        worker.wait()
    counts = json.loads(run_imgsync("queue", "status", "--json").stdout)
    assert (counts["pending"], counts["failed"]) == (1, 0)  # given back, its attempt uncounted


@pytest.mark.slow
def test_sigterm_ends_a_worker_whose_plugin_lets_no_other_code_run(
    run_imgsync: RunImgsync, tmp_path: Path
) -> None:
    """A regular expression holds the interpreter: no handler and no thread of Python's runs."""
    site, begun = tmp_path / "site", tmp_path / "begun"
    site.mkdir()
    deaf = f"pathlib.Path({str(begun)!r}).touch(); __import__('re').match('(a+)+$', 'a' * 64 + 'b')"
    installed_module(site, FORMAT.format(matches=deaf, parse="raise AssertionError"))
    assert run_imgsync("queue", "status").returncode == 0
    insert(tmp_path / "q.db", [BATCH])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IMGSYNC_")}
    environment |= {
        "IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'q.db'}",
        "IMGSYNC_TEMP_DIR": str(tmp_path / "temp"),
        "IMGSYNC_GRACE_SECONDS": "0.2",
        "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
    }
    worker = subprocess.Popen([sys.executable, "-m", "imgsync", "worker"], env=environment)
    try:
        deadline = time.monotonic() + 30
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert begun.exists()
        time.sleep(0.5)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == -signal.SIGKILL
    finally:
        worker.kill()
        worker.wait()
    # Its lease lapses, and another worker takes the task.
    assert json.loads(run_imgsync("queue", "status", "--json").stdout)["processing"] == 1


QUEUE = """
import pathlib, re, time
from imgsync.plugins import hookimpl

class Blocking:
    def __init__(self, inner): self.inner = inner
    def __getattr__(self, name): return getattr(self.inner, name)
    async def claim(self, **options):
        pathlib.Path({begun!r}).touch()
        {block}

@hookimpl
def imgsync_task_queues():
    return {{"slow": lambda setup: Blocking(setup.open_queue(setup.url.removeprefix("slow+")))}}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("block", "status"),
    [("time.sleep(1e6)", 1), ("re.match('(a+)+$', 'a' * 64 + 'b')", -signal.SIGKILL)],
    ids=["sleeps", "lets no other code run"],
)
def test_sigterm_ends_a_worker_whose_async_queue_blocks_the_event_loop(
    run_imgsync: RunImgsync, tmp_path: Path, block: str, status: int
) -> None:
    site, begun = tmp_path / "site", tmp_path / "begun"
    site.mkdir()
    installed_module(site, QUEUE.format(begun=str(begun), block=block))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IMGSYNC_")}
    environment |= {
        "IMGSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'q.db'}",
        "IMGSYNC_QUEUE_URL": f"slow+sqlite:///{tmp_path / 'q.db'}",
        "IMGSYNC_GRACE_SECONDS": "0.2",
        "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
    }
    worker = subprocess.Popen([sys.executable, "-m", "imgsync", "worker"], env=environment)
    try:
        deadline = time.monotonic() + 30
        while not begun.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert begun.exists()
        time.sleep(0.5)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == status
    finally:
        worker.kill()
        worker.wait()


@pytest.mark.parametrize(
    "left_behind",
    [
        "threading.Thread(target=time.sleep, args=(1e6,), daemon=False).start()",
        "atexit.register(time.sleep, 1e6)",
    ],
    ids=["thread", "exit handler"],
)
def test_what_a_plugin_leaves_behind_keeps_no_process_alive(
    run_imgsync: RunImgsync, tmp_path: Path, left_behind: str
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    installed_module(site, f"import atexit, threading, time\n{left_behind}\n")
    done = run_imgsync("worker", "--drain", "--json", site=site)
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "done"
