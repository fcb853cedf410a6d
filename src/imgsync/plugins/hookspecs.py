"""The hooks a plugin may implement (pluggy project and entry-point group ``imgsync``).

Each is a function; a plugin implements those it needs, and names only the parameters it needs.
docs/plugins.md shows a whole example of each.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import pluggy

from imgsync.application.payloads import PayloadFormat
from imgsync.domain.model import AccountName, EntityType, SyncRequest
from imgsync.domain.pictures import PictureFacts, PictureSettings
from imgsync.domain.replace import ReplaceStrategy
from imgsync.domain.tasks import SyncResult, Task
from imgsync.plugins.parts import MakeHandler, OpenQueue, OpenStore

if TYPE_CHECKING:
    import click

PROJECT = "imgsync"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def imgsync_entity_types() -> Iterable[EntityType]:
    """Entity types to copy images of.

    :returns: types whose names no other plugin brings; one without `externalCode`, `code`,
        `article` and telling names brings a matcher along
    """
    raise NotImplementedError


@hookspec
def imgsync_payload_formats() -> Iterable[PayloadFormat]:
    """Payload formats to read tasks of the kind ``image_sync`` in.

    :returns: formats, each with a name; a plugin's are asked before the built-in ones
    """
    raise NotImplementedError


@hookspec
def imgsync_task_handlers() -> Mapping[str, MakeHandler]:
    """What does the tasks of a kind. A worker takes tasks of the kinds that have a handler.

    :returns: by kind (the column `entity_type` of ``sync_queue``, at most 50 characters): a
        function that is given the `Services` of the program once and returns the handler, an
        ``async`` function of the task and its `WritePermit`
    """
    raise NotImplementedError


@hookspec
def imgsync_task_queues() -> Mapping[str, OpenQueue]:
    """Where tasks wait, chosen by the scheme of ``queue_url``.

    :returns: by scheme, in lower case: a function that is given a `QueueSetup` (the URL, the kinds
        to claim, ways to open what it wraps) and returns a `TaskQueue`, whose methods are async
    """
    raise NotImplementedError


@hookspec
def imgsync_content_stores() -> Mapping[str, OpenStore]:
    """Where downloads lie, for one task or for all, chosen by the scheme of ``content_url``.

    :returns: by scheme, in lower case: a function that is given a `StoreSetup` (the URL, the bytes
        to keep) and returns a `ContentStore`, whose methods are async, `workspace` and `read` aside
    """
    raise NotImplementedError


@hookspec
def imgsync_replace_strategies() -> Mapping[str, ReplaceStrategy]:
    """How a child's image list becomes the wanted one, chosen by ``replace_strategy``.

    :returns: by name: a generator function that yields `SetImages` and `DeleteImages`, is sent
        the outcome of each, and returns a `Replacement`
    """
    raise NotImplementedError


@hookspec
def imgsync_transform_image(
    content: bytes,
    filename: str,
    facts: PictureFacts,
    settings: PictureSettings,
    max_bytes: int,
    request: SyncRequest,
) -> bytes | None:
    """Changes a picture between its download and its upload. The functions of all plugins are
    called in turn, each with what the one before made: imgsync's own ``convert`` first, those of
    the plugins by their names, its ``optimise`` and ``fit`` last. It is called beside the event
    loop, several at once, and has 60 seconds.

    :param content: the whole file, a picture to its end
    :param filename: its name, whose suffix follows the format
    :param facts: format, pixels and bytes of `content`
    :param settings: what becomes of the pictures of this link
    :param max_bytes: what the account takes; `fit` sees to it where the settings say so
    :param request: which entity of which accounts
    :returns: the changed JPEG or PNG file, or None to leave it as it is
    """
    raise NotImplementedError


@hookspec
def imgsync_transform_version() -> str:
    """Changes whenever `imgsync_transform_image` would make another picture of the same one: what
    was copied is then made anew. It is asked once, when the plugin is loaded.

    :returns: a short text; '' is as good as not to implement it
    """
    raise NotImplementedError


@hookspec
def imgsync_before_task(task: Task) -> None:
    """An attempt at a task begins.

    :param task: the task, claimed by this worker
    """


@hookspec
def imgsync_after_task(task: Task, end: str, result: SyncResult | None, error: str | None) -> None:
    """An attempt at a task ended.

    :param task: the task as it was claimed
    :param end: ``completed``, ``retrying``, ``failed``, ``parked``, ``given back``, ``no room`` or
        ``lease lost``
    :param result: what was done, where it completed
    :param error: why it did not
    """


@hookspec
def imgsync_image_copied(request: SyncRequest, filename: str, size: int, href: str) -> None:
    """An image was uploaded and stands in the child's list.

    :param request: which entity of which accounts
    :param filename: the image's name in the main account
    :param size: bytes of the uploaded file
    :param href: ``meta.href`` of the child's image
    """


@hookspec
def imgsync_run_ended(ends: Mapping[str, int]) -> None:
    """A worker ended, or `imgsync sync` has run its tasks.

    :param ends: attempts by how they ended, as in `imgsync_after_task`
    """


@hookspec
def imgsync_sweep_ended(
    child: AccountName, numbers: Mapping[str, int], equal: bool, error: str | None
) -> None:
    """A full survey of a child that the schedule asked for has ended; what differs is queued by
    now, or only told where the link is one that is only checked.

    :param child: the child account
    :param numbers: its entities by how they stand (``equal``, ``missing``, ``different``,
        ``extra``, ``unmatched``); of what differs the ``images`` to copy, the lists to be cleared
        (``clears``) and those that are not as they are too many (``clears_refused``)
    :param equal: whether it shows what it should, and nothing of it waits or has failed
    :param error: why it could not be surveyed to its end
    """


@hookspec
def imgsync_account_parked(account: AccountName, reason: str, until: datetime) -> None:
    """An account takes no requests, so that its tasks wait. It is told once by the process that
    notes it, and again where it is still so after that time.

    :param account: a main account or a child
    :param reason: what MoySklad said, such as that its credentials are refused
    :param until: when it is tried again, unless it is stored anew before; in the year 9999 where
        only that ends it
    """


@hookspec
def imgsync_webhooks_off(account: AccountName, count: int) -> None:
    """MoySklad had switched webhooks of an account off, as it does where they could not be
    delivered for days. They are on again by now where that could be done. The hourly check tells
    it, once for each time, and `imgsync webhooks check`.

    :param account: a main account, or a child whose own changes are guarded
    :param count: how many
    """


@hookspec
def imgsync_commands() -> "Iterable[click.Command]":
    """Commands of the command line.

    :returns: click commands or groups, whose names no other plugin brings
    """
    raise NotImplementedError
