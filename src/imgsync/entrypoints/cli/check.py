"""imgsync check: compare, and change nothing."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from imgsync.application.check import CheckReport
from imgsync.application.prove import Proof
from imgsync.application.survey import (
    Difference,
    Surveyed,
    by_children,
    not_surveyed_as_dict,
    place_of,
)
from imgsync.domain.errors import SyncIsOffError
from imgsync.domain.model import Link
from imgsync.domain.runs import RunCause, RunKind
from imgsync.domain.surveys import Since
from imgsync.entrypoints.cli.output import print_json, say
from imgsync.entrypoints.cli.runtime import (
    STATUSES,
    json_option,
    pass_container,
    run_async,
    with_hint,
)
from imgsync.entrypoints.cli.surveys import (
    children_option,
    chosen_field,
    difference_as_dict,
    difference_line,
    left_out_of,
    main_option,
    match_option,
    off_message,
    print_log,
    since_option,
    types_option,
)
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, marked, ngettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_MOST_KEPT = 50_000
"""Lines."""


@click.command(epilog=STATUSES)
@main_option
@children_option
@match_option
@types_option
@since_option
@click.option(
    "--hash",
    "by_content",
    is_flag=True,
    help="Compare the content too: downloads every image of main (once for all children; at no "
    "cost of requests where there are permanent links) and of each child (a request an image).",
)
@json_option
@pass_container
def check(
    container: "Container",
    main_id: str | None,
    children: tuple[str, ...],
    match_by: str | None,
    types: tuple[str, ...],
    since: Since | None,
    by_content: bool,
    as_json: bool,
) -> ExitStatus:
    """Compare main and child accounts, for every link or for some children. Nothing is changed.

    Names each entity that is missing, different, extra or not to be matched, with both lists of
    images; the exit status is 1 where there is any. With --hash, images that seem equal by what
    the accounts list are downloaded and compared, and the exit status is 3 where one of them
    could not be.
    """
    find_links, compare = container.find_links(), container.check()
    note_runs = container.note_runs()
    links: list[Link] = []
    told = _InOrder()
    unequal: set[str] = set()

    def see_proof(proof: Proof) -> None:
        found = proof.found
        if proof.unlike or proof.unproved:
            unequal.add(found.link.child.id)
        if as_json:
            return
        for name in proof.unlike:
            said = gettext(
                "%(label)s: %(name)s: it has another content than main's",
                label=translated(found.label),
                name=name,
            )
            told.tell(found, said)
        for text in proof.unproved:
            said = gettext(
                "%(label)s: not proved: %(why)s",
                label=translated(found.label),
                why=translated(text),
            )
            say(said, err=True)

    async def look() -> CheckReport:
        nonlocal links
        links = await find_links(main_id, children)
        told.first = links[0].child.id
        async with note_runs.noting(
            RunKind.CHECK, RunCause.COMMAND, links, types=types, since=since
        ) as noted:

            def see(found: Surveyed) -> None:
                noted.see(found)
                if not as_json and found.difference is not Difference.EQUAL:
                    told.tell(found, difference_line(found))

            report = await compare(
                links,
                match_by=chosen_field(match_by),
                types=types,
                since=since,
                by_content=by_content,
                progress=see,
                proved=see_proof,
            )
            noted.surveyed(report)
        return report

    try:
        try:
            report = run_async(container, look)
        finally:
            told.end()
    except SyncIsOffError as error:
        say(with_hint(error), err=True)
        if as_json:
            print_json({"children": [], "differences": []}, ExitStatus.OFF)
        return ExitStatus.OFF
    status = ExitStatus.PART if report.failed or report.off else ExitStatus.DONE
    if report.unproved.count:
        status = ExitStatus.PART
    if report.differences.count or report.unlike.count:
        status = ExitStatus.ERROR
    for child in report.off:
        say(off_message(child), err=True)
    for failed in by_children(report.failed):
        say(
            gettext(
                "Child '%(name)s' was left out: %(why)s",
                name=failed.link.child.name,
                why=failed.error,
            ),
            err=True,
        )
    print_log(report.log)
    began = report.log.since
    if as_json:
        document: dict[str, Any] = {
            "since": began and began.isoformat(),
            "children": [
                {"main": link.main.id, "child": link.child.id, "child_name": link.child.name}
                | report.counts[link.child.id]
                for link in links
                if link.child.id in report.counts
            ],
            "differences": [
                difference_as_dict(found) for found in by_children(report.differences.items)
            ],
            "off": [child.id for child in report.off],
            "failed": [not_surveyed_as_dict(found) for found in by_children(report.failed)],
            "empty_folders": report.log.empty_folders,
        }
        if by_content:
            document["content"] = {
                "proved": report.proved,
                "unlike": [_proof_as_dict(proof) for proof in report.unlike.items],
                "unproved": [_proof_as_dict(proof) for proof in report.unproved.items],
            }
        print_json(document | left_out_of(report.differences), status)
        return status
    if began is not None:
        say(
            gettext(
                "Only what has changed since %(began)s was compared.",
                began=f"{began:%Y-%m-%d %H:%M %Z}",
            )
        )
    for link in links:
        if link.child.id in report.counts:
            counts = report.counts[link.child.id]
            said = ", ".join(
                gettext("%(count)s %(word)s", count=counts[d], word=gettext(_WORDS[d]))
                for d in Difference
            )
            changed = "" if began is None else gettext(" of what has changed since then")
            say(
                gettext(
                    "'%(child)s'%(changed)s: %(said)s.",
                    child=link.child.name,
                    changed=changed,
                    said=said,
                )
            )
    if by_content:
        said = ngettext(
            "%(num)s image proved equal by content",
            "%(num)s images proved equal by content",
            report.proved,
        )
        if report.unlike.count:
            said += ngettext(
                "; the images of %(num)s entity differ: "
                "'imgsync sync --adopt hash' copies those that were taken by their sizes",
                "; the images of %(num)s entities differ: "
                "'imgsync sync --adopt hash' copies those that were taken by their sizes",
                report.unlike.count,
            )
        if report.unproved.count:
            said += ngettext(
                "; not all of %(num)s entity could be compared",
                "; not all of %(num)s entities could be compared",
                report.unproved.count,
            )
        say(f"{said}.")
    _tell_all(report, unequal)
    return status


def _tell_all(report: CheckReport, unequal: set[str]) -> None:
    """Of several children, how many are all right: nobody counts thirty lines. `unequal`: those of
    which an image is another by its content, or could not be compared by it."""
    left_out = {failed.link.child.id for failed in report.failed}
    right = sum(
        child_id not in unequal | left_out
        and not any(count for one, count in counts.items() if one is not Difference.EQUAL)
        for child_id, counts in report.counts.items()
    )
    if (count := len(report.counts)) > 1:
        since = "" if report.log.since is None else gettext(" of what has changed since then")
        say(
            gettext(
                "%(count)s children%(changed)s: %(right)s right, %(wrong)s not.",
                count=count,
                changed=since,
                right=right,
                wrong=count - right,
            )
        )


@dataclass(slots=True)
class _InOrder:
    """Tells of one child after the other, though they are surveyed beside one another: of the
    `first` at once, of the others at the end. Where more differs than is kept for that, it is told
    as it comes."""

    first: str = ""
    kept: list[tuple[Link, str]] = field(default_factory=list)

    def tell(self, found: Surveyed, line: str) -> None:
        if found.link.child.id == self.first or len(self.kept) >= _MOST_KEPT:
            say(line)
        else:
            self.kept.append((found.link, line))

    def end(self) -> None:
        kept, self.kept = self.kept, []
        for _, line in sorted(kept, key=lambda one: place_of(one[0])):
            say(line)


def _proof_as_dict(proof: Proof) -> dict[str, Any]:
    found = proof.found
    return {
        "child": found.link.child.id,
        "child_name": found.link.child.name,
        "type": found.entity_type,
        "name": found.name,
        "code": found.code,
        "unlike": list(proof.unlike),
        "unproved": list(proof.unproved),
    }


_WORDS = {d: d.value for d in Difference} | {Difference.UNMATCHED: marked("not to be matched")}
