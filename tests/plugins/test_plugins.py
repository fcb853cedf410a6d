"""Plugins join by entry point: a real installed package, and broken ones."""

import json
from pathlib import Path

import pytest

from imgsync.adapters.emulator import Emulator, EmulatorServer
from imgsync.adapters.plugins.registry import load_plugins
from tests.plugins.conftest import RunImgsync
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures

IDS = "main child contentcard m1 c1"


def test_the_built_in_types_and_formats_come_through_the_hooks() -> None:
    registry = load_plugins()
    (builtin,) = registry.plugins
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
    }
    assert plugins["builtin"]["entity_types"] == ["product", "bundle", "variant"]


def test_a_plugins_payload_format_and_type_are_used(
    run_imgsync: RunImgsync, installed_sample: Path, tmp_path: Path
) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text(json.dumps({"acme": IDS, "urls": ["https://api.moysklad.ru/a.png"]}))
    done = run_imgsync("enqueue", "--payload", str(payload), site=installed_sample)
    assert done.returncode == 0, done.stderr
    assert "Queued 1 tasks" in done.stdout
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


def broken_plugin(site: Path, source: str) -> None:
    info = site / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[imgsync]\nbroken = broken_plugin\n")
    (site / "broken_plugin.py").write_text(source)


HEADER = "from imgsync.plugins import *\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module", "plugin 'broken' cannot be loaded"),
        (HEADER + "@hookimpl\ndef imgsync_nonsense(): pass", "plugin 'broken' cannot be loaded"),
        (HEADER + "@hookimpl\ndef imgsync_entity_types(): 1 / 0", "plugin 'broken' failed"),
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
    broken_plugin(site, source)
    done = run_imgsync("plugins", site=site)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_plugins_entity_type_is_copied(
    run_imgsync: RunImgsync, installed_sample: Path, tmp_path: Path
) -> None:
    with EmulatorServer(Emulator()) as server:
        shop = Shop.on(server)
        card = shop.pair("Card", pictures(3), kind="contentcard")
        env = {"IMGSYNC_API_URL": server.api_url, "IMGSYNC_DOWNLOAD_HOSTS": "127.0.0.1,localhost"}
        for name, token in (("main", MAIN_TOKEN), ("child", CHILD_TOKEN)):
            run_imgsync("account", "add", name, IMGSYNC_TOKEN=token)
        run_imgsync("settings", "set", "--child", "child", "--sync-images-all")
        # A content card has no external code.
        both = ("--main", "main", "--child", "child", "--match-by", "name")
        without = run_imgsync("sync", *both, "--type", "contentcard", **env)
        assert "unknown entity type 'contentcard'" in without.stderr
        done = run_imgsync("sync", *both, site=installed_sample, **env)
        assert done.returncode == 0, done.stderr
        assert shop.images(card) == pictures(3)


def test_a_plugins_format_is_asked_before_the_built_in_ones(
    run_imgsync: RunImgsync, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    broken_plugin(
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
