"""Two accounts on a running emulator, for tests of whole commands."""

from dataclasses import dataclass, field
from typing import Any

from moysklad_emulator import (
    EmulatedAccount,
    EmulatedEntity,
    Emulator,
    EmulatorServer,
    UserKind,
)
from tests.application.world import png
from tests.judge import Pair, judge

MAIN_TOKEN, CHILD_TOKEN = "main-secret-token", "child-secret-token"
Images = list[tuple[str, bytes]]


def pictures(count: int, size: int = 1000) -> Images:
    return [(f"{n}.png", png(n, size)) for n in range(count)]


@dataclass
class Shop:
    """A main and a child account."""

    server: EmulatorServer
    main: EmulatedAccount
    child: EmulatedAccount
    pairs: list[Pair] = field(default_factory=list)
    databases: set[str] = field(default_factory=set)
    unjudged: str | None = None
    """Why the pictures may differ from what the queue says: a change after the last sync, say."""

    @classmethod
    def on(cls, server: EmulatorServer, kind: UserKind = "solution") -> "Shop":
        """`kind`: whose tokens they are."""
        main, child = server.emulator.add_account("Main"), server.emulator.add_account("Child")
        main.add_user(token=MAIN_TOKEN, kind=kind)
        child.add_user(token=CHILD_TOKEN, kind=kind)
        return cls(server, main, child)

    @property
    def emulator(self) -> Emulator:
        return self.server.emulator

    def pair(
        self,
        name: str,
        images: Images,
        old: Images | None = None,
        kind: str = "product",
        **main_fields: Any,
    ) -> EmulatedEntity:
        """A main entity with images and its counterpart, which is returned.

        Both have one name, and one external code where the type has any; `main_fields` are main's.
        """
        fields: dict[str, Any] = {"name": name}
        if kind != "contentcard":
            fields["external_code"] = f"x-{name}"
        main = self.main.add_entity(kind, images=images, **fields, **main_fields)
        child = self.child.add_entity(kind, images=old or [], **fields)
        self.pairs.append(Pair(main, child))
        return child

    @property
    def writes(self) -> int:
        """Requests that set the list of an entity, or those of several."""
        stats = self.emulator.stats
        return stats.uploads + stats.requests["POST", "entity/{type}"]

    def judge(self) -> None:
        """Holds the pictures against what the queues say of them."""
        if self.unjudged is None:
            for url in self.databases:
                judge(self.emulator, self.pairs, url)

    def images(self, entity: EmulatedEntity) -> Images:
        return [(i.filename, i.content) for i in self.emulator.images_of(entity)]

    def environment(self, database_url: str, temp_dir: str) -> dict[str, str]:
        """What configures imgsync for this emulator."""
        self.databases.add(database_url)
        return {
            "IMGSYNC_API_URL": self.server.api_url,
            "IMGSYNC_DATABASE_URL": database_url,
            "IMGSYNC_TEMP_DIR": temp_dir,
            "IMGSYNC_MINIATURES_DIR": f"{temp_dir}-miniatures",
        }
