"""Compares children with their main account and keeps what differs, to be shown."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from imgsync.application.check import Check, CheckReport
from imgsync.application.survey import Difference, Sample, Surveyed
from imgsync.domain.differences import EntityDifference, SeenImage
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.model import Link
from imgsync.domain.ports.differences import Differences

_log = logging.getLogger(__name__)
_ALIVE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Compare:
    """Compares links together, so that their main account is read once, and keeps what differs of
    each. It changes no account."""

    check: Check
    differences: Differences

    @asynccontextmanager
    async def begun(self, links: Sequence[Link]) -> AsyncIterator["Comparing"]:
        """Within it these links are being compared, and no other host begins that, apart from those
        that another one compares already (`Comparing.elsewhere`).

        An error within it is kept for whoever looks (`Comparison.error`), as of all that have not
        come to their end; so is the end without `Comparing.__call__`, as one that broke off.
        """
        this = Comparing(self.check, self.differences)
        telling = asyncio.create_task(self._tell(this))
        why = ""
        try:
            for link in links:
                if link.settings.enabled:
                    began = await self.differences.begin(link.main.id, link.child.id)
                    if began is None:
                        this.elsewhere.append(link.child.id)
                        continue
                    this.open[link.child.id] = began
                this.links.append(link)
            yield this
        except ImgsyncError as error:
            why = str(error)
            raise
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            try:
                for child_id, began in this.open.items():
                    await self.differences.fail(child_id, began, why)
            except ImgsyncError as error:  # after some minutes it counts as broken off anyway
                _log.warning("a comparison that broke off could not be noted: %s", error)

    async def _tell(self, this: "Comparing") -> None:
        while True:
            await asyncio.sleep(_ALIVE_SECONDS)
            names = {link.child.id: link.child.name for link in this.links}
            for child_id, began in list(this.open.items()):
                try:
                    await self.differences.alive(child_id, began)
                except ImgsyncError as error:
                    name = names.get(child_id, child_id)
                    _log.warning("%s: the comparison could not be kept alive: %s", name, error)


@dataclass(slots=True)
class Comparing:
    """A comparison of `links` that has begun, without those `elsewhere`. `open`: of each child that
    has not ended, by its id, how the store knows it."""

    check: Check
    differences: Differences
    links: list[Link] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)

    async def __call__(
        self, *, progress: Callable[[Surveyed], None] = lambda _: None
    ) -> CheckReport:
        """As `Check`, of these links. What each could not be surveyed for is kept, too."""
        # Those that can be mended do not make room for those without a counterpart.
        unequal = {child_id: Sample[EntityDifference]() for child_id in self.open}
        unmatched = {child_id: Sample[EntityDifference]() for child_id in self.open}

        def see(found: Surveyed) -> None:
            progress(found)
            if found.difference is not Difference.EQUAL:
                is_unmatched = found.difference is Difference.UNMATCHED
                samples = unmatched if is_unmatched else unequal
                samples[found.link.child.id].add(difference_of(found))

        report = await self.check(self.links, progress=see)
        failed = {one.link.child.id: str(one.error) for one in report.failed}
        for child_id, began in list(self.open.items()):
            if child_id in failed:
                await self.differences.fail(child_id, began, failed[child_id])
            else:
                counts = {str(difference): n for difference, n in report.counts[child_id].items()}
                one, other = unequal[child_id], unmatched[child_id]
                found = [*one.items, *other.items]
                left_out = one.left_out + other.left_out
                await self.differences.end(child_id, began, found, counts, left_out)
            del self.open[child_id]
        return report


def difference_of(found: Surveyed) -> EntityDifference:
    child_images = found.child_images
    return EntityDifference(
        found.entity_type,
        found.name,
        found.code or "",
        str(found.difference),
        found.reason,
        found.main_id,
        found.key,
        SeenImage.all_of(found.listed),
        None if child_images is None else SeenImage.all_of(child_images),
        will_change=found.request is not None,
    )
