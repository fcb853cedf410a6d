"""The pages of runs: what each found and took, and what all took by the day."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from babel.dates import format_skeleton
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.domain.runs import UNEQUAL, Run, RunCause, RunKind, Usage, by_day
from imgsync.domain.text import natural_key
from imgsync.entrypoints.web import words
from imgsync.entrypoints.web.auditing import whole_number
from imgsync.entrypoints.web.charts import Chart, begin_of, chart, last_days, seconds_by_day
from imgsync.entrypoints.web.rendering import number, render, size
from imgsync.entrypoints.web.veiling import Veil
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_PAGE = 50
_FARTHEST = 1_000_000
_DAYS = 30
_MOST_RUNS = 5_000
"""Runs that are read for the chart of their durations: a part of a second."""
_FEW = 3
_QUEUING = (RunKind.SWEEP, RunKind.SURVEY, RunKind.ENQUEUE, RunKind.WEBHOOK)
"""Runs that leave the copying to the queue."""


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run in plain words."""

    run: Run
    href: str
    kind: str
    cause: str
    children: list[str]
    took: str
    differ: int
    error: str
    queued: list[tuple[str, int, str]]
    """Of each child with some: its name, how many images the queue copies, and where that is."""

    @property
    def few_children(self) -> list[str]:
        return self.children[:_FEW]

    @property
    def more_children(self) -> int:
        return max(0, len(self.children) - _FEW)

    @property
    def has_ended(self) -> bool:
        return self.run.ended is not None

    @property
    def images_queued(self) -> int:
        return sum(count for _, count, _ in self.queued)

    @property
    def queue_href(self) -> str:
        return self.queued[0][2] if len(self.queued) == 1 else "/queue"

    def count(self, name: str) -> int:
        return self.run.numbers.get(name, 0)


def shown_run(run: Run, names: Mapping[str, str], veil: Veil) -> ShownRun:
    """`names`: of accounts, by id."""
    return ShownRun(
        run,
        f"/runs/{quote(run.id, safe='')}",
        kinds()[run.kind],
        causes()[run.cause],
        [veil(names.get(child_id, child_id)) for child_id in run.child_ids],
        "" if run.seconds is None else duration(run.seconds),
        sum(run.numbers.get(name, 0) for name in UNEQUAL),
        veil(run.error or ""),
        _queued(run, names, veil) if run.kind in _QUEUING else [],
    )


def _queued(run: Run, names: Mapping[str, str], veil: Veil) -> list[tuple[str, int, str]]:
    return [
        (veil(names.get(child_id, child_id)), count, f"/queue?{urlencode({'child': child_id})}")
        for child_id, numbers in run.by_child.items()
        if (count := numbers.get("images", 0))
    ]


def kinds() -> dict[RunKind, str]:
    return {
        RunKind.SWEEP: _("Compare everything and copy"),
        RunKind.SURVEY: _("Look for changes and copy"),
        RunKind.CHECK: _("Compare only"),
        RunKind.SYNC: _("Compare and copy at once"),
        RunKind.ENQUEUE: _("Compare and queue the copies"),
        RunKind.WEBHOOK: _("Copy what MoySklad told of"),
    }


def causes() -> dict[RunCause, str]:
    return {
        RunCause.SCHEDULE: _("by the schedule"),
        RunCause.COMMAND: _("by a command"),
        RunCause.PAGE: _("from these pages"),
        RunCause.API: _("by another program"),
        RunCause.WEBHOOK: _("by MoySklad's message"),
    }


def numbers() -> dict[str, str]:
    """What a run counts, in the order in which it is told."""
    return {
        "equal": _("Equal"),
        "missing": _("Images are missing in the franchise"),
        "different": _("The images differ"),
        "extra": _("The franchise has images that the main account has not"),
        "unsure": _("Could not be compared"),
        "unmatched": _("Not found in the franchise"),
        "images": _("Images to copy"),
        "clears": _("Lists of images to clear"),
        "clears_refused": _("Lists that were not cleared, as they were too many"),
        "uploaded": _("Images copied"),
        "bytes": _("Sent to MoySklad"),
        "requests": _("Requests to MoySklad"),
        "units": _("Their units of the rate limit"),
        "too_many": _("Refused, as they were too many (429)"),
    }


