"""Copies in every way in which the API may behave where its documentation is silent."""

from pathlib import Path

import pytest

from imgsync.application.tally import Tally
from imgsync.domain.accounts import Account, TokenKind
from imgsync.domain.settings import ChildSettings
from imgsync.entrypoints.cli.planning import plan_and_queue
from imgsync.entrypoints.cli.runtime import run_async
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from moysklad_emulator import (
    Dialect,
    Emulator,
    EmulatorLimits,
    EmulatorServer,
    pairwise_dialects,
)
from moysklad_emulator.images import KeptImage, NewImage
from tests.application.world import png
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures

LIMITS = EmulatorLimits(rate_units=100_000)
TEXT = ("broken.png", b"this is no picture")


def name_of(dialect: Dialect) -> str:
    """What it does otherwise than the documented one."""
    documented = Dialect().as_dict()
    changes = {k: v for k, v in dialect.as_dict().items() if v != documented[k]}
    return ",".join(f"{name}={value}" for name, value in changes.items()) or "documented"


def copy(shop: Shop, folder: Path) -> Tally:
    """One plan and worker run in this process."""
    container = Container(
        config=FixedConfig(
            api_url=shop.server.api_url,
            database_url=f"sqlite:///{folder / 'q.db'}",
            temp_dir=folder / "temp",
            download_hosts=("127.0.0.1", "localhost"),
        )
    )
    for account, token in ((shop.main, MAIN_TOKEN), (shop.child, CHILD_TOKEN)):
        container.accounts().add(Account(account.id, account.name, TokenKind.SOLUTION, token))
    container.settings().put(shop.child.id, ChildSettings(sync_images_all=True))
    tally = Tally()

    async def run() -> None:
        await plan_and_queue(container, shop.main.id, shop.child.id, match_by=None, types=())
        await container.worker().run(drain=True, report=tally.add)

    try:
        run_async(container, run)
    finally:
        container.shutdown_resources()
    return tally


@pytest.mark.parametrize("dialect", pairwise_dialects(), ids=name_of)
def test_the_child_gets_the_images_of_the_main_account(dialect: Dialect, tmp_path: Path) -> None:
    with EmulatorServer(Emulator(LIMITS, dialect=dialect)) as server:
        shop = Shop.on(server)
        lamp = shop.pair("Lamp", pictures(3), pictures(2, 700))
        bare = shop.pair("Bare", [], pictures(1, 600))
        small, large = pictures(2, 800), ("large.png", png(7, 4_000_000))
        accepted = [*small, large] if dialect.image_megabytes > 3 else small
        chair = shop.pair("Chair", [TEXT, *small, large], pictures(1, 700), kind="bundle")

        first = copy(shop, tmp_path)
        assert first.errors == []
        assert first.uploaded == 3 + len(accepted)
        assert len(first.warnings) == 4 - len(accepted)
        assert shop.images(lamp) == pictures(3)
        assert shop.images(chair) == accepted

        shop.emulator.reset_stats()
        again = copy(shop, tmp_path)
        assert (again.errors, again.uploaded, shop.emulator.stats.uploads) == ([], 0, 0)

        source = next(e for e in shop.main.entities("product") if e.name == "Lamp")
        new = NewImage.create("new.png", pictures(9, 900)[8][1])
        shop.main.set_images(source, [new, KeptImage(source.images[2].id)])
        assert copy(shop, tmp_path).errors == []
        assert shop.images(lamp) == [(new.filename, new.content), pictures(3)[2]]

        shop.main.set_images(source, [])
        assert copy(shop, tmp_path).outcomes == {"cleared": 1, "unchanged": 1}
        assert (shop.images(lamp), shop.images(bare)) == ([], pictures(1, 600))
        assert copy(shop, tmp_path).outcomes == {"unchanged": 1}
        assert shop.emulator.stats.throttled == 0
        assert shop.emulator.stats.authorization_leaks == 0
