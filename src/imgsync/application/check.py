"""Compares the accounts of links and changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imgsync.application.survey import Difference, NotSurveyed, Sample, Survey, Surveyed, SurveyLog
from imgsync.domain.model import Account, Link, MatchField
from imgsync.domain.surveys import Since


@dataclass(slots=True)
class CheckReport:
    """How many entities stand how, by child account id; a sample of those that are not equal; the
    children that receive no images, and the links that could not be surveyed to their end. Where
    the survey was incremental (`log.since`), nothing is told of what has not changed since."""

    counts: dict[str, dict[Difference, int]] = field(default_factory=dict)
    differences: Sample[Surveyed] = field(default_factory=Sample)
    off: list[Account] = field(default_factory=list)
    failed: list[NotSurveyed] = field(default_factory=list)
    log: SurveyLog = field(default_factory=SurveyLog)


@dataclass(frozen=True, slots=True)
class Check:
    """Surveys links and tells what differs.

    `match_field` finds the counterparts where neither a link nor a call names another.
    """

    survey: Survey
    match_field: MatchField = MatchField.EXTERNAL_CODE

    async def __call__(
        self,
        links: Sequence[Link],
        *,
        match_by: MatchField | None = None,
        types: Sequence[str] = (),
        since: Since | None = None,
        progress: Callable[[Surveyed], None] = lambda _: None,
    ) -> CheckReport:
        """A link that cannot be surveyed costs itself only; its error is raised where no other is
        left. SyncIsOffError where no child receives images. `progress` hears of every entity."""
        report = CheckReport(off=[link.child for link in links if not link.settings.enabled])
        on = [link for link in links if link.settings.enabled]
        if links and not on:
            links[0].check_on()
        report.counts = {link.child.id: dict.fromkeys(Difference, 0) for link in on}
        async for found in self.survey(
            on,
            match_field=self.match_field,
            match_by=match_by,
            only_types=types,
            extras=True,
            since=since,
            log=report.log,
        ):
            if isinstance(found, NotSurveyed):
                report.failed.append(found)
                continue
            progress(found)
            report.counts[found.link.child.id][found.difference] += 1
            if found.difference is not Difference.EQUAL:
                report.differences.add(found)
        if on and len({found.link.child.id for found in report.failed}) == len(report.counts):
            raise report.failed[0].error
        return report
