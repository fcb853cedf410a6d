"""Runs the demonstration and measures it at the emulator."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imgsync.application.work import Tally
from imgsync.domain.model import Account, Link, LinkSettings, TokenKind
from imgsync.domain.runs import RunCause, RunKind
from imgsync.entrypoints.container import Container
from imgsync.entrypoints.demo.accounts import CHILD_TOKEN, MAIN_TOKEN, DemoAccounts, seed
from imgsync.entrypoints.demo.emulated import emulated
from imgsync.entrypoints.demo.franchises import Photographer, add_franchises
from imgsync.entrypoints.demo.likeness import are_copies
from imgsync.entrypoints.demo.photographs import Photograph
from moysklad_emulator import EmulatedAccount, EmulatedEntity, Emulator
from moysklad_emulator.images import ImageElement, KeptImage, NewImage

_ADDED = "one photo added"


@dataclass(frozen=True, slots=True)
class Round:
    """One enqueue and worker run. `entities` have images, `changed` of them differed. Bytes are
    those of HTTP bodies; `notes`: what was done to pictures; `verified`: the child's lists are what
    they should be."""

    name: str
    entities: int
    changed: int
    skipped: int
    uploaded: int
    kept: int
    api_calls: int
    downloaded_bytes: int
    uploaded_bytes: int
    throttled: int
    notes: list[str]
    warnings: list[str]
    errors: list[str]
    seconds: float
    verified: bool


class Demo:
    """A running emulator with its two accounts, and imgsync configured for them."""

    def __init__(self, emulator: Emulator, accounts: DemoAccounts, container: Container) -> None:
        self._emulator = emulator
        self._accounts = accounts
        self.container = container

    async def run(self, report: Callable[[Round], None]) -> list[Round]:
        """A first copy, a copy of nothing new, and one after a photograph was added."""
        link, rounds = await self._link(), []
        for name in ("first copy", "nothing changed", _ADDED):
            if name == _ADDED:
                self._add_photograph()
            rounds.append(await self._round(name, link))
            report(rounds[-1])
        return rounds

    async def _round(self, name: str, link: Link) -> Round:
        self._emulator.reset_stats()
        started, tally = time.monotonic(), Tally()
        noting = self.container.note_runs().noting(RunKind.SYNC, RunCause.COMMAND, [link])
        async with noting as noted:
            found = await self.container.enqueue()([link], progress=noted.see)
            noted.surveyed(found)
            await self.container.worker().run(drain=True, report=tally.add)
        seconds, stats = time.monotonic() - started, self._emulator.stats
        return Round(
            name=name,
            entities=found.entities + found.unchanged,
            changed=found.entities,
            skipped=found.skipped.count,
            uploaded=tally.uploaded,
            kept=tally.kept,
            api_calls=stats.api_calls,
            downloaded_bytes=stats.bytes_out,
            uploaded_bytes=stats.bytes_in,
            throttled=stats.throttled,
            notes=tally.notes,
            warnings=[*found.warnings.items, *tally.warnings],
            errors=tally.errors,
            seconds=seconds,
            verified=self.verify(),
        )

    async def open_franchises(self) -> list[Link]:
        """Adds the further children, and links them to the main account. Those that are to be
        looked at."""
        links = []
        for franchise in add_franchises(self._emulator, self._accounts):
            link = await self._link_to(franchise.account, franchise.token, franchise.settings)
            if franchise.is_looked_at:
                links.append(link)
        return links

    def photographer(self) -> Photographer:
        """Who gives the main account new photographs."""
        accounts = self._accounts
        entities = [pair.main for pair in accounts.pairs[1:]]
        return Photographer(accounts.main, entities, accounts.photographs)

    async def _link(self) -> Link:
        """Stores both accounts and links them."""
        settings = LinkSettings(sync_images_all=True)
        return await self._link_to(self._accounts.child, CHILD_TOKEN, settings)

    async def _link_to(self, child: EmulatedAccount, token: str, settings: LinkSettings) -> Link:
        main, receiver = (
            Account(account.id, account.name, TokenKind.SOLUTION, secret)
            for account, secret in ((self._accounts.main, MAIN_TOKEN), (child, token))
        )
        for account in (main, receiver):
            await self.container.accounts().add(account)
        await self.container.link_accounts()(main, [receiver], settings)
        # To link leaves the schedule as it was; this one is part of what is shown.
        await self.container.settings().link(main.id, receiver.id, settings)
        return Link(main, receiver, settings)

    def _add_photograph(self) -> None:
        """Puts a new photograph first on a product of the main account."""
        account, entity = self._accounts.main, self._accounts.pairs[1].main
        filename, content = self._accounts.photographs[-1]
        elements: list[ImageElement] = [NewImage.create(f"new-{filename}", content)]
        account.set_images(entity, [*elements, *(KeptImage(i.id) for i in entity.images)])

    def verify(self) -> bool:
        """Whether every child entity holds the images of its main one: see `are_copies`."""
        most = self._emulator.dialect.image_megabytes * 1024**2
        return all(
            are_copies(self._files(pair.child), self._files(pair.main), most)
            for pair in self._accounts.pairs
        )

    def _files(self, entity: EmulatedEntity) -> list[Photograph]:
        return [(image.filename, image.content) for image in self._emulator.images_of(entity)]


@contextmanager
def started(container: Container) -> Iterator[Demo]:
    """A demo with a configuration of its own, but for the container's strategy and concurrency."""
    emulator = Emulator()
    accounts = seed(emulator)
    with (
        tempfile.TemporaryDirectory(prefix="imgsync-demo-") as folder,
        emulated(emulator, container, Path(folder)) as ours,
    ):
        yield Demo(emulator, accounts, ours)
