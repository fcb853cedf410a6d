"""The further franchises of the demonstration's dashboard, each in a state of its own, and a main
shop that takes new photographs."""

from collections.abc import Sequence
from dataclasses import dataclass

from imgsync.domain.model import LinkSettings
from imgsync.domain.schedule import LinkSchedule
from imgsync.entrypoints.demo.accounts import DemoAccounts
from imgsync.entrypoints.demo.photographs import Photograph
from moysklad_emulator import EmulatedAccount, EmulatedEntity, Emulator
from moysklad_emulator.images import ImageElement, KeptImage, NewImage

_BROKEN = "cut-off.png"
_MOST_IMAGES = 10


@dataclass(frozen=True, slots=True)
class Franchise:
    """A child account, and what it receives."""

    account: EmulatedAccount
    token: str
    settings: LinkSettings
    is_looked_at: bool = True


def add_franchises(emulator: Emulator, accounts: DemoAccounts) -> list[Franchise]:
    """Four more children: one that receives first images only, one that sells the product with a
    picture that is cut off, one that is compared but not copied to and shows old photographs, and
    one that nobody has compared yet."""
    everywhere = [pair.main for pair in accounts.pairs]
    broken = _broken(accounts)
    return [
        _franchise(emulator, "Franchise Omsk", everywhere, LinkSettings(sync_images=True)),
        _franchise(
            emulator, "Franchise Tomsk", [*everywhere, broken], LinkSettings(sync_images_all=True)
        ),
        _franchise(
            emulator,
            "Franchise Perm",
            everywhere,
            LinkSettings(sync_images_all=True, schedule=LinkSchedule(copies=False)),
            _outdated(emulator, accounts),
        ),
        _franchise(
            emulator,
            "Franchise Kazan",
            everywhere,
            LinkSettings(
                sync_images_all=True, schedule=LinkSchedule(sweep=None, survey_minutes=None)
            ),
            is_looked_at=False,
        ),
    ]


def _franchise(
    emulator: Emulator,
    name: str,
    sold: list[EmulatedEntity],
    settings: LinkSettings,
    images: Sequence[Sequence[Photograph]] = (),
    *,
    is_looked_at: bool = True,
) -> Franchise:
    account, token = emulator.add_account(name), f"demo-{name.split()[-1].lower()}"
    account.add_user(token=token)
    for number, entity in enumerate(sold):
        account.add_entity(
            entity.type,
            name=entity.name,
            external_code=entity.external_code,
            images=images[number] if images else (),
        )
    return Franchise(account, token, settings, is_looked_at)


def _outdated(emulator: Emulator, accounts: DemoAccounts) -> list[list[Photograph]]:
    """Of each entity what a child that has not been copied to for long may show: all but the last,
    another photograph beside the first, or none."""
    shown: list[list[Photograph]] = []
    for number, pair in enumerate(accounts.pairs):
        there = [(one.filename, one.content) for one in emulator.images_of(pair.main)]
        other = accounts.photographs[-1 - number]
        shown.append((there[:-1], [there[0], other], [])[number % 3])
    return shown


def _broken(accounts: DemoAccounts) -> EmulatedEntity:
    """A product of the main shop whose second picture was cut off when it was uploaded."""
    (name, whole), (_, other) = accounts.photographs[0], accounts.photographs[3]
    images = [(name, whole), (_BROKEN, other[: len(other) // 2])]
    return accounts.main.add_entity(
        "product", name="Product with a broken picture", external_code="demo-broken", images=images
    )


class Photographer:
    """Puts photographs on the entities of the main shop, one at a time, an entity after the
    other."""

    def __init__(
        self,
        main: EmulatedAccount,
        entities: Sequence[EmulatedEntity],
        photographs: Sequence[Photograph],
    ) -> None:
        self._main = main
        self._entities = entities
        self._photographs = photographs
        self._taken = 0

    def add(self) -> str:
        """Puts a new photograph first, in place of the last where the list is full; the name of
        the entity."""
        number, self._taken = self._taken, self._taken + 1
        entity = self._entities[number % len(self._entities)]
        filename, content = self._photographs[number % len(self._photographs)]
        elements: list[ImageElement] = [NewImage.create(f"new-{number + 1}-{filename}", content)]
        kept = [KeptImage(image.id) for image in entity.images[: _MOST_IMAGES - 1]]
        self._main.set_images(entity, [*elements, *kept])
        return str(entity.name)
