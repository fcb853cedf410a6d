"""imgsync check: compare, and change nothing."""

from typing import TYPE_CHECKING

import click

from imgsync.application.check import CheckReport
from imgsync.application.survey import Difference, Surveyed
from imgsync.domain.errors import SyncIsOffError
from imgsync.domain.model import Link
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
    left_out_of,
    main_option,
    match_option,
    off_message,
    print_difference,
    print_log,
    since_option,
    types_option,
)
from imgsync.entrypoints.exit_status import ExitStatus

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


@click.command(epilog=STATUSES)
@main_option
@children_option
@match_option
@types_option
@since_option
@json_option
@pass_container
def check(
    container: "Container",
    main_id: str | None,
    children: tuple[str, ...],
    match_by: str | None,
    types: tuple[str, ...],
    since: Since | None,
    as_json: bool,
) -> ExitStatus:
    """Compare main and child accounts, for every link or for some children. Nothing is changed.

    Names each entity that is missing, different, extra or not to be matched, with both lists of
    images; the exit status is 1 where there is any.
    """
    find_links, compare = container.find_links(), container.check()
    links: list[Link] = []

    def tell(found: Surveyed) -> None:
        if found.difference is not Difference.EQUAL:
            print_difference(found)

    async def look() -> CheckReport:
        nonlocal links
        links = await find_links(main_id, children)
        return await compare(
            links,
            match_by=chosen_field(match_by),
            types=types,
            since=since,
            progress=(lambda _: None) if as_json else tell,
        )

    try:
        report = run_async(container, look)
    except SyncIsOffError as error:
        say(with_hint(error), err=True)
        if as_json:
            print_json({"children": [], "differences": []}, ExitStatus.OFF)
        return ExitStatus.OFF
    status = ExitStatus.PART if report.failed or report.off else ExitStatus.DONE
    if report.differences.count:
        status = ExitStatus.ERROR
    for child in report.off:
        say(off_message(child), err=True)
    for failed in report.failed:
        say(f"Child '{failed.link.child.name}' was left out: {failed.error}", err=True)
    print_log(report.log)
    began = report.log.since
    if as_json:
        told = {
            "since": began and began.isoformat(),
            "children": [
                {"main": link.main.id, "child": link.child.id, **report.counts[link.child.id]}
                for link in links
                if link.child.id in report.counts
            ],
            "differences": [difference_as_dict(found) for found in report.differences.items],
            "off": [child.id for child in report.off],
            "failed": [{"child": f.link.child.id, "error": str(f.error)} for f in report.failed],
            "empty_folders": report.log.empty_folders,
        }
        print_json(told | left_out_of(report.differences), status)
        return status
    if began is not None:
        say(f"Only what has changed since {began:%Y-%m-%d %H:%M %Z} was compared.")
    for link in links:
        if link.child.id in report.counts:
            counts = report.counts[link.child.id]
            said = ", ".join(f"{counts[d]} {_WORDS[d]}" for d in Difference)
            changed = "" if began is None else " of what has changed since then"
            say(f"'{link.child.name}'{changed}: {said}.")
    return status


_WORDS = {d: d.value for d in Difference} | {Difference.UNMATCHED: "not to be matched"}
