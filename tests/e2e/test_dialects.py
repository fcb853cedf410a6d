"""Copies in every way in which the API may behave where its documentation is silent."""

from pathlib import Path
from typing import Any

import pytest

from imgsync.application.work import Tally
from imgsync.domain.model import Account, Link, LinkSettings, TokenKind
from imgsync.domain.ports.queue import NewTask
from imgsync.entrypoints.cli.runtime import run_async
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container
from moysklad_emulator import (
    SWITCHES,
    Dialect,
    EmulatedEntity,
    Emulator,
    EmulatorLimits,
    EmulatorServer,
    UserKind,
    pairwise_dialects,
)
from moysklad_emulator.encoded import recoded
from moysklad_emulator.images import KeptImage, NewImage
from tests.application.world import png
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Images, Shop, pictures

LIMITS = EmulatorLimits(rate_units=100_000)
TEXT = ("broken.png", b"this is no picture")
GIF = ("moving.gif", b"GIF89a" + bytes(600))


def name_of(dialect: Dialect) -> str:
    """What it does otherwise than the documented one."""
    documented = Dialect().as_dict()
    changes = {k: v for k, v in dialect.as_dict().items() if v != documented[k]}
    return ",".join(f"{name}={value}" for name, value in changes.items()) or "documented"


def stored(shop: Shop, images: Images) -> Images:
    """What the child's storage makes of images that are sent."""
    if not shop.emulator.dialect.recodes:
        return images
    return [(name, recoded(content)) for name, content in images]


def copy(
    shop: Shop,
    folder: Path,
    kind: TokenKind = TokenKind.SOLUTION,
    payload: dict[str, str] | None = None,
) -> Tally:
    """One plan and worker run in this process; the worker has a task of `payload` too."""
    container = Container(
        config=FixedConfig(
            api_url=shop.server.api_url,
            database_url=f"sqlite:///{folder / 'q.db'}",
            temp_dir=folder / "temp",
            # Of an address that only a payload names, the settings have to say that it may be.
            download_hosts=() if payload is None else (shop.emulator.dialect.storage_host,),
        )
    )
    tally = Tally()

    async def run() -> None:
        main, child = (
            Account(account.id, account.name, kind, token)
            for account, token in ((shop.main, MAIN_TOKEN), (shop.child, CHILD_TOKEN))
        )
        for account in (main, child):
            await container.accounts().add(account)
        settings = LinkSettings(sync_images_all=True)
        await container.settings().put(shop.child.id, settings)
        if payload is not None:
            await container.queue().enqueue([NewTask(payload)])
        plan = await container.enqueue()([Link(main, child, settings)])
        assert plan.skipped.items == []
        await container.worker().run(drain=True, report=tally.add)

    run_async(container, run)
    return tally


def address_payload(
    shop: Shop, server: EmulatorServer, main_name: str, child: EmulatedEntity
) -> dict[str, str]:
    """A legacy payload with a picture's address on the storage, which tells no size."""
    main = next(e for e in shop.main.entities("bundle") if e.name == main_name)
    picture = next(i for i in main.images if i.media_type == "image/png")
    return {
        "main_account_id": shop.main.id,
        "child_account_id": shop.child.id,
        "parent_entity_type": child.type,
        "parent_entity_id": main.id,
        "child_entity_id": child.id,
        "image_url": f"{server.storage_url}/permanent/{shop.main.id}/{picture.id}",
        "filename": picture.filename,
    }


