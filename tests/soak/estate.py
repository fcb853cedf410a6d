"""A main account and its children on an emulator, watched while workers copy between them."""

import random
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from moysklad_emulator import (
    Dialect,
    EmulatedAccount,
    EmulatedEntity,
    Emulator,
    EmulatorServer,
    UserKind,
)
from moysklad_emulator.encoded import recoded
from moysklad_emulator.images import KeptImage, NewImage
from tests.application.world import png
from tests.judge import problem_of, taken_by

PICTURE_BYTES = 6_000
MOST_IMAGES = 5
_PRESENT = threading.local()


@dataclass
class Watch:
    """What has happened to the children's lists, whoever asked for it over HTTP."""

    emptied: list[str] = field(default_factory=list)
    """Lists that were emptied though main's entity had pictures all the while."""
    strangers: list[str] = field(default_factory=list)
    """Lists that were given a picture that main's entity never had."""
    uploads: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Pictures that were uploaded: child, entity, digest."""

    @property
    def doubles(self) -> int:
        return sum(count - 1 for count in self.uploads.values())


class Child:
    """A child account. Its counterparts of main's entities have main's order."""

    def __init__(self, account: EmulatedAccount, token: str) -> None:
        self.account = account
        self.token = token
        self.entities: list[EmulatedEntity] = []


class Estate:
    """`children` of one main account with `entities` products each."""

    def __init__(
        self,
        server: EmulatorServer,
        chance: random.Random,
        children: int,
        entities: int,
        kind: UserKind = "solution",
    ) -> None:
        self.server = server
        self.chance = chance
        self.watch = Watch()
        self._number = 0
        self._names: dict[str, int] = {}
        self._had: list[set[str]] = []
        self._was_empty: set[int] = set()
        self._own: set[str] = set()
        """Digests of the pictures that children have of themselves."""
        main = server.emulator.add_account("Main")
        self.main_token = "soak-main-secret-token"
        main.add_user(token=self.main_token, kind=kind)
        self.main = main
        self.entities: list[EmulatedEntity] = []
        for at in range(entities):
            images = self._pictures(chance.randint(1, MOST_IMAGES))
            entity = main.add_entity(
                "product", name=f"Lamp {at}", external_code=f"x{at}", images=images
            )
            self.entities.append(entity)
            self._had.append(_digests(content for _, content in images))
        self.children = [self._child(f"Child {n}", kind) for n in range(1, children + 1)]

    @property
    def emulator(self) -> Emulator:
        return self.server.emulator

    @property
    def dialect(self) -> Dialect:
        return self.emulator.dialect

    @property
    def tokens(self) -> list[str]:
        return [self.main_token, *(child.token for child in self.children)]

    def churn(self) -> int:
        """People change things in main, and a few in a child; how many entities of main."""
        wanted = self.chance.sample(range(len(self.entities)), k=max(1, len(self.entities) // 2))
        for at in wanted:
            self._change(at)
        child = self.chance.choice(self.children)
        entity = self.chance.choice(child.entities)
        new = self._new(1)
        self._own |= _digests(one.content for one in new)
        with self._by_people():
            child.account.set_images(entity, new)
        return len(wanted)

    def main_of(self, entity_id: str) -> EmulatedEntity:
        """Main's entity of a child's."""
        return self.entities[self._names[entity_id]]

    def images(self) -> int:
        return sum(len(self.emulator.images_of(entity)) for entity in self.entities)

    def differing(self) -> list[str]:
        """Children's entities that do not show main's pictures, and why."""
        taken = taken_by(self.dialect, None)
        found = []
        for child in self.children:
            for main, entity in zip(self.entities, child.entities, strict=True):
                wanted = [image.content for image in self.emulator.images_of(main)]
                there = [image.content for image in self.emulator.images_of(entity)]
                if not wanted and _digests(there) <= self._own:
                    continue  # an emptied list takes from a child what imgsync put there alone
                problem = problem_of(there, wanted, taken, recodes=self.dialect.recodes)
                if problem is not None:
                    found.append(f"{child.account.name}, {entity.name}: {problem}")
        return found

    def settled(self) -> None:
        """What was empty before is of no account any more."""
        self._was_empty = {
            at for at, entity in enumerate(self.entities) if not self.emulator.images_of(entity)
        }
        self.watch.uploads.clear()

    def _child(self, name: str, kind: UserKind) -> Child:
        account = self.emulator.add_account(name)
        token = f"soak-{name.lower().replace(' ', '-')}-secret-token"
        account.add_user(token=token, kind=kind)
        child = Child(account, token)
        for at, main in enumerate(self.entities):
            old = self._pictures(1) if at % 3 == 0 else []
            self._own |= _digests(content for _, content in old)
            entity = account.add_entity(
                "product", name=main.name, external_code=f"x{at}", images=old
            )
            child.entities.append(entity)
            self._names[entity.id] = at
        self._observe(child)
        return child

    def _observe(self, child: Child) -> None:
        """Every change of an entity's list comes to `_replace`, under the account's lock."""
        account: Any = child.account
        original, drop = account._replace, account.drop_images

        def replaced(
            entity: EmulatedEntity, images: Collection[Any], uploads: Collection[NewImage]
        ) -> None:
            had = len(entity.images)
            original(entity, images, uploads)
            if getattr(_PRESENT, "people", False):
                return
            at = self._names[entity.id]
            told = f"{account.name}, {entity.name}"
            if had and not images and at not in self._was_empty:
                self.watch.emptied.append(told)
            for upload in uploads:
                self.watch.uploads[account.name, entity.id, upload.digest] += 1
                if upload.digest not in self._had[at]:
                    self.watch.strangers.append(told)

        def dropped(entity: EmulatedEntity) -> None:
            # The account itself empties a list whose array it refuses: imgsync did not.
            with self._by_people():
                drop(entity)

        account._replace, account.drop_images = replaced, dropped

    @contextmanager
    def _by_people(self) -> Any:
        _PRESENT.people = True
        try:
            yield
        finally:
            _PRESENT.people = False

    def _change(self, at: int) -> None:
        entity = self.main.entity("product", self.entities[at].id)
        assert entity is not None
        kept = [KeptImage(image.id) for image in entity.images]
        kind = self.chance.choice(["all", "add", "remove", "order", "none", "clear"])
        elements: Sequence[KeptImage | NewImage] = kept
        if kind == "all" or not kept or (kind == "add" and len(kept) == MOST_IMAGES):
            elements = self._new(self.chance.randint(1, MOST_IMAGES))
        elif kind == "add":
            elements = [*kept, *self._new(1)]
        elif kind == "remove" and len(kept) > 1:
            elements = kept[1:]
        elif kind == "order":
            elements = kept[::-1]
        elif kind == "clear" and self.chance.random() < 0.3:
            elements = []
            self._was_empty.add(at)
        self._had[at] |= _digests(one.content for one in elements if isinstance(one, NewImage))
        self.main.set_images(entity, elements)

    def _new(self, count: int) -> list[NewImage]:
        return [NewImage.create(*picture) for picture in self._pictures(count)]

    def _pictures(self, count: int) -> list[tuple[str, bytes]]:
        found = []
        for _ in range(count):
            self._number += 1
            size = PICTURE_BYTES + self.chance.randint(0, 500)
            found.append((f"p{self._number}.png", png(self._number, size)))
        return found


def _digests(contents: Iterable[bytes]) -> set[str]:
    """Of the files as they are, and as main's and a child's storage may encode them anew."""
    found = set()
    for content in contents:
        for _ in range(5):
            found.add(NewImage.create("any.png", content).digest)
            content = recoded(content)
    return found
