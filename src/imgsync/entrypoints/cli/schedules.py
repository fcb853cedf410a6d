"""What `link` and `settings` have in common: when a child is surveyed by itself."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar

import click

from imgsync.domain.schedule import MOST_MINUTES, LinkSchedule
from imgsync.entrypoints.translation import gettext, marked

_T = TypeVar("_T", bound=Callable[..., Any])
_NEVER = marked("never")


class _TimeOfDay(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """``HH:MM``, or ``never``."""

    name = "time"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"HH:MM|{_NEVER}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return str(value) if value == _NEVER else LinkSchedule(sweep=value).sweep or _NEVER
        except ValueError:
            self.fail(
                gettext(
                    "%(value)s is neither a time such as 03:30 nor '%(never)s'",
                    value=repr(value),
                    never=_NEVER,
                ),
                param,
                ctx,
            )


class _Minutes(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Whole minutes, or ``never``."""

    name = "minutes"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"MINUTES|{_NEVER}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        if value == _NEVER:
            return _NEVER
        # int() would take ' 1_000 ' and digits of other scripts, too.
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6:
            minutes = int(value)
            if 1 <= minutes <= MOST_MINUTES:
                return minutes
        bounds = gettext("a whole number from 1 to %(most)s", most=f"{MOST_MINUTES:,}")
        raise click.BadParameter(
            gettext(
                "%(value)s is neither %(bounds)s nor '%(never)s'",
                value=repr(value),
                bounds=bounds,
                never=_NEVER,
            ),
            ctx,
            param,
        )


_OPTIONS = (
    click.option(
        "--sweep",
        type=_TimeOfDay(),
        help="When 'imgsync serve' compares the whole child, daily (default: 03:30).",
    ),
    click.option(
        "--survey-every",
        type=_Minutes(),
        help="How often it looks for what has changed in main (default: 15).",
    ),
    click.option(
        "--check-only/--copies",
        default=None,
        help="Whether it only tells what differs, or copies it (the default).",
    ),
    click.option(
        "--guard/--no-guard",
        default=None,
        help="Whether pictures that are changed in the child itself are set back at once, by its "
        "webhooks (off by default).",
    ),
)


def schedule_options(command: _T) -> _T:
    """Adds the options; `schedule_changes` reads them."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def schedule_changes(
    *, sweep: str | None, survey_every: int | str | None, check_only: bool | None
) -> dict[str, Any]:
    """Fields of `LinkSchedule` that the options change."""
    changes: dict[str, Any] = {}
    if sweep is not None:
        changes["sweep"] = None if sweep == _NEVER else sweep
    if survey_every is not None:
        changes["survey_minutes"] = None if survey_every == _NEVER else survey_every
    if check_only is not None:
        changes["copies"] = not check_only
    return changes


def described_schedule(schedule: LinkSchedule, *, guard: bool) -> str:
    """Such as ``swept at 03:30, surveyed every 15 min``."""
    said = []
    if schedule.sweep is not None:
        said.append(gettext("swept at %(sweep)s", sweep=schedule.sweep))
    if schedule.survey_minutes is not None:
        said.append(
            gettext("surveyed every %(survey_minutes)s min", survey_minutes=schedule.survey_minutes)
        )
    if said and not schedule.copies:
        said.append(gettext("only told what differs"))
    if guard:
        said.append(gettext("guarded"))
    return ", ".join(said) or gettext(_NEVER)


def schedule_as_dict(schedule: LinkSchedule) -> dict[str, Any]:
    """For JSON."""
    return asdict(schedule)
