"""What a plugin imports. Register a module or object under the entry-point group ``imgsync``.

from imgsync.plugins import EntityType, hookimpl

@hookimpl
def imgsync_entity_types():
    return [EntityType("service", max_images=10)]

docs/plugins.md has a whole example of each hook. Each call into a plugin has 10 seconds (an opened
queue or store, and a transformation, 60); whatever it raises is an error that names the plugin.
"""

from imgsync.application.payloads import PayloadFormat, RawPayload
from imgsync.domain.errors import (
    ImgsyncError,
    LeaseLostError,
    NoRoomError,
    PayloadError,
    StoreError,
    UnavailableError,
)
from imgsync.domain.model import (
    AccountName,
    Element,
    Entity,
    EntityMatcher,
    EntityType,
    Keep,
    SourceImage,
    SyncRequest,
    Upload,
)
from imgsync.domain.packing import RequestRoom
from imgsync.domain.pictures import PictureFacts, PictureSettings
from imgsync.domain.ports.moysklad import WritePermit
from imgsync.domain.ports.queue import Enqueued, NewTask, TaskQueue
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.ports.storage import (
    ContentKey,
    ContentStore,
    SharedFile,
    StaleFile,
    TempFile,
    Turn,
    Workspace,
)
from imgsync.domain.replace import (
    DeleteImages,
    Done,
    Rejected,
    Replacement,
    ReplaceStrategy,
    SetImages,
    Steps,
    Stopped,
    atomic,
)
from imgsync.domain.tasks import (
    CHECK_AGAIN_DELAY,
    MAX_CRASHES,
    SyncResult,
    Task,
    TaskId,
    TaskStatus,
)
from imgsync.plugins.hookspecs import hookimpl
from imgsync.plugins.parts import (
    MakeHandler,
    OpenQueue,
    OpenStore,
    QueueSetup,
    Services,
    StoreSetup,
)

__all__ = [
    "CHECK_AGAIN_DELAY",
    "MAX_CRASHES",
    "AccountName",
    "ContentKey",
    "ContentStore",
    "DeleteImages",
    "Done",
    "Element",
    "Enqueued",
    "Entity",
    "EntityMatcher",
    "EntityType",
    "ImgsyncError",
    "Keep",
    "LeaseLostError",
    "MakeHandler",
    "NewTask",
    "NoRoomError",
    "OpenQueue",
    "OpenStore",
    "PayloadError",
    "PayloadFormat",
    "PictureFacts",
    "PictureSettings",
    "QueueSetup",
    "RawPayload",
    "Rejected",
    "ReplaceStrategy",
    "Replacement",
    "RequestRoom",
    "Services",
    "SetImages",
    "SharedFile",
    "SourceImage",
    "StaleFile",
    "Steps",
    "Stopped",
    "StoreError",
    "StoreSetup",
    "SyncRequest",
    "SyncResult",
    "Task",
    "TaskHandler",
    "TaskId",
    "TaskQueue",
    "TaskStatus",
    "TempFile",
    "Turn",
    "UnavailableError",
    "Upload",
    "Workspace",
    "WritePermit",
    "atomic",
    "hookimpl",
]
