"""State of the emulated service, without any HTTP."""

import threading
import uuid

from moysklad_emulator.accounts import Credentials, EmulatedAccount, EmulatedEntity
from moysklad_emulator.clock import Clock
from moysklad_emulator.content import ContentStore
from moysklad_emulator.dialect import Dialect, DialectSwitch
from moysklad_emulator.events import Events
from moysklad_emulator.faults import Faults
from moysklad_emulator.images import ImageCopy, StoredImage
from moysklad_emulator.limits import EmulatorLimits
from moysklad_emulator.stats import Stats, StatsRecorder


class Emulator:
    """Accounts, image files, faults and counters. Thread-safe; `EmulatorServer` serves it.

    `storage_quota`: default quota of an account, in bytes; None for none. `dialect` may be changed
    at any time, and holds for the next request.
    """

    def __init__(
        self,
        limits: EmulatorLimits | None = None,
        *,
        storage_quota: int | None = None,
        dialect: Dialect | None = None,
    ) -> None:
        self.limits = limits or EmulatorLimits()
        self.faults = Faults()
        self.recorder = StatsRecorder()
        self.content = ContentStore()
        self.credentials = Credentials()
        self.events = Events()
        self.clock = Clock()
        self.switch = DialectSwitch(dialect or Dialect())
        self._storage_quota = storage_quota
        self._lock = threading.RLock()
        self._accounts: dict[str, EmulatedAccount] = {}

    @property
    def dialect(self) -> Dialect:
        """How what no source says is played."""
        return self.switch.dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self.switch.dialect = dialect

    def add_account(
        self,
        name: str,
        *,
        login: str | None = None,
        id: str | None = None,  # noqa: A002 (the field's name in the API)
        storage_quota: int | None = None,
        permanent_links: bool = True,
        webhooks: bool = True,
    ) -> EmulatedAccount:
        """Adds an account; `id` is a uuid. `webhooks`: whether its tariff has them. ValueError
        where it exists.
        """
        account = EmulatedAccount(
            id or str(uuid.uuid4()),
            name,
            limits=self.limits,
            content=self.content,
            credentials=self.credentials,
            lock=self._lock,
            storage_quota=self._storage_quota if storage_quota is None else storage_quota,
            permanent_links=permanent_links,
            webhooks=webhooks,
            events=self.events,
            switch=self.switch,
            login=login,
        )
        with self._lock:
            if account.id in self._accounts:
                raise ValueError(f"account {account.id} exists already")
            self._accounts[account.id] = account
        return account

    def account(self, account_id: str) -> EmulatedAccount | None:
        return self._accounts.get(account_id.lower())

    def images_of(self, entity: EmulatedEntity) -> list[ImageCopy]:
        """The entity's images in order: (id, filename, content)."""
        with self._lock:
            return [
                ImageCopy(image.id, image.filename, self.content.path(image.digest).read_bytes())
                for image in entity.images
            ]

    def file_of(self, account_id: str, image_id: str) -> tuple[StoredImage, bytes] | None:
        """An image that stands on some entity of an account, and its content."""
        with self._lock:
            account = self.account(account_id)
            image = account.image(image_id) if account else None
            return (image, self.content.path(image.digest).read_bytes()) if image else None

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters, new with every access."""
        return self.recorder.snapshot()

    def reset_stats(self) -> None:
        """Sets every counter to zero."""
        self.recorder.reset()
