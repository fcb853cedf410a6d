"""imgsync within a program: what `from imgsync import Imgsync` gives."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, Self

from imgsync.application.accounts import GivenAccount, find_account
from imgsync.application.check import CheckReport
from imgsync.application.enqueue import EnqueueOutcome
from imgsync.application.survey import NotSurveyed, Surveyed
from imgsync.application.work import Tally, TaskReport
from imgsync.domain.failures import FailedImage
from imgsync.domain.model import Account, Adopt, LinkSettings, MatchField, TokenKind
from imgsync.domain.pictures import AS_BY_DEFAULT, PictureSettings
from imgsync.domain.surveys import Since
from imgsync.entrypoints.config import Config, fixed_config, load_config
from imgsync.entrypoints.container import Container, close

AccountOrName = Account | str
"""An account, or its id or name."""
When = datetime | timedelta | Literal["last"] | None
"""A moment (of this host's zone where it names none), a span before now, or the last survey."""


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync found and queued (`enqueued`), and what became of it (`tally`), in which `run`,
    by which it can be undone."""

    enqueued: EnqueueOutcome = field(default_factory=EnqueueOutcome)
    tally: Tally = field(default_factory=Tally)
    run: str = ""


class Imgsync:
    """Accounts, links, surveys, syncs and the queue of one database.

    A context manager, by which its connections are closed. Every argument `main` and `child` is an
    `Account`, or its id or name. Errors: `ImgsyncError` and its children.
    """

    def __init__(self, **configuration: Any) -> None:
        """`configuration`: the names of the README's table in lower case without the prefix, such
        as ``database_url="sqlite:////var/lib/shop.db"``. What is not given has its default; neither
        the environment nor a file is read. ConfigError where one is wrong."""
        self._config: Config = fixed_config(**configuration)
        self._opened: Container | None = None

    @classmethod
    def from_environment(cls, path: Path | None = None) -> Self:
        """Configured as the command line is: by IMGSYNC_* and a TOML file (`path`, or the usual
        places). ConfigError where it is wrong."""
        made = cls()
        made._config = load_config(path)
        return made

    async def __aenter__(self) -> Self:
        """Opens the database and loads the plugins."""
        container = Container(config=self._config)
        try:
            # In a thread, as it may take a while: a new database, or one that is to be upgraded.
            await asyncio.to_thread(container.worker)
        except BaseException:
            await close(container)
            raise
        self._opened = container
        return self

    async def __aexit__(self, *_: object) -> None:
        container, self._opened = self._container, None
        await close(container)

    async def add_account(
        self,
        secret: str,
        *,
        login: str | None = None,
        name: str | None = None,
        kind: TokenKind | None = None,
    ) -> Account:
        """Stores the account whose token this is, or password where a `login` is given; MoySklad
        is asked. A stored one gets the new credentials, and its waiting tasks run again.

        `name` to show, in place of MoySklad's own; WrongAccountError where it is stored under
        another one. `kind` need be given for a solution in draft only. ValueError for what no
        account can be; nothing is stored where an error is raised.
        """
        add_account = self._container.add_account()
        given = GivenAccount(secret, name=name, kind=kind, login=login)
        return (await add_account(given)).account

    async def accounts(self) -> list[Account]:
        """The stored accounts by name."""
        accounts = self._container.accounts()
        return await accounts.all()

    async def link(
        self,
        main: AccountOrName,
        child: AccountOrName,
        *,
        images: Literal["all", "first", "none"] = "all",
        match_by: MatchField | None = None,
        types: Sequence[str] = (),
        folders: Sequence[str] = (),
        pictures: PictureSettings | None = None,
    ) -> None:
        """From now on `child` receives all images of an entity, the first only, or none; of all
        entity types and product folders, or of these only. `pictures`: what becomes of them on
        their way; None leaves that as it is.

        WrongAccountError where one of them stands on the other side of a link already.
        """
        settings = LinkSettings(
            images == "first",
            images == "all",
            match_by,
            tuple(types),
            tuple(folders),
            pictures or AS_BY_DEFAULT,
        )
        link_accounts = self._container.link_accounts()
        await link_accounts(
            await self._account(main),
            [await self._account(child)],
            settings,
            picture_changes={} if pictures is None else None,
        )

    async def survey(
        self,
        main: AccountOrName,
        child: AccountOrName,
        *,
        types: Sequence[str] = (),
        match_by: MatchField | None = None,
    ) -> AsyncIterator[Surveyed]:
        """What a sync would look at, entity by entity: with a request, or the reason why there is
        none. Nothing is queued or changed. All entity types of the link, or `types` only."""
        survey, find_links = self._container.survey(), self._container.find_links()
        links = await find_links(_id(main), [_id(child)])
        field = self._config.match_by
        async for found in survey(links, match_field=field, match_by=match_by, only_types=types):
            if isinstance(found, NotSurveyed):
                raise found.error
            yield found

    async def check(
        self,
        main: AccountOrName | None = None,
        children: Sequence[AccountOrName] = (),
        *,
        types: Sequence[str] = (),
        match_by: MatchField | None = None,
        since: When = None,
        by_content: bool = False,
    ) -> CheckReport:
        """What differs, of the links of `main`, of these children or, without both, of all. Nothing
        is changed. `since`: of what has changed since then alone, as in `enqueue`. `by_content`:
        what seems equal is downloaded from both accounts and compared."""
        find_links, check = self._container.find_links(), self._container.check()
        links = await find_links(
            None if main is None else _id(main), [_id(child) for child in children]
        )
        return await check(
            links, match_by=match_by, types=types, since=_since(since), by_content=by_content
        )

    async def enqueue(
        self,
        main: AccountOrName | None = None,
        *children: AccountOrName,
        types: Sequence[str] = (),
        match_by: MatchField | None = None,
        max_clear: int | None = None,
        since: When = None,
        adopt: Literal["size", "hash", "none"] | None = None,
    ) -> EnqueueOutcome:
        """Queues a task for each entity that differs, of these children, of all that are linked to
        `main` or, without both, of all links, for `work` or ``imgsync worker``, here or elsewhere.

        `max_clear`: of how many entities of each child the images may be cleared; by default 20, or
        1 % of those compared, and 2,500 at most. `since`: only what has changed since that moment,
        in that span, or since the ``"last"`` survey of the same link; a survey is a full one while
        the main account has not shown that it can be asked for that (`log`). `adopt`: when images
        that a child has without a record count as main's; by default as configured.
        SyncIsOffError where the child receives no images.
        """
        find_links, enqueue = self._container.find_links(), self._container.enqueue()
        links = await find_links(
            None if main is None else _id(main), [_id(child) for child in children]
        )
        return await enqueue(
            links,
            match_by=match_by,
            types=types,
            max_clear=max_clear,
            since=_since(since),
            adopt=Adopt(adopt) if adopt else None,
        )

    async def sync(
        self,
        main: AccountOrName | None = None,
        *children: AccountOrName,
        types: Sequence[str] = (),
        match_by: MatchField | None = None,
        max_clear: int | None = None,
        since: When = None,
        adopt: Literal["size", "hash", "none"] | None = None,
    ) -> SyncReport:
        """As `enqueue`, and runs what it has queued. A task that fails for a passing reason stays
        in the queue."""
        enqueued = await self.enqueue(
            main,
            *children,
            types=types,
            match_by=match_by,
            max_clear=max_clear,
            since=since,
            adopt=adopt,
        )
        tally = Tally()
        worker = self._container.worker()
        await worker.run(drain=True, only=enqueued.task_ids, report=tally.add)
        return SyncReport(enqueued, tally, self._container.run())

    async def work(self, report: Callable[[TaskReport], None] = lambda _: None) -> Tally:
        """Runs every task that is due, whoever has queued it; `report` hears of each that ended.

        Cancelled, it gives back the tasks that it has begun.
        """
        tally = Tally()

        def both(ended: TaskReport) -> None:
            tally.add(ended)
            report(ended)

        worker = self._container.worker()
        await worker.run(drain=True, report=both)
        return tally

    async def undo(
        self,
        *,
        run: str | None = None,
        child: AccountOrName | None = None,
        entity: str | None = None,
        force: bool = False,
    ) -> Tally:
        """Puts back what children had before a `run`, or an entity of `child` (its name, code or
        id) before its last change, as far as its images are there or saved (`backup_dir`); what
        cannot be put back is a warning of the tally, what is left as it is an error.

        `force`: even where somebody has changed the images since, or a backup is gone. UndoError
        where no such change is known. The next sync makes the entities equal to main again, unless
        the child receives no images by then.
        """
        if (run is None) == (child is None) or (child is None) != (entity is None):
            raise ValueError("name a run, or a child and an entity")
        undo = self._container.undo()
        if run is not None:
            found = await undo.of_run(run)
        else:
            found = await undo.of_entity(_id(child or ""), entity or "")
        task_ids = await undo.put(found, force=force)
        tally = Tally()
        worker = self._container.worker()
        await worker.run(drain=True, only=task_ids, report=tally.add)
        return tally

    async def failed_images(
        self,
        *children: AccountOrName,
        reason: str = "",
        settled: bool | None = None,
    ) -> list[FailedImage]:
        """The images that could not be copied to these children, or to any, oldest first.

        `reason`: a text in their reason, file name, or entity's name or code. `settled`: only those
        that no attempt can copy while they stay as they are, or only the others.
        """
        retry = self._container.retry_failed()
        chosen = [(await self._account(child)).id for child in children]
        return await retry.all(chosen, text=reason, settled=settled)

    async def retry_images(self, images: Sequence[FailedImage]) -> int:
        """Queues these failed images for another attempt at once, by `work` or ``imgsync worker``;
        of how many entities they are."""
        retry = self._container.retry_failed()
        return await retry(images)

    @property
    def _container(self) -> Container:
        if self._opened is None:
            raise RuntimeError("use 'async with Imgsync(…) as imgsync:'")
        return self._opened

    async def _account(self, given: AccountOrName) -> Account:
        accounts = self._container.accounts()
        return await find_account(accounts, _id(given))


def _id(given: AccountOrName) -> str:
    return given.id if isinstance(given, Account) else given


def _since(when: When) -> Since | None:
    match when:
        case None:
            return None
        case "last":
            return Since()
        case timedelta():
            return Since(span=when)
        case _:
            return Since(moment=when if when.tzinfo else when.astimezone())
