"""The parts that plugins bring, and how one is found by the name that configuration gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from imgsync.application.payloads import PayloadFormats
from imgsync.application.retry import SyncsAgain
from imgsync.application.undo import UndoEntity
from imgsync.domain.errors import ImgsyncError, PluginError
from imgsync.domain.model import EntityTypes
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.failures import FailedImages
from imgsync.domain.ports.moysklad import MoySkladFactory
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import (
    AccountRepository,
    SettingsRepository,
    SyncRecordRepository,
)
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.ports.storage import ContentStore

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Services:
    """What the program gives to the handlers of tasks.

    `copy_images` copies by a `SyncRequest`; `clock` is that of the queue's store; `failed_images`
    are those that could not be copied; `undo` puts a child's list back.
    """

    accounts: AccountRepository
    settings: SettingsRepository
    records: SyncRecordRepository
    moysklad: MoySkladFactory
    entity_types: EntityTypes
    payload_formats: PayloadFormats
    copy_images: SyncsAgain
    clock: StoreClock
    undo: UndoEntity
    failed_images: FailedImages


@dataclass(frozen=True, slots=True)
class QueueSetup:
    """What a task queue is opened with.

    `kinds`: the kinds of tasks that this program can do; no others are claimed. `open_queue` opens
    the queue of another URL, for one that wraps it. `database`: the `Database` of a URL, imgsync's
    tables made, whose `run(work)` does a transaction; the program shares one per URL and closes it.
    """

    url: str
    kinds: tuple[str, ...]
    open_queue: Callable[[str], TaskQueue]
    database: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class StoreSetup:
    """What a content store is opened with: its URL, and the bytes that it may keep beyond what is
    in use (setting ``content_bytes``)."""

    url: str
    max_bytes: int


MakeHandler = Callable[[Services], TaskHandler]
OpenQueue = Callable[[QueueSetup], TaskQueue]
OpenStore = Callable[[StoreSetup], ContentStore]


class UnknownPartError(ImgsyncError):
    """No plugin brings the part that configuration names; the text lists those there are."""


@dataclass(slots=True)
class Parts(Generic[_T]):
    """The parts of one kind by name. `what` is the kind in words, such as ``replace strategy``."""

    what: str
    _parts: dict[str, _T] = field(default_factory=dict)
    _bringers: dict[str, str] = field(default_factory=dict)

    def add(self, plugin: str, name: str, part: _T) -> None:
        """PluginError for a name that is taken."""
        if name in self._parts:
            raise PluginError(
                f"{self.what} '{name}' is registered twice, "
                f"by plugin '{self._bringers[name]}' and by plugin '{plugin}'"
            )
        self._parts[name] = part
        self._bringers[name] = plugin

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __contains__(self, name: object) -> bool:
        return name in self._parts

    def values(self) -> list[_T]:
        return list(self._parts.values())

    def items(self) -> list[tuple[str, _T]]:
        return list(self._parts.items())

    def get(self, name: str) -> _T:
        """UnknownPartError, which lists the known names."""
        try:
            return self._parts[name]
        except KeyError:
            known = ", ".join(self._parts) or "none"
            raise UnknownPartError(f"unknown {self.what} '{name}' (known: {known})") from None


def scheme_of(url: str) -> str:
    """``sqlite`` of ``sqlite+pysqlite:///file``; '' where there is none."""
    scheme, separator, _ = url.partition(":")
    return scheme.partition("+")[0].strip().lower() if separator else ""
