"""Peak memory does not grow with the number of images."""

import tracemalloc
from pathlib import Path
from typing import Any

from benchmarks.catalogue import account_id

from imgsync.application.work import Tally
from imgsync.domain.model import Account, Link, LinkSettings, TokenKind
from imgsync.entrypoints.cli.runtime import run_async
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from moysklad_emulator.process import emulator_process

IMAGE_BYTES = 6_000_000
ALLOWED_BYTES = 4_000_000
"""Less than one image: no image is held whole where it is copied, let alone its base64."""

CHECKED_BYTES = 2 * IMAGE_BYTES
"""Pillow holds a chunk of the PNG that it looks into, and these pictures are one chunk each."""


def seed_of(images: int, products: int, size: int) -> dict[str, Any]:
    files = [{"filename": f"{n}.jpg", "size": size} for n in range(images)]
    fields = [{"name": f"Lamp {n}", "external_code": f"x{n}"} for n in range(products)]
    return {
        "accounts": [
            {
                "name": name,
                "id": account_id(name),
                "users": [{"token": name}],
                "entities": [f | {"images": files if name == "main" else []} for f in fields],
            }
            for name in ("main", "child")
        ]
    }


def peak_of_a_copy(images: int, folder: Path, products: int = 1, size: int = IMAGE_BYTES) -> int:
    """Bytes allocated at most while products with `images` images each are copied."""
    with emulator_process(seed_of(images, products, size), rate_interval=0.1) as emulator:
        container = Container(
            config=FixedConfig(
                api_url=emulator.api_url,
                database_url=f"sqlite:///{folder / 'q.db'}",
                temp_dir=folder / "temp",
            )
        )
        tally, settings = Tally(), LinkSettings(sync_images_all=True)

        async def copy() -> None:
            main, child = (
                Account(account_id(name), name, TokenKind.SOLUTION, name)
                for name in ("main", "child")
            )
            for account in (main, child):
                await container.accounts().add(account)
            await container.settings().put(child.id, settings)
            await container.enqueue()([Link(main, child, settings)])
            tracemalloc.start()
            await container.worker().run(drain=True, report=tally.add)

        try:
            run_async(container, copy)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tally.uploaded, tally.errors, tally.warnings) == (images * products, [], [])
    return peak


def test_ten_images_need_no_more_memory_than_one(tmp_path: Path) -> None:
    peak_of_a_copy(1, tmp_path / "warm-up")
    one, ten = (peak_of_a_copy(n, tmp_path / str(n)) for n in (1, 10))
    assert one < CHECKED_BYTES + ALLOWED_BYTES
    assert ten < one + ALLOWED_BYTES


def test_a_request_of_many_entities_is_never_whole_in_memory(tmp_path: Path) -> None:
    """40 products of 300 kB: 16 MB of JSON."""
    assert peak_of_a_copy(1, tmp_path, products=40, size=300_000) < 12_000_000
