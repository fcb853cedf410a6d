"""Drives a replace strategy against a child account."""

from collections.abc import Sequence
from dataclasses import dataclass

from imgsync.domain.elements import Element, Keep, Upload
from imgsync.domain.entity_types import EntityType
from imgsync.domain.errors import (
    ChildChangedError,
    ImageRejectedError,
    ImgsyncError,
    LeaseLostError,
    NotFoundError,
    ParkingError,
    WrongAccountError,
)
from imgsync.domain.images import RemoteImage
from imgsync.domain.placing import in_order, places
from imgsync.domain.ports.moysklad import MoySkladPort, ReadContent, WritePermit
from imgsync.domain.replace import (
    Action,
    DeleteImages,
    Done,
    Outcome,
    Rejected,
    Replacement,
    Steps,
    Stopped,
)


@dataclass(slots=True)
class ReplaceDriver:
    """Performs the actions of a strategy on one child entity."""

    child: MoySkladPort
    entity_type: EntityType
    entity_id: str
    read: ReadContent
    permit: WritePermit
    parked_by: ParkingError | None = None
    """What stopped a run after some images were placed, where every further request of the account
    would meet it too."""

    async def run(self, steps: Steps) -> Replacement:
        """The strategy's result. An error that leaves nothing placed is raised as it came.

        LeaseLostError, WrongAccountError, NotFoundError and ChildChangedError are always raised.
        """
        stopped_by: ImgsyncError | None = None
        outcome: Outcome | None = None
        try:
            action = next(steps)
            while True:
                outcome, error = await self._perform(action)
                stopped_by = error or stopped_by
                action = steps.send(outcome)
        except StopIteration as stop:
            result: Replacement = stop.value
        if stopped_by is not None and not result.placed:
            raise stopped_by
        if isinstance(stopped_by, ParkingError):
            self.parked_by = stopped_by
        return result

    async def _perform(self, action: Action) -> tuple[Outcome, ImgsyncError | None]:
        if isinstance(action, DeleteImages):
            await self.child.delete_images(
                self.entity_type, self.entity_id, action.hrefs, self.permit
            )
            return Done(), None
        uploads = any(isinstance(e, Upload) for e in action.elements)
        try:
            return await self._set(action.elements), None
        except (ChildChangedError, LeaseLostError, WrongAccountError):
            raise
        except NotFoundError as error:
            if not any(isinstance(e, Keep) for e in action.elements):
                raise
            raise ChildChangedError(f"an image to keep is gone: {error}") from error
        except ImgsyncError as error:
            if not uploads:
                raise
            return Stopped(str(error)), error

    async def _set(self, elements: Sequence[Element]) -> Done | Rejected:
        try:
            answered = await self.child.set_images(
                self.entity_type, self.entity_id, elements, self.read, self.permit
            )
        except ImageRejectedError as error:
            if not any(isinstance(e, Upload) for e in elements):
                raise
            return Rejected(str(error), tuple(image.href for image in await self._list()))
        # An answer about another entity says nothing of this one, however alike its images look.
        about_this = all(image.is_of(self.entity_id) for image in answered)
        if about_this and in_order(elements, answered):
            return Done(tuple(image.href for image in answered))
        listed = await self._list()
        found = places(elements, answered, listed)
        if found is None:
            raise ChildChangedError("the child's list is another than the one that was set")
        return Done(tuple(image.href for image in found), tuple(image.href for image in listed))

    async def _list(self) -> list[RemoteImage]:
        return await self.child.list_images(self.entity_type, self.entity_id)
