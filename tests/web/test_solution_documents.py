"""docs/solution.md and the descriptor say what the program does."""

import re
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest

from imgsync.adapters.moysklad.pace import request_weight
from imgsync.domain.model import TokenKind
from imgsync.entrypoints.cli.main import main
from imgsync.entrypoints.config import DEFAULT_API_URL
from imgsync.entrypoints.web import vendor

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "solution.md").read_text(encoding="utf-8")
SPACE = "{https://apps-api.moysklad.ru/xml/ns/appstore/app/v2}"


def test_the_descriptor_asks_for_what_is_needed_and_for_nothing_else() -> None:
    root = ElementTree.parse(DOCS / "descriptor.xml").getroot()  # noqa: S314 (our own)
    assert root.tag == f"{SPACE}ServerApplication"
    assert [child.tag for child in root] == [f"{SPACE}vendorApi", f"{SPACE}access"]
    found = {
        name: root.findtext(name.replace("/", f"/{SPACE}").join((SPACE, "")))
        for name in ("vendorApi/endpointBase", "access/resource", "access/scope")
    }
    assert found == {
        "vendorApi/endpointBase": "https://sync.example",
        "access/resource": DEFAULT_API_URL,
        "access/scope": "custom",
    }
    permissions = root.find(f"{SPACE}access/{SPACE}permissions")
    assert permissions is not None
    rights = {
        one.tag.removeprefix(SPACE): [level.tag.removeprefix(SPACE) for level in one]
        for one in permissions
    }
    assert rights == {"useOwnWebhooks": [], "good": ["view", "update"]}


def test_the_placeholder_of_the_address_is_named() -> None:
    assert "in place of `https://sync.example`" in DOCUMENT


@pytest.mark.parametrize(
    ("kind", "day", "row"),
    [
        (TokenKind.SOLUTION, 1, r"published solution \| 1 \|"),
        (TokenKind.DRAFT, 1, r"draft or moderation \| 4 \|"),
        (TokenKind.USER, 1, r"of a user \| 3, and 4 from December 2026 on \|"),
    ],
)
def test_the_weights_are_those_that_are_reckoned_with(kind: TokenKind, day: int, row: str) -> None:
    found = re.search(row, DOCUMENT)
    assert found
    told = [int(number) for number in re.findall(r"\| (\d)|and (\d) from", found[0])[0] if number]
    assert told == [request_weight(kind, datetime(2026, 11, day, tzinfo=UTC))]
    if kind is TokenKind.USER:
        assert request_weight(kind, datetime(2026, 12, 2, tzinfo=UTC)) == 4


def test_the_address_and_the_commands_are_the_program_s() -> None:
    path = vendor.PATH.format(app_id="{appId}", account_id="{accountId}")
    assert f"https://…{path}" in DOCUMENT
    assert vendor.LEEWAY.total_seconds() == 60  # "at most a minute off"
    named = set(re.findall(r"imgsync ([a-z]+)(?: [a-z-]+)?", DOCUMENT))
    assert named <= {*main.commands}
    assert {"solution", "account", "link", "serve"} <= named
