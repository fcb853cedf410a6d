"""imgsync enqueue, sync, worker --drain and queue, against the emulator."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from imgsync.adapters.files.local import LocalContentStore
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.application.copy import CopyImagesHandler
from imgsync.domain.ports.queue import NewTask
from tests.cli.conftest import Cli, store
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures
from tests.support.gauge import ParallelGauge

BOTH = ("--main", "Main", "--child", "Child")
THREE = pictures(3)


def payload(shop: Shop, **changes: Any) -> dict[str, Any]:
    """A batch payload of the last main product and its counterpart."""
    source, target = shop.main.entities("product")[-1], shop.child.entities("product")[-1]
    hrefs = [f"{shop.server.api_url}/download/{image.id}" for image in source.images]
    names = [image.filename for image in source.images]
    return {
        "main_account_id": shop.main.id,
        "child_account_id": shop.child.id,
        "parent_entity_type": "product",
        "parent_entity_id": source.id,
        "child_entity_id": target.id,
        "images": [
            {"meta": {"downloadHref": href}, "filename": name}
            for href, name in zip(hrefs, names, strict=True)
        ],
    } | changes


def test_enqueue_then_worker_copies_products_bundles_and_variants(ready: Cli, shop: Shop) -> None:
    entities = {
        kind: shop.pair(kind, pictures(count), pictures(1, 90), kind)
        for kind, count in (("product", 10), ("bundle", 2), ("variant", 1))
    }
    said = ready.ok("enqueue", *BOTH)
    assert "Queued 3 tasks with 13 images (3 new, 0 updated); 0 unchanged, 0 skipped." in said
    assert ready.json("queue", "status")["pending"] == 3
    tally = ready.json("worker", "--drain")
    assert (tally["completed"], tally["uploaded"], tally["failed"]) == (3, 13, 0)
    assert ready.json("queue", "status") == {
        "pending": 0,
        "processing": 0,
        "completed": 3,
        "failed": 0,
        "parked": 0,
        "cancelled": 0,
        "superseded": 0,
    }
    for kind, count in (("product", 10), ("bundle", 2), ("variant", 1)):
        assert shop.images(entities[kind]) == pictures(count)
    stats = shop.emulator.stats
    assert stats.uploads == 3
    assert stats.authorization_leaks == stats.throttled == 0


def test_ten_images_cost_one_upload(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", pictures(10), pictures(1, 90))
    ready.ok("sync", *BOTH)
    requests = shop.emulator.stats.requests
    assert requests["POST", "entity/{type}/{id}/images"] == 1
    assert not any(method == "DELETE" or route.endswith("/delete") for method, route in requests)


def test_enqueue_again_updates_the_waiting_task(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", THREE)
    ready.ok("enqueue", *BOTH)
    again = ready.json("enqueue", *BOTH)
    assert (again["created"], again["updated"]) == (0, 1)
    assert ready.json("queue", "status")["pending"] == 1


def test_entities_without_a_counterpart_are_named(ready: Cli, shop: Shop) -> None:
    shop.main.add_entity("product", name="Lonely", external_code="alone", images=THREE)
    result = ready.run("enqueue", *BOTH)
    assert "Queued 0 tasks" in result.stdout
    assert "1 skipped" in result.stdout
    assert ready.json("enqueue", *BOTH)["skipped"][0]["name"] == "Lonely"


def test_the_match_field_and_the_types_are_options(ready: Cli, shop: Shop) -> None:
    for kind in ("product", "bundle"):
        shop.main.add_entity(kind, name="L", code="7", images=THREE)
        shop.child.add_entity(kind, name="L", code="7")
    assert ready.json("enqueue", *BOTH)["entities"] == 0
    only = ready.json("enqueue", *BOTH, "--match-by", "code", "--type", "bundle")
    assert only["entities"] == 1
    assert ready.json("enqueue", *BOTH, IMGSYNC_MATCH_BY="code")["entities"] == 2


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["enqueue"], 1, "No account is linked; link one with 'imgsync link MAIN CHILD'"),
        (["sync", "--since", "2999-12-31"], 2, "'2999-12-31' is yet to come"),
        (["enqueue", "--main", "Main"], 1, "No account is linked to account 'Main'"),
        (["enqueue", "--main", "Main", "--child", "main"], 1, "are the same"),
        (["enqueue", "--main", "nobody", "--child", "Child"], 1, "'nobody' is not stored"),
        (["sync", *BOTH, "--type", "service"], 1, "unknown entity type 'service'"),
        (["sync", "--main", "Main"], 1, "No account is linked to account 'Main'"),
        (["enqueue", *BOTH, "--payload", "-"], 2, "--payload stands alone"),
        (["queue", "retry", "99"], 1, "Not retried"),
        (["queue", "retry", "9" * 20], 2, "is not in the range"),
        (["queue", "failed", "--limit", "9" * 20], 2, "is not in the range"),
        (["worker", "--concurrency", "0"], 2, "Invalid value for '--concurrency'"),
    ],
)
def test_wrong_arguments_are_explained_and_queue_nothing(
    ready: Cli, shop: Shop, arguments: list[str], status: int, message: str
) -> None:
    shop.pair("Lamp", THREE)
    assert message in ready.fail(*arguments, status=status)
    assert sum(ready.json("queue", "status").values()) == 0


def test_a_dry_run_queues_and_changes_nothing(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", THREE)
    assert "Would copy 3 images to 1 entity; 0 unchanged, 0 skipped." in ready.ok(
        "sync", *BOTH, "--dry-run"
    )
    assert ready.json("sync", *BOTH, "--dry-run")["run"] is None
    assert shop.images(lamp) == []
    assert sum(ready.json("queue", "status").values()) == 0
    assert shop.emulator.stats.uploads == shop.emulator.stats.downloads == 0


def test_sync_copies_and_a_second_sync_costs_nothing(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", THREE)
    said = ready.ok("sync", *BOTH)
    assert "1 task completed;" in said
    assert "3 images uploaded (3 kB), 0 kept." in said
    assert shop.images(lamp) == THREE
    shop.emulator.reset_stats()
    assert ready.ok("sync", *BOTH).splitlines()[-1] == "Nothing to copy: 1 unchanged, 0 skipped."
    shop.emulator.reset_stats()
    again = ready.json("sync", *BOTH)["enqueue"]
    assert (again["unchanged"], again["task_ids"]) == (1, [])
    assert shop.emulator.stats.api_calls == 4  # a page of each type of main, one of the child
    assert shop.emulator.stats.uploads == shop.emulator.stats.downloads == 0


def test_the_first_image_only(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", THREE)
    ready.ok("settings", "set", "--child", "Child", "--sync-images")
    ready.ok("sync", *BOTH)
    assert shop.images(lamp) == THREE[:1]
    assert shop.emulator.stats.downloads == 1


@pytest.mark.parametrize("command", [["sync"], ["sync", "--dry-run"], ["enqueue"]])
def test_where_sync_is_off_nothing_is_read_or_queued(
    ready: Cli, shop: Shop, command: list[str]
) -> None:
    lamp = shop.pair("Lamp", THREE)
    ready.ok("settings", "set", "--child", "Child", "--no-sync-images-all")
    said = ready.fail(*command, *BOTH, status=4)
    assert f"Image sync is off for child 'Child' ({shop.child.id}); nothing was done" in said
    told = ready.failed_json(*command, *BOTH, status=4)
    assert told["status"] == "off"
    assert told.get("enqueue", told)["task_ids"] == []
    assert sum(ready.json("queue", "status").values()) == 0
    assert shop.images(lamp) == []
    assert shop.emulator.stats.api_calls == 0


def test_payloads_of_a_child_whose_sync_is_off_are_not_queued(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", THREE)
    ready.ok("settings", "set", "--child", "Child", "--no-sync-images-all")
    result = ready.run("enqueue", "--payload", "-", stdin=json.dumps(payload(shop)))
    assert result.exit_code == 4
    assert "Image sync is off for child 'Child'" in result.stderr
    store(ready, "other-id", "Other", "token")
    ready.ok("settings", "set", "--child", "Other", "--sync-images")
    both = [payload(shop), payload(shop, child_account_id="other-id")]
    result = ready.run("enqueue", "--json", "--payload", "-", stdin=json.dumps(both))
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert (told["task_ids"], told["off"], told["status"]) == ([1], [shop.child.id], "part")


def test_a_payload_for_an_unknown_child_names_it(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", THREE)
    unknown = json.dumps(payload(shop, child_account_id="nobody"))
    said = ready.fail("enqueue", "--payload", "-", stdin=unknown)
    assert said.startswith("Error: Account 'nobody' is not stored")


def test_sync_that_is_turned_off_meanwhile_is_no_success(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", THREE)
    ready.ok("enqueue", *BOTH)
    ready.ok("settings", "set", "--child", "Child", "--no-sync-images-all")
    assert ready.failed_json("worker", "--drain", status=4)["completed"] == 1


def test_images_that_fail_are_warnings(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", [*THREE, ("big.png", pictures(1, 10 * 1024 * 1024 + 1)[0][1])])
    ready.ok("settings", "set", "--child", "Child", "--no-fit")
    result = ready.run("sync", *BOTH)
    assert result.exit_code == 0
    assert "completed with warnings" in result.stdout
    assert "Child: product 'Lamp', task 1: big.png: 10.485761 MB is over the limit" in result.stderr
    assert shop.images(lamp) == THREE


def test_refused_credentials_are_told_and_a_new_token_ends_it(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", THREE)
    ready.ok("enqueue", *BOTH)
    store(ready, shop.child.id, "Child", "revoked-secret")
    told = ready.failed_json("worker", "--drain", status=3)
    assert told["failed"] + told["parked"] == 1
    shown = ready.ok("queue", "failed") + ready.ok("account", "list")
    assert "MoySklad account 'Child': 401" in shown
    assert "(code 1056)" in shown
    assert "revoked-secret" not in shown + json.dumps(told)
    store(ready, shop.child.id, "Child", CHILD_TOKEN)
    ready.ok("queue", "retry")
    ready.ok("worker", "--drain")
    assert shop.images(lamp) == THREE
    assert ready.ok("queue", "failed").strip() == "No failed tasks."


def test_sync_is_done_in_part_where_a_task_failed(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", [("a.gif", b"no picture")])
    result = ready.run("sync", *BOTH)
    assert result.exit_code == 3
    assert "1 task failed" in result.stdout
    assert "No image was uploaded: a.gif: it is neither a JPEG nor a PNG" in result.stderr


def test_a_passing_failure_is_left_to_the_worker(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", THREE)
    shop.emulator.faults.add(method="POST", path_regex="/images$", status=503, times=4)
    result = ready.run("sync", *BOTH)
    assert result.exit_code == 3
    assert "1 task is left to 'imgsync worker'" in result.stdout
    assert ready.json("queue", "status")["pending"] == 1


def test_payloads_from_a_file(ready: Cli, shop: Shop, tmp_path: Path) -> None:
    lamp = shop.pair("Lamp", THREE)
    path = tmp_path / "payload.json"
    path.write_text(json.dumps(payload(shop)))
    assert "Queued 1 task (1 new, 0 updated)." in ready.ok("enqueue", "--payload", str(path))
    ready.ok("worker", "--drain")
    assert shop.images(lamp) == THREE


def test_a_legacy_payload_from_stdin(ready: Cli, shop: Shop) -> None:
    shop.unjudged = "the payload names one image of three, by another name"
    lamp = shop.pair("Lamp", THREE)
    batch = payload(shop)
    legacy = {k: v for k, v in batch.items() if k not in ("images", "parent_entity_type")}
    legacy |= {
        "entity_type": "product",
        "image_url": batch["images"][1]["meta"]["downloadHref"],
        "filename": "renamed.png",
    }
    ready.ok("enqueue", "--payload", "-", stdin=json.dumps(legacy))
    ready.ok("worker", "--drain")
    assert shop.images(lamp) == [("renamed.png", THREE[1][1])]


def test_bad_payloads_are_explained_and_none_is_queued(ready: Cli, shop: Shop) -> None:
    shop.pair("Lamp", THREE)
    good = payload(shop)
    cases = [
        ("{oops", "is not JSON"),
        (json.dumps([good, {**good, "images": "x"}]), "Payload 2: Bad payload: field 'images'"),
        (json.dumps({**good, "images": [{"filename": "a"}]}), "field 'images.0.meta'"),
        (json.dumps({**good, "parent_entity_type": "service"}), "unknown entity type 'service'"),
        (json.dumps([good, good]), "Payloads 1 and 2 are for the same child entity"),
        ('"text"', "field 'payload': must be a JSON object"),
        (json.dumps([good, {**good, "x": float("nan")}]), "NaN is no JSON"),
        ("[" * 100_000, "is not JSON"),
    ]
    for text, message in cases:
        assert message in ready.fail("enqueue", "--payload", "-", stdin=text)
    assert sum(ready.json("queue", "status").values()) == 0


def test_no_output_shows_a_token(ready: Cli, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.pair("Lamp", THREE)
    shop.main.permanent_links = False
    shop.emulator.faults.add(method="GET", path_regex="/download/", status=429, code=1049)
    caplog.set_level(logging.DEBUG)
    texts = []
    for command in (["enqueue", *BOTH], ["worker", "--drain"], ["queue", "failed"]):
        result = ready.run(*command, IMGSYNC_LOG_LEVEL="DEBUG")
        texts.append(result.output)
    assert "uploaded" in caplog.text
    for token in (MAIN_TOKEN, CHILD_TOKEN, "signature="):
        assert token not in "".join(texts) + caplog.text


def test_delete_then_upload_is_a_choice(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", THREE, pictures(2, 90))
    ready.ok("sync", *BOTH, IMGSYNC_REPLACE_STRATEGY="delete-then-upload")
    requests = shop.emulator.stats.requests
    assert requests["POST", "entity/{type}/{id}/images/delete"] == 1
    assert shop.images(lamp) == THREE


def fail_two(ready: Cli, shop: Shop) -> None:
    for name in "AB":
        shop.pair(name, [("a.gif", b"no picture")])
    ready.run("sync", *BOTH)


def test_one_failed_task_is_retried_by_its_number(ready: Cli, shop: Shop) -> None:
    fail_two(ready, shop)
    assert ready.json("queue", "retry", "1")["retried"] == [1]
    assert ready.json("queue", "status")["failed"] == 1


def test_the_number_of_failed_tasks_shown_is_an_option(ready: Cli, shop: Shop) -> None:
    fail_two(ready, shop)
    (last,) = ready.json("queue", "failed", "--limit", "1")
    assert (last["id"], last["entity"]) == (2, f"product '{last['payload']['name']}'")
    assert last["entity"] in ready.ok("queue", "failed")


def test_an_error_is_shown_whole_where_a_script_reads_it(ready: Cli, shop: Shop) -> None:
    name = "n" * 200 + ".gif"
    shop.pair("A", [(name, b"no picture")])
    ready.run("sync", *BOTH)
    assert f"{name}: it is neither a JPEG nor a PNG file" in ready.ok("queue", "failed")


def test_a_failed_payload_that_is_no_text_can_still_be_listed(
    ready: Cli, sqlite_database: Database
) -> None:
    asyncio.run(SqlTaskQueue(sqlite_database).enqueue([NewTask({"images": "\ud800"})]))
    ready.fail("worker", "--drain", status=3)
    (failed,) = ready.json("queue", "failed")
    assert failed["payload"] == {"images": "\ud800"}
    assert "main_account_id" in ready.ok("queue", "failed")


def test_every_task_of_a_long_plan_is_run(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgsync.application.work._CLAIM_IDS", 2)
    lamps = [shop.pair(f"L{n}", pictures(1, 100 + n)) for n in range(5)]
    assert ready.json("sync", *BOTH)["run"]["completed"] == 5
    assert all(shop.images(lamp) for lamp in lamps)


@pytest.mark.parametrize("concurrency", ["1", "3"])
def test_the_concurrency_is_a_setting(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch, concurrency: str
) -> None:
    for n in range(4):
        shop.pair(f"L{n}", pictures(1, 100 + n))
    shop.emulator.faults.add(
        method="GET", path_regex="/(temporary|permanent)/", where="storage", delay=0.3, times=4
    )
    gauge, workspace = ParallelGauge(), LocalContentStore.workspace

    @asynccontextmanager
    async def watched(storage: LocalContentStore) -> AsyncIterator[Any]:
        with gauge.under_way():
            async with workspace(storage) as opened:
                yield opened

    monkeypatch.setattr(LocalContentStore, "workspace", watched)
    monkeypatch.setattr(CopyImagesHandler, "together", lambda *_: None)
    ready.ok("sync", *BOTH, IMGSYNC_CONCURRENCY=concurrency)
    assert gauge.most == int(concurrency)


@pytest.mark.parametrize(("limit", "kept"), [("2000", 2), ("1000000", 4)])
def test_the_bytes_that_the_content_store_keeps_are_a_setting(
    ready: Cli,
    shop: Shop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    kept: int,
) -> None:
    """Of tasks that run together each holds its files until it ends."""
    monkeypatch.setattr(CopyImagesHandler, "together", lambda *_: None)
    for n in range(4):
        shop.pair(f"L{n}", pictures(1, 1000 - n))
    ready.ok("sync", *BOTH, IMGSYNC_CONCURRENCY="1", IMGSYNC_CONTENT_BYTES=limit)
    assert len(list(tmp_path.glob("temp/imgsync-content/files/*/*"))) == kept


def test_payloads_queued_are_listed_for_scripts(ready: Cli, shop: Shop, tmp_path: Path) -> None:
    shop.pair("Lamp", THREE)
    path = tmp_path / "payload.json"
    path.write_text(json.dumps(payload(shop)))
    assert ready.json("enqueue", "--payload", str(path)) == {
        "task_ids": [1],
        "off": [],
        "exit_status": 0,
        "status": "done",
    }


def test_images_of_more_than_one_request_repeat_the_earlier(ready: Cli, shop: Shop) -> None:
    """Two images of 7.6 MB: over 20 MB by 1.4 % once encoded, which the emulator refuses."""
    images = pictures(2, 7_600_000)
    lamp = shop.pair("Lamp", images)
    ready.ok("sync", *BOTH)
    stats = shop.emulator.stats
    assert stats.uploads == 2
    assert 413 not in stats.statuses
    assert shop.images(lamp) == images


def test_proxies_of_the_environment_are_not_used_for_loopback(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", THREE)
    proxies = {f"{kind}_PROXY": "http://127.0.0.1:9" for kind in ("HTTP", "HTTPS", "ALL")}
    ready.ok("sync", *BOTH, **proxies)
    assert shop.images(lamp) == THREE


def test_proxies_that_cannot_be_used_are_one_line(ready: Cli) -> None:
    said = ready.fail(
        "enqueue",
        *BOTH,
        ALL_PROXY="nonsense://x",
        IMGSYNC_API_URL="https://api.moysklad.ru/api/remap/1.2",
    )
    assert "proxy settings" in said


def test_an_unknown_child_is_an_error_and_no_note(ready: Cli) -> None:
    said = ready.fail("enqueue", "--main", "Main", "--child", "nobody")
    assert said.strip() == (
        "Error: Account 'nobody' is not stored; add it with 'imgsync account add'"
    )


def test_what_would_be_cleared_is_told(ready: Cli, shop: Shop) -> None:
    lamp = shop.pair("Lamp", THREE)
    ready.ok("sync", *BOTH)
    shop.main.set_images(shop.main.entities("product")[0], [])
    assert "and clear those of 1; 0 unchanged, 0 skipped." in ready.ok("sync", *BOTH, "--dry-run")
    assert "over the limit of 0" in ready.fail("sync", *BOTH, "--max-clear", "0", status=3)
    assert shop.images(lamp) == THREE
    assert "Queued 1 task with 0 images, 1 of them to clear, (1 new" in ready.ok("enqueue", *BOTH)
    ready.ok("worker", "--drain")
    assert shop.images(lamp) == []


def test_a_task_of_a_sync_that_was_killed_keeps_no_entity_from_the_next(
    ready: Cli, shop: Shop, sqlite_database: Database
) -> None:
    lamp = shop.pair("Lamp", pictures(1))
    ready.ok("enqueue", *BOTH)
    assert asyncio.run(SqlTaskQueue(sqlite_database).claim(lease=timedelta(seconds=-1)))
    told = ready.json("sync", *BOTH)
    assert (told["run"]["completed"], told["enqueue"]["task_ids"]) == (1, [2])
    assert shop.images(lamp) == pictures(1)
    assert ready.json("queue", "status")["processing"] == 0
