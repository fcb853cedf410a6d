"""Miniatures of images of linked accounts."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta
from io import BytesIO

import pytest
from PIL import Image

from imgsync.adapters.moysklad.miniatures import miniature_address
from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.application.miniatures import BusyError, Miniature, Miniatures, NoMiniatureError
from imgsync.domain.errors import ImgsyncError, NotAnImageError, UnavailableError
from imgsync.domain.model import Account, Parking, RemoteImage, TokenKind
from tests.application.world import TYPES, World
from tests.support.editor import SmallEditor, picture

pytestmark = pytest.mark.anyio


@dataclass
class Kept:
    """Implements `MiniatureStore`."""

    files: dict[str, bytes] = field(default_factory=dict)

    async def get(self, key: str) -> bytes | None:
        return self.files.get(key)

    async def put(self, key: str, content: bytes) -> None:
        self.files[key] = content

    async def clean(self) -> int:
        return 0


class Shown:
    """A world whose main account has a product with one photograph."""

    def __init__(self, content: bytes | None = None, *, linked: bool = True) -> None:
        self.world = World()
        self.kept = Kept()
        self.editor = SmallEditor()
        photograph = picture("JPEG", 400) if content is None else content
        self.entity = self.world.main.add("product", "Lamp", [("a.jpg", photograph)])
        self.image = self.world.main.entities["product"][self.entity].images[0]
        if linked:
            self.link()
        self.miniatures = Miniatures(
            self.world.accounts,
            self.world.settings,
            self.world.factory,
            TYPES,
            self.world.storage,
            PillowCheck(),
            lambda: self.editor,
            self.kept,
            self.world.clock,
            miniature_address,
        )

    def link(self) -> None:
        self.world.store.mains["child"] = "main"

    async def __call__(self, tag: str = "", **other: str) -> Miniature:
        asked = {
            "account_id": "main",
            "entity_type": "product",
            "entity_id": self.entity,
            "image_id": self.image.id,
        }
        return await self.miniatures(**(asked | other), tag=tag)

    @property
    def requests(self) -> list[str]:
        return self.world.main.calls


async def test_is_small_and_of_the_server_s_own_making() -> None:
    shown = Shown()
    made = await shown()
    opened = Image.open(BytesIO(made.content))
    assert (max(opened.size), made.media_type) == (160, "image/jpeg")
    assert shown.editor.calls["optimise"] == 1


async def test_costs_nothing_once_it_was_made() -> None:
    shown = Shown()
    first = await shown()
    asked = len(shown.requests)
    assert await shown(first.tag) == first
    assert len(shown.requests) == asked
    # A tag of another version leads to the newest, and is kept under none of its own.
    assert await shown("0" * 12) == first
    assert len(shown.kept.files) == 1


async def test_a_new_version_is_made_anew() -> None:
    shown = Shown()
    first = await shown()
    shown.world.clock.advance(timedelta(minutes=2))
    entity = shown.world.main.entities["product"][shown.entity]
    changed = replace(shown.image, updated="2026-12-01 00:00:00.000")
    shown.world.main.entities["product"][shown.entity] = replace(entity, images=(changed,))
    second = await shown()
    assert second.tag != first.tag


async def test_those_who_ask_at_once_share_one() -> None:
    shown = Shown()
    made = await asyncio.gather(*(shown() for _ in range(20)))
    assert len(set(made)) == 1
    assert shown.world.main.count("list_images") == 1


async def test_whoever_leaves_ends_it_for_nobody_else() -> None:
    shown = Shown()
    leaves, stays = asyncio.create_task(shown()), asyncio.create_task(shown())
    await asyncio.sleep(0)
    leaves.cancel()
    assert (await stays).content
    with pytest.raises(asyncio.CancelledError):
        await leaves


@pytest.mark.parametrize(
    "other",
    [
        {"account_id": "stranger"},
        {"account_id": "../main"},
        {"entity_type": "order"},
        {"entity_id": "../../entity"},
        {"entity_id": "a b"},
        {"image_id": "no/such"},
        {"image_id": "00000000-0000-0000-0000-000000000000"},
    ],
)
async def test_shows_nothing_else(other: dict[str, str]) -> None:
    shown = Shown()
    shown.world.store.accounts["stranger"] = Account(
        "stranger", "Stranger", TokenKind.SOLUTION, "token"
    )
    with pytest.raises(NoMiniatureError):
        await shown(**other)
    assert "image_id" in other or not shown.requests


async def test_an_account_without_a_link_is_not_asked() -> None:
    shown = Shown(linked=False)
    with pytest.raises(NoMiniatureError):
        await shown()
    assert not shown.requests


async def test_a_parked_account_is_not_asked() -> None:
    shown = Shown()
    until = shown.world.clock.now() + timedelta(hours=1)
    await shown.world.accounts.park("main", Parking("the token was refused", until))
    with pytest.raises(NoMiniatureError, match="token was refused"):
        await shown()
    assert not shown.requests


async def test_what_is_no_picture_is_told() -> None:
    shown = Shown(b"<html>not a picture</html>")
    with pytest.raises(NotAnImageError):
        await shown()


async def test_after_useless_ones_only_the_picture_itself_is_asked_for() -> None:
    shown = Shown(picture("PNG", 20))  # nobody sees anything in that
    for number in range(6):
        shown.world.main.add("product", f"Lamp {number}", [("a.png", picture("PNG", 20))])
    for entity in list(shown.world.main.entities["product"].values()):
        await shown(entity_id=entity.id, image_id=entity.images[0].id)
    assert sum("miniature=true" in call for call in shown.requests) == 3


async def test_an_api_that_cannot_be_reached_is_not_asked_twice() -> None:
    shown = Shown()
    gone = UnavailableError("the API does not answer")
    shown.world.main.fail = lambda call: gone if call.startswith("list_images") else None
    with pytest.raises(UnavailableError):
        await shown()
    assert shown.world.main.count("list_images") == 1
    shown.world.main.fail = lambda _: None
    assert (await shown()).content


async def test_too_many_that_wait_are_refused() -> None:
    shown = Shown()
    begun = asyncio.Event()

    async def never(*_: object) -> list[RemoteImage]:
        begun.set()
        await asyncio.Event().wait()
        return []

    shown.world.main.list_images = never  # type: ignore[method-assign, assignment]
    tasks = [asyncio.create_task(shown(image_id=f"i-{n}")) for n in range(210)]
    await begun.wait()
    refused = [task for task in tasks if task.done() and isinstance(task.exception(), ImgsyncError)]
    assert len(refused) == 10
    assert all(isinstance(task.exception(), BusyError) for task in refused)
    await shown.miniatures.close()
    await asyncio.gather(*tasks, return_exceptions=True)
