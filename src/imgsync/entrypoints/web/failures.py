"""The page of failed images: why, what to do, and another attempt at one or many."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from imgsync.domain.diff import FailureCause
from imgsync.domain.failures import FailedImage
from imgsync.domain.text import natural_key
from imgsync.entrypoints.advice import ADVICE, HAPPENED
from imgsync.entrypoints.web.auditing import audit, whole_number
from imgsync.entrypoints.web.plain import picture_path, type_name, without_addresses
from imgsync.entrypoints.web.rendering import go_to, render
from imgsync.entrypoints.web.words import gettext as _
from imgsync.entrypoints.web.words import gettext as translated

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_PAGE = 25
_MOST_TEXT = 200
_IDS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which failed images are meant; '' for all."""

    child: str
    cause: str
    text: str

    @classmethod
    def of(cls, given: QueryParams | FormData) -> "Filter":
        def field(name: str) -> str:
            value = given.get(name)
            return value.strip()[:_MOST_TEXT] if isinstance(value, str) else ""

        cause = field("reason")
        return cls(field("child"), cause if cause in list(FailureCause) else "", field("text"))

    @property
    def child_ids(self) -> Collection[str]:
        return (self.child,) if self.child else ()

    def path(self, **more: object) -> str:
        named = {"child": self.child, "reason": self.cause, "text": self.text, **more}
        asked = urlencode({name: value for name, value in named.items() if value != ""})
        return "/failed" + (f"?{asked}" if asked else "")


@dataclass(frozen=True, slots=True)
class Shown:
    """A failed image as the page shows it. `when`: when it is tried again, or what that waits for;
    `detail`: what the program itself says."""

    id: int
    child_id: str
    type: str
    name: str
    code: str
    filename: str
    picture: str
    happened: str
    advice: str
    detail: str
    attempts: int
    is_settled: bool
    next_attempt_at: datetime | None
    last_failed_at: datetime
    when: str


@dataclass(frozen=True, slots=True)
class Group:
    """One image of main, which failed for one cause on some children: `of` each, as people count.
    `ids`: all of theirs, with spaces between."""

    ids: str
    of: list[Shown]


def routes(container: "Container") -> list[BaseRoute]:
    async def listed(request: Request) -> Response:
        wanted = Filter.of(request.query_params)
        after = whole_number(request.query_params.get("after")) or 0
        groups = await container.failed_images().groups(
            child_ids=wanted.child_ids,
            cause=wanted.cause or None,
            text=wanted.text,
            limit=_PAGE + 1,
            after=after,
        )
        counts = await container.failed_images().counts()
        names = {account.id: account.name for account in await container.accounts().all()}
        of_child: dict[str, int] = {}
        for count in counts:
            of_child[count.child_account_id] = (
                of_child.get(count.child_account_id, 0) + count.images
            )
        linked = {link.child_id for link in await container.settings().links()}
        return render(
            request,
            "failures.html",
            wanted=wanted,
            shown=[_group(rows, names) for rows in groups[:_PAGE]],
            total=sum(of_child.values()),
            names=names,
            linked=linked,
            children=sorted(
                ((one, names.get(one, one), n) for one, n in of_child.items()),
                key=lambda child: natural_key(child[1]),
            ),
            causes=[(str(cause), translated(text)) for cause, text in HAPPENED.items()],
            after=after,
            next_after=groups[_PAGE - 1][0].id if len(groups) > _PAGE else None,
            asked=whole_number(request.query_params.get("asked")),
        )

    async def retry(request: Request) -> Response:
        form = await request.form()
        wanted = Filter.of(form)
        retry_failed = container.retry_failed()
        one = form.get("one")
        if "all" in form:
            rows = await retry_failed.all(
                wanted.child_ids, cause=wanted.cause or None, text=wanted.text
            )
        else:
            chosen = [one] if one is not None else form.getlist("id")
            texts = [
                i for group in chosen for i in (group.split() if isinstance(group, str) else "x")
            ]
            numbers = [whole_number(i) for i in texts]
            if None in numbers or len(chosen) > _PAGE:
                raise HTTPException(400)
            rows = []
            for start in range(0, len(numbers), _IDS_AT_ONCE):
                some = [n for n in numbers[start : start + _IDS_AT_ONCE] if n]
                rows += await container.failed_images().get_many(some)
        if rows:
            entities = await retry_failed(rows)
            await audit(request, "retry", await _subject(rows), images=len(rows), entities=entities)
        after = whole_number(str(form.get("after", "")))
        return go_to(wanted.path(after=after or "", asked=len(rows)))

    async def _subject(rows: list[FailedImage]) -> str:
        """Which one it was, or whose they were."""
        if len(rows) == 1:
            (row,) = rows
            return f"{row.entity.name or row.entity.main_entity_id}: {row.failure.filename}"
        names = {account.id: account.name for account in await container.accounts().all()}
        children = {row.entity.child_account_id for row in rows}
        return ", ".join(sorted((names.get(child, child) for child in children), key=natural_key))

    return [
        Route("/failed", listed),
        Route("/failed/retry", retry, methods=["POST"]),
    ]


def _group(rows: Sequence[FailedImage], names: Mapping[str, str]) -> Group:
    def name(row: FailedImage) -> tuple[Any, ...]:
        return natural_key(names.get(row.entity.child_account_id, row.entity.child_account_id))

    return Group(
        " ".join(str(row.id) for row in rows), [_shown(row) for row in sorted(rows, key=name)]
    )


def _shown(row: FailedImage) -> Shown:
    entity, failure = row.entity, row.failure
    happened = {str(cause): text for cause, text in HAPPENED.items()}.get(failure.cause)
    advice = {str(cause): text for cause, text in ADVICE.items()}.get(failure.cause)
    _size, _space, updated = failure.version.partition(" ")
    return Shown(
        row.id,
        entity.child_account_id,
        type_name(entity.entity_type),
        entity.name,
        entity.code,
        failure.filename,
        picture_path(
            entity.main_account_id,
            entity.entity_type,
            entity.main_entity_id,
            failure.image_id,
            "" if updated == "?" else updated,
        ),
        translated(happened) if happened else _("The picture could not be copied."),
        translated(advice) if advice else _("look at the reason"),
        without_addresses(failure.reason),
        row.attempts,
        failure.settled,
        row.next_attempt_at,
        row.last_failed_at,
        _when(row),
    )


def _when(row: FailedImage) -> str:
    """What another attempt waits for, where it has no time."""
    if row.next_attempt_at is not None:
        return ""
    if row.failure.settled:
        return _("once it changes in the main account, or somebody asks for it here")
    return _("with the next sync of it, or once somebody asks for it here")
