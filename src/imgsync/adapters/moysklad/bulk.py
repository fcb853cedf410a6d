"""Lists of many entities in one request: the permits of all together, and each one's result.

The API answers with an array of as many elements, each an entity or ``{"errors"}`` (API
documentation, General: several objects). What it did is known by that answer alone.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imgsync.adapters.moysklad.rows import EntityModel, Images, parse
from imgsync.domain.errors import ApiError, ImgsyncError, LeaseLostError
from imgsync.domain.model import RemoteImage
from imgsync.domain.ports.moysklad import ImageSet, WritePermit

Result = list[RemoteImage] | ImgsyncError
_UNTOLD = "it is not known what was set; the images have to be listed anew"


class SomeLostError(LeaseLostError):
    """`lost`: the permits that could not be confirmed, by their keys."""

    def __init__(self, lost: Mapping[int, LeaseLostError]) -> None:
        super().__init__(str(next(iter(lost.values()))))
        self.lost = lost


@dataclass(frozen=True, slots=True)
class JointPermit:
    """Implements `WritePermit`: the right to write all of the entities, by their permits."""

    permits: Mapping[int, WritePermit]

    async def confirm(self) -> float:
        """The seconds of the shortest. SomeLostError where any is lost."""
        asked = [self._seconds(permit) for permit in self.permits.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        lost = dict[int, LeaseLostError]()
        seconds = list[float]()
        for key, answer in zip(self.permits, answers, strict=True):
            if isinstance(answer, LeaseLostError):
                lost[key] = answer
            elif isinstance(answer, BaseException):
                raise answer
            else:
                seconds.append(answer)
        if lost:
            raise SomeLostError(lost)
        return min(seconds)

    @staticmethod
    async def _seconds(permit: WritePermit) -> float:
        seconds = await permit.confirm()
        if seconds <= 0:
            raise LeaseLostError("the time in which this write was allowed is over")
        return seconds


def results_of(
    answer: Any,
    sets: Sequence[ImageSet],
    error_of: Callable[[Any], ImgsyncError],
    saw: Callable[[str | None], None],
) -> list[Result]:
    """The results of an answer, one for each set, in order.

    `error_of`: the error of an element ``{"errors"}``; `saw` is told of each entity's account id.
    ApiError where the answer has not one element for each set.
    """
    if not isinstance(answer, list) or len(answer) != len(sets):
        came = f"{len(answer)} came back" if isinstance(answer, list) else "no array came back"
        raise ApiError(
            f"unexpected answer of the API: the images of {len(sets)} entities were set, {came}; "
            f"{_UNTOLD}"
        )
    found = [_result(element, error_of, saw) for element in answer]
    ids = [entity_id for entity_id, _ in found]
    in_order = all(
        got is None or got.casefold() == one.entity_id.casefold()
        for got, one in zip(ids, sets, strict=True)
    )
    if in_order:
        return [result for _, result in found]
    # An error does not say whose it is, so that it is nobody's here.
    by_id = {i.casefold(): result for i, result in found if i is not None and ids.count(i) == 1}
    return [
        by_id.get(
            one.entity_id.casefold(),
            ApiError(f"the answer of the API does not tell of this entity: {_UNTOLD}"),
        )
        for one in sets
    ]


def _result(
    element: Any, error_of: Callable[[Any], ImgsyncError], saw: Callable[[str | None], None]
) -> tuple[str | None, Result]:
    """Whose element of the answer it is, None for an error, and what it says."""
    if not isinstance(element, dict):
        return None, ApiError(f"unexpected answer of the API: an element is no object; {_UNTOLD}")
    if "errors" in element:
        return None, error_of(element)
    try:
        entity = parse(EntityModel, element)
    except ApiError as error:
        return None, ApiError(f"{error}; {_UNTOLD}")
    saw(entity.accountId)
    page = entity.images
    rows = None if page is None else page.rows
    if page is not None and page.size == 0:
        rows = rows or []
    if page is None or rows is None:
        return entity.id, ApiError(f"the answer of the API has no images: {_UNTOLD}")
    images = Images.of(rows)
    if images.unreadable:
        return entity.id, ApiError(f"{images.unreadable[0]}; {_UNTOLD}")
    if page.size is not None and page.size != len(rows):
        return entity.id, ApiError(
            f"the answer of the API has {len(rows)} images although it says to have {page.size}: "
            f"{_UNTOLD}"
        )
    return entity.id, images.images
