"""The built-in plugin: what imgsync itself brings, through the hooks that everybody's parts use.

Its commands are in `imgsync.entrypoints.cli.commands`, another built-in plugin, as they stand above
this package.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from imgsync.adapters.files.local import LocalContentStore
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.application.copy import CopyImagesHandler
from imgsync.application.payloads import BATCH, LEGACY, PayloadFormat
from imgsync.application.retry import RetryImagesHandler
from imgsync.application.undo import UndoHandler
from imgsync.domain.changes import KIND_OF_UNDO
from imgsync.domain.errors import StoreError
from imgsync.domain.failures import IMAGE_RETRY
from imgsync.domain.model import EntityType
from imgsync.domain.ports.pictures import PictureCheck, PictureEditor
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.replace import STRATEGIES, ReplaceStrategy
from imgsync.domain.tasks import TASK_ENTITY_TYPE
from imgsync.plugins.hookspecs import hookimpl
from imgsync.plugins.parts import (
    MakeHandler,
    OpenQueue,
    OpenStore,
    QueueSetup,
    Services,
    StoreSetup,
)


@hookimpl
def imgsync_entity_types() -> Iterable[EntityType]:
    return [EntityType("product"), EntityType("bundle"), EntityType("variant")]


@hookimpl
def imgsync_payload_formats() -> Iterable[PayloadFormat]:
    return [BATCH, LEGACY]


@hookimpl
def imgsync_task_handlers() -> Mapping[str, MakeHandler]:
    return {TASK_ENTITY_TYPE: _image_sync, IMAGE_RETRY: _image_retry, KIND_OF_UNDO: _undo}


@hookimpl
def imgsync_task_queues() -> Mapping[str, OpenQueue]:
    return {
        "sqlite": _sql_queue,
        "postgresql": _sql_queue,
        "postgres": _sql_queue,
        "procrastinate": _procrastinate_queue,
    }


@hookimpl
def imgsync_content_stores() -> Mapping[str, OpenStore]:
    return {"file": _folder}


@hookimpl
def imgsync_replace_strategies() -> Mapping[str, ReplaceStrategy]:
    return STRATEGIES


def picture_editor() -> PictureEditor:
    """Made once it is needed: most commands need none, nor its library."""
    from imgsync.adapters.pictures.editing import PillowEditor

    return PillowEditor()


def picture_check() -> PictureCheck:
    from imgsync.adapters.pictures.pillow import PillowCheck

    return PillowCheck()


def _image_sync(services: Services) -> TaskHandler:
    return CopyImagesHandler(
        services.accounts, services.payload_formats, services.copy_images, services.clock
    )


def _undo(services: Services) -> TaskHandler:
    return UndoHandler(services.undo, services.clock)


def _image_retry(services: Services) -> TaskHandler:
    return RetryImagesHandler(
        services.accounts,
        services.failed_images,
        services.copy_images,
        services.clock,
        _image_sync(services),
    )


def _sql_queue(setup: QueueSetup) -> TaskQueue:
    return SqlTaskQueue(setup.database(setup.url), kinds=setup.kinds)


def _procrastinate_queue(setup: QueueSetup) -> TaskQueue:
    try:  # it is an extra
        from imgsync.adapters.procrastinate.queue import ProcrastinateTaskQueue
    except ImportError as error:
        raise StoreError(
            "A queue on procrastinate needs more packages: pip install 'imgsync[procrastinate]'"
            f" ({error})"
        ) from error
    return ProcrastinateTaskQueue(setup.url, setup.kinds)


def _folder(setup: StoreSetup) -> LocalContentStore:
    path = Path(url2pathname(urlsplit(setup.url).path))
    return LocalContentStore(path, setup.max_bytes)
