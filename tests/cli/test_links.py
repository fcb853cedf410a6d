"""imgsync link, unlink and links."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.domain.model import Parking
from tests.cli.conftest import Cli, store


@pytest.fixture
def shops(cli: Cli) -> Cli:
    for account_id, name in (("m", "Main shop"), ("a", "Omsk"), ("b", "Tomsk"), ("c", "Omsk")):
        store(cli, account_id, name, f"token-{account_id}")
    return cli


def test_accounts_are_linked_by_id_or_name_and_listed(shops: Cli) -> None:
    assert "No links yet" in shops.ok("links")
    said = shops.ok(
        *("link", "Main shop", "a", "tomsk", "--sync-images", "--match-by", "code"),
        *("--type", "product", "--type", "bundle", "--folder", "Lamps", "--folder", "A/B"),
    )
    assert "Linked 'Omsk' to 'Main shop': it receives the first image." in said
    told = shops.json("links")["links"]
    assert told[1] == {
        "main": "m",
        "main_name": "Main shop",
        "child": "b",
        "child_name": "Tomsk",
        "sync_images": True,
        "sync_images_all": False,
        "match_by": "code",
        "types": ["product", "bundle"],
        "folders": ["Lamps", "A/B"],
        "pictures": {
            "fit": True,
            "convert": True,
            "max_side": None,
            "quality": None,
            "drop_metadata": True,
        },
        "schedule": {"sweep": "03:30", "survey_minutes": 15, "copies": True},
        "guard": False,
        "damage": None,
        "parked": None,
        "main_parked": None,
    }
    table = shops.ok("links")
    assert "Main shop" in table
    assert "product, bundle" in table
    assert "Lamps, A/B" in table
    assert shops.json("link", "m", "a")["links"][0]["folders"] == []
    assert shops.json("settings", "show", "--child", "a")[0]["sync_images"]
    assert shops.json("unlink", "a", "Tomsk")["unlinked"] == ["a", "b"]
    assert shops.json("links")["links"] == []
    assert not shops.json("settings", "show", "--child", "a")[0]["sync_images"]


def test_what_becomes_of_pictures_is_said_once_and_kept(shops: Cli) -> None:
    options = ("--no-convert", "--max-side", "1600", "--keep-metadata")
    said = shops.ok("link", "m", "a", "b", *options)
    assert (
        "it receives all images (made to fit, not converted, 1600 pixels at most, metadata kept)"
        in said
    )
    kept = {
        "fit": True,
        "convert": False,
        "max_side": 1600,
        "quality": None,
        "drop_metadata": False,
    }
    assert [one["pictures"] for one in shops.json("links")["links"]] == [kept, kept]
    shops.ok("link", "m", "a", "--sync-images")  # which says nothing of pictures
    shops.ok("link", "m", "b", "--quality", "80", "--max-side", "none")
    told = shops.json("links")["links"]
    assert told[0]["pictures"] == kept
    assert told[1]["pictures"] == kept | {"max_side": None, "quality": 80}
    assert "made to fit, not converted, quality 80, metadata kept" in shops.ok("links")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["link", "m"], 2, "Missing argument 'CHILD...'"),
        (["link", "m", "a", "--sync-images", "--sync-images-all"], 2, "exclude each other"),
        (["link", "m", "a", "--folder", " "], 2, "no name of an entity type or a folder"),
        (["link", "m", "a", "--type", "service"], 1, "unknown entity type 'service'"),
        (["link", "m", "a", "nobody"], 1, "'nobody' is not stored"),
        (["link", "m", "Omsk"], 1, "2 accounts are called 'Omsk'; give the ID: a, c"),
        (["link", "m", "m"], 1, "are the same"),
        (["link", "m", "a", "a"], 1, "is named twice"),
        (["link", "b", "m"], 1, "cannot be the main account"),
        (["link", "c", "b"], 1, "'b' is a child of account 'm' already; unlink it first"),
        (["unlink", "a"], 1, "is not linked"),
        (["unlink", "a", "nobody"], 1, "'nobody' is not stored"),
    ],
)
def test_what_cannot_be_linked_is_one_line_and_changes_nothing(
    shops: Cli, arguments: list[str], status: int, message: str
) -> None:
    shops.ok("link", "m", "b")
    before = shops.json("links")
    assert message in shops.fail(*arguments, status=status)
    assert shops.json("links") == before
    assert not shops.json("settings", "show", "--child", "a")[0]["sync_images_all"]


@pytest.mark.parametrize(
    ("column", "value", "damage"),
    [
        ("types", "'{damaged'", "types is no JSON array of texts"),
        ("folders", "'{\"a\": 1}'", "folders is no JSON array of texts"),
        ("folders", "'[1]'", "folders is no JSON array of texts"),
        ("folders", "x'ff00'", "folders is no JSON array of texts"),
        ("match_by", "'colour'", "match_by is"),
        ("pictures", "'{damaged'", "pictures is no JSON object of fit, convert"),
        ("pictures", "'[]'", "pictures is no JSON object of fit, convert"),
        ("pictures", "'{\"blur\": 1}'", "pictures is no JSON object of fit, convert"),
        ("pictures", "x'ff00'", "pictures is no JSON object of fit, convert"),
        ("pictures", "'{\"max_side\": 0}'", "pictures.max_side is no whole number from 64"),
        ("pictures", "'{\"quality\": 200}'", "pictures.quality is no whole number from 20"),
        ("pictures", "'{\"quality\": true}'", "pictures.quality is no whole number from 20"),
        ("pictures", '\'{"fit": "no"}\'', "pictures.fit is neither true nor false"),
        ("types", "'[\"\"]'", "no name of an entity type"),
    ],
)
def test_a_link_that_another_program_has_damaged_is_named_and_linked_anew(
    shops: Cli, sqlite_url: str, column: str, value: str, damage: str
) -> None:
    shops.ok("link", "m", "a", "b")
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE sync_settings SET {column} = {value} WHERE account_id = 'b'")  # noqa: S608
        )
    engine.dispose()
    good, bad = shops.json("links")["links"]
    assert (good["child"], good["damage"], good["sync_images_all"]) == ("a", None, True)
    assert damage in bad["damage"]
    assert not bad["sync_images_all"]
    assert damage in shops.ok("links")
    assert "damaged" in shops.fail("settings", "set", "--child", "b", "--sync-images")
    shops.ok("link", "m", "b")
    assert json.dumps(shops.json("links")).count('"damage": null') == 2


def test_names_are_listed_as_people_count(cli: Cli) -> None:
    names = ["Child 10", "child 1", "Child 2", "Main"]
    for number, name in enumerate(names):
        store(cli, f"id-{number}", name, "t")
    cli.ok("link", "Main", *names[:3])
    wanted = ["child 1", "Child 2", "Child 10"]
    assert [one["child_name"] for one in cli.json("links")["links"]] == wanted
    listed = [one["name"] for one in cli.json("account", "list")]
    assert listed == [*wanted, "Main"]


def test_links_say_of_a_parked_account_why_it_is(shops: Cli, sqlite_database: Database) -> None:
    shops.ok("link", "m", "a", "b")
    assert "Parked" not in shops.ok("links")
    until = datetime(2090, 1, 2, 3, 4, tzinfo=UTC)
    refused = Parking("401 Unauthorized", until)
    asyncio.run(SqlAccountRepository(sqlite_database).park("a", refused))
    shops.ok("queue", "pause", "Tomsk")
    head, omsk, tomsk = shops.ok("links").splitlines()
    assert head.rstrip().endswith("Parked")
    assert omsk.rstrip().endswith("until 2090-01-02 03:04 UTC: 401 Unauthorized")
    assert tomsk.rstrip().endswith("until 'imgsync queue resume Tomsk': paused by hand")
    told = shops.json("links")["links"]
    assert told[0]["parked"] == {"reason": "401 Unauthorized", "until": until.isoformat()}
    assert told[1]["parked"]["reason"] == "paused by hand"
    assert [one["main_parked"] for one in told] == [None, None]
    shops.ok("queue", "resume", "Tomsk")
    _, omsk, tomsk = shops.ok("links").splitlines()
    assert "UTC: 401" in omsk
    assert "until" not in tomsk


def test_links_say_that_their_main_account_is_parked(shops: Cli, sqlite_database: Database) -> None:
    shops.ok("link", "m", "b")
    until = datetime(2090, 1, 2, 3, 4, tzinfo=UTC)
    asyncio.run(SqlAccountRepository(sqlite_database).park("m", Parking("no answer", until)))
    said = shops.ok("links")
    assert "the main account until 2090-01-02 03:04 UTC: no answer" in said
    (told,) = shops.json("links")["links"]
    assert told["parked"] is None
    assert told["main_parked"]["reason"] == "no answer"
