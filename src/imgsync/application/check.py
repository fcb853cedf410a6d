"""Compares the accounts of links and changes nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imgsync.application.prove import Proof, Prove, prove_all
from imgsync.application.survey import Difference, NotSurveyed, Sample, Survey, Surveyed, SurveyLog
from imgsync.domain.model import Account, Adopt, Link, MatchField
from imgsync.domain.surveys import Since

_AT_ONCE = 8
"""Entities whose images are compared side by side."""


@dataclass(slots=True)
class CheckReport:
    """How many entities stand how, by child account id; a sample of those that are not equal; the
    children that receive no images, and the links that could not be surveyed to their end. Where
    the survey was incremental (`log.since`), nothing is told of what has not changed since.

    By content: `proved` images are equal, `unlike` names entities with one that is not (they count
    as different), `unproved` those with one that could not be compared."""

    counts: dict[str, dict[Difference, int]] = field(default_factory=dict)
    differences: Sample[Surveyed] = field(default_factory=Sample)
    off: list[Account] = field(default_factory=list)
    failed: list[NotSurveyed] = field(default_factory=list)
    log: SurveyLog = field(default_factory=SurveyLog)
    proved: int = 0
    unlike: Sample[Proof] = field(default_factory=Sample)
    unproved: Sample[Proof] = field(default_factory=Sample)

    def note(self, proof: Proof) -> None:
        counts = self.counts[proof.found.link.child.id]
        counts[Difference.DIFFERENT if proof.unlike else Difference.EQUAL] += 1
        self.proved += proof.equal
        if proof.unlike:
            self.unlike.add(proof)
        if proof.unproved:
            self.unproved.add(proof)


@dataclass(frozen=True, slots=True)
class Check:
    """Surveys links and tells what differs.

    `match_field` finds the counterparts where neither a link nor a call names another; `adopt` says
    which images without a record count as main's.
    """

    survey: Survey
    match_field: MatchField = MatchField.EXTERNAL_CODE
    adopt: Adopt = Adopt.SIZE
    prove: Prove | None = None

    async def __call__(
        self,
        links: Sequence[Link],
        *,
        match_by: MatchField | None = None,
        types: Sequence[str] = (),
        since: Since | None = None,
        by_content: bool = False,
        progress: Callable[[Surveyed], None] = lambda _: None,
        proved: Callable[[Proof], None] = lambda _: None,
    ) -> CheckReport:
        """`by_content`: what seems equal is downloaded from both accounts and compared; `proved`
        hears of each.

        A link that cannot be surveyed costs itself only; its error is raised where no other is
        left. SyncIsOffError where no child receives images. `progress` hears of every entity."""
        report = CheckReport(off=[link.child for link in links if not link.settings.enabled])
        on = [link for link in links if link.settings.enabled]
        if links and not on:
            links[0].check_on()
        report.counts = {link.child.id: dict.fromkeys(Difference, 0) for link in on}
        prove = self.prove if by_content else None
        waiting: list[Surveyed] = []

        async def compare(some: Sequence[Surveyed]) -> None:
            for proof in await prove_all(prove, some) if prove else ():
                report.note(proof)
                proved(proof)

        async for found in self.survey(
            on,
            match_field=self.match_field,
            match_by=match_by,
            only_types=types,
            extras=True,
            since=since,
            adopt=self.adopt,
            log=report.log,
        ):
            if isinstance(found, NotSurveyed):
                report.failed.append(found)
                continue
            progress(found)
            if prove is not None and found.listed and found.difference is Difference.EQUAL:
                waiting.append(found)
                if len(waiting) >= _AT_ONCE:
                    some, waiting = waiting, []
                    await compare(some)
                continue
            report.counts[found.link.child.id][found.difference] += 1
            if found.difference is not Difference.EQUAL:
                report.differences.add(found)
        await compare(waiting)
        if on and len({found.link.child.id for found in report.failed}) == len(report.counts):
            raise report.failed[0].error
        return report
