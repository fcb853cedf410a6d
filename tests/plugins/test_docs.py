"""Every hook is documented with a whole example, and the example does what is said of it."""

import io
import re
import runpy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from imgsync import plugins
from imgsync.application.work import Worker
from imgsync.domain.errors import PayloadError
from imgsync.domain.model import AccountName, Entity, SourceImage
from imgsync.domain.ports.queue import NewTask
from imgsync.domain.ports.storage import ContentKey, SharedFile, Turn
from imgsync.entrypoints.cli.runtime import ImgsyncGroup
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from imgsync.plugins import hookspecs, manager
from imgsync.plugins.manager import PluginRegistry, load_plugins
from imgsync.plugins.parts import QueueSetup, Services, StoreSetup
from imgsync.testing import MemoryTaskQueue
from tests.application.world import LEASE, World, png

pytestmark = pytest.mark.anyio
DOCUMENT = Path(__file__).parents[2] / "docs" / "plugins.md"
SECTION = re.compile(r"^## (imgsync_\w+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)

Load = Callable[[str], PluginRegistry]


def sections() -> dict[str, str]:
    return dict(SECTION.findall(DOCUMENT.read_text(encoding="utf-8")))


def hook_names() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith("imgsync_")]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Loads the example of a hook as a plugin that is installed."""

    def installed(hook: str) -> PluginRegistry:
        (example,) = EXAMPLE.findall(sections()[hook])
        file = tmp_path / "example.py"
        file.write_text(example, encoding="utf-8")
        module = ModuleType("example")
        vars(module).update(runpy.run_path(str(file), run_name="example"))
        point = SimpleNamespace(name="example", dist=None, load=lambda: module)
        monkeypatch.setattr(manager, "entry_points", lambda **_: [point])
        return load_plugins()

    return installed


@pytest.fixture
def world() -> World:
    return World()


def worker(world: World, **changes: Any) -> Worker:
    """A worker whose copies are made with these parts."""
    world.sync_entity = replace(world.sync_entity, **changes)
    listeners = world.sync_entity.listeners
    run_task = world.run_task()
    run_task.listeners = listeners
    return Worker(world.queue, run_task, LEASE, 1, 0.01, listeners=listeners)


async def copy(world: World, **changes: Any) -> list[tuple[str, bytes]]:
    """Copies two images over an old one; what the child has then."""
    _, child_id = world.pair([("a.png", png(1)), ("b.png", png(2))], old=1)
    await world.enqueue()
    await worker(world, **changes).run(drain=True)
    return world.child.images("product", child_id)


def test_every_hook_is_documented_with_one_example_and_its_parameters() -> None:
    assert list(sections()) == hook_names()
    for name, text in sections().items():
        assert len(EXAMPLE.findall(text)) == 1, name
        specified = getattr(hookspecs, name).__code__
        signature = re.search(rf"`{name}\((.*?)\)", text)
        assert signature, name
        documented = [p for p in signature[1].split(", ") if p]
        assert documented == list(specified.co_varnames[: specified.co_argcount])


def test_what_a_signature_names_is_in_imgsync_plugins() -> None:
    for name, text in sections().items():
        signature = re.search(rf"`{name}\(.*?\) -> (.*?)`", text)
        named = set(re.findall(r"(?<![.\w])[A-Z]\w+", signature[1])) if signature else set()
        assert named - {"Iterable", "Mapping", "None"} <= set(plugins.__all__), name


async def test_entity_types(load: Load) -> None:
    kind = load("imgsync_entity_types").entity_types.get("service")
    assert kind.matcher is not None
    assert (kind.max_images, kind.matcher.key(Entity("1", "x", fields={"sku": "7"}))) == (10, "7")


async def test_payload_formats(load: Load) -> None:
    formats = load("imgsync_payload_formats").payload_formats
    request = formats.parse({"copy": "m c product p1 c1 https://api.moysklad.ru/a.png"})
    assert (request.child_entity_id, request.images[0].filename) == ("c1", "a.png")
    with pytest.raises(PayloadError, match="'copy'"):
        formats.parse({"copy": "m c"})


async def test_task_handlers(load: Load, world: World) -> None:
    registry = load("imgsync_task_handlers")
    services: Any = SimpleNamespace(records=world.records)
    run_task = world.run_task()
    run_task.handlers = {
        "count_images": registry.task_handlers.get("count_images")(cast_services(services))
    }
    queue = MemoryTaskQueue(world.store, registry.kinds)
    payloads: list[dict[str, str]] = [{"account": "child"}, {}]
    good, bad = await queue.enqueue([NewTask(p, kind="count_images") for p in payloads])
    await Worker(queue, replace(run_task, queue=queue), LEASE, 1, 0.01).run(drain=True)
    done, failed = await queue.get(good.task_id), await queue.get(bad.task_id)
    assert done is not None
    assert failed is not None
    assert done.result == "0 products have images"
    assert failed.error == "Bad payload: field 'account': missing"
    assert await world.queue.get(good.task_id) is None  # opened for other kinds


def cast_services(services: Any) -> Services:
    found: Services = services
    return found


async def test_task_queues(load: Load, world: World) -> None:
    opener = load("imgsync_task_queues").task_queues.get("humble")
    wrapped: list[str] = []

    def open_queue(url: str) -> Any:
        wrapped.append(url)
        return world.queue

    queue = opener(QueueSetup("humble:sqlite:///q.db", ("image_sync",), open_queue, str))
    await queue.enqueue([NewTask({"urgent": 1}, priority=99)])
    (claimed,) = await queue.claim(lease=LEASE)
    assert (claimed.priority, wrapped) == (0, ["sqlite:///q.db"])


async def test_content_stores(load: Load, world: World) -> None:
    opener = load("imgsync_content_stores").content_stores.get("memory")
    storage = opener(StoreSetup("memory:", 1000))
    assert [name for name, _ in await copy(world, storage=storage)] == ["a.png", "b.png"]
    (product,) = world.main.entities["product"].values()
    source = ContentKey.of("main", SourceImage.all_listed(product.images)[0])
    assert source is not None
    async with storage.workspace() as space:
        found = await space.acquire(source)
        assert isinstance(found, SharedFile)
        assert [chunk async for chunk in space.read(found.key)] == [png(1)]
        other = replace(source, account_id="another")
        assert await space.acquire(other) is Turn.OURS


async def test_replace_strategies(load: Load, world: World) -> None:
    strategy = load("imgsync_replace_strategies").replace_strategies.get("clean-slate")
    assert [name for name, _ in await copy(world, strategy=strategy)] == ["a.png", "b.png"]
    assert "delete_images" in str(world.child.calls)


def blue(kind: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "blue").save(out, kind)
    return out.getvalue()


async def copied(world: World, registry: PluginRegistry) -> list[tuple[str, Image.Image]]:
    """What a child gets of two pictures, with the plugin's transformation."""
    _, child_id = world.pair([("a.png", blue("PNG")), ("b.jpg", blue("JPEG"))])
    await world.enqueue()
    await worker(world, transform=registry.transform).run(drain=True)
    images = world.child.images("product", child_id)
    return [(name, Image.open(io.BytesIO(content))) for name, content in images]


