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
from imgsync.domain.text import counted, file_size, shown
from imgsync.entrypoints.cli.completion import account_names
from imgsync.entrypoints.cli.output import print_json, print_table, say
from imgsync.entrypoints.cli.runtime import (
    STATUSES,
    CommandError,
    json_option,
    pass_container,
    run_async,
)
from imgsync.entrypoints.exit_status import ExitStatus

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
        raise click.UsageError("--child and --probe do not go together")
    if probe is None and (yes or no_sizes):
        raise click.UsageError("--yes and --no-sizes are for --probe")
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
        traffic = "up to 80 MB" if with_sizes else "less than 1 MB"
        ask = f"Make a scratch product in '{account.name}', upload {traffic} to it and delete it?"
        try:
            agreed = click.confirm(shown(ask), err=True)
        except click.Abort:
            raise CommandError("Nobody has agreed, and nothing was done; --yes agrees") from None
        if not agreed:
            raise CommandError("Nothing was done")
    use = container.probe(with_sizes=with_sizes)
    report = run_async(container, lambda: use(account, _progress))
    status = ExitStatus.PART if report.stopped or report.left else ExitStatus.DONE
    if report.trouble:
        say(f"Error: {report.trouble}", err=True)
    if report.left:
        say(
            f"Error: the scratch product could not be deleted: {report.left}; the next probe of "
            f"'{account.name}' does it, or delete what is called '{SCRATCH_NAME} ...' there",
            err=True,
        )
    if as_json:
        print_json({"probe": _report_as_dict(report)}, status)
        return status
    print_table(("Asked", "Answer"), _report_in_words(report))
    return status


def _progress(what: str) -> None:
    if sys.stderr.isatty():
        say(f"Asking: {what}", err=True)


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
    ("order", "Order of a list that is set", "as it was sent", "another"),
    ("order_of_kept", "Order of images that are kept", "as it was sent", "another"),
    ("recodes", "Size of an image that is told", "another than was sent", "as it was sent"),
    (
        "images_move_updated",
        "'updated' of a product after a change of its images",
        "moves",
        "stays",
    ),
    ("keeping_moves_updated", "'updated' of an image that is kept", "moves", "stays"),
    ("refused_list", "A list that is refused", "", ""),
    ("bulk", "Images of many entities in one request", "taken", "not taken"),
    ("bulk_keeps", "Images kept in such a request", "kept", "not kept"),
    ("head", "Size of an image by HEAD", "told", "not told"),
    ("permanent_links", "Permanent links of images", "given", "not given"),
    ("gif", "GIF", "taken", "refused (51002)"),
    ("bmp", "BMP", "taken", "refused (51002)"),
    ("webp", "WEBP", "taken", "refused (51002)"),
)
_REFUSED_LISTS = {"keeps": "leaves what was there", "drops": "leaves no image"}


def _report_in_words(report: ProbeReport) -> list[tuple[str, str]]:
    def said(question: str, yes: str, no: str) -> str:
        answer = report.answers.get(question)
        if isinstance(answer, str):
            return _REFUSED_LISTS.get(answer, answer)
        return "not found out" if answer is None else yes if answer else no

    def size(name: str) -> str:
        answer = report.answers.get(name)
        return "none" if answer is None else f"{answer:,} bytes"

    weight = "not told" if report.weight is None else counted(report.weight, "unit")
    return [
        ("imgsync", version("imgsync")),
        ("API", "MoySklad JSON API remap 1.2"),
        ("Credentials", report.token_kind.value),
        ("A request costs", weight),
        *((words, said(question, yes, no)) for question, words, yes, no in _QUESTIONS),
        ("Largest image that was taken", size(_SIZES[0])),
        ("Smallest image that was too large", size(_SIZES[1])),
        ("Pictures sent, in base64", file_size(report.sent_bytes)),
        ("Seconds", f"{report.seconds:.0f}"),
        ("Ended early", report.stopped or "no"),
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
        say(f"{signs[finding.health]} {finding.check:<{_WIDTH}} {about}{finding.said}")
        if finding.todo:
            say(f"  {'':<{_WIDTH}} -> {finding.todo}")
    unknown = sum(finding.health is Health.UNKNOWN for finding in found)
    open_points = f", {unknown} not known" if unknown else ""
    say(f"{counted(len(found), 'point')}: {wrong or 'nothing'} wrong{open_points}.")
    return status


def _signs() -> dict[Health, str]:
    try:
        "".join(_SIGNS.values()).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return _PLAIN_SIGNS
    return _SIGNS
