"""Copies product, bundle and variant images from a main MoySklad account to its child accounts.

For a program: `Imgsync` links accounts, surveys, syncs and enqueues. For a plugin: `hookimpl` and
`EntityType` (more is in `imgsync.plugins`). Every error that is expected is an `ImgsyncError`,
whose text is meant for the user.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgsync.application.enqueue import EnqueueOutcome
    from imgsync.application.survey import Surveyed
    from imgsync.application.work import Tally, TaskEnd, TaskReport
    from imgsync.domain.changes import BackupError, UndoError
    from imgsync.domain.errors import (
        AccountParkedError,
        ApiError,
        AuthorisationError,
        ClearLimitError,
        ImgsyncError,
        NoRoomError,
        NotFoundError,
        ParkingError,
        PayloadError,
        PermissionDeniedError,
        PluginError,
        StorageFullError,
        StoreError,
        SyncIsOffError,
        UnavailableError,
        UnknownAccountError,
        UnknownEntityTypeError,
        WrongAccountError,
    )
    from imgsync.domain.failures import FailedImage
    from imgsync.domain.model import Account, AccountRole, MatchField, TokenKind
    from imgsync.domain.pictures import PictureSettings
    from imgsync.entrypoints.api import Imgsync, SyncReport
    from imgsync.entrypoints.config import ConfigError
    from imgsync.plugins import EntityType, SyncRequest, hookimpl

    __version__: str

_HOMES = {
    "imgsync.application.enqueue": ("EnqueueOutcome",),
    "imgsync.application.survey": ("Surveyed",),
    "imgsync.application.work": ("Tally", "TaskEnd", "TaskReport"),
    "imgsync.domain.changes": ("BackupError", "UndoError"),
    "imgsync.domain.errors": (
        "AccountParkedError",
        "ApiError",
        "AuthorisationError",
        "ClearLimitError",
        "ImgsyncError",
        "NoRoomError",
        "NotFoundError",
        "ParkingError",
        "PayloadError",
        "PermissionDeniedError",
        "PluginError",
        "StorageFullError",
        "StoreError",
        "SyncIsOffError",
        "UnavailableError",
        "UnknownAccountError",
        "UnknownEntityTypeError",
        "WrongAccountError",
    ),
    "imgsync.domain.failures": ("FailedImage",),
    "imgsync.domain.model": ("Account", "AccountRole", "MatchField", "TokenKind"),
    "imgsync.domain.pictures": ("PictureSettings",),
    "imgsync.entrypoints.api": ("Imgsync", "SyncReport"),
    "imgsync.entrypoints.config": ("ConfigError",),
    "imgsync.plugins": ("EntityType", "SyncRequest", "hookimpl"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Account",
    "AccountParkedError",
    "AccountRole",
    "ApiError",
    "AuthorisationError",
    "BackupError",
    "ClearLimitError",
    "ConfigError",
    "EnqueueOutcome",
    "EntityType",
    "FailedImage",
    "Imgsync",
    "ImgsyncError",
    "MatchField",
    "NoRoomError",
    "NotFoundError",
    "ParkingError",
    "PayloadError",
    "PermissionDeniedError",
    "PictureSettings",
    "PluginError",
    "StorageFullError",
    "StoreError",
    "Surveyed",
    "SyncIsOffError",
    "SyncReport",
    "SyncRequest",
    "Tally",
    "TaskEnd",
    "TaskReport",
    "TokenKind",
    "UnavailableError",
    "UndoError",
    "UnknownAccountError",
    "UnknownEntityTypeError",
    "WrongAccountError",
    "__version__",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """The names above, each loaded when it is first asked for: whoever imports one module of
    imgsync, as a plugin does, need not wait for the database, the HTTP client and the pictures."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("imgsync")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'imgsync' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