async def test_transform_image(load: Load, world: World) -> None:
    made = await copied(world, load("imgsync_transform_image"))
    assert [(name, picture.mode, picture.format) for name, picture in made] == [
        ("a.png", "L", "PNG"),
        ("b.jpg", "L", "JPEG"),
    ]


async def test_transform_version(load: Load, world: World) -> None:
    registry = load("imgsync_transform_version")
    version = registry.transform.versions.removeprefix("example ")
    assert re.fullmatch("[0-9a-f]{12}", version)
    made = await copied(world, registry)
    assert [name for name, _ in made] == ["a.png", "b.jpg"]
    for _, picture in made:
        red_part, _, blue_part = picture.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
        assert red_part > 200 > 100 > blue_part
    assert made[0][1].convert("RGB").getpixel((7, 7)) == (0, 0, 255)


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ("imgsync_before_task", "begins task 1, attempt 1\n"),
        ("imgsync_after_task", ""),
        ("imgsync_image_copied", "a.png: 100 bytes for child\nb.png: 100 bytes for child\n"),
        ("imgsync_run_ended", "1 completed, 0 failed\n"),
    ],
)
async def test_listeners(
    load: Load, world: World, capsys: pytest.CaptureFixture[str], hook: str, said: str
) -> None:
    listeners = load(hook).listeners
    assert len(await copy(world, listeners=listeners)) == 2
    assert capsys.readouterr().out == said


async def test_listeners_of_sweeps_and_accounts(
    load: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    shop = AccountName("1", "Shop")
    swept = load("imgsync_sweep_ended").listeners
    await swept.sweep_ended(shop, {"missing": 2, "different": 1}, False, None)
    await swept.sweep_ended(shop, {"equal": 1}, True, None)
    await swept.sweep_ended(shop, {}, False, "no answer")
    parked = load("imgsync_account_parked").listeners
    await parked.account_parked(shop, "refused", datetime(2026, 11, 28, 3, 30, tzinfo=UTC))
    await load("imgsync_webhooks_off").listeners.webhooks_off(shop, 21)
    assert capsys.readouterr().out.splitlines() == [
        "Shop: 3 differ",
        "Shop could not be compared: no answer",
        "Shop waits until 03:30: refused",
        "Shop: 21 webhooks were off; is the server reachable?",
    ]


async def test_a_listener_hears_of_a_failure(
    load: Load, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.put({"images": 7})
    await worker(world, listeners=load("imgsync_after_task").listeners).run(drain=True)
    assert capsys.readouterr().out.startswith("task 1 failed: Bad payload: field '")


@pytest.mark.database
def test_commands(load: Load, sqlite_url: str) -> None:
    program = Container(config=FixedConfig(database_url=sqlite_url))
    group = ImgsyncGroup("imgsync", dict(load("imgsync_commands").commands.items()))
    told = CliRunner().invoke(group, ["waiting"], obj=program)
    assert (told.stdout, told.exit_code) == ("0\n", 0), told.output
    assert "Number of waiting tasks" in CliRunner().invoke(group, ["waiting", "--help"]).stdout
