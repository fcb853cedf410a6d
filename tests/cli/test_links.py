"""imgsync link, unlink and links."""

import json

import pytest
from sqlalchemy import create_engine, text

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
        "damage": None,
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
