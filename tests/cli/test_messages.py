"""Each failure of a copy names the child, the entity with its code, and the image."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imgsync.adapters.moysklad import transport
from imgsync.application.log_lines import COPY_LOG
from imgsync.entrypoints.cli.logs import JsonFormatter, OneLineFormatter
from moysklad_emulator import EmulatedAccount, Emulator, EmulatorLimits, EmulatorServer
from tests.application.world import png
from tests.cli.conftest import Cli, store
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures

pytestmark = pytest.mark.slow

BIG = png(1, 11_000_000)
OF_IMAGES = {
    "too large": r"11\.0 MB is over the limit of 10\.5 MB",
    "no image": r"it is neither a JPEG nor a PNG file",
    "cut": r"the file did not come whole",
    "404": r"\b404\b",
    "403": r"\b403\b",
    "cut off": r"connection to http://[\w.:]+ for account 'Main' failed: ",
}
"""What is said of images that cannot be copied, by what they meet."""
CHILDREN = ("Omsk", "Omsk 2", "Omsk 10")
"""The second has no storage left, the third refuses its token."""


class _Lines(logging.Handler):
    """What a service writes into its log, in both formats."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.json: list[dict[str, Any]] = []
        self._formats = OneLineFormatter(), JsonFormatter()

    def emit(self, record: logging.LogRecord) -> None:
        text, as_json = self._formats
        self.text.append(text.format(record))
        self.json.append(json.loads(as_json.format(record)))


@dataclass
class Provoked:
    """What was told of a worker's run in which everything went wrong."""

    shop: Shop
    drained: dict[str, Any]
    log: _Lines
    failed_images: str
    failed_tasks: str
    children: dict[str, EmulatedAccount] = field(default_factory=dict)