@pytest.mark.parametrize("dialect", pairwise_dialects(), ids=name_of)
def test_the_child_gets_the_images_of_the_main_account(dialect: Dialect, tmp_path: Path) -> None:
    with EmulatorServer(Emulator(LIMITS, dialect=dialect)) as server:
        shop = Shop.on(server)
        lamp = shop.pair("Lamp", pictures(3), pictures(2, 700))
        bare = shop.pair("Bare", [], pictures(1, 600))
        small, large = pictures(2, 800), ("large.png", png(7, 4_000_000))
        fits = dialect.image_megabytes > 3
        chair = shop.pair("Chair", [TEXT, GIF, *small, large], pictures(1, 700), kind="bundle")

        first = copy(shop, tmp_path)
        assert first.errors == []
        assert (first.uploaded, len(first.warnings)) == (6, 2)
        assert [note.split(": ", 2)[2] for note in first.notes] == (
            [] if fits else ["large.png: scaled from 4.0 MB to 285 bytes"]
        )
        assert shop.images(lamp) == stored(shop, pictures(3))
        assert shop.images(chair)[:2] == stored(shop, small)
        name, content = shop.images(chair)[2]
        assert [(name, content)] == stored(shop, [large]) or not fits
        assert name.startswith("large.")

        shop.emulator.reset_stats()
        again = copy(shop, tmp_path)
        assert (again.errors, again.uploaded, shop.writes) == ([], 0, 0)

        source = next(e for e in shop.main.entities("product") if e.name == "Lamp")
        new = NewImage.create("new.png", pictures(9, 900)[8][1])
        shop.main.set_images(source, [new, KeptImage(source.images[2].id)])
        assert copy(shop, tmp_path).errors == []
        assert shop.images(lamp) == stored(shop, [(new.filename, new.content), pictures(3)[2]])
        again = copy(shop, tmp_path)
        assert (again.uploaded, again.outcomes) == (0, {})

        shop.main.set_images(source, [])
        assert copy(shop, tmp_path).outcomes == {"cleared": 1}
        assert (shop.images(lamp), shop.images(bare)) == ([], pictures(1, 600))
        assert copy(shop, tmp_path).outcomes == {}

        payload = address_payload(shop, server, "Chair", bare)
        assert copy(shop, tmp_path, payload=payload).errors == []
        assert shop.images(bare) == stored(shop, small[:1])
        assert shop.emulator.stats.requests["HEAD", "storage/permanent"] == 1
        assert shop.emulator.stats.authorization_leaks == 0


def test_a_list_that_says_null_of_no_images_clears_the_child(tmp_path: Path) -> None:
    dialect = Dialect(nulls=True)
    with EmulatorServer(Emulator(LIMITS, dialect=dialect)) as server:
        shop = Shop.on(server)
        lamp, vase = shop.pair("Lamp", pictures(2)), shop.pair("Vase", pictures(1))
        assert copy(shop, tmp_path).outcomes == {"completed": 2}
        for source in shop.main.entities("product"):
            source.nulls |= {"images"}  # where they are expanded too
            if source.name == "Lamp":
                shop.main.set_images(source, [])
        assert copy(shop, tmp_path).outcomes == {"cleared": 1, "unchanged": 1}
        assert (shop.images(lamp), shop.images(vase)) == ([], pictures(1))


@pytest.mark.parametrize("kind", ["user", "draft"])
@pytest.mark.parametrize("counted", SWITCHES["rate_headers"])
def test_the_pace_is_kept_whatever_the_rate_headers_count(
    kind: UserKind, counted: Any, tmp_path: Path
) -> None:
    """More requests of main than an interval admits, by tokens that pay several units for each."""
    # Without headers no client can learn of an interval other than the documented one.
    interval = EmulatorLimits().rate_interval if counted == "none" else 1.0
    limits = EmulatorLimits(rate_interval=interval)
    # Without permanent links each image costs a request.
    dialect = Dialect(rate_headers=counted, permanent_links=False)
    with EmulatorServer(Emulator(limits, dialect=dialect)) as server:
        shop = Shop.on(server, kind)
        images = [pictures(3, 500 + n) for n in range(8)]  # else they are downloaded once for all
        chairs = [shop.pair(f"Chair {n}", images[n]) for n in range(8)]
        assert copy(shop, tmp_path, TokenKind(kind)).errors == []
        assert [shop.images(chair) for chair in chairs] == images
        stats = shop.emulator.stats
        assert stats.throttled == 0
        assert stats.requests["GET", "download/{image}"] > limits.rate_units // 3
