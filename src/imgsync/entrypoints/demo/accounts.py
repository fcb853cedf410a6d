"""A main and a child account with counterparts, as the demonstration seeds them."""

from dataclasses import dataclass

from imgsync.entrypoints.demo.photographs import Photograph, gif, oversized, photographs
from moysklad_emulator import EmulatedAccount, EmulatedEntity, Emulator

MAIN_TOKEN, CHILD_TOKEN = "demo-main", "demo-child"

_ENTITIES = (
    ("product", (1, 2, 3, 4, 5, 6, 8, 10)),
    ("bundle", (2, 5)),
    ("variant", (1, 3)),
)
"""Entity types, and the number of photographs of each of their entities."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A main entity and its counterpart."""

    main: EmulatedEntity
    child: EmulatedEntity


@dataclass(frozen=True, slots=True)
class DemoAccounts:
    """Two accounts of an emulator; every child entity begins with one outdated photograph."""

    main: EmulatedAccount
    child: EmulatedAccount
    pairs: list[Pair]
    photographs: list[Photograph]


def seed(emulator: Emulator) -> DemoAccounts:
    """Adds the accounts: pairs with photographs, the first with a GIF and one that is too large,
    and a lone product."""
    photos = photographs()
    main, child = emulator.add_account("Main shop"), emulator.add_account("Franchise")
    main.add_user(token=MAIN_TOKEN)
    child.add_user(token=CHILD_TOKEN)
    lists = [(kind, count) for kind, counts in _ENTITIES for count in counts]
    pairs = []
    for number, (kind, count) in enumerate(lists):
        images = [photos[(number + i) % len(photos)] for i in range(count)]
        if number == 0:
            images += [gif(), oversized()]
        name, key = f"{kind.capitalize()} {number + 1}", f"demo-{number + 1}"
        code = f"{number + 1:05}"
        outdated = photos[(number + count) % len(photos)]
        pairs.append(
            Pair(
                main.add_entity(kind, name=name, code=code, external_code=key, images=images),
                child.add_entity(kind, name=name, external_code=key, images=[outdated]),
            )
        )
    main.add_entity("product", name="Sold by the main shop only", images=photos[:1])
    return DemoAccounts(main, child, pairs, photos)
