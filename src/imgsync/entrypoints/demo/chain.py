"""A main shop with many franchises, for which imgsync is told what a person would type."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgsync.domain.model import Account, Link, TokenKind
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.demo.emulated import emulated
from imgsync.entrypoints.demo.franchises import Photographer
from imgsync.entrypoints.demo.photographs import Photograph, photographs
from moysklad_emulator import EmulatedAccount, EmulatedEntity, Emulator

MAIN = "Main shop"
COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 2, 5, 1, 3)
"""The number of photographs of each product."""

_MOST_BYTES = 300_000
"""Of a photograph: those of thirty shops pass through one process here."""

_TOWNS = (
    *("Omsk", "Tomsk", "Perm", "Kazan", "Tula", "Tver", "Pskov", "Kursk", "Orel", "Ufa"),
    *("Samara", "Saratov", "Penza", "Kirov", "Vologda", "Kaluga", "Bryansk", "Ryazan", "Lipetsk"),
    *("Tambov", "Murmansk", "Barnaul", "Kemerovo", "Irkutsk", "Chita", "Tyumen", "Kurgan"),
    *("Sochi", "Izhevsk", "Yaroslavl"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """What a franchise shows after the copy. `right_before`: products that showed the main shop's
    pictures before it; `wrong`: names of those that do not now; bytes: of requests to MoySklad."""

    franchise: str
    products: int
    right_before: int
    pictures: int
    requests: int
    sent_bytes: int
    wrong: list[str]


@dataclass(frozen=True, slots=True)
class _Franchise:
    account: EmulatedAccount
    token: str
    products: list[EmulatedEntity]
    """In the order of the main shop's."""


class Chain:
    """The accounts in a running emulator, and imgsync configured for them."""

    def __init__(
        self, emulator: Emulator, container: Container, children: int, counts: Sequence[int]
    ) -> None:
        self._emulator = emulator
        self.container = container
        self._photographs = [one for one in photographs() if len(one[1]) <= _MOST_BYTES]
        self._main = emulator.add_account(MAIN)
        self._main.add_user(token=_token(0))
        self._products = [
            self._main.add_entity(
                "product",
                name=f"Product {number}",
                external_code=f"demo-{number}",
                images=self._some(number, count),
            )
            for number, count in enumerate(counts, 1)
        ]
        self._franchises = [self._franchise(number) for number in range(1, children + 1)]
        self._before = [len(one.products) - len(self._wrong(one)) for one in self._franchises]

    @property
    def pictures(self) -> int:
        """Of the main shop."""
        return sum(len(product.images) for product in self._products)

    @property
    def products(self) -> int:
        return len(self._products)

    @property
    def names(self) -> list[str]:
        """Of the franchises."""
        return [one.account.name for one in self._franchises]

    async def store_accounts(self) -> None:
        """As `imgsync account add` for each of them."""
        tokens = [(self._main, _token(0)), *((one.account, one.token) for one in self._franchises)]
        for account, token in tokens:
            await self.container.accounts().add(
                Account(account.id, account.name, TokenKind.SOLUTION, token)
            )

    async def links(self) -> list[Link]:
        return list(await self.container.find_links()(self._main.id, ()))

    def shown(self) -> list[Shown]:
        """What each franchise shows now, compared with the main shop byte for byte, with what the
        emulator has counted since its start."""
        uses, told = self._emulator.stats.accounts, []
        for one, before in zip(self._franchises, self._before, strict=True):
            use = uses.get(one.account.id)
            told.append(
                Shown(
                    franchise=one.account.name,
                    products=len(one.products),
                    right_before=before,
                    pictures=sum(len(product.images) for product in one.products),
                    requests=use.requests if use else 0,
                    sent_bytes=use.bytes_in if use else 0,
                    wrong=self._wrong(one),
                )
            )
        return told

    def photographer(self) -> Photographer:
        """Who gives the main shop new photographs."""
        return Photographer(self._main, self._products, self._photographs)

    def _franchise(self, number: int) -> _Franchise:
        """With the same products, which show the right pictures, an old one, or none."""
        town = _TOWNS[(number - 1) % len(_TOWNS)]
        name = town if number <= len(_TOWNS) else f"{town} {(number - 1) // len(_TOWNS) + 1}"
        account, token = self._emulator.add_account(name), _token(number)
        account.add_user(token=token)
        products = []
        for place, main in enumerate(self._products):
            old = ((), self._some(place + number, 1), self._files(main))[(place + number) % 3]
            products.append(
                account.add_entity(
                    "product", name=main.name, external_code=main.external_code, images=old
                )
            )
        return _Franchise(account, token, products)

    def _some(self, first: int, count: int) -> list[Photograph]:
        """Photographs from one on, with names of their own."""
        chosen = [self._photographs[(first + n) % len(self._photographs)] for n in range(count)]
        return [(f"{n}-{name}", content) for n, (name, content) in enumerate(chosen, 1)]

    def _wrong(self, franchise: _Franchise) -> list[str]:
        pairs = zip(self._products, franchise.products, strict=True)
        return [
            str(ours.name) for ours, theirs in pairs if self._files(ours) != self._files(theirs)
        ]

    def _files(self, entity: EmulatedEntity) -> list[Photograph]:
        return [(image.filename, image.content) for image in self._emulator.images_of(entity)]


@contextmanager
def chain(container: Container, children: int) -> Iterator[Chain]:
    """A main shop and `children` franchises, with a configuration of its own as `started`'s."""
    emulator = Emulator()
    with (
        tempfile.TemporaryDirectory(prefix="imgsync-demo-") as folder,
        emulated(emulator, container, Path(folder)) as ours,
    ):
        yield Chain(emulator, ours, children, COUNTS)


def _token(number: int) -> str:
    return f"demo-chain-{number}"
