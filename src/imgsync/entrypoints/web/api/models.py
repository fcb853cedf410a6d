"""What the API takes and answers. Of these models its description is made."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    RootModel,
)

from imgsync.application.survey import Difference
from imgsync.domain.model import AccountRole, MatchField, TokenKind
from imgsync.domain.ports.tasks import TaskState
from imgsync.domain.runs import RunCause, RunKind, RunStatus
from imgsync.domain.surveys import Since, since_of
from imgsync.domain.tasks import TaskStatus

_MOST_ON_PAGE = 500
_MOST_NUMBER = 2**63 - 1


class Taken(BaseModel):
    """A body: what is not known, or of another type, is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class Asked(BaseModel):
    """A query: texts, of which values are made."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class Told(BaseModel):
    """An answer."""


def _whole(given: Any) -> Any:
    if isinstance(given, str) and not re.fullmatch("[0-9]{1,19}", given):
        raise ValueError("it is no whole number")
    return given


def _present(moment: datetime) -> datetime:
    if not 2000 <= moment.year <= 9000:
        raise ValueError("it is no time of this millennium or the next")
    return moment


def _since(text: str) -> str:
    moment = since_of(text).moment
    if moment is not None:
        if moment.tzinfo is None:
            raise ValueError("the time names no zone, as in 2026-01-31T12:00:00Z")
        if _present(moment) > datetime.now(UTC):
            raise ValueError("the time is yet to come")
    return text


Limit = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=_MOST_ON_PAGE)]
Offset = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=_MOST_NUMBER)]
Moment = Annotated[AwareDatetime, AfterValidator(_present)]
SinceText = Annotated[
    str,
    AfterValidator(_since),
    Field(
        description="`last`, a span before now (`30m`, `2h`, `1d`), or a time with its zone.",
        examples=["last", "2h"],
    ),
]
AccountText = Annotated[
    str, Field(min_length=1, max_length=500, description="An account by its id or name.")
]
Names = Annotated[list[str], Field(max_length=1000)]
Numbers = Annotated[
    dict[str, int], Field(description="What was found and done, by name; what is 0 is left out.")
]


class ScheduleChange(Taken):
    sweep: str | None = Field(None, description="`HH:MM` of the server's zone; null for never.")
    survey_minutes: int | None = Field(None, description="1 to 1,440; null for none.")
    copies: bool = Field(True, description="Whether what differs is copied, or only told.")


class PicturesChange(Taken):
    fit: bool = True
    convert: bool = True
    max_side: int | None = None
    quality: int | None = None
    drop_metadata: bool = True


class _Settings(Taken):
    # As text, since a strict model takes no text for a value of an enumeration.
    match_by: Literal["externalCode", "code", "article", "name"] | None = Field(
        None, description="The field that finds counterparts; null for the configured one."
    )
    types: Names | None = Field(None, description="These entity types alone; [] for all.")
    folders: Names | None = Field(None, description="These product folders alone; [] for all.")
    pictures: PicturesChange | None = None
    schedule: ScheduleChange | None = None


class LinkChange(_Settings):
    """What is not named stays as it is."""

    sync_images: bool | None = Field(None, description="The first image alone.")
    sync_images_all: bool | None = Field(None, description="All images.")
    guard: bool | None = Field(None, description="Changes of its own images are noticed too.")
    enabled: bool | None = Field(
        None,
        description="false: it receives nothing. true: what it does, all images where that is "
        "nothing.",
    )


class NewLink(_Settings):
    main: AccountText
    child: AccountText
    images: Literal["all", "first", "none"] = "all"


Children = Annotated[
    Literal["all"] | Annotated[list[AccountText], Field(min_length=1, max_length=1000)],
    Field(description='Child accounts by id or name, or "all" that are linked.'),
]


class SyncWish(Taken):
    children: Children
    dry_run: bool = Field(False, description="Only tell what would be queued.")
    since: SinceText | None = Field(None, description="Only what has changed since then.")

    @property
    def since_when(self) -> Since | None:
        return None if self.since is None else since_of(self.since)


class CheckWish(Taken):
    children: Children


class RetryWish(Taken):
    ids: Annotated[list[int], Field(min_length=1, max_length=1000)]


class Payloads(RootModel[dict[str, Any] | list[dict[str, Any]]]):
    """A payload of any format that is registered, or 1 to 1,000 of them."""


class TaskQuery(Asked):
    child: str | None = Field(None, description="The id of a child account.")
    status: TaskState | None = Field(
        None,
        description="The words of `imgsync queue list --status`, as a task's `state` tells them; "
        "`completed` has those with warnings among them.",
    )
    text: str = Field("", description="In the payload, key, error or result.")
    before: str | None = Field(None, description="`before` of the page before.")
    limit: Limit = 50


class FailedImageQuery(Asked):
    child: str | None = Field(None, description="The id of a child account.")
    text: str = Field("", description="In the reason, file name, or entity's name or code.")
    after: Offset = Field(0, description="`after` of the page before.")
    limit: Limit = 50


class RunQuery(Asked):
    child: AccountText | None = None
    kind: RunKind | None = None
    since: Moment | None = Field(None, description="Those that began then or later.")
    until: Moment | None = Field(None, description="Those that began before.")
    limit: Limit = 50
    offset: Offset = 0


class DifferenceQuery(Asked):
    difference: Difference | None = None
    text: str = Field("", description="In the name, code or reason.")
    limit: Limit = 50
    offset: Offset = 0


class Schedule(Told):
    sweep: str | None
    survey_minutes: int | None
    copies: bool


class Pictures(Told):
    fit: bool
    convert: bool
    max_side: int | None
    quality: int | None
    drop_metadata: bool


class Link(Told):
    """Accounts by id. `damage`: why the settings cannot be read, which are no one's then."""

    main: str
    child: str
    sync_images: bool
    sync_images_all: bool
    match_by: MatchField | None
    types: list[str]
    folders: list[str]
    pictures: Pictures
    schedule: Schedule
    guard: bool
    damage: str | None