@pytest.fixture(scope="module")
def provoked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provoked]:
    folder: Path = tmp_path_factory.mktemp("messages")
    levels = {name: logging.getLogger(name).level for name in (None, COPY_LOG)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # What may pass is asked for again at once.
        patch.setattr(transport, "REQUEST_RETRY_DELAYS", (0.0, 0.0))
        with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
            yield _provoked(Shop.on(server), folder)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def _provoked(shop: Shop, folder: Path) -> Provoked:
    cli = Cli(
        shop.environment(f"sqlite:///{folder / 'imgsync.db'}", str(folder / "temp"))
        | {"XDG_CONFIG_HOME": str(folder / "config")}
    )
    store(cli, shop.main.id, "Main", MAIN_TOKEN)
    omsk, full, refused = CHILDREN
    children = {omsk: shop.child}
    tokens = {omsk: CHILD_TOKEN, full: "token-of-full", refused: "token-of-refused"}
    for name in (full, refused):
        children[name] = shop.emulator.add_account(name)
        children[name].add_user(token=tokens[name])
    for at, what in enumerate(OF_IMAGES):
        bad = {"too large": BIG, "no image": b"no picture"}.get(what, png(at, 2000))
        images = [*pictures(1), (f"{what}.jpg" if at % 2 else f"{what}.png", bad)]
        shop.pair(f"Lamp: {what}", images, code=f"000{at}")
        _break(shop, what, shop.pairs[-1].main.images[1].id)
    gone = shop.pair("Gone", pictures(1), code="0100")
    for name in (full, refused):
        shop.main.add_entity(
            "product", name=f"Of {name}", code=f"of-{name}", external_code=name, images=pictures(1)
        )
        children[name].add_entity("product", name=f"Of {name}", external_code=name)
    for name, account in children.items():
        store(cli, account.id, name, tokens[name])
    cli.ok("link", "Main", *reversed(CHILDREN), "--sync-images-all", "--type", "product")
    cli.ok("settings", "set", "--child", omsk, "--no-fit")
    cli.ok("enqueue")
    shop.child.delete_entity(gone)
    children[full].storage_quota = 0
    store(cli, children[refused].id, refused, "a-wrong-token")
    lines = _Lines()
    logging.getLogger().addHandler(lines)
    try:
        # Each alone: what sets several at once asks anew for those that fail.
        drained = cli.failed_json("worker", "--drain", "--concurrency", "1", status=3)
    finally:
        logging.getLogger().removeHandler(lines)
    wide = {"COLUMNS": "400"}
    failed_images, failed_tasks = (cli.ok(one, "failed", **wide) for one in ("images", "queue"))
    return Provoked(shop, drained, lines, failed_images, failed_tasks, children)


def _break(shop: Shop, what: str, image_id: str) -> None:
    effects: dict[str, dict[str, Any]] = {
        "cut": {"cut_to": 100},
        "404": {"status": 404},
        "403": {"status": 403},
        "cut off": {"drop_connection": True},
    }
    if what in effects:
        for where in ("api", "storage"):
            shop.emulator.faults.add(
                method="ANY",
                path_regex=image_id,
                where=where,
                times=99,
                **effects[what],
            )


@pytest.mark.parametrize("what", OF_IMAGES)
def test_an_image_that_is_not_copied_is_told_with_all_its_names(
    provoked: Provoked, what: str
) -> None:
    at = list(OF_IMAGES).index(what)
    image = f"{what}.jpg" if at % 2 else f"{what}.png"
    entity = f"product 'Lamp: {what}' (code 000{at})"
    message = rf"Omsk: {re.escape(entity)}, task \d+: {re.escape(image)}: .*{OF_IMAGES[what]}"
    (warning,) = (one for one in provoked.drained["warnings"] if image in one)
    assert re.match(message, warning)
    assert any(re.search(message, line) for line in provoked.log.text)
    told = [one for one in provoked.log.json if image in one.get("message", "")]
    assert told
    for one in told:
        assert (one["child"], one["entity"], one["code"]) == (
            "Omsk",
            f"Lamp: {what}",
            f"000{at}",
        )
    row = rf"Omsk +{re.escape(entity)} +{re.escape(image)} +.*{OF_IMAGES[what]}"
    assert re.search(row, provoked.failed_images)


@pytest.mark.parametrize(
    ("child", "entity", "why"),
    [
        ("Omsk", "product 'Gone' (code 0100)", r"MoySklad account 'Omsk': 404 .*\(code 1021\)"),
        (
            "Omsk 2",
            "product 'Of Omsk 2' (code of-Omsk 2)",
            r"account 'Omsk 2': 400 .*\(code 51003\) \[POST http://[\w.:]+/\S+\]; free room there",
        ),
        (
            "Omsk 10",
            "product 'Of Omsk 10' (code of-Omsk 10)",
            r"account 'Omsk 10': 401 .*\(code 1056\) \[\w+ http://[\w.:]+/\S+\]; give it a new "
            r"token or password with 'imgsync account rotate'",
        ),
    ],
)
def test_a_task_that_ends_without_its_images_is_told_with_all_its_names(
    provoked: Provoked, child: str, entity: str, why: str
) -> None:
    message = rf"{child}: {re.escape(entity)}, task \d+.*: .*{why}"
    (error,) = (one for one in provoked.drained["errors"] if one.startswith(f"{child}: "))
    assert re.match(message, error)
    assert any(re.search(message, line) for line in provoked.log.text)


def test_children_of_errors_come_as_people_count(provoked: Provoked) -> None:
    of = [one.partition(":")[0] for one in provoked.drained["errors"]]
    assert of == list(CHILDREN)


def test_a_failed_task_is_listed_with_its_child(provoked: Provoked) -> None:
    row = r"Omsk +product 'Gone' \(code 0100\) .*MoySklad account 'Omsk': 404 "
    assert re.search(row, provoked.failed_tasks)


def test_a_server_that_refuses_connections_is_named_with_the_account(
    ready: Cli, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "REQUEST_RETRY_DELAYS", ())
    said = ready.fail(
        "sync", "--main", "Main", "--child", "Child", IMGSYNC_API_URL="http://127.0.0.1:1/api"
    )
    assert said.startswith("Error: connection to http://127.0.0.1:1 for account 'Main' failed: ")
    assert len(said.splitlines()) == 1
