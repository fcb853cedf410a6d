"""Sets the image lists of many entities of a child in one request, and finds out whether it may.

Each task goes its own way; what is combined is the moment at which its list is set. Nothing that
the API's documents leave open is assumed: `Abilities.bulk` and `bulk_keeps` are tried where no
photograph can be lost, and a wrong guess costs one request.
"""

import asyncio
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from imgsync.application.log_lines import about_no_task
from imgsync.domain.errors import (
    ApiError,
    ChildChangedError,
    ImageRejectedError,
    ImgsyncError,
    LeaseLostError,
    NotFoundError,
    PermissionDeniedError,
    RequestTooLargeError,
)
from imgsync.domain.model import Abilities, Element, EntityType, Keep, RemoteImage, Upload
from imgsync.domain.ports.moysklad import (
    BulkRoom,
    ImageLists,
    ImageSet,
    MoySkladPort,
    ReadContent,
    WritePermit,
)
from imgsync.domain.ports.repositories import AbilityRepository
from imgsync.domain.replace import in_order
from imgsync.domain.tasks import Task, TaskId

_log = logging.getLogger(__name__)

MOST_TOGETHER = 100
"""Tasks that are under way at once in a batch; as many entities as one request takes."""

_PREPARING = 4
"""Times `at_first` that tasks fetch their images at once: more would only get ready later, all at
one time."""

_MOST_BYTES = 40_000_000
"""Of their images: two requests full, so that one is filled while the other is sent."""

_UNKNOWN_IMAGE_BYTES = 2_500_000
"""Taken for the size of an image that a payload does not tell: a quarter of the largest."""

_FIRST_ENTITIES = 2
"""Of the first request of an account, where they have images that could be lost."""

_MOST_REFUSALS = 16
"""Requests of one list of entities that may fail whole; then each entity goes alone. One bad
entity among a hundred costs seven."""

_LEAST_BYTES = 1_000_000
_SMALLER_SECONDS = 600.0
"""How long requests of an account are smaller, after one that was too large or took too long."""

_REFUSED = (ApiError, ImageRejectedError, NotFoundError, PermissionDeniedError)
"""Answers after which an entity may still go alone. Any other says that nothing would."""