class Links(Told):
    links: list[Link]


class Unlinked(Told):
    unlinked: str


class Task(Told):
    id: int | str
    kind: str
    status: TaskStatus = Field(description="As it is stored; `state` tells more.")
    state: TaskState = Field(
        description="By which the list finds it. Of those whose status is `failed`, `cancelled` "
        "and `superseded` ones are told apart."
    )
    superseded: bool = Field(
        description="Of a failed one: a newer task of its entity has taken its place."
    )
    child: str | None
    entity_id: str | None
    priority: int
    attempts: int
    max_attempts: int
    scheduled_at: datetime
    created_at: datetime
    updated_at: datetime
    result: str | None
    error: str | None = Field(description="`cancelled` of one that was cancelled.")
    warnings: list[str]
    parked_for: str | None = Field(description="The account that it waits for.")


class WholeTask(Task):
    payload: Any


class Tasks(Told):
    tasks: list[Task]
    before: int | str | None = Field(description="Where the next page begins; null at the end.")


class QueuedTask(Told):
    id: int | str
    created: bool = Field(description="false: a task that waited took the payload over.")


class QueuedTasks(Told):
    tasks: list[QueuedTask]
    off: list[str] = Field(description="Children that receive no images: nothing is queued.")


class DeletedTask(Told):
    deleted: int | str


class FailedImage(Told):
    id: int
    main: str
    child: str
    type: str
    name: str
    code: str | None
    main_entity_id: str
    child_entity_id: str
    image_id: str | None
    filename: str
    cause: str
    reason: str
    settled: bool = Field(description="No attempt can copy it while it stays as it is.")
    attempts: int
    next_attempt_at: datetime | None
    first_failed_at: datetime
    last_failed_at: datetime


class FailedImages(Told):
    failed_images: list[FailedImage]
    after: int | None = Field(description="Where the next page begins; null at the end.")


class RetriedImages(Told):
    retried: list[int]
    entities: int


class BegunRun(Told):
    id: str
    children: list[str]
    created: bool = Field(description="false: one that does the same was under way.")


class BegunRuns(Told):
    """`Location` is the first one's."""

    runs: list[BegunRun]
    elsewhere: list[str] = Field(
        description="Children that another server compares right now: they are no part of a run "
        "here, and what they differ in is kept all the same."
    )


class Run(Told):
    """`numbers` of a run under way are as of a few seconds ago."""

    id: str
    kind: RunKind
    cause: RunCause
    status: RunStatus = Field(
        description="`failed`: not all of it came to its end, see `error`. `lost`: nothing has "
        "been heard of it for two minutes."
    )
    children: list[str]
    began: datetime
    ended: datetime | None
    seconds: float | None
    numbers: Numbers
    by_child: dict[str, Numbers]
    error: str | None


class Runs(Told):
    runs: list[Run]


class Comparison(Told):
    began: datetime
    ended: datetime | None = Field(description="null while it is under way.")
    found_at: datetime | None = Field(
        description="When the last one that came to its end began: of it are `counts` and what "
        "differs; null where there was none."
    )
    counts: dict[str, int]
    left_out: int = Field(description="Entities that differ beyond those that are kept.")
    error: str | None


class Image(Told):
    filename: str
    size: int = Field(description="Bytes; 0 where it is not known.")


class EntityDifference(Told):
    id: int
    type: str
    name: str
    code: str
    difference: Difference
    reason: str
    main_entity_id: str
    child_entity_id: str | None
    main_images: list[Image]
    child_images: list[Image] | None = Field(description="null where they are not known.")
    will_change: bool = Field(
        description="A sync would set the child's list; false where it cannot, or leaves it alone."
    )
    changed_since: bool = Field(description="imgsync has written the child's list since.")


class Differences(Told):
    """What the last comparison of the child that came to its end has found."""

    comparison: Comparison | None = Field(description="The last one; null where there was none.")
    differences: list[EntityDifference]


class Account(Told):
    id: str
    name: str
    token_kind: TokenKind
    role: AccountRole | None


class Accounts(Told):
    accounts: list[Account]


class ParkedAccount(Told):
    id: str
    name: str
    until: datetime | None = Field(
        description="When it is tried again by itself; null: only a new token ends it."
    )


class UnmatchedChild(Told):
    id: str
    name: str
    unmatched: int = Field(description="Entities of main without a counterpart in this child.")


class Status(Told):
    tasks: dict[str, int] = Field(
        description="By status; of failed ones, those that were `cancelled` or are `superseded` by "
        "a newer task are told apart, unless the queue is one that cannot be listed."
    )
    parked: int = Field(description="Tasks that wait until an account takes requests again.")
    parked_accounts: list[ParkedAccount] = Field(
        description="Accounts that take no requests, whether a task waits for them or not."
    )
    unmatched: list[UnmatchedChild] = Field(
        description="Children that have no counterpart of something, as the last whole comparison "
        "found: nobody can tell whether that is right there, and nothing can be copied to it."
    )


class FieldError(Told):
    pointer: str | None = Field(None, description="Into the body (RFC 6901).")
    parameter: str | None = None
    detail: str


class Problem(Told):
    type: Literal["about:blank"]
    title: str
    status: int
    detail: str = Field(description="For a person, in English.")
    errors: list[FieldError] | None = None
