"""The overview and the pages of children."""

from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.application.enqueue import EnqueueOutcome
from imgsync.application.survey import Difference, Surveyed
from imgsync.application.syncing import Look
from imgsync.domain.diff import Skip, Unchanged
from imgsync.domain.model import MatchField
from imgsync.domain.text import natural_key
from imgsync.entrypoints.web import linkform, plain
from imgsync.entrypoints.web.auditing import audit
from imgsync.entrypoints.web.cards import Card, Headline, Standing, cards_of
from imgsync.entrypoints.web.linkform import LinkForm, field_label, type_label
from imgsync.entrypoints.web.rendering import go_to, render
from imgsync.entrypoints.web.words import gettext as _

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container


_MANY = 10
"""Children, from which on those are folded that need nobody."""
_SHOWN = 100
"""Entities that a preview names."""


def routes(container: "Container") -> list[BaseRoute]:
    async def overview(request: Request) -> Response:
        shown = await cards_of(container)
        mains = {card.link.main_id: card.main for card in shown}
        is_folded = len(shown) >= _MANY
        folded = [card for card in shown if is_folded and card.standing is Standing.RIGHT]
        return render(
            request,
            "overview.html",
            cards=[card for card in shown if not is_folded or card.standing is not Standing.RIGHT],
            folded=folded,
            mains=sorted(mains.values(), key=lambda main: natural_key(main.name)),
            headline=Headline.of(shown),
        )

    async def the_card(request: Request) -> Card:
        child_id = request.path_params["child_id"]
        for card in await cards_of(container):
            if card.link.child_id == child_id:
                return card
        raise HTTPException(404)

    async def child(request: Request) -> Response:
        card = await the_card(request)
        form = None if card.link.damage else linkform.filled(card.link.settings, type_names())
        return child_page(request, card, form)

    def type_names() -> list[str]:
        return container.plugins().entity_types.names

    def child_page(
        request: Request, card: Card, form: LinkForm | None, status: int = 200
    ) -> Response:
        syncing = container.syncing()
        child_id = card.link.child_id
        preview = syncing.state(child_id, Look.PREVIEW)
        comparison = syncing.state(child_id, Look.CHECK)
        return render(
            request,
            "child.html",
            status=status,
            card=card,
            form=form,
            types=[
                (name, type_label(name))
                for name in dict.fromkeys((*type_names(), *card.link.settings.types))
            ],
            match_fields=match_fields(),
            saved="saved" in request.query_params,
            sync=syncing.state(child_id),
            preview=preview,
            changes=[] if preview is None else _changes(preview.outcome)[:_SHOWN],
            skipped=[] if preview is None else _skipped(preview.outcome)[:_SHOWN],
            is_busy=syncing.is_busy(child_id),
            is_compared=comparison is not None and comparison.ended is None,
        )

    async def switch(request: Request) -> Response:
        card, form = await the_card(request), await request.form()
        before = card.link.settings
        first, all_images = "first_only" in form, "all_images" in form
        if first and all_images:  # the one that was just turned on turns the other off
            first, all_images = not before.sync_images, not before.sync_images_all
            if first:
                all_images = False
        await container.change_settings()(
            card.link.child_id, first_only=first, all_images=all_images
        )
        await audit(request, "settings", card.name, sync_images=first, sync_images_all=all_images)
        return go_to(request.url.path.removesuffix("/switches"))

    def match_fields() -> list[tuple[str, str]]:
        own = field_label(container.config().match_by)
        by_default = _("%(field)s (as the server is configured)") % {"field": own}
        return [("", by_default), *((one.value, field_label(one)) for one in MatchField)]

    async def settings(request: Request) -> Response:
        card, sent = await the_card(request), await request.form()
        if card.link.damage:
            raise HTTPException(404)
        before = card.link.settings
        form, changes = linkform.read(sent, before, type_names())
        if form.errors:
            return child_page(request, card, form, 422)
        if form.seen != linkform.seen_of(before):
            form.errors[""] = _(
                "Nothing is saved: somebody has changed these settings meanwhile. Look through "
                "what you entered, and save it again."
            )
            form.seen = linkform.seen_of(before)
            return child_page(request, card, form, 409)
        if changes.as_dict():
            await container.change_settings()(
                card.link.child_id,
                picture_changes=changes.pictures,
                schedule_changes=changes.schedule,
                link_changes=changes.link,
            )
            await audit(request, "settings", card.name, **changes.as_dict())
        return go_to(request.url.path.removesuffix("/settings") + "?saved=settings")

    async def form_again(request: Request) -> Response:
        """A form that was refused stands at the address it was sent to: loaded anew, and asked for
        in another language, it is the page itself."""
        return go_to(request.url.path.removesuffix("/settings"))

    async def sync(request: Request) -> Response:
        card = await the_card(request)
        look = Look.PREVIEW if request.url.path.endswith("/preview") else Look.SYNC
        if container.syncing().begin(card.link.child_id, look) and look is Look.SYNC:
            await audit(request, "sync", card.name)
        return go_to(request.url.path.rsplit("/", 1)[0])

    page = "/children/{child_id}"
    return [
        Route("/", overview),
        Route(page, child),
        Route(f"{page}/switches", switch, methods=["POST"]),
        Route(f"{page}/settings", settings, methods=["POST"]),
        Route(f"{page}/settings", form_again),
        Route(f"{page}/sync", sync, methods=["POST"]),
        Route(f"{page}/preview", sync, methods=["POST"]),
    ]


def _changes(outcome: EnqueueOutcome) -> list[tuple[Surveyed, str]]:
    """What a dry run would change, and how, in words; what it leaves alone is no part of it."""
    said = {
        Difference.MISSING: _("has no pictures yet: they are copied"),
        Difference.DIFFERENT: _("has other pictures: they become those of the main account"),
        Difference.EXTRA: _("main has none any more: those here are removed"),
        Difference.EQUAL: _("something waits to be copied"),
        Difference.UNMATCHED: _("its pictures here are not known yet: they are looked at"),
    }
    return [
        (found, said[found.difference])
        for found in outcome.differences.items
        if not isinstance(found.change, Skip | Unchanged)
    ]


def _skipped(outcome: EnqueueOutcome) -> list[tuple[Surveyed, tuple[str, str, str]]]:
    """What a dry run leaves alone: why, what to do about it, and the program's own words."""
    return [(found, plain.skipped(found.reason)) for found in outcome.skipped.items]
