"""What a sync removed is put back, byte by byte: imgsync as processes, over HTTP."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moysklad_emulator import EmulatedEntity
from moysklad_emulator.images import NewImage
from tests.application.world import png
from tests.e2e.conftest import Host, StartHost
from tests.shop import Images, Shop, pictures

OWN: Images = [("own.png", png(900, 1200)), ("own.png", png(901, 800)), ("ещё/../CON", png(902))]


@pytest.fixture
def host(shop: Shop, start_host: StartHost, tmp_path: Path) -> Host:
    shop.unjudged = "what is put back is not main's"
    host = start_host(shop, f"sqlite:///{tmp_path / 'q.db'}")
    host.run("link", "Main", "Child")
    return host


def saved(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.rglob("manifest.json"))]


def test_a_run_is_undone_and_the_undo_too(shop: Shop, host: Host, tmp_path: Path) -> None:
    wanted = pictures(2)
    lamp = shop.pair("Lamp", wanted, old=OWN)
    desk = shop.pair("Desk", wanted, old=OWN[:1], kind="bundle")
    bare = shop.pair("Bare", wanted)
    backup = tmp_path / "backup"
    told = host.json("sync", "--backup-dir", str(backup))
    assert [shop.images(e) for e in (lamp, desk, bare)] == [wanted] * 3
    manifests = {m["entity"]["name"]: m for m in saved(backup)}
    assert set(manifests) == {"Lamp", "Desk"}  # nothing was removed of the third
    assert [i["filename"] for i in manifests["Lamp"]["images"]] == [n for n, _ in OWN]
    run = told["run_id"]
    assert (backup / run).is_dir()

    plans = host.json("undo", "--run", run, "--dry-run")["plans"]
    assert {(p["name"], len(p["uploaded"]), p["problem"]) for p in plans} == {
        ("Lamp", 3, None), ("Desk", 1, None), ("Bare", 0, None),
    }  # fmt: skip
    assert shop.images(lamp) == wanted

    undone = host.json("undo", "--run", run)
    assert (undone["run"]["completed"], undone["run"]["warnings"]) == (3, [])
    assert [c for _, c in shop.images(lamp)] == [c for _, c in OWN]
    assert [n for n, _ in shop.images(lamp)] == ["own.png", "own.png", "CON"]
    assert shop.images(desk) == OWN[:1]
    assert shop.images(bare) == []

    # What the undo removed was saved beside what it put back, although it was imgsync's; of the
    # third nothing had been saved, and no folder is configured.
    again = json.loads(host.end(3, "undo", "--run", undone["run_id"], "--json"))
    assert len(again["run"]["errors"]) == 1
    assert "'Bare'" in again["run"]["errors"][0]
    assert [shop.images(e) for e in (lamp, desk, bare)] == [wanted, wanted, []]
    host.run("sync")
    assert [shop.images(e) for e in (lamp, desk, bare)] == [wanted] * 3


def test_an_entity_is_undone_by_name_code_or_id(shop: Shop, host: Host, tmp_path: Path) -> None:
    backup = str(tmp_path / "backup")
    lamp = shop.pair("Lamp", pictures(1), old=OWN[:2])
    lamp.code = "L-7"
    names: list[Callable[[EmulatedEntity], str]] = [
        lambda e: "Lamp",
        lambda e: e.id,
        lambda e: "L-7",
    ]
    for number, name in enumerate(names):
        told = host.json("sync", IMGSYNC_BACKUP_DIR=backup)
        assert told["run"]["completed"] == 1, number
        assert shop.images(lamp) == pictures(1)
        host.run("undo", "--child", "Child", "--entity", name(lamp))
        assert shop.images(lamp) == OWN[:2]


def test_what_somebody_changed_since_is_left_alone(shop: Shop, host: Host, tmp_path: Path) -> None:
    lamp = shop.pair("Lamp", pictures(2), old=OWN[:2])
    run = host.json("sync", "--backup-dir", str(tmp_path / "b"))["run_id"]
    before_write = shop.writes
    shop.child.set_images(lamp, [NewImage.create("stranger.png", png(950))])
    now = shop.images(lamp)
    told = json.loads(host.end(3, "undo", "--run", run, "--json"))
    assert "somebody has changed its images since" in told["run"]["errors"][0]
    assert (shop.images(lamp), shop.writes) == (now, before_write)
    host.run("undo", "--run", run, "--force")
    assert shop.images(lamp) == OWN[:2]


def test_without_a_backup_what_is_gone_is_named(shop: Shop, host: Host) -> None:
    lamp = shop.pair("Lamp", pictures(2), old=OWN[:1])
    run = host.json("sync")["run_id"]
    told = json.loads(host.end(3, "undo", "--run", run, "--json"))
    assert "none of what was removed was saved: own.png" in told["run"]["errors"][0]
    assert shop.images(lamp) == pictures(2)
    assert "known" in host.end(1, "undo", "--run", "20260101-000000-0000", "--json")


@pytest.mark.slow
def test_of_many_set_in_one_request_each_is_saved_and_put_back_by_itself(
    shop: Shop, host: Host, tmp_path: Path
) -> None:
    """Of thirty entities the backup of one is damaged: that one is left as it is."""
    wanted = pictures(1)
    entities = [shop.pair(f"P{n}", wanted, old=[(f"own{n}.png", png(700 + n))]) for n in range(30)]
    backup = tmp_path / "backup"
    (blocked,) = [e for e in entities if e.name == "P7"]
    told = host.json("sync", "--backup-dir", str(backup))
    assert told["run"]["completed"] == 30
    assert shop.writes < 30
    assert len(saved(backup)) == 30
    assert {m["images"][0]["size"] for m in saved(backup)} == {len(png(700))}
    (place,) = [p for p in backup.rglob("manifest.json") if p.parent.name == blocked.id]
    next(p for p in place.parent.iterdir() if p.name.startswith("01-")).write_bytes(b"cut")
    undone = json.loads(host.end(3, "undo", "--run", told["run_id"], "--json"))
    assert (undone["run"]["completed"], undone["run"]["failed"]) == (29, 1)
    assert "is not the one that was saved" in undone["run"]["errors"][0]
    for n, entity in enumerate(entities):
        own = [(f"own{n}.png", png(700 + n))]
        assert shop.images(entity) == (wanted if entity is blocked else own)
