"""What a program imports from imgsync, and what the README shows of it."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import imgsync
from imgsync import (
    AuthorisationError,
    ConfigError,
    Imgsync,
    SyncIsOffError,
    TokenKind,
    UndoError,
    UnknownAccountError,
    WrongAccountError,
)
from imgsync.application.survey import Difference
from moysklad_emulator import Emulator, EmulatorLimits, EmulatorServer
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures

pytestmark = [pytest.mark.anyio, pytest.mark.process, pytest.mark.database]

NAMES = [
    "Account",
    "AccountParkedError",
    "AccountRole",
    "ApiError",
    "AuthorisationError",
    "BackupError",
    "ClearLimitError",
    "ConfigError",
    "EnqueueOutcome",
    "EntityType",
    "FailedImage",
    "Imgsync",
    "ImgsyncError",
    "MatchField",
    "NoRoomError",
    "NotFoundError",
    "ParkingError",
    "PayloadError",
    "PermissionDeniedError",
    "PictureSettings",
    "PluginError",
    "StorageFullError",
    "StoreError",
    "SyncIsOffError",
    "Surveyed",
    "SyncReport",
    "SyncRequest",
    "Tally",
    "TaskEnd",
    "TaskReport",
    "TokenKind",
    "UnavailableError",
    "UndoError",
    "UnknownAccountError",
    "UnknownEntityTypeError",
    "WrongAccountError",
    "__version__",
    "hookimpl",
]
"""A name that is gone breaks programs: think of them before you change this list."""


@pytest.fixture
def shop() -> Any:
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        yield Shop.on(server)


@pytest.fixture
def settings(shop: Shop, tmp_path: Path) -> dict[str, Any]:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    shop.databases.add(url)
    return {"api_url": shop.server.api_url, "database_url": url, "temp_dir": tmp_path / "temp"}


def test_the_public_names() -> None:
    assert sorted(imgsync.__all__) == sorted(NAMES)
    assert [name for name in NAMES if getattr(imgsync, name, None) is None] == []
    assert set(NAMES) <= set(dir(imgsync))
    assert re.match(r"\d+\.\d+", imgsync.__version__)
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        imgsync.Nonsense  # noqa: B018


def test_each_public_name_is_documented() -> None:
    document = Path(__file__).parents[1] / "docs" / "program.md"
    named = set(re.findall(r"`(\w+)", document.read_text(encoding="utf-8")))
    assert set(NAMES) - named == set()


def test_each_method_is_documented_with_its_parameters() -> None:
    document = Path(__file__).parents[1] / "docs" / "program.md"
    rows = re.findall(r"^\| `(\w+)\((.*?)\)`", document.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {
        name: [p.partition("=")[0].lstrip("*") for p in given.split(", ") if p not in ("", "*")]
        for name, given in rows
    }
    public = {
        name: [p for p in inspect.signature(method).parameters if p != "self"]
        for name, method in vars(Imgsync).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert documented == public


def test_the_errors_are_of_one_family() -> None:
    errors = [getattr(imgsync, name) for name in NAMES if name.endswith("Error")]
    assert len(errors) > 10
    assert all(issubclass(error, imgsync.ImgsyncError) for error in errors)


def test_the_import_alone_loads_nothing_heavy() -> None:
    code = (
        "import sys, imgsync; heavy = {'sqlalchemy', 'httpx', 'PIL', 'pydantic', 'click', 'pluggy'}"
        "; print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


async def test_a_program_links_surveys_syncs_and_enqueues(
    shop: Shop, settings: dict[str, Any]
) -> None:
    shop.pair("Lamp", pictures(3))
    shop.main.add_entity("product", name="Lone", external_code="lone", images=pictures(1))
    async with Imgsync(**settings) as sync:
        main = await sync.add_account(MAIN_TOKEN)
        child = await sync.add_account(CHILD_TOKEN, name="Franchise Omsk")
        with pytest.raises(WrongAccountError, match=r"'Franchise Omsk'.*stored already"):
            await sync.add_account(CHILD_TOKEN, name="Franchise Tomsk")
        assert main.token_kind is TokenKind.SOLUTION
        assert [a.name for a in await sync.accounts()] == ["Franchise Omsk", main.name]
        with pytest.raises(SyncIsOffError, match="off for child 'Franchise Omsk'"):
            await sync.sync(main, child)
        await sync.link(main, child)
        found = {p.name: (p.request is not None) async for p in sync.survey(main, child)}
        assert found == {"Lamp": True, "Lone": False}
        report = await sync.sync(main.id, "Franchise Omsk")
        assert (report.enqueued.entities, report.tally.uploaded, report.tally.errors) == (1, 3, [])
        again = await sync.enqueue(main, child)
        assert (again.entities, again.unchanged) == (0, 1)
        assert (await sync.check(main)).counts[child.id][Difference.UNMATCHED] == 1
        ended: list[str] = []
        tally = await sync.work(report=lambda r: ended.append(r.end.value))
        assert (dict(tally.outcomes), ended) == ({}, [])


async def test_a_link_may_take_the_first_image_only(shop: Shop, settings: dict[str, Any]) -> None:
    child_entity = shop.pair("Lamp", pictures(3))
    async with Imgsync(**settings) as sync:
        main, child = await sync.add_account(MAIN_TOKEN), await sync.add_account(CHILD_TOKEN)
        await sync.link(main, child, images="first")
        assert (await sync.sync(main, child)).tally.uploaded == 1
        assert len(shop.images(child_entity)) == 1
        with pytest.raises(WrongAccountError):
            await sync.link(child, main)
        await sync.link(main, child, images="none")
        with pytest.raises(SyncIsOffError):
            await sync.enqueue(main, child)
        await sync.link(main, child, images="first")  # for the judge


async def test_a_run_and_an_entity_are_undone(
    shop: Shop, settings: dict[str, Any], tmp_path: Path
) -> None:
    shop.unjudged = "what is put back is not main's"
    own = pictures(5)[3:]
    child_entity = shop.pair("Lamp", pictures(3), old=own)
    async with Imgsync(**settings, backup_dir=tmp_path / "backup") as sync:
        main, child = await sync.add_account(MAIN_TOKEN), await sync.add_account(CHILD_TOKEN)
        await sync.link(main, child)
        report = await sync.sync(main, child)
        assert shop.images(child_entity) == pictures(3)
        tally = await sync.undo(run=report.run)
        assert (tally.uploaded, tally.errors, shop.images(child_entity)) == (2, [], own)
        await sync.undo(child=child, entity="Lamp")  # the last change is the undo
        assert shop.images(child_entity) == pictures(3)
        with pytest.raises(UndoError, match="known"):
            await sync.undo(run="nonsense")
        for wrong in ({}, {"child": child}, {"run": report.run, "child": child}):
            with pytest.raises(ValueError, match="name a run, or"):
                await sync.undo(**wrong)


async def test_what_goes_wrong_is_one_line(shop: Shop, settings: dict[str, Any]) -> None:
    async with Imgsync(**settings) as sync:
        with pytest.raises(AuthorisationError, match="nothing is stored"):
            await sync.add_account("nobodys-token")
        with pytest.raises(ValueError, match="the token has spaces"):
            await sync.add_account("two words")
        with pytest.raises(UnknownAccountError):
            await sync.sync("Main", "Child")
        assert await sync.accounts() == []
    with pytest.raises(RuntimeError, match="async with"):
        await sync.accounts()
    with pytest.raises(ConfigError, match="concurrency"):
        Imgsync(concurrency=0)
    with pytest.raises(ConfigError, match="nonsense"):
        Imgsync(nonsense=1)


async def test_the_environment_counts_where_it_is_asked_for(
    shop: Shop, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("IMGSYNC_DATABASE_URL", "nonsense://")
    async with Imgsync(**settings) as sync:
        main = await sync.add_account(MAIN_TOKEN)
    for name, value in settings.items():
        monkeypatch.setenv(f"IMGSYNC_{name.upper()}", str(value))
    async with Imgsync.from_environment() as sync:
        assert await sync.accounts() == [main]


async def test_the_example_of_the_readme(
    shop: Shop,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shop.pair("Lamp", pictures(3))
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n([^`]*from imgsync import Imgsync[^`]*)```", readme)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name, value in settings.items():
        monkeypatch.setenv(f"IMGSYNC_{name.upper()}", str(value))
    names: dict[str, Any] = {}
    exec(compile(example, "README.md", "exec"), names)  # noqa: S102
    await names["copy"](MAIN_TOKEN, CHILD_TOKEN)
    assert capsys.readouterr().out == "Lamp 3 \n3 images uploaded, []\n"
