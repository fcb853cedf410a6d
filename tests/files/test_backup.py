"""Backups in a folder: names from outside, broken ones, disks without room."""

# ruff: noqa: ASYNC240 (nothing else runs on these loops)

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest

from imgsync.adapters.files.backup import MANIFEST, UNFINISHED, FolderBackups, safe_name
from imgsync.domain.changes import BackedUp, BackupError, NoBackupError, SavedImage
from imgsync.domain.diff import EntityKey
from imgsync.domain.ports.changes import BackupStore
from imgsync.testing import BackupStoreContract

pytestmark = pytest.mark.anyio


def entity(child: str = "Shop", entity_id: str = "e1", account_id: str = "acc") -> BackedUp:
    key = EntityKey(account_id, "product", entity_id)
    return BackedUp("20261124-120000-0001", account_id, child, key, "m1", "Lamp")


class TestFolderBackups(BackupStoreContract):
    @pytest.fixture
    def backups(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderBackups:
        self.monkeypatch = monkeypatch
        return FolderBackups(tmp_path / "b")

    def off(self, backups: BackupStore) -> FolderBackups:
        return FolderBackups(None)

    async def damage(self, backups: BackupStore, place: str, image: SavedImage) -> None:
        with (Path(place) / image.file).open("ab") as file:
            file.write(b"x")

    async def fill(self, backups: BackupStore) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self.monkeypatch.setattr(os, "fsync", full)


async def save(store: FolderBackups, of: BackedUp, *images: tuple[str, bytes]) -> str:
    async with store.begin(of) as backup:
        saved = []
        for order, (filename, content) in enumerate(images):
            file = await backup.create(filename)
            await file.write(content)
            await file.close()
            saved.append(
                SavedImage(
                    order,
                    f"i{order}",
                    filename,
                    file.size,
                    file.digest,
                    "now",
                    file.key,
                )
            )
        return await backup.finish(saved)


async def content(store: FolderBackups, place: str) -> list[tuple[str, bytes]]:
    return [
        (image.filename, b"".join([chunk async for chunk in store.read(place, image)]))
        for image in await store.images(place)
    ]


HOSTILE = [
    "../../x",
    "/etc/passwd",
    "a\x00b",
    "n" * 300 + ".jpeg",
    "я" * 300,
    "CON",
    "nul.png",
    "",
    ".",
    "..",
    " . ",
    ".hidden",
    "a\nb\x1b[2J",
    "\ud800",
    "same.png",
    "same.png",
    MANIFEST,
    "C:\\x",
    "a.",
]


async def test_names_from_outside_are_parts_of_a_path_inside(tmp_path: Path) -> None:
    store = FolderBackups(tmp_path / "b")
    images = [(name, f"{n}".encode()) for n, name in enumerate(HOSTILE)]
    for name in HOSTILE:
        place = await save(store, entity(name or "_", name or "_", name or "_"), *images)
        assert Path(place).resolve().is_relative_to(tmp_path / "b")
        assert len(Path(place).relative_to(tmp_path / "b").parts) == 4
        assert await content(store, place) == images
    assert {path.name for path in tmp_path.iterdir()} == {"b"}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_safe_name_is_plain_on_any_system(text: str) -> None:
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 81
    assert name == Path(name).name
    assert name.strip(" .") == name
    assert name.isprintable()
    assert name.partition(".")[0].casefold() not in ("con", "nul")


async def test_the_same_entity_again_has_a_place_of_its_own(tmp_path: Path) -> None:
    store = FolderBackups(tmp_path)
    places = [await save(store, entity(), ("a.png", bytes([n]))) for n in range(3)]
    assert [Path(place).name for place in places] == ["e1", "e1-2", "e1-3"]
    assert [(await content(store, p))[0][1] for p in places] == [b"\0", b"\1", b"\2"]


async def test_two_hosts_save_the_same_entity_at_once(tmp_path: Path) -> None:
    hosts = [FolderBackups(tmp_path) for _ in range(8)]
    saving = [save(host, entity(), ("a.png", bytes([n]))) for n, host in enumerate(hosts)]
    places = await asyncio.gather(*saving)
    assert len(set(places)) == 8
    assert [(await content(hosts[0], p))[0][1] for p in places] == [bytes([n]) for n in range(8)]
    assert not list(tmp_path.rglob(f"*{UNFINISHED}"))


async def test_a_backup_that_is_left_leaves_nothing(tmp_path: Path) -> None:
    store = FolderBackups(tmp_path)
    async with store.begin(entity()) as backup:
        file = await backup.create("a.png")
        await file.write(b"half")
        assert [path for path in tmp_path.rglob("*") if path.is_file()] != []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_one_whose_process_died_is_told_by_its_name(tmp_path: Path) -> None:
    store = FolderBackups(tmp_path)
    async with store.begin(entity()) as backup:
        file = await backup.create("a.png")
        await file.write(b"half")
        (left,) = [path for path in tmp_path.rglob(f"*{UNFINISHED}") if path.is_dir()]
        assert left.name.startswith(".")
        with pytest.raises(NoBackupError, match="there is no backup in"):
            await store.images(str(left))
        await save(FolderBackups(tmp_path), entity(), ("a.png", b"whole"))


async def test_a_manifest_tells_what_is_where(tmp_path: Path) -> None:
    store = FolderBackups(tmp_path)
    place = await save(store, entity("Shop Omsk"), ("a b.PNG", b"12345"))
    assert Path(place) == tmp_path / "20261124-120000-0001" / "Shop Omsk (acc)" / "product" / "e1"
    told = json.loads((Path(place) / MANIFEST).read_text())
    assert told["account"] == {"id": "acc", "name": "Shop Omsk"}
    assert told["entity"] == {"type": "product", "id": "e1", "name": "Lamp", "main_id": "m1"}
    (image,) = told["images"]
    assert (image["order"], image["image_id"], image["filename"], image["size"]) == (
        0, "i0", "a b.PNG", 5,
    )  # fmt: skip
    assert (Path(place) / image["file"]).read_bytes() == b"12345"


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "outside", "text", "manifest"])
async def test_what_is_not_as_it_was_saved_is_no_backup(tmp_path: Path, damage: str) -> None:
    store = FolderBackups(tmp_path / "b")
    place = await save(store, entity(), ("a.png", b"12345"))
    file, manifest = Path(place) / "01-a.png", Path(place) / MANIFEST
    match damage:
        case "cut":
            file.write_bytes(b"123")
        case "changed":
            file.write_bytes(b"1234x")
        case "gone":
            file.unlink()
        case "outside":
            (tmp_path / "b" / "x").write_bytes(b"12345")
            manifest.write_text(manifest.read_text().replace("01-a.png", "../../../../x"))
        case "text":
            manifest.write_text("{")
        case _:
            manifest.unlink()
    with pytest.raises(NoBackupError):
        await content(store, place)


