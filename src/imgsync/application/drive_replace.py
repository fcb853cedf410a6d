"""Drives a replace strategy against a child account."""

from dataclasses import dataclass

from imgsync.domain.encoding import Keep, Upload
from imgsync.domain.entity_types import EntityType
from imgsync.domain.errors import (
    AccountParkedError,
    AuthorisationError,
    ChildChangedError,
    ImageRejectedError,
    ImgsyncError,
    LeaseLostError,
    NotFoundError,
    WrongAccountError,
)
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

    async def run(self, steps: Steps) -> Replacement:
        """The strategy's result. An error that leaves nothing placed is raised as it came.

        AuthorisationError, AccountParkedError, LeaseLostError, WrongAccountError, NotFoundError and
        ChildChangedError are always raised.
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
        return result

    async def _perform(self, action: Action) -> tuple[Outcome, ImgsyncError | None]:
        if isinstance(action, DeleteImages):
            await self.child.delete_images(
                self.entity_type, self.entity_id, action.hrefs, self.permit
            )
            return Done(), None
        uploads = any(isinstance(e, Upload) for e in action.elements)
        try:
            images = await self.child.set_images(
                self.entity_type, self.entity_id, action.elements, self.read, self.permit
            )
        except (AccountParkedError, AuthorisationError, LeaseLostError, WrongAccountError):
            raise
        except NotFoundError as error:
            if not any(isinstance(e, Keep) for e in action.elements):
                raise
            raise ChildChangedError(f"an image to keep is gone: {error}") from error
        except ImageRejectedError as error:
            if not uploads:
                raise
            return Rejected(str(error)), None
        except ImgsyncError as error:
            if not uploads:
                raise
            return Stopped(str(error)), error
        return Done(tuple(image.href for image in images)), None