def duration(seconds: float) -> str:
    """As people say it: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if seconds < 60:
        shown = number(round(seconds, 1))
        return _("%(seconds)s s") % {"seconds": shown}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return _("%(minutes)s min %(seconds)s s") % {"minutes": minutes, "seconds": rest}
    hours, minutes = divmod(minutes, 60)
    return _("%(hours)s h %(minutes)s min") % {"hours": number(hours), "minutes": minutes}


def _sent(value: float) -> str:
    return size(value) if value else number(0)


def routes(container: "Container") -> list[BaseRoute]:
    zone = container.zone()

    async def accounts() -> tuple[dict[str, str], Veil]:
        stored = await container.accounts().all()
        return {one.id: one.name for one in stored}, Veil(stored)

    async def charts(now: datetime) -> tuple[list[date], list[Chart], bool]:
        """The days, what is drawn of them, and whether all runs of these days are counted."""
        days = last_days(now, zone, _DAYS)
        begin = begin_of(days[0], zone)
        taken = by_day(await container.usage().hours(begin), zone)
        found = await container.run_history().find(since=begin, limit=_MOST_RUNS + 1)
        known = max(begin, now - container.keep())
        if len(found) > _MOST_RUNS:
            known = max(known, found[-1].began)
        known_from = known.astimezone(zone).date()
        if known > begin:
            known_from += timedelta(days=1)  # of that day itself only a part
        seconds = seconds_by_day(found, days, zone, known_from)
        usage = [taken.get(day, Usage()) for day in days]
        drawn = [
            chart("images", _("Images copied"), [one.images for one in usage], number),
            chart("bytes", _("Sent to MoySklad"), [one.bytes for one in usage], _sent),
            chart("requests", _("Requests to MoySklad"), [one.requests for one in usage], number),
            chart("seconds", _("Duration of the runs"), [seconds[d] for d in days], duration),
        ]
        return days, drawn, known_from <= days[0]

    async def listed(request: Request) -> Response:
        asked = request.query_params
        child, kind = asked.get("child", ""), asked.get("kind", "")
        if kind not in set(RunKind):
            kind = ""
        begin = min(whole_number(asked.get("from")) or 0, _FARTHEST)
        found = await container.run_history().find(
            child_id=child or None,
            kind=RunKind(kind) if kind else None,
            limit=_PAGE + 1,
            offset=begin,
        )
        names, veil = await accounts()
        links = await container.settings().links()
        children = {link.child_id: veil(names.get(link.child_id, link.child_id)) for link in links}
        if child:
            children.setdefault(child, veil(names.get(child, child)))

        def href(begin: int) -> str:
            told = {"child": child, "kind": kind, "from": str(begin) if begin else ""}
            given = {name: value for name, value in told.items() if value}
            return f"/runs?{urlencode(given, errors='replace')}" if given else "/runs"

        now = container.clock().now()
        days, drawn, is_whole = await charts(now) if not begin else ([], [], True)
        return render(
            request,
            "runs.html",
            runs=[shown_run(run, names, veil) for run in found[:_PAGE]],
            child=child,
            kind=kind,
            kinds=kinds(),
            children=sorted(children.items(), key=lambda one: natural_key(one[1])),
            newest=href(0) if begin else None,
            older=href(begin + _PAGE) if len(found) > _PAGE else None,
            days=[format_skeleton("MMMd", day, locale=words.language()) for day in days],
            charts=drawn,
            is_whole=is_whole,
            zone=zone_name(now),
        )

    async def one(request: Request) -> Response:
        run = await container.run_history().get(request.path_params["id"])
        if run is None:
            raise HTTPException(404)
        names, veil = await accounts()
        told = numbers()
        counted = [
            (name, size(run.numbers[key]) if key == "bytes" else number(run.numbers[key]))
            for key, name in told.items()
            if run.numbers.get(key)
        ]
        counted += [
            (veil(key), number(value)) for key, value in run.numbers.items() if key not in told
        ]
        return render(
            request,
            "run.html",
            shown=shown_run(run, names, veil),
            numbers=counted,
            zone=zone_name(container.clock().now()),
        )

    def zone_name(now: datetime) -> str:
        here = now.astimezone(zone)
        return f"UTC{here:%z}"[:6] + ":" + f"{here:%z}"[3:5]

    return [Route("/runs", listed), Route("/runs/{id}", one)]
