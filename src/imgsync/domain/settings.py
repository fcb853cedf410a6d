"""Image settings of a child account."""

from dataclasses import dataclass

from imgsync.domain.errors import SyncIsOffError
from imgsync.domain.model import Account, EntityType, check_roles


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """Which images a child receives: none (the default), the first only, or all.

    The two switches exclude each other; use `with_first_only` and `with_all` to change them.
    """

    sync_images: bool = False
    sync_images_all: bool = False

    def __post_init__(self) -> None:
        if self.sync_images and self.sync_images_all:
            raise ValueError("sync_images and sync_images_all exclude each other")

    def limit_for(self, entity_type: EntityType) -> int:
        """Images to copy per entity: 0, 1, or as many as the type may have."""
        if self.sync_images_all:
            return entity_type.max_images
        return 1 if self.sync_images else 0

    @property
    def enabled(self) -> bool:
        return self.sync_images or self.sync_images_all

    def with_first_only(self, on: bool) -> "ChildSettings":
        """Sets `sync_images`; turning it on clears `sync_images_all`."""
        return ChildSettings(on, self.sync_images_all and not on)

    def with_all(self, on: bool) -> "ChildSettings":
        """Sets `sync_images_all`; turning it on clears `sync_images`."""
        return ChildSettings(self.sync_images and not on, on)


@dataclass(frozen=True, slots=True)
class Link:
    """A main account, and a child account that receives images of it by these settings.

    WrongAccountError for two that cannot be linked, SyncIsOffError where the child receives none.
    """

    main: Account
    child: Account
    settings: ChildSettings

    def __post_init__(self) -> None:
        check_roles(self.main, self.child)
        if not self.settings.enabled:
            raise SyncIsOffError(self.child.name, self.child.id)
