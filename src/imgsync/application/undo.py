"""Puts back what a child had before a change."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgsync.application.accounts import find_account
from imgsync.application.changes import Changes, Scene
from imgsync.application.copy import ReplaceDriver, empty
from imgsync.application.enqueue import put_tasks
from imgsync.application.parking import AccountGate
from imgsync.domain.changes import (
    KIND_OF_UNDO,
    Change,
    ChangeAction,
    ListedImage,
    NoBackupError,
    Place,
    SavedImage,
    UndoError,
    by_entity,
    is_list,
    put_back,
)
from imgsync.domain.diff import NOTHING_LEFT, EntityKey
from imgsync.domain.errors import PayloadError
from imgsync.domain.failures import IMAGE_RETRY
from imgsync.domain.formats import upload_name
from imgsync.domain.model import (
    Account,
    AccountRole,
    Element,
    EntityTypes,
    Keep,
    MatchField,
    RemoteImage,
    SyncRequest,
    Upload,
    check_role,
)
from imgsync.domain.ports.changes import BackupStore, ChangeLog
from imgsync.domain.ports.clock import StoreClock
from imgsync.domain.ports.failures import FailedImages
from imgsync.domain.ports.moysklad import MoySkladFactory, MoySkladPort, WritePermit
from imgsync.domain.ports.queue import Enqueued, NewTask, TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SyncRecordRepository
from imgsync.domain.ports.runs import Proofs
from imgsync.domain.ports.storage import ContentStore, Workspace
from imgsync.domain.replace import atomic
from imgsync.domain.tasks import TASK_ENTITY_TYPE, SyncResult, Task, TaskIds

UNDONE = "undone"
UNDONE_WITH_WARNINGS = "undone with warnings"
AS_BEFORE = "as it was before"
"""Results of tasks that put a list back; the last of one that had nothing to do."""

_PAGE = 1000
_NAMED = 5
"""Images, or entities, that one message names."""

EntityChanges = tuple[Change, ...]
"""Changes of one entity that are undone together, newest first."""


@dataclass(frozen=True, slots=True)
class UndoPlan:
    """What it takes to undo the `changes` of an entity, whose list is `current` now.

    `places`: the list to set; `files`: the backup of each saved image in it, by image id; `lost`:
    images that cannot be put back. `problem`: why nothing is done, in words.
    """

    changes: EntityChanges
    current: tuple[RemoteImage, ...]
    places: tuple[Place, ...] = ()
    lost: tuple[ListedImage, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None

    @property
    def kept(self) -> int:
        return sum(isinstance(place, RemoteImage) for place in self.places)

    @property
    def uploads(self) -> int:
        return len(self.places) - self.kept

    @property
    def is_done(self) -> bool:
        """Whether the list is the one to set already."""
        return self.problem is None and tuple(self.places) == self.current

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(
            f"{image.filename}: it was removed and not saved, so it cannot be put back"
            for image in self.lost
        )


@dataclass(frozen=True, slots=True)
class UndoEntity:
    """Puts the list of one child entity back, as far as its images are there or saved. What that
    removes is saved in turn, whosever it is, so that it can be undone too."""

    accounts: AccountRepository
    records: SyncRecordRepository
    moysklad: MoySkladFactory
    storage: ContentStore
    entity_types: EntityTypes
    log: ChangeLog
    backups: BackupStore
    changes: Changes
    failed: FailedImages | None = None
    proofs: Proofs | None = None

    async def plan(self, changes: EntityChanges, *, force: bool) -> UndoPlan:
        """What would be done; nothing is. `force`: even where the list is another than these
        changes have left, and without a backup that is gone.

        UnknownAccountError, UnknownEntityTypeError, the errors of the API; WrongRoleError where the
        account has become the main one of others.
        """
        newest, first = changes[0], changes[-1]
        account = await self.accounts.get(newest.key.child_account_id)
        check_role(account, AccountRole.CHILD)
        child = self.moysklad.for_account(account)
        entity_type = self.entity_types.get(newest.key.entity_type)
        current = tuple(await child.list_images(entity_type, newest.key.child_entity_id))
        # One whose end is not known may have come to nothing.
        is_left = is_list(current, newest.after if newest.after is not None else newest.before)
        if is_list(current, first.before):
            return UndoPlan(changes, current, current)
        if not (is_left or force):
            told = "somebody has changed its images since"
            if newest.after is None:
                told = "how the change ended is not known, and its images may be another's by now"
            return UndoPlan(changes, current, problem=f"{told}; they are set back by force only")
        try:
            saved, files = await self._saved(changes, force=force)
        except NoBackupError as error:
            return UndoPlan(changes, current, problem=str(error))
        places, lost = put_back(first.before, current, saved)
        problem = None
        if lost and not places:
            problem = f"none of what was removed was saved: {_names(i.filename for i in lost)}"
        return UndoPlan(changes, current, tuple(places), tuple(lost), files, problem)

    async def __call__(
        self, changes: EntityChanges, permit: WritePermit, *, force: bool
    ) -> SyncResult:
        """Sets the list. UndoError where that cannot be, or may not; BackupError; the errors of the
        API, ChildChangedError, LeaseLostError; StoreError."""
        plan = await self.plan(changes, force=force)
        if plan.problem is not None:
            raise UndoError(plan.problem)
        if plan.is_done:
            # Done by this very task, perhaps, which then was broken off.
            await self._let_go(changes[0].key, permit)
            return SyncResult(AS_BEFORE, kept=plan.kept)
        account = await self.accounts.get(changes[0].key.child_account_id)
        child = self.moysklad.for_account(account)
        async with self.storage.workspace() as workspace:
            return await self._set(plan, account, child, workspace, permit, force=force)

    async def _set(
        self,
        plan: UndoPlan,
        account: Account,
        child: MoySkladPort,
        workspace: Workspace,
        permit: WritePermit,
        *,
        force: bool,
    ) -> SyncResult:
        newest = plan.changes[0]
        entity_type = self.entity_types.get(newest.key.entity_type)
        elements, warnings = await self._elements(plan, workspace, force=force)
        if plan.places and not elements:
            raise UndoError(f"none of its images can be put back: {'; '.join(warnings)}")
        warnings = [*plan.warnings, *warnings]
        scene = Scene(
            ChangeAction.UNDO,
            newest.main_account_id,
            account.name,
            newest.key,
            newest.main_entity_id,
            newest.entity_name,
            newest.entity_code,
        )
        lists = self.changes.watched(
            scene,
            child,
            child,
            plan.current,
            [place.id for place in plan.places if isinstance(place, RemoteImage)],
            beside=next((c.backup for c in plan.changes if c.backup is not None), None),
        )
        entity_id = newest.key.child_entity_id
        driver = ReplaceDriver(lists, entity_type, entity_id, workspace.read, permit)
        try:
            if not elements:
                await empty(lists, entity_type, entity_id, plan.current, permit)
                placed: Collection[str] = ()
            else:
                there = [image.href for image in plan.current]
                done = await driver.run(atomic(elements, there, child.limits.request))
                placed = done.placed
                refused = done.rejected | done.stopped
                warnings += [
                    f"{e.filename}: {refused[e.key]}"
                    for e in elements
                    if isinstance(e, Upload) and e.key in refused
                ]
                if not placed and not any(isinstance(e, Keep) for e in elements):
                    raise UndoError(f"none of its images was put back: {'; '.join(warnings)}")
        finally:
            await lists.ended()
        await self._let_go(newest.key, permit)
        if driver.parked_by is not None:
            raise driver.parked_by
        kept = sum(isinstance(element, Keep) for element in elements)
        outcome = UNDONE_WITH_WARNINGS if warnings else UNDONE
        return SyncResult(outcome, tuple(warnings), uploaded=len(placed), kept=kept)

    async def _elements(
        self, plan: UndoPlan, workspace: Workspace, *, force: bool
    ) -> tuple[list[Element], list[str]]:
        """The list to set, its files read from the backups before the child is touched."""
        elements: list[Element] = []
        warnings = []
        for place in plan.places:
            if isinstance(place, RemoteImage):
                elements.append(Keep(place.href))
                continue
            file = await workspace.create(place.filename)
            try:
                async for chunk in self.backups.read(plan.files[place.image_id], place):
                    await file.write(chunk)
                await file.close()
            except NoBackupError as error:
                await file.discard()
                if not force:
                    raise UndoError(str(error)) from error
                warnings.append(f"{place.filename}: {error}")
                continue
            except BaseException:
                await file.discard()
                raise
            elements.append(Upload(file.key, upload_name(place.filename), file.size))
        return elements, warnings

    async def _saved(
        self, changes: EntityChanges, *, force: bool
    ) -> tuple[list[SavedImage], dict[str, str]]:
        saved: list[SavedImage] = []
        files: dict[str, str] = {}
        for change in changes:
            if change.backup is None:
                continue
            try:
                images = await self.backups.images(change.backup)
            except NoBackupError:
                if not force:
                    raise
                continue
            saved += images
            files |= {image.image_id: change.backup for image in images}
        return saved, files

    async def _let_go(self, key: EntityKey, permit: WritePermit) -> None:
        """The images are the child's own: imgsync claims none of them any more, and adds none
        before the next sync. Until a whole survey has looked, the child is not equal to main."""
        if self.proofs is not None:
            await permit.confirm()
            if (proof := await self.proofs.get(key.child_account_id)) is not None:
                await self.proofs.put(proof.with_undone())
        if self.failed is not None:
            await permit.confirm()
            await self.failed.leave(key)
        if await self.records.get(key) in (None, NOTHING_LEFT):
            return
        # A worker that lost its lease must not say what its heir has left.
        await permit.confirm()
        await self.records.put(key, NOTHING_LEFT)


@dataclass(slots=True)
class UndoHandler:
    """Does the tasks of the kind `undo`; implements `TaskHandler`."""

    entity: UndoEntity
    clock: StoreClock
    _gate: AccountGate = field(init=False)

    def __post_init__(self) -> None:
        self._gate = AccountGate(self.entity.accounts, self.clock)

    async def __call__(self, task: Task, permit: WritePermit) -> SyncResult:
        ids, force = _read(task.payload)
        changes = []
        for change_id in ids:
            change = await self.entity.log.get(change_id)
            if change is None:
                raise UndoError(f"change {change_id} is kept no longer, so it cannot be undone")
            changes.append(change)
        if len(by_entity(changes)) != 1:
            raise PayloadError("changes", "are not of one entity")
        key = changes[0].key
        # Nothing is asked of the main account, which may take no requests for a while.
        child = key.child_account_id
        about = SyncRequest(
            child, child, key.entity_type, key.child_entity_id, key.child_entity_id, ()
        )
        async with self._gate.passing(about):
            return await self.entity(tuple(changes), permit, force=force)


_PAYLOAD = "undo"
_VERSION = 1


def _task_of(changes: EntityChanges, *, force: bool) -> NewTask:
    newest = changes[0]
    key = newest.key
    payload = {
        _PAYLOAD: _VERSION,
        "changes": [change.id for change in changes],
        "force": force,
        "child_account_id": key.child_account_id,
        "parent_entity_type": key.entity_type,
        "parent_entity_id": newest.main_entity_id,
        "child_entity_id": key.child_entity_id,
        "name": newest.entity_name,
        "code": newest.entity_code,
    }
    return NewTask(
        payload,
        # That of the entity's other tasks, so that no two of them write at once.
        dedupe_key=key.dedupe_key,
        account_id=key.child_account_id,
        entity_id=newest.main_entity_id,
        kind=KIND_OF_UNDO,
        takes_over=(TASK_ENTITY_TYPE, IMAGE_RETRY),
    )


def _read(payload: Any) -> tuple[list[int], bool]:
    if not isinstance(payload, Mapping) or payload.get(_PAYLOAD) != _VERSION:
        raise PayloadError(_PAYLOAD, "is not that of a task of this version of imgsync")
    ids, force = payload.get("changes"), payload.get("force")
    if not isinstance(ids, list) or not ids or any(type(i) is not int for i in ids):
        raise PayloadError("changes", "must be the numbers of changes")
    if not isinstance(force, bool):
        raise PayloadError("force", "must be true or false")
    return ids, force


@dataclass(frozen=True, slots=True)
class Undo:
    """Finds changes, tells what it takes to undo them, and queues that."""

    log: ChangeLog
    queue: TaskQueue
    entity: UndoEntity

    async def of_run(self, run: str) -> list[EntityChanges]:
        """What a run has changed, entity by entity. UndoError where nothing of it is kept."""
        found = [change async for change in self._all(run=run)]
        if not found:
            raise UndoError(f"Nothing that a run '{run}' has changed is known")
        return [of for of in by_entity(found) if not all(change.did_nothing for change in of)]

    async def of_entity(self, child_id: str, entity: str) -> list[EntityChanges]:
        """The last change of a child's entity, by its name, its id in either account, or its code.

        UndoError where there is none, or where these are several entities; UnknownAccountError,
        the errors of the API."""
        child = await find_account(self.entity.accounts, child_id)
        found = [c async for c in self._all(child_account_id=child.id, entity=entity)]
        if not found:
            for entity_id in await self._with_code(child, entity):
                found += [c async for c in self._all(child_account_id=child.id, entity=entity_id)]
        of_each = by_entity(found)
        if len(of_each) > 1:
            listed = _names(f"{of[0].label} ({of[0].key.child_entity_id})" for of in of_each)
            raise UndoError(
                f"'{entity}' are several entities of '{child.name}', name one: {listed}"
            )
        last = next((change for change in found if not change.did_nothing), None)
        if last is None:
            raise UndoError(f"Nothing that was changed of '{entity}' of '{child.name}' is known")
        return [(last,)]

    async def plans(
        self, found: Sequence[EntityChanges], *, force: bool
    ) -> AsyncIterator[UndoPlan]:
        """What would be done; nothing is."""
        for changes in found:
            yield await self.entity.plan(changes, force=force)

    async def put(self, found: Sequence[EntityChanges], *, force: bool) -> TaskIds:
        """Queues a task for each entity; a task of it that waits gives way. The errors of the
        queue."""
        ids = TaskIds()

        def note(queued: Enqueued) -> None:
            ids.add(queued.task_id)

        await put_tasks(self.queue, [_task_of(of, force=force) for of in found], note)
        return ids

    async def _all(self, **which: Any) -> AsyncIterator[Change]:
        before: int | None = None
        while page := await self.log.find(**which, before=before, limit=_PAGE):
            for change in page:
                yield change
            before = page[-1].id

    async def _with_code(self, child: Account, code: str) -> list[str]:
        port = self.entity.moysklad.for_account(child)
        found = []
        for entity_type in self.entity.entity_types:
            pages = port.list_entities(
                entity_type, with_images=False, having=(MatchField.CODE, [code])
            )
            async for page in pages:
                found += [entity.id for entity in page.entities if entity.code == code]
        return found


def _names(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