@dataclass(slots=True)
class Bulk:
    """Batches of tasks, and what accounts have shown that concerns them.

    A batch sends what is ready once nothing more gets ready within `patience_seconds`, or an entity
    has waited for `longest_wait_seconds`.
    """

    abilities: AbilityRepository
    patience_seconds: float = 5.0
    longest_wait_seconds: float = 60.0
    _trials: dict[str, asyncio.Lock] = field(default_factory=dict)
    _smaller: dict[str, tuple[float, int]] = field(default_factory=dict)
    _unproved: "set[Batch]" = field(default_factory=set)

    def batch(self, tasks: Sequence[Task], at_first: int) -> "Batch":
        """For tasks that were claimed together; `at_first` of all batches begin until one of its
        own was ready."""
        sizes = {task.id: _payload_bytes(task.payload) for task in tasks}
        batch = Batch(self, sizes, at_first)
        self._unproved.add(batch)
        return batch

    @asynccontextmanager
    async def trial(self, account_id: str) -> AsyncIterator[None]:
        """One at a time tries what an account can do; the others wait for what it finds."""
        async with self._trials.setdefault(account_id, asyncio.Lock()):
            yield

    def admit(self) -> None:
        """A task of a batch was ready or ended, and others may begin."""
        self._unproved = {batch for batch in self._unproved if batch.is_unproved}
        for batch in self._unproved:
            batch.admit()

    @property
    def begun(self) -> int:
        """Tasks under way in batches of which none was ready."""
        return sum(batch.under_way for batch in self._unproved)

    def most_bytes(self, account_id: str, room: BulkRoom) -> int:
        """Of a request to the account."""
        until, most = self._smaller.get(account_id, (0.0, 0))
        if asyncio.get_running_loop().time() >= until:
            return room.max_bytes
        return min(most, room.max_bytes)

    def was_too_large(self, account_id: str, size: int) -> None:
        """A request of so many bytes was refused as too large, or did not go out in the time of
        its permits: for a while none is more than half of it."""
        until = asyncio.get_running_loop().time() + _SMALLER_SECONDS
        self._smaller[account_id] = until, max(size // 2, _LEAST_BYTES)

    async def known(self, account_id: str) -> Abilities:
        try:
            return await self.abilities.get(account_id)
        except ImgsyncError as error:
            _log.warning("what the account can do is not known: %s", error)
            return Abilities(bulk=False)

    async def learn(self, account_id: str, shown: Abilities) -> None:
        """Called at work on the account's tasks, so that lines of the log name it."""
        if shown.bulk is False:
            _log.info("the account takes no lists of several entities in one request")
        if shown.bulk_keeps is False:
            _log.info("the account keeps no image in a request of several entities")
        try:
            await self.abilities.learn(account_id, shown)
        except ImgsyncError as error:
            _log.warning("what the account can do is not stored: %s", error)


def _payload_bytes(payload: Any) -> int:
    """Bytes of the images that a payload names, as far as it tells."""
    images = payload.get("images") if isinstance(payload, Mapping) else None
    if not isinstance(images, list):
        return _UNKNOWN_IMAGE_BYTES
    sizes = [image.get("size") if isinstance(image, Mapping) else None for image in images]
    return sum(s if type(s) is int and s > 0 else _UNKNOWN_IMAGE_BYTES for s in sizes)


class Batch:
    """Tasks that were claimed together. Each begins (`begin`) as there is room, makes its images
    ready, sets its list through `Member.child`, and ends (`ended`).

    At first few begin: what one refused request tells of an account need not be asked by all.
    """

    def __init__(self, bulk: Bulk, sizes: Mapping[TaskId, int], at_first: int) -> None:
        self.bulk = bulk
        self._sizes = dict(sizes)
        self._at_first = at_first
        self._left = set(sizes)
        self._one_was_ready = False
        self._closed = False
        self._waiting: dict[TaskId, asyncio.Future[None]] = {}
        self._under_way: set[TaskId] = set()
        self._preparing: set[TaskId] = set()
        self._ready: list[_Entry] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._moved_at = 0.0

    @property
    def is_unproved(self) -> bool:
        return bool(self._left) and not self._one_was_ready

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    async def begin(self, task: Task) -> None:
        """Returns once the task may begin; the order is that in which it is called."""
        place = self._waiting[task.id] = asyncio.get_running_loop().create_future()
        self.admit()
        await place

    def ended(self, task: Task) -> None:
        """However it ended, and whether it had begun or not."""
        self._left.discard(task.id)
        self._waiting.pop(task.id, None)
        self._under_way.discard(task.id)
        self._move(task.id)

    def close(self) -> None:
        """Nothing more begins."""
        self._closed = True

    def member(self, task: Task) -> "Member":
        # A second attempt goes alone, lest entities that are wrong together fail together again.
        return Member(self, task.id, alone=task.attempts > 1)

    def prepared(self, task_id: TaskId) -> None:
        """The task sets its list by itself: nobody waits for it."""
        self._one_was_ready = True
        self._move(task_id)

    async def join(self, entry: "_Entry") -> "list[RemoteImage] | _Alone":
        """What became of the entity's list; or that it is to be set alone."""
        self._one_was_ready = True
        self._sizes[entry.task_id] = sum(e.size for e in entry.elements if isinstance(e, Upload))
        self._ready.append(entry)
        self._move(entry.task_id)
        return await entry.future

    def _move(self, task_id: TaskId) -> None:
        """A task is ready, or ended: others may begin, or be sent."""
        self._preparing.discard(task_id)
        self._moved_at = asyncio.get_running_loop().time()
        self.admit()
        self.bulk.admit()
        self._check()

    def admit(self) -> None:
        """Has those begin for which there is room."""
        size = sum(self._sizes[task_id] for task_id in self._under_way)
        for task_id, place in list(self._waiting.items()):
            size += self._sizes[task_id]
            if self._closed or not self._has_room(size):
                return
            del self._waiting[task_id]
            if not place.done():  # else whoever waited is gone
                self._under_way.add(task_id)
                self._preparing.add(task_id)
                place.set_result(None)

    def _has_room(self, size: int) -> bool:
        """For a task more, with which all together have so many bytes."""
        if not self._one_was_ready and self.bulk.begun >= self._at_first:
            return False
        if len(self._preparing) >= _PREPARING * self._at_first:
            return False
        most = MOST_TOGETHER if size <= _MOST_BYTES else 1
        return len(self._under_way) < most

    def _check(self) -> None:
        """Sends what is full, and all that is ready where nothing else is to be waited for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ready = [entry for entry in self._ready if not entry.future.done()]
        now = asyncio.get_running_loop().time()
        due = min(
            self._moved_at + self.bulk.patience_seconds,
            min((e.since for e in self._ready), default=now) + self.bulk.longest_wait_seconds,
        )
        everything = not self._preparing or now >= due
        for entries in _by_target(self._ready):
            *full, rest = _packs(entries)
            if everything or len(rest) == entries[0].room.max_entities:
                full.append(rest)
            for pack in full:
                self._send(pack)
        if self._ready:
            self._timer = asyncio.get_running_loop().call_later(due - now, self._check)

    def _send(self, entries: "list[_Entry]") -> None:
        self._ready = [entry for entry in self._ready if entry not in entries]
        with about_no_task():
            sending = asyncio.create_task(_Delivery(self.bulk, entries).run())
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)


@dataclass(slots=True)
class Member:
    """A task's place in its batch. Its first list may be set with others', later ones are not."""

    batch: Batch
    task_id: TaskId
    alone: bool

    def child(
        self,
        port: MoySkladPort,
        account_id: str,
        current: Sequence[RemoteImage],
        restorable: Collection[str],
    ) -> ImageLists:
        """The child's lists. `current`: the entity's before; `restorable`: hrefs of kept images
        that can be uploaded anew, should they be lost."""
        if self.alone:
            self.batch.prepared(self.task_id)
            return port
        self.alone = True
        return _MemberLists(self, port, account_id, current, restorable)


@dataclass(slots=True)
class _MemberLists:
    """Implements `ImageLists`: the first list that is set waits for those of others."""

    member: Member
    port: MoySkladPort
    account_id: str
    current: Sequence[RemoteImage]
    restorable: Collection[str]
    joined: bool = False

    async def list_images(self, entity_type: EntityType, entity_id: str) -> list[RemoteImage]:
        return await self.port.list_images(entity_type, entity_id)

    async def delete_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        hrefs: Sequence[str],
        permit: WritePermit,
    ) -> None:
        await self.port.delete_images(entity_type, entity_id, hrefs, permit)
        # An answer that shows what the deletion has left does not show that a list was set.
        self.current = [image for image in self.current if image.href not in hrefs]

    async def set_images(
        self,
        entity_type: EntityType,
        entity_id: str,
        elements: Sequence[Element],
        read: ReadContent,
        permit: WritePermit,
    ) -> list[RemoteImage]:
        verdict: _Verdict | None = None
        batch = self.member.batch
        known = await batch.bulk.known(self.account_id)
        one = ImageSet(entity_id, elements, read, permit)
        if not self.joined and known.bulk is not False and self.port.limits.bulk.holds([one]):
            entry = _Entry(self, entity_type, one)
            try:
                answer = await batch.join(entry)
            except asyncio.CancelledError as left:
                await entry.leave(left)
                raise
            if not isinstance(answer, _Alone):
                self.joined = True
                return answer
            verdict = answer.verdict
        else:
            batch.prepared(self.member.task_id)
        self.joined = True
        error: BaseException | None = None
        try:
            return await self.port.set_images(entity_type, entity_id, elements, read, permit)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if verdict is not None:
                await verdict.hear(error)


class _Entry:
    """A list that is ready to be set, and who waits for what becomes of it."""

    def __init__(self, lists: _MemberLists, entity_type: EntityType, one: ImageSet) -> None:
        loop = asyncio.get_running_loop()
        self.lists = lists
        self.entity_type = entity_type
        self.set = one
        self.since = loop.time()
        self.size = self.room.size_of([one])
        self.future: asyncio.Future[list[RemoteImage] | _Alone] = loop.create_future()

    @property
    def task_id(self) -> TaskId:
        return self.lists.member.task_id

    @property
    def room(self) -> BulkRoom:
        return self.lists.port.limits.bulk

    @property
    def target(self) -> tuple[str, int, str]:
        """Equal for those that one request may set."""
        return self.lists.account_id, id(self.lists.port), self.entity_type.name

    @property
    def elements(self) -> Sequence[Element]:
        return self.set.elements

    @property
    def kept(self) -> list[str]:
        return [e.href for e in self.elements if isinstance(e, Keep)]

    @property
    def is_restorable(self) -> bool:
        return all(href in self.lists.restorable for href in self.kept)

    def is_set(self, images: Sequence[RemoteImage]) -> bool:
        """Whether an answer shows the list that was sent."""
        return in_order(self.elements, images) and self._is_ours(images)

    def shows(self, images: Sequence[RemoteImage]) -> bool:
        """Whether it can only be so because the list was set: it may have looked so before."""
        before = [image.id for image in self.lists.current]
        return self.is_set(images) and [image.id for image in images] != before

    def lacks(self, images: Sequence[RemoteImage]) -> bool:
        """Whether an answer about this entity lacks an image that was to be kept."""
        there = {image.id for image in images}
        return self._is_ours(images) and not all(
            image.id in there for image in self.lists.current if image.href in self.kept
        )

    def _is_ours(self, images: Sequence[RemoteImage]) -> bool:
        return all(image.is_of(self.set.entity_id) for image in images)

    def answer(self, outcome: "list[RemoteImage] | _Alone") -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    async def leave(self, error: BaseException) -> None:
        """Whoever waits for how it goes alone is told that it will not."""
        if self.future.done() and not self.future.cancelled() and not self.future.exception():
            answer = self.future.result()
            if isinstance(answer, _Alone) and answer.verdict is not None:
                await answer.verdict.hear(error)

    def fail(self, error: BaseException) -> None:
        if self.future.done():
            return
        if isinstance(error, asyncio.CancelledError):
            self.future.cancel()
        else:
            self.future.set_exception(error)


def _by_target(entries: Iterable[_Entry]) -> list[list[_Entry]]:
    ordered = sorted(entries, key=lambda entry: entry.target)
    return [list(group) for _, group in groupby(ordered, key=lambda entry: entry.target)]


def _packs(entries: Sequence[_Entry]) -> list[list[_Entry]]:
    """The entries, of one target, in requests that hold them; all but the last are full."""
    packs: list[list[_Entry]] = [[]]
    size = 0
    for entry in entries:
        lists = entry.lists
        most = lists.member.batch.bulk.most_bytes(lists.account_id, entry.room)
        if packs[-1] and (len(packs[-1]) == entry.room.max_entities or size + entry.size > most):
            packs.append([])
            size = 0
        packs[-1].append(entry)
        size += entry.size
    return packs


@dataclass(slots=True)
class _Verdict:
    """Whether lists that a request did not set can be set alone: then it is the request that the
    API does not take, and `learn` notes it."""

    left: int
    learn: Callable[[], Awaitable[None]]
    passes: tuple[type[BaseException], ...] = ()
    """Errors that are as good as none."""
    good: bool = True
    _settled: asyncio.Event = field(default_factory=asyncio.Event)

    async def hear(self, error: BaseException | None) -> None:
        """How one of them ended."""
        self.left -= 1
        self.good = self.good and (error is None or isinstance(error, self.passes))
        if self.left:
            return
        try:
            if self.good:
                await self.learn()
        finally:
            self._settled.set()

    async def heard(self, seconds: float) -> None:
        """Returns once all have ended, or after a while: one may be cancelled unheard."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._settled.wait()


@dataclass(frozen=True, slots=True)
class _Alone:
    """The list is to be set alone; `verdict` waits for how that ends."""

    verdict: _Verdict | None = None


_ALONE = _Alone()
_Answers = list[tuple[_Entry, list[RemoteImage] | ImgsyncError]]


class _Delivery:
    """Brings the lists of some entities, of one target, to the API, whatever that can do."""

    def __init__(self, bulk: Bulk, entries: Sequence[_Entry]) -> None:
        self._bulk = bulk
        self._entries = list(entries)
        self._account_id = entries[0].lists.account_id
        self._verdict: _Verdict | None = None

    @property
    def _left(self) -> list[_Entry]:
        """Those of which nothing is known yet, and for which somebody still waits."""
        return [entry for entry in self._entries if not entry.future.done()]

    async def run(self) -> None:
        try:
            self._keep_apart()
            if self._is_unknown(await self._known()):
                async with self._bulk.trial(self._account_id):
                    await self._try()
                    if self._verdict is not None:
                        await self._set(self._left)
                        await self._verdict.heard(self._bulk.longest_wait_seconds)
            await self._set(self._left)
        except BaseException as error:
            for entry in self._left:
                entry.fail(error)
            if not isinstance(error, Exception):
                raise
        for entry in self._left:
            entry.answer(_ALONE)

    def _keep_apart(self) -> None:
        """An entity stands in one request once, whatever the tasks say."""
        seen: set[str] = set()
        for entry in self._entries:
            entity_id = entry.set.entity_id.casefold()  # as the API compares them
            if entity_id in seen:
                entry.answer(_ALONE)
            seen.add(entity_id)

    async def _known(self) -> Abilities:
        return await self._bulk.known(self._account_id)

    def _is_unknown(self, known: Abilities) -> bool:
        if known.bulk is None:
            return len(self._left) > 1 or any(e.kept for e in self._left)
        return known.bulk and known.bulk_keeps is None and any(e.kept for e in self._left)

    def _doubt(self, entries: Sequence[_Entry], shown: Abilities, *passes: type[Exception]) -> None:
        """Has entities set alone; where that works, the account has shown what it does not take."""

        async def learn() -> None:
            await self._bulk.learn(self._account_id, shown)

        left = [entry for entry in entries if not entry.future.done()]
        if left:
            self._verdict = _Verdict(len(left), learn, passes)
            for entry in left:
                entry.answer(_Alone(self._verdict))

    async def _try(self) -> None:
        """The smallest request that shows what is not known of the account yet."""
        known = await self._known()
        if known.bulk is None:
            uploading = [entry for entry in self._left if not entry.kept]
            # Where there is no image yet none can be lost, and the request is worth its cost.
            bare = [entry for entry in uploading if not entry.lists.current]
            first = bare if len(bare) > 1 else uploading[:_FIRST_ENTITIES]
            if len(first) > 1:
                await self._try_many(first)
                known = await self._known()
        if known.bulk is False or known.bulk_keeps is not None or self._verdict is not None:
            return
        one = next((e for e in self._left if e.kept and e.is_restorable), None)
        if one is not None:
            await self._try_keeping(one)

    async def _try_many(self, entries: Sequence[_Entry]) -> None:
        try:
            answers = await self._request(entries)
        except LeaseLostError as error:
            for entry in entries:
                entry.fail(error)
            return
        except RequestTooLargeError:
            if len(entries) > _FIRST_ENTITIES:
                await self._try_many(entries[: max(_FIRST_ENTITIES, len(entries) // 2)])
            return
        except _REFUSED:
            self._doubt(entries, Abilities(bulk=False))
            return
        if any(isinstance(given, list) and entry.shows(given) for entry, given in answers):
            await self._bulk.learn(self._account_id, Abilities(bulk=True))
            self._settle(answers)
            return
        self._settle([(e, given) for e, given in answers if _ends(given)])
        if any(isinstance(given, list) and e.is_set(given) for e, given in answers):
            return  # which may have looked so before: it is set alone, and shows nothing
        self._doubt([entry for entry, _ in answers], Abilities(bulk=False))

    async def _try_keeping(self, entry: _Entry) -> None:
        refused = Abilities(bulk_keeps=False)
        try:
            answers = await self._request([entry])
        except (LeaseLostError, RequestTooLargeError) as error:
            entry.fail(error) if isinstance(error, LeaseLostError) else entry.answer(_ALONE)
            return
        except _REFUSED:
            self._doubt([entry], refused, NotFoundError)
            return
        for _, given in answers:  # none where nobody waits any more
            if isinstance(given, ImgsyncError):
                if _ends(given):
                    entry.fail(given)
                else:
                    # An image to keep may be gone with the refusal: it is not kept then either.
                    self._doubt([entry], refused, NotFoundError)
            elif entry.lacks(given):
                await self._bulk.learn(self._account_id, refused)
                entry.fail(ChildChangedError("the API did not keep an image that was to be kept"))
            elif entry.shows(given):
                await self._bulk.learn(self._account_id, Abilities(bulk=True, bulk_keeps=True))
                entry.answer(given)
            else:
                known = await self._known()
                self._doubt([entry], Abilities(bulk=False) if known.bulk is None else refused)

    async def _set(self, entries: Sequence[_Entry]) -> None:
        """As the account has shown that it takes it."""
        known = await self._known()
        together = []
        for entry in entries:
            if known.bulk and (known.bulk_keeps or not entry.kept):
                together.append(entry)
            else:
                entry.answer(_ALONE)
        await asyncio.gather(*(self._set_together(pack) for pack in _packs(together)))

    async def _set_together(self, entries: Sequence[_Entry]) -> None:
        parts, refusals = [list(entries)], 0
        while parts:
            part = [entry for entry in parts.pop(0) if not entry.future.done()]
            if len(part) < 2 or refusals == _MOST_REFUSALS:
                for entry in part:
                    entry.answer(_ALONE)
                continue
            try:
                answers = await self._request(part)
            except LeaseLostError as error:
                for entry in part:
                    entry.fail(error)
                continue
            except _REFUSED:
                refusals += 1
                parts[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
                continue
            await self._heed_change(answers)
            self._settle(answers)

    async def _heed_change(self, answers: _Answers) -> None:
        """What answers show that an account takes no more, as with another tariff."""
        given_lists = [(entry, given) for entry, given in answers if isinstance(given, list)]
        keeping = [(entry, given) for entry, given in given_lists if entry.kept]
        # Of one alone, somebody else may have deleted it.
        if len(keeping) > 1 and all(entry.lacks(given) for entry, given in keeping):
            await self._bulk.learn(self._account_id, Abilities(bulk_keeps=False))
        elif len(given_lists) == len(answers) > 1 and not any(
            entry.is_set(given) for entry, given in given_lists
        ):
            self._doubt([entry for entry, _ in answers], Abilities(bulk=False))
        if not any(entry.shows(given) for entry, given in given_lists):
            # They may have looked so before, and nothing was set.
            for entry, given in given_lists:
                if not entry.lacks(given):
                    entry.answer(_ALONE)

    def _settle(self, answers: _Answers) -> None:
        """Each entity by its own answer; what is not as it was sent goes alone."""
        for entry, given in answers:
            if isinstance(given, list) and entry.lacks(given):
                entry.fail(ChildChangedError("the API did not keep an image that was to be kept"))
            elif isinstance(given, list):
                entry.answer(given if entry.is_set(given) else _ALONE)
            elif _ends(given):
                entry.fail(given)
            else:
                entry.answer(_ALONE)

    async def _request(self, entries: Sequence[_Entry]) -> _Answers:
        """One request. Where somebody leaves in its midst it is broken off, as the files of that
        task are gone, and its permit may be; the others are sent again."""
        while True:
            left = [entry for entry in entries if not entry.future.done()]
            if not left:
                return []
            first = left[0]
            sets = [entry.set for entry in left]
            request = asyncio.ensure_future(first.lists.port.set_many(first.entity_type, sets))

            def leave(_: object, request: asyncio.Future[Any] = request) -> None:
                request.cancel()

            for entry in left:
                entry.future.add_done_callback(leave)
            try:
                await asyncio.wait([request])
            finally:
                request.cancel()
                for entry in left:
                    entry.future.remove_done_callback(leave)
            if request.cancelled() or any(entry.future.done() for entry in left):
                await asyncio.gather(request, return_exceptions=True)
                continue
            try:
                answers = request.result()
            except (LeaseLostError, RequestTooLargeError):
                self._bulk.was_too_large(self._account_id, sum(entry.size for entry in left))
                raise
            if len(answers) != len(left):
                raise ApiError(f"{len(left)} lists were set, {len(answers)} came back")
            return list(zip(left, answers, strict=True))


def _ends(error: object) -> bool:
    """Whether the error of an entity is one that it would meet alone too."""
    return isinstance(error, ImgsyncError) and not isinstance(error, _REFUSED)
