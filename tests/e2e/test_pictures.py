"""Pictures that an account does not take as they are arrive in every dialect that concerns them."""

from pathlib import Path

import pytest

from moysklad_emulator import SWITCHES, Dialect, Emulator, EmulatorServer
from moysklad_emulator.pairwise import pairwise
from tests.e2e.conftest import StartHost
from tests.e2e.test_dialects import LIMITS, copy, name_of
from tests.judge import problem_of, taken_by
from tests.photographs import large, photograph, saved
from tests.shop import Shop, pictures

pytestmark = pytest.mark.slow

CONCERNED = (
    "image_megabytes",
    "more_formats",
    "recodes",
    "refused_array",
    "bulk_images",
    "keep_in_entities",
    "whole_pictures",
    "permanent_links",
    "images_move_updated",
)
DIALECTS = [Dialect(**way) for way in pairwise({name: SWITCHES[name] for name in CONCERNED})]
CAT, COFFEE = photograph(), photograph("coffee.png")
OTHER_FORMATS = [
    ("moving.gif", saved(CAT, "GIF", COFFEE)),
    ("plain.bmp", saved(CAT, "BMP")),
    ("small.webp", saved(COFFEE, "WEBP")),
    ("pages.tiff", saved(COFFEE, "TIFF", CAT)),
]
SMALL = ("small.jpg", saved(COFFEE))


@pytest.mark.parametrize("dialect", DIALECTS, ids=name_of)
def test_what_an_account_does_not_take_arrives_changed(dialect: Dialect, tmp_path: Path) -> None:
    with EmulatorServer(Emulator(LIMITS, dialect=dialect)) as server:
        shop = Shop.on(server)
        photo = ("photo.jpg", large(dialect.image_megabytes * 1.06))
        shop.pair("Lamp", [*OTHER_FORMATS, SMALL], pictures(2, 700))
        shop.pair("Chair", [photo, SMALL])
        shop.pair("Vase", [SMALL, *pictures(2)], [SMALL])
        faults = shop.emulator.faults
        faults.add(method="POST", path_regex="/entity/product", status=503)
        faults.add(where="storage", method="GET", path_regex="", cut_to=1000)
        first = copy(shop, tmp_path)
        assert (first.errors, first.warnings) == ([], [])
        told = sorted(note.split(": ", 2)[2] for note in first.notes)
        assert [text.partition(" to ")[0] for text in told] == [
            "moving.gif: converted from GIF",
            "pages.tiff: converted from TIFF",
            f"photo.jpg: scaled from {len(photo[1]) / 1e6:.1f}",
            "plain.bmp: converted from BMP",
            "small.webp: converted from WEBP",
        ]
        look(shop)

        shop.emulator.reset_stats()
        again = copy(shop, tmp_path)
        assert (again.outcomes, shop.writes) == ({}, 0)
        assert again.downloaded_bytes == 0
        look(shop)


def look(shop: Shop) -> None:
    dialect = shop.emulator.dialect
    for pair in shop.pairs:
        there, main = ([c for _, c in shop.images(e)] for e in (pair.child, pair.main))
        problem = problem_of(there, main, taken_by(dialect, None), recodes=dialect.recodes)
        assert problem is None, f"{pair.main.name}: {problem}"


def test_a_storage_that_encodes_anew_is_told_by_its_content_and_left_alone(
    shop: Shop, start_host: StartHost, sqlite_url: str
) -> None:
    """No sync undoes what the storage does, again and again; who compares the content, is told."""
    shop.emulator.dialect = Dialect(recodes=True)
    host, both = start_host(shop, sqlite_url), ("--main", "Main", "--child", "Child")
    shop.pair("Lamp", [SMALL, *pictures(1)])
    host.run("sync", *both)
    shop.emulator.reset_stats()
    for options in ((), ("--adopt", "hash")):
        again = host.json("sync", *both, *options)
        assert (shop.writes, again["exit_status"]) == (0, 0)
    host.run("check", *both)
    told = host.end(1, "check", *both, "--hash")
    assert "Lamp" in told
    assert SMALL[0] in told
    assert shop.writes == 0
