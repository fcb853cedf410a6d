"""The page of what differs between a child and its main account, and the pictures on it."""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from pathlib import PurePath
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.application.survey import Difference
from imgsync.application.syncing import Look
from imgsync.domain.differences import EntityDifference, SeenImage
from imgsync.domain.errors import ImgsyncError
from imgsync.domain.model import LinkSettings, StoredLink
from imgsync.entrypoints.web.auditing import whole_number
from imgsync.entrypoints.web.plain import (
    in_words,
    picture_path,
    skipped,
    type_name,
    without_addresses,
)
from imgsync.entrypoints.web.rendering import go_to, render
from imgsync.entrypoints.web.words import gettext as _
from imgsync.entrypoints.web.words import ngettext

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_log = logging.getLogger("imgsync.web")
_PAGE = 10
_MOST_PAGES = 1000
_MOST_TEXT = 200
_SHOWN = 10
"""Pictures of one list that are shown: more would ask the accounts for too much at once."""

_PATIENCE_SECONDS = 30.0
_KEPT_SECONDS = 86_400
_UNEQUAL = (Difference.DIFFERENT, Difference.MISSING, Difference.EXTRA)
_KINDS = (*_UNEQUAL, Difference.UNMATCHED)


@dataclass(frozen=True, slots=True)
class Picture:
    """`path` is '' where it cannot be asked for."""

    path: str
    filename: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An entity as the page shows it. `here` is None where the child's pictures are not known;
    `detail`: what the program itself says."""

    type: str
    name: str
    code: str
    kind: str
    what: tuple[str, ...]
    to_do: str
    detail: str
    has_failed: bool
    changed_since: bool
    main: tuple[Picture, ...]
    main_more: int
    here: tuple[Picture, ...] | None
    here_more: int


def routes(container: "Container") -> list[BaseRoute]:
    async def the_link(request: Request) -> StoredLink:
        child_id = request.path_params["child_id"]
        for link in await container.settings().links():
            if link.child_id == child_id:
                return link
        raise HTTPException(404)

    async def listed(request: Request) -> Response:
        link = await the_link(request)
        child_id = link.child_id
        asked = request.query_params
        kind = asked.get("kind", "")
        kinds = [str(one) for one in _KINDS if one == kind] or [str(one) for one in _UNEQUAL]
        text = asked.get("text", "").strip()[:_MOST_TEXT]
        page = min(whole_number(asked.get("page")) or 0, _MOST_PAGES)
        store, syncing = container.differences(), container.syncing()
        comparison = await store.get(child_id)
        rows = await store.find(
            child_id, differences=kinds, text=text, limit=_PAGE + 1, offset=page * _PAGE
        )
        main_id = comparison.main_account_id if comparison else link.main_id
        counts = dict(comparison.counts) if comparison else {}
        last = syncing.state(child_id, Look.CHECK)
        is_busy = last is not None and last.ended is None
        error = comparison.error if comparison and comparison.ended else None
        return render(
            request,
            "differences.html",
            names={account.id: account.name for account in await container.accounts().all()},
            link=link,
            is_on=not link.damage and link.settings.enabled,
            comparison=comparison,
            counts=counts,
            unequal=sum(counts.get(one, 0) for one in _UNEQUAL),
            kinds=[(str(one), _kind_name(one), counts.get(one, 0)) for one in _UNEQUAL],
            skipped=counts.get(Difference.UNMATCHED, 0),
            kind=kind if kind in _KINDS else "",
            text=text,
            shown=[_shown(row, main_id, link.settings) for row in rows[:_PAGE]],
            page=page,
            is_more=len(rows) > _PAGE,
            is_busy=is_busy,
            is_other_busy=not is_busy and syncing.is_busy(child_id),
            seen=last.surveyed if last else 0,
            is_broken_off=error == "",
            error=in_words(error or (last.error if last else None)),
        )

    async def compare(request: Request) -> Response:
        link = await the_link(request)
        if not link.damage and link.settings.enabled:
            container.syncing().begin(link.child_id, Look.CHECK)
        return go_to(request.url.path.removesuffix("/compare"))

    async def picture(request: Request) -> Response:
        asked = request.path_params
        named = (asked["account"], asked["type"], asked["entity"], asked["image"])
        tag = request.query_params.get("v", "")
        try:
            if not await container.shown_pictures()(*named):
                return _placeholder()
            async with asyncio.timeout(_PATIENCE_SECONDS):
                made = await container.miniatures()(*named, tag=tag)
        except (ImgsyncError, TimeoutError) as error:
            # Without an address: what it leads to may hold a token.
            _log.info("a miniature could not be made: %s", type(error).__name__)
            return _placeholder()
        etag = f'"{made.tag}"'
        seconds = _KEPT_SECONDS if tag == made.tag else 0
        headers = {"ETag": etag, "Cache-Control": f"private, max-age={seconds}"}
        known = request.headers.get("if-none-match", "")
        if etag in (one.strip().removeprefix("W/") for one in known.split(",")):
            return Response(status_code=304, headers=headers)
        return Response(made.content, headers=headers, media_type=made.media_type)

    page = "/children/{child_id}/differences"
    return [
        Route(page, listed),
        Route(f"{page}/compare", compare, methods=["POST"]),
        Route("/pictures/{account}/{type}/{entity}/{image}", picture),
    ]


def _placeholder() -> Response:
    """Not an error for the browser: a page with a picture that is lost is whole."""
    content = (files("imgsync.entrypoints.web") / "static" / "no-picture.svg").read_bytes()
    return Response(content, headers={"Cache-Control": "no-store"}, media_type="image/svg+xml")


def _kind_name(difference: Difference) -> str:
    return {
        Difference.MISSING: _("No pictures here"),
        Difference.DIFFERENT: _("Other pictures here"),
        Difference.EXTRA: _("Pictures here only"),
    }[difference]


def _shown(found: EntityDifference, main_id: str, settings: LinkSettings) -> Shown:
    main, here = found.main_images, found.child_images
    if settings.sync_images and found.difference in (Difference.MISSING, Difference.DIFFERENT):
        main = main[:1]
    what, to_do, detail = _told(found, main, here or (), settings)
    child_id = found.key.child_account_id if found.key else ""
    child_entity_id = found.key.child_entity_id if found.key else ""
    return Shown(
        type_name(found.entity_type),
        found.name,
        found.code,
        found.difference,
        what,
        to_do,
        detail,
        found.difference in (Difference.DIFFERENT, Difference.MISSING) and not found.will_change,
        found.changed_since,
        _pictures(main, main_id, found.entity_type, found.main_entity_id),
        max(0, len(main) - _SHOWN),
        None if here is None else _pictures(here, child_id, found.entity_type, child_entity_id),
        max(0, len(here or ()) - _SHOWN),
    )


def _pictures(
    images: tuple[SeenImage, ...], account_id: str, entity_type: str, entity_id: str
) -> tuple[Picture, ...]:
    return tuple(
        Picture(
            picture_path(account_id, entity_type, entity_id, image.id, image.updated),
            image.filename,
        )
        for image in images[:_SHOWN]
    )


def _told(
    found: EntityDifference,
    main: tuple[SeenImage, ...],
    here: tuple[SeenImage, ...],
    settings: LinkSettings,
) -> tuple[tuple[str, ...], str, str]:
    """What is wrong, what will be done or can be, and what the program itself says."""
    if found.difference == Difference.UNMATCHED:
        why, to_do, detail = skipped(found.reason)
        return (why,), to_do, detail
    if found.difference == Difference.EXTRA:
        left = ngettext(
            "Main has no pictures; %(num)s is here.",
            "Main has no pictures; %(num)s are here.",
            len(here),
        )
        what: tuple[str, ...] = (left % {"num": len(here)},)
        if not found.will_change:
            return what, _("They stay: imgsync did not copy them. Remove them here by hand."), ""
        return what, _done(settings, _("The next sync removes those that imgsync copied.")), ""
    missing, surplus = _unlike(main, here)
    what = _counted(missing, surplus)
    if not found.will_change:
        return (
            (*what, _("What is missing cannot be copied.")),
            _("See the failed images, which say why."),
            without_addresses(found.reason),
        )
    if missing and not surplus:
        return what, _done(settings, _("The next sync copies them.")), ""
    return what, _done(settings, _("The next sync makes them the same as main's.")), ""


def _counted(missing: int, surplus: int) -> tuple[str, ...]:
    what = []
    if missing:
        said = ngettext(
            "%(num)s picture is missing here.", "%(num)s pictures are missing here.", missing
        )
        what.append(said % {"num": missing})
    if surplus:
        said = ngettext(
            "%(num)s picture here is none of main's.",
            "%(num)s pictures here are none of main's.",
            surplus,
        )
        what.append(said % {"num": surplus})
    return tuple(what) or (_("The order is another, or main has newer versions of the pictures."),)


def _done(settings: LinkSettings, by_itself: str) -> str:
    if not settings.enabled:
        return _("Nothing happens: this franchise is switched off.")
    if not settings.schedule.copies:
        return _("Nothing is copied by itself here: “Sync now” on the franchise's page does it.")
    return by_itself


def _unlike(main: tuple[SeenImage, ...], here: tuple[SeenImage, ...]) -> tuple[int, int]:
    """How many of main's are not here, and how many here are none of main's, by their names: a copy
    may be of another format and size."""
    wanted, there = _names(main), _names(here)
    return (wanted - there).total(), (there - wanted).total()


def _names(images: tuple[SeenImage, ...]) -> Counter[str]:
    return Counter(PurePath(image.filename).stem for image in images)