@pytest.mark.parametrize("field", ["image_id", "filename", "file", "size", "sha256", "order"])
@pytest.mark.parametrize("value", [None, ["x"], {}, 5.5, True])
async def test_a_manifest_with_a_field_of_another_type_is_damaged(
    tmp_path: Path, field: str, value: object
) -> None:
    store = FolderBackups(tmp_path / "b")
    place = await save(store, entity(), ("a.png", b"12345"))
    manifest = Path(place) / MANIFEST
    told = json.loads(manifest.read_text())
    told["images"][0][field] = value
    manifest.write_text(json.dumps(told))
    with pytest.raises(NoBackupError, match="damaged"):
        await store.images(place)


async def test_of_a_file_that_has_grown_no_more_is_read_than_was_saved(tmp_path: Path) -> None:
    store = FolderBackups(tmp_path / "b")
    place = await save(store, entity(), ("a.png", b"12345"))
    (image,) = await store.images(place)
    with (Path(place) / image.file).open("r+b") as file:
        file.truncate(1 << 40)  # a hole, which takes no room
    pieces: list[bytes] = []

    async def read() -> None:
        async for piece in store.read(place, image):
            pieces.append(piece)  # noqa: PERF401 (what comes before the error counts)

    with pytest.raises(NoBackupError):
        await read()
    assert sum(map(len, pieces)) <= image.size


async def test_a_folder_that_cannot_be_written_is_a_backup_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackupError, match="nothing was removed"):
        await save(FolderBackups(tmp_path / "file" / "b"), entity(), ("a.png", b"1"))
    if os.geteuid() != 0:  # whom no permission stops
        tmp_path.chmod(0o500)
        with pytest.raises(BackupError):
            await save(FolderBackups(tmp_path), entity(), ("a.png", b"1"))


async def test_a_full_disk_is_a_backup_error(small_disk: Path) -> None:
    store = FolderBackups(small_disk)
    with pytest.raises(BackupError, match="nothing was removed"):
        await save(store, entity(), ("a.png", bytes(2_000_000)))
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []
    assert await content(store, await save(store, entity(), ("a.png", b"1"))) == [("a.png", b"1")]


async def test_where_none_is_configured_it_is_saved_beside_another(tmp_path: Path) -> None:
    off = FolderBackups(None)
    assert not off.is_on
    with pytest.raises(BackupError, match="no folder"):
        await save(off, entity(), ("a.png", b"1"))
    place = await save(FolderBackups(tmp_path), entity(), ("a.png", b"1"))
    async with off.begin(entity("Other"), beside=place) as backup:
        assert Path(await backup.finish([])).is_relative_to(tmp_path)
