"""imgsync doctor: whether everything that a sync needs is there and works."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click

from imgsync.application.accounts import find_account
from imgsync.application.doctor import Finding, Health
from imgsync.application.probe import SCRATCH_NAME, ProbeReport
from imgsync.domain.text import file_size
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import is_confirmed, print_json, print_table, say
from imgsync.entrypoints.cli.runtime import (
    STATUSES,
    CommandError,
    json_option,
    pass_container,
    run_async,
)
from imgsync.entrypoints.exit_status import ExitStatus
from imgsync.entrypoints.translation import gettext, marked, ngettext, translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_SIGNS = {Health.WELL: "✓", Health.WRONG: "✗", Health.UNKNOWN: "?"}
_PLAIN_SIGNS = {Health.WELL: "+", Health.WRONG: "x", Health.UNKNOWN: "?"}
_WIDTH = 13


@click.command(epilog=STATUSES)
@click.option(
    "--child",
    metavar="ACCOUNT",
    shell_complete=account_names,
    help="Only this child and its main, by ID or name.",
)
@click.option(
    "--probe",
    metavar="ACCOUNT",
    help="Try on a scratch product in this child what MoySklad leaves open, and keep the answers.",
)
@click.option(
    "--no-sizes", is_flag=True, help="Of --probe: leave the size limit out, up to 80 MB of uploads."
)
@click.option("--yes", is_flag=True, help="Of --probe: do not ask first.")
@json_option
@pass_container
def doctor(
    container: "Container",
    child: str | None,
    probe: str | None,
    no_sizes: bool,
    yes: bool,
    as_json: bool,
) -> ExitStatus:
    """Look at everything that a sync needs, and say what is to be done.

    Configuration, database, disks, plugins, clocks, accounts, the host that images come from,
    webhooks, workers and the oldest task. Nothing is changed; an account costs about seven
    requests.

    With --probe, one question is put to one account: what can it do? A product "imgsync probe ..."
    is made in it and deleted in the end, whatever happens. The report names no account, no address
    and no secret, and may be sent with a bug report.
    """
    if probe is not None and child is not None:
        raise click.UsageError(gettext("--child and --probe do not go together"))
    if probe is None and (yes or no_sizes):
        raise click.UsageError(gettext("--yes and --no-sizes are for --probe"))
    if probe is not None:
        return _probe(container, probe, with_sizes=not no_sizes, yes=yes, as_json=as_json)
    from imgsync.entrypoints.doctor import diagnose

    found = run_async(container, lambda: diagnose(container, child))
    return _tell(found, as_json=as_json)


def _probe(
    container: "Container", name: str, *, with_sizes: bool, yes: bool, as_json: bool
) -> ExitStatus:
    stored = container.accounts()
    account = run_async(container, lambda: find_account(stored, name))
    if not yes:
        traffic = gettext("up to 80 MB") if with_sizes else gettext("less than 1 MB")
        ask = gettext(
            "Make a scratch product in '%(name)s', upload %(traffic)s to it and delete it?",
            name=account.name,
            traffic=traffic,
        )
        try:
            agreed = is_confirmed(ask)
        except click.Abort:
            raise CommandError(
                gettext("Nobody has agreed, and nothing was done; --yes agrees")
            ) from None
        if not agreed:
            raise CommandError(gettext("Nothing was done"))
    use = container.probe(with_sizes=with_sizes)
    report = run_async(container, lambda: use(account, _progress))
    status = ExitStatus.PART if report.stopped or report.left else ExitStatus.DONE
    if report.trouble:
        say(gettext("Error: %(why)s", why=report.trouble), err=True)
    if report.left:
        say(
            gettext(
                "Error: the scratch product could not be deleted: %(why)s; the next probe "
                "of '%(name)s' does it, or delete what is called '%(scratch)s ...' "
                "there",
                why=report.left,
                name=account.name,
                scratch=SCRATCH_NAME,
            ),
            err=True,
        )
    if as_json:
        print_json({"probe": _report_as_dict(report)}, status)
        return status
    print_table((gettext("Asked"), gettext("Answer")), _report_in_words(report))
    return status


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        say(gettext("Asking: %(what)s", what=translated(what)), err=True)


def _report_as_dict(report: ProbeReport) -> dict[str, Any]:
    return {
        "imgsync": version("imgsync"),
        "api": "MoySklad JSON API remap 1.2",
        "token_kind": report.token_kind.value,
        "weight": report.weight,
        **{question: report.answers.get(question) for question, _, _, _ in _QUESTIONS},
        **{size: report.answers.get(size) for size in _SIZES},
        "sent_bytes": report.sent_bytes,
        "seconds": round(report.seconds, 1),
        "stopped": report.stopped or None,
    }


_SIZES = ("accepted_image_bytes", "refused_image_bytes")
_QUESTIONS = (
    ("order", marked("Order of a list that is set"), marked("as it was sent"), marked("another")),
    (
        "order_of_kept",
        marked("Order of images that are kept"),
        marked("as it was sent"),
        marked("another"),
    ),
    (
        "recodes",
        marked("Size of an image that is told"),
        marked("another than was sent"),
        marked("as it was sent"),
    ),
    (
        "images_move_updated",
        marked("'updated' of a product after a change of its images"),
        marked("moves"),
        marked("stays"),
    ),
    (
        "keeping_moves_updated",
        marked("'updated' of an image that is kept"),
        marked("moves"),
        marked("stays"),
    ),
    ("refused_list", marked("A list that is refused"), "", ""),
    (
        "bulk",
        marked("Images of many entities in one request"),
        marked("taken"),
        marked("not taken"),
    ),
    ("bulk_keeps", marked("Images kept in such a request"), marked("kept"), marked("not kept")),
    ("head", marked("Size of an image by HEAD"), marked("told"), marked("not told")),
    ("permanent_links", marked("Permanent links of images"), marked("given"), marked("not given")),
    ("gif", marked("GIF"), marked("taken"), marked("refused (51002)")),
    ("bmp", marked("BMP"), marked("taken"), marked("refused (51002)")),
    ("webp", marked("WEBP"), marked("taken"), marked("refused (51002)")),
)
_REFUSED_LISTS = {"keeps": marked("leaves what was there"), "drops": marked("leaves no image")}


def _report_in_words(report: ProbeReport) -> list[tuple[str, str]]:
    def said(question: str, yes: str, no: str) -> str:
        answer = report.answers.get(question)
        if isinstance(answer, str):
            return _REFUSED_LISTS.get(answer, answer)
        return gettext("not found out") if answer is None else yes if answer else no

    def size(name: str) -> str:
        answer = report.answers.get(name)
        return (
            gettext("none") if answer is None else gettext("%(answer)s bytes", answer=f"{answer:,}")
        )

    weight = (
        gettext("not told")
        if report.weight is None
        else ngettext("%(num)s unit", "%(num)s units", report.weight)
    )
    return [
        ("imgsync", version("imgsync")),
        (gettext("API"), "MoySklad JSON API remap 1.2"),
        (gettext("Credentials"), gettext(report.token_kind.value)),
        (gettext("A request costs"), weight),
        *(
            (gettext(words), gettext(said(question, yes, no)))
            for question, words, yes, no in _QUESTIONS
        ),
        (gettext("Largest image that was taken"), size(_SIZES[0])),
        (gettext("Smallest image that was too large"), size(_SIZES[1])),
        (gettext("Pictures sent, in base64"), translated(file_size(report.sent_bytes))),
        (gettext("Seconds"), f"{report.seconds:.0f}"),
        (gettext("Ended early"), translated(report.stopped) or gettext("no")),
    ]


def _tell(found: Sequence[Finding], *, as_json: bool) -> ExitStatus:
    wrong = sum(finding.health is Health.WRONG for finding in found)
    status = ExitStatus.ERROR if wrong else ExitStatus.DONE
    if as_json:
        print_json({"findings": [asdict(finding) for finding in found]}, status)
        return status
    signs = _signs()
    for finding in found:
        about = f"{finding.about}: " if finding.about else ""
        check, said = gettext(finding.check), translated(finding.said)
        say(f"{signs[finding.health]} {check:<{_WIDTH}} {about}{said}")
        if finding.todo:
            say(f"  {'':<{_WIDTH}} -> {translated(finding.todo)}")
    unknown = sum(finding.health is Health.UNKNOWN for finding in found)
    open_points = gettext(", %(unknown)s not known", unknown=unknown) if unknown else ""
    say(
        gettext(
            "%(points)s: %(wrong)s wrong%(unknown)s.",
            points=ngettext("%(num)s point", "%(num)s points", len(found)),
            wrong=wrong or gettext("nothing"),
            unknown=open_points,
        )
    )
    return status


def _signs() -> dict[Health, str]:
    try:
        "".join(_SIGNS.values()).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_SIGNS
    return _SIGNS
