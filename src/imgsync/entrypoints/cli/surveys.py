"""What check, enqueue and sync share: their options, and what they say of a survey."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

from imgsync.application.enqueue import EnqueueOutcome
from imgsync.application.survey import Difference, Sample, Surveyed, SurveyLog, by_children
from imgsync.domain.diff import Skip
from imgsync.domain.errors import SyncIsOffError
from imgsync.domain.labels import lines_by_children
from imgsync.domain.model import Account, Adopt, MatchField, RemoteImage, SourceImage
from imgsync.domain.surveys import Since, since_of
from imgsync.entrypoints.cli.completion import account_names, type_names
from imgsync.entrypoints.cli.output import is_watched, say
from imgsync.entrypoints.cli.runtime import with_hint
from imgsync.entrypoints.translation import gettext, ngettext, translated

_log = logging.getLogger(__name__)

match_option = click.option(
    "--match-by",
    type=click.Choice([f.value for f in MatchField]),
    help="Field that finds the child's counterpart "
    "(default: the configured match_by, externalCode).",
)
main_option = click.option(
    "--main",
    "main_id",
    metavar="ACCOUNT",
    shell_complete=account_names,
    help="Main account, by ID or name; by default that of each link.",
)
children_option = click.option(
    "--child",
    "children",
    metavar="ACCOUNT",
    shell_complete=account_names,
    multiple=True,
    help="Child account, by ID or name; may be repeated (default: every link).",
)
types_option = click.option(
    "--type",
    "types",
    multiple=True,
    shell_complete=type_names,
    help="Only this entity type; may be repeated.",
)


class SinceType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A time, a span before now, or ``last``."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Since:
        if isinstance(value, Since):
            return value
        text = str(value).strip()
        try:
            since = since_of(text)
            if (moment := since.moment) is None:
                return since
            moment = moment if moment.tzinfo else moment.astimezone()
        except (ValueError, OverflowError) as error:
            self.fail(str(error), param, ctx)
        if moment.year < 2000:
            self.fail(gettext("%(text)s is too long ago", text=repr(text)), param, ctx)
        if moment > datetime.now(UTC):
            self.fail(gettext("%(text)s is yet to come", text=repr(text)), param, ctx)
        return Since(moment=moment)


since_option = click.option(
    "--since",
    type=SinceType(),
    help="Only what has changed since then: a time (2026-01-31T12:00, of this host's zone where "
    "it names none), a span (30m, 2h, 1d), or 'last', the last survey of the same link. What a "
    "child changed itself is not seen; survey without it now and then.",
)
max_clear_option = click.option(
    "--max-clear",
    type=click.IntRange(0),
    help="Clear the images of no more entities of a child than this; of none of them where it "
    "would be more (default: 20, or 1 % of those compared, whichever is more, and at most 2,500).",
)


adopt_option = click.option(
    "--adopt",
    type=click.Choice([mode.value for mode in Adopt]),
    help="When images that a child has without a record count as main's: 'size', where number, "
    "order, names and sizes are the same; 'hash', where the content is, for which the images of "
    "both are downloaded, and those once more that were taken by their sizes; 'none', never "
    "(default: the configured adopt, size).",
)


def chosen_adopt(adopt: str | None) -> Adopt | None:
    """The way that `adopt_option` names."""
    return Adopt(adopt) if adopt else None


def chosen_field(match_by: str | None) -> MatchField | None:
    """The field that `match_option` names."""
    return MatchField(match_by) if match_by else None


def print_log(log: SurveyLog) -> None:
    """Says on stderr why a survey was no incremental one, and which folders hold nothing."""
    for line in log.in_full:
        say(translated(line), err=True)
    for line in log.empty_folders:
        say(gettext("Warning: %(why)s", why=line), err=True)


def print_adopted(outcome: EnqueueOutcome) -> None:
    """Says of how many entities the images were there already."""
    if outcome.adopted:
        say(
            gettext(
                "Recorded as copied, as the child has main's images by number, order, "
                "names and sizes: %(entities)s.",
                entities=ngettext("%(num)s entity", "%(num)s entities", outcome.adopted),
            )
        )


def print_skipped(outcome: EnqueueOutcome) -> None:
    """Says on stderr what a survey leaves out, and why. Without a terminal the skipped entities
    go to the log: a nightly run says the same of them every night."""
    print_log(outcome.log)
    if (began := outcome.log.since) is not None:
        say(
            gettext(
                "Only what has changed since %(began)s was surveyed.",
                began=f"{began:%Y-%m-%d %H:%M %Z}",
            ),
            err=True,
        )
    watched = is_watched()
    for p in by_children(outcome.skipped.items):
        if watched:
            what, why = translated(p.label), translated(p.reason)
            say(gettext("%(label)s: skipped: %(why)s", label=what, why=why), err=True)
        else:
            _log.debug("%s: skipped: %s", p.label, p.reason)
    if watched:
        _tell_left_out(outcome.skipped.left_out, gettext("skipped"))
    for warning in lines_by_children(outcome.warnings.items):
        say(gettext("Warning: %(why)s", why=warning), err=True)
    _tell_left_out(outcome.warnings.left_out, gettext("with warnings"))
    for child in outcome.off:
        say(off_message(child), err=True)
    for failed in by_children(outcome.failed):
        say(
            gettext(
                "Child '%(name)s' was left out: %(why)s",
                name=failed.link.child.name,
                why=failed.error,
            ),
            err=True,
        )
    if outcome.clear_limit_error is not None:
        say(with_hint(outcome.clear_limit_error), err=True)


def _tell_left_out(count: int, what: str) -> None:
    if count:
        say(
            gettext(
                "... and %(entities)s more %(what)s.",
                entities=ngettext("%(num)s entity", "%(num)s entities", count),
                what=what,
            ),
            err=True,
        )


def off_message(child: Account) -> str:
    """What is said of a child that receives no images."""
    return with_hint(SyncIsOffError(child.name, child.id))


def print_differences(found: Sample[Surveyed]) -> None:
    """Says how entities differ, as far as the sample goes, but for what `print_skipped` names."""
    for one in by_children(found.items):
        if not isinstance(one.change, Skip):
            say(difference_line(one))
    _tell_left_out(found.left_out, gettext("that differ; 'imgsync check' names all"))


def difference_line(one: Surveyed) -> str:
    """How an entity differs: its name, its code and both lists."""
    lists = gettext(
        "main %(main)s; child %(child)s",
        main=_listed(one.listed),
        child=_listed(one.child_images),
    )
    reason = translated(one.reason) if one.reason else ""
    said = reason or lists
    if one.reason and one.difference is not Difference.UNMATCHED:
        said = f"{lists}: {reason}"
    return gettext(
        "%(label)s: %(difference)s: %(said)s",
        label=translated(one.label),
        difference=gettext(one.difference),
        said=said,
    )


def left_out_of(found: Sample[Surveyed]) -> dict[str, object]:
    """For JSON: how many more differ than are named, where there are any."""
    return {"differences_left_out": found.left_out} if found.left_out else {}


def difference_as_dict(one: Surveyed) -> dict[str, object]:
    child = one.child_images
    return {
        "child": one.link.child.id,
        "child_name": one.link.child.name,
        "type": one.entity_type,
        "name": one.name,
        "code": one.code,
        "difference": one.difference.value,
        "reason": one.reason,
        "main_images": [{"filename": i.filename, "size": i.size} for i in one.listed],
        "child_images": None
        if child is None
        else [{"filename": i.filename, "size": i.size} for i in child],
    }


def _listed(images: Sequence[SourceImage | RemoteImage] | None) -> str:
    if images is None:
        return gettext("untold")
    return ", ".join(image.filename for image in images) or gettext("none")
