"""Wiring: which adapter stands behind which port; opening and closing them.

What most commands do without, the HTTP client and the pictures, is imported once it is made.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from dependency_injector import containers, providers

from imgsync.adapters.clock import SystemClock, SystemZone
from imgsync.adapters.files.backup import FolderBackups
from imgsync.adapters.files.miniatures import FolderMiniatures
from imgsync.adapters.secrets.box import FernetBox
from imgsync.adapters.secrets.keys import GivenKeys, KeyFile, KeyringKeys, Keys
from imgsync.adapters.sql.apikeys import SqlApiKeys
from imgsync.adapters.sql.changes import SqlChangeLog
from imgsync.adapters.sql.database import Database, DatabaseClock
from imgsync.adapters.sql.differences import SqlDifferences
from imgsync.adapters.sql.events import SqlEndedEntities, SqlEventStore, SqlWebhookStates
from imgsync.adapters.sql.failures import SqlFailedImages
from imgsync.adapters.sql.figures import SqlFigures
from imgsync.adapters.sql.overview import SqlOverview
from imgsync.adapters.sql.pace import pace_store
from imgsync.adapters.sql.proofs import SqlProofs
from imgsync.adapters.sql.repeats import SqlRepeats
from imgsync.adapters.sql.repositories import (
    SqlAbilityRepository,
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSurveyRepository,
    SqlSyncRecordRepository,
)
from imgsync.adapters.sql.runs import SqlRunHistory
from imgsync.adapters.sql.schedule import SqlSchedule
from imgsync.adapters.sql.secrets import SqlSecrets
from imgsync.adapters.sql.shelf import SqlAccountShelf
from imgsync.adapters.sql.shown import SqlShownPictures
from imgsync.adapters.sql.solutions import SqlSolutions
from imgsync.adapters.sql.tasklist import SqlTaskList
from imgsync.adapters.sql.turns import SqlSurveyTurns
from imgsync.adapters.sql.usage import SqlUsage
from imgsync.adapters.sql.web import SqlAudit, SqlLoginAttempts, SqlWebSecrets
from imgsync.application.abilities import KnownAbilities
from imgsync.application.accounts import (
    AddAccount,
    ChangeSettings,
    FindLinks,
    LinkAccounts,
    UnlinkAccounts,
)
from imgsync.application.apikeys import AddApiKey
from imgsync.application.bulk import Bulk
from imgsync.application.changes import Changes, PruneChanges
from imgsync.application.check import Check
from imgsync.application.clean import CleanupTemp, PruneQueue
from imgsync.application.compare import Compare
from imgsync.application.copy import SyncEntity
from imgsync.application.enqueue import Enqueue, EnqueuePayloads
from imgsync.application.failures import NoteFailures, RetryFailed
from imgsync.application.miniatures import Miniatures
from imgsync.application.moving import ExportAccounts, ImportAccounts
from imgsync.application.parking import Pause, RecentAccounts, RecentSettings, Resume, TryAgain
from imgsync.application.probe import Probe
from imgsync.application.prove import Prove
from imgsync.application.pulse import Pulses
from imgsync.application.react import React
from imgsync.application.runs import NoteRuns, PruneRuns
from imgsync.application.schedule import ClockJob, Scheduler
from imgsync.application.shelf import RemoveAccount, RenameAccount, RotateAccount, TestAccounts
from imgsync.application.solutions import AddSolution, TakeCall
from imgsync.application.survey import Survey, SurveyMemory
from imgsync.application.syncing import Syncing
from imgsync.application.turns import Turns
from imgsync.application.undo import Undo, UndoEntity
from imgsync.application.usage import GatherUsage
from imgsync.application.webhooks import (
    CheckWebhooks,
    DropWebhooks,
    InstallWebhooks,
    KeepWebhooks,
    OwnPrefixes,
    RemoveWebhooks,
)
from imgsync.application.work import RunTask, Worker
from imgsync.domain.changes import run_id
from imgsync.domain.errors import ImgsyncError, StoreUrlError, UnlistedQueueError
from imgsync.domain.model import EntityTypes
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.miniatures import MiniatureStore
from imgsync.domain.ports.moysklad import MoySkladFactory
from imgsync.domain.ports.pace import PaceStore
from imgsync.domain.ports.pictures import PictureCheck, PictureEditor
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.repositories import AccountRepository, SettingsRepository
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.ports.runs import Meter, UsageRepository
from imgsync.domain.ports.storage import ContentStore
from imgsync.domain.ports.tasks import TaskList
from imgsync.domain.replace import STRATEGIES, ReplaceStrategy
from imgsync.entrypoints.config import Config, keyring_lock
from imgsync.plugins import builtin
from imgsync.plugins.manager import PluginRegistry, load_plugins
from imgsync.plugins.notify import Notify
from imgsync.plugins.parts import QueueSetup, Services, StoreSetup, UnknownPartError, scheme_of

_log = logging.getLogger(__name__)
_OWN_STORES = tuple(builtin.imgsync_content_stores())
_OWN_QUEUES = tuple(builtin.imgsync_task_queues())
_LISTED_QUEUES = ("sqlite", "postgresql", "postgres")


class _Opened:
    """What holds connections, in the order in which it was opened."""

    def __init__(self) -> None:
        self._closers: list[tuple[str, Callable[[], Awaitable[None]]]] = []

    def add(self, what: str, close: Callable[[], Awaitable[None]]) -> None:
        self._closers.append((what, close))

    def __bool__(self) -> bool:
        return bool(self._closers)

    async def close(self) -> None:
        """Closes all, the last opened first. A fault is logged: what was done is done."""
        while self._closers:
            what, close = self._closers.pop()
            try:
                await close()
            except ImgsyncError as error:
                _log.warning("%s could not be closed: %s", what, error)
            except Exception:
                _log.exception("%s could not be closed", what)


class _Databases:
    """One database per URL, its tables made, for whoever asks: a queue may be in the one that
    holds everything else, or in another."""

    def __init__(self, opened: _Opened) -> None:
        self._opened = opened
        self._databases: dict[str, Database] = {}

    def __call__(self, url: str) -> Database:
        if url not in self._databases:
            database = self._databases[url] = Database.open(url)
            # Beside the event loop, as SQLite may have a log to put away.
            self._opened.add("the database", lambda: asyncio.to_thread(database.close))
        return self._databases[url]


def _database(databases: _Databases, config: Config) -> Database:
    with _configured(config, "database_url"):
        return databases(config.database_url)


def _secrets(database: Database, config: Config) -> SqlSecrets:
    """What is plain is encrypted by now, and the key is here."""
    stored = secrets_as_they_are(database, config)
    stored.prepare()
    return stored


def secrets_as_they_are(database: Database, config: Config) -> SqlSecrets:
    """For a look that changes nothing: what is plain stays so."""
    return SqlSecrets(database, FernetBox(place_of_keys(config)))


def place_of_keys(config: Config) -> Keys:
    if config.key is not None:
        return GivenKeys(config.key.get_secret_value(), config.origin_of("key"))
    if config.key_keyring:
        return KeyringKeys(keyring_lock())
    return KeyFile(config.key_file.absolute())


def _paces(database: Database, opened: _Opened) -> PaceStore:
    store = pace_store(database)
    opened.add("the store of the pace", store.close)
    return store


def _meter(usage: UsageRepository, opened: _Opened) -> GatherUsage:
    meter = GatherUsage(usage)
    opened.add("the account of what was taken", meter.close)
    return meter


def _moysklad(
    config: Config,
    clock: Clock,
    paces: PaceStore,
    meter: Meter,
    own_prefixes: OwnPrefixes,
    opened: _Opened,
) -> MoySkladFactory:
    from imgsync.adapters.moysklad.client import HttpMoySkladFactory

    factory = HttpMoySkladFactory(
        config.api_url, config.download_hosts, clock, paces, own_prefixes, meter
    )
    opened.add("the connections to MoySklad", factory.close)
    return factory


def _pictures() -> PictureCheck:
    from imgsync.adapters.pictures.pillow import PillowCheck

    return PillowCheck()


def _miniatures(
    accounts: AccountRepository,
    settings: SettingsRepository,
    moysklad: MoySkladFactory,
    entity_types: EntityTypes,
    storage: ContentStore,
    pictures: PictureCheck,
    made_before: MiniatureStore,
    clock: Clock,
    opened: _Opened,
) -> Miniatures:
    from imgsync.adapters.moysklad.miniatures import miniature_address

    made: list[PictureEditor] = []

    def editor() -> PictureEditor:
        if not made:
            from imgsync.adapters.pictures.editing import PillowEditor
            from imgsync.adapters.pictures.workers import Workers

            made.append(PillowEditor(Workers(processes=1)))  # others are for copies
        return made[0]

    miniatures = Miniatures(
        accounts,
        settings,
        moysklad,
        entity_types,
        storage,
        pictures,
        editor,
        made_before,
        clock,
        miniature_address,
    )
    opened.add("the miniatures under way", miniatures.close)
    return miniatures


def _notify(config: Config, opened: _Opened) -> Notify | None:
    """What sends notifications; None where none are wanted."""
    if not config.notify_urls:
        return None
    urls = [url.get_secret_value() for url in config.notify_urls]
    notify = Notify(urls, config.notify_language, config.notify_events)
    opened.add("the notifications under way", notify.close)
    return notify


def _load_plugins(pictures: Callable[[], PictureCheck], notify: Notify | None) -> PluginRegistry:
    from imgsync.entrypoints.cli import commands  # which come with a container of their own

    return load_plugins(commands, pictures=pictures, notify=notify)


def _queue(
    config: Config, plugins: PluginRegistry, databases: _Databases, opened: _Opened
) -> TaskQueue:
    def open_queue(url: str) -> TaskQueue:
        opener = plugins.task_queues.get(scheme_of(url))
        return opener(QueueSetup(url, plugins.kinds, open_queue, databases))

    url = config.task_queue_url
    if config.queue_url is None and scheme_of(url) not in plugins.task_queues:
        _database(databases, config)  # which says what is wrong with a database_url
    with _configured(config, "queue_url" if config.queue_url else "database_url"):
        queue = open_queue(url)
    opened.add("the task queue", queue.close)
    return queue


def _task_list(config: Config, plugins: PluginRegistry, databases: _Databases) -> TaskList:
    url = config.task_queue_url
    scheme = scheme_of(url)
    if scheme not in _LISTED_QUEUES:
        raise UnlistedQueueError(
            f"Tasks of a queue on {scheme} cannot be listed, cancelled or deleted here; that is "
            "done by its own tools"
        )
    with _configured(config, "queue_url" if config.queue_url else "database_url"):
        return SqlTaskList(databases(url), kinds=plugins.kinds)


def _storage(config: Config, plugins: PluginRegistry) -> ContentStore:
    url = config.content_store_url
    with _configured(config, "content_url"):
        return plugins.content_stores.get(scheme_of(url))(StoreSetup(url, config.content_bytes))


def _strategy(config: Config, plugins: PluginRegistry) -> ReplaceStrategy:
    with _configured(config, "replace_strategy"):
        return plugins.replace_strategies.get(config.replace_strategy)


@contextmanager
def _configured(config: Config, name: str) -> Iterator[None]:
    """Says of a URL that is none, and of a name that no plugin brings, where it was configured."""
    try:
        yield
    except (StoreUrlError, UnknownPartError) as error:
        raise config.wrong(name, error) from error


def check_names(container: "Container") -> None:
    """ConfigError for a name in the configuration that no plugin brings.

    The built-in names need no plugin: those are not even loaded for them.
    """
    config: Config = container.config()
    if config.replace_strategy not in STRATEGIES:
        container.strategy()
    if config.content_url is not None and scheme_of(config.content_url) not in _OWN_STORES:
        with _configured(config, "content_url"):
            container.plugins().content_stores.get(scheme_of(config.content_url))
    if config.queue_url is not None and scheme_of(config.queue_url) not in _OWN_QUEUES:
        with _configured(config, "queue_url"):
            container.plugins().task_queues.get(scheme_of(config.queue_url))


def _new_run(clock: Clock) -> str:
    return run_id(clock.now(), secrets.randbits(16))


def _new_runs(clock: Clock) -> Callable[[], str]:
    return lambda: _new_run(clock)


def _spare(config: Config, moysklad: MoySkladFactory) -> Callable[[], bool]:
    """Whether a worker may run more tasks than by default; never where a number was configured."""
    given = "concurrency" in config.model_fields_set
    return lambda: not given and moysklad.has_spare


def _handlers(plugins: PluginRegistry, services: Services) -> dict[str, TaskHandler]:
    return {kind: make(services) for kind, make in plugins.task_handlers.items()}


def _name_of(accounts: AccountRepository) -> Callable[[str], Awaitable[str]]:
    async def name_of(account_id: str) -> str:
        return (await accounts.get(account_id)).name

    return name_of


def _job(make: Callable[[], Callable[[], Awaitable[object]]]) -> Callable[[], Awaitable[None]]:
    """Of a use case that is made anew each time."""

    async def call() -> None:
        await make()()

    return call


def _others(plugins: PluginRegistry) -> str:
    transform = plugins.transform
    return transform.versions if transform else ""


class Container(containers.DeclarativeContainer):
    """The application's objects; override a provider to change an adapter."""

    config = providers.Dependency(instance_of=Config)

    clock = providers.Singleton(SystemClock)
    pictures = providers.Singleton(_pictures)
    opened = providers.Singleton(_Opened)
    notify = providers.Singleton(_notify, config, opened)
    plugins = providers.Singleton(_load_plugins, pictures.provider, notify)
    databases = providers.Singleton(_Databases, opened)
    database = providers.Callable(_database, databases, config)
    shared_clock = providers.Singleton(DatabaseClock, database)
    queue = providers.Singleton(_queue, config, plugins, databases, opened)
    task_list = providers.Singleton(_task_list, config, plugins, databases)
    api_keys = providers.Singleton(SqlApiKeys, database)
    add_api_key = providers.Factory(AddApiKey, api_keys)
    repeats = providers.Singleton(SqlRepeats, database)
    stored_secrets = providers.Singleton(_secrets, database, config)
    accounts = providers.Singleton(SqlAccountRepository, database, secrets=stored_secrets)
    solutions = providers.Singleton(SqlSolutions, database, secrets=stored_secrets)
    settings = providers.Singleton(SqlSettingsRepository, database)
    abilities = providers.Singleton(SqlAbilityRepository, database)
    known_abilities = providers.Singleton(KnownAbilities, abilities)
    records = providers.Singleton(SqlSyncRecordRepository, database)
    figures = providers.Singleton(SqlFigures, database)
    failed_images = providers.Singleton(SqlFailedImages, database)
    note_failures = providers.Singleton(NoteFailures, failed_images, queue)
    retry_failed = providers.Factory(RetryFailed, failed_images, queue)
    storage = providers.Singleton(_storage, config, plugins)
    paces = providers.Singleton(_paces, database, opened)
    usage = providers.Singleton(SqlUsage, database)
    meter = providers.Singleton(_meter, usage, opened)
    webhook_states = providers.Singleton(SqlWebhookStates, database)
    own_prefixes = providers.Singleton(
        OwnPrefixes, webhook_states, config.provided.webhook_prefixes
    )
    moysklad = providers.Singleton(_moysklad, config, clock, paces, meter, own_prefixes, opened)
    run_history = providers.Singleton(SqlRunHistory, database)
    proofs = providers.Singleton(SqlProofs, database)
    strategy = providers.Singleton(_strategy, config, plugins)
    lease = providers.Singleton(timedelta, seconds=config.provided.lease_seconds)
    run = providers.Singleton(_new_run, clock)
    change_log = providers.Singleton(SqlChangeLog, database)
    backups = providers.Singleton(FolderBackups, config.provided.backup_dir)
    changes = providers.Singleton(Changes, run, change_log, backups, pictures)

    add_account = providers.Factory(AddAccount, accounts, settings, queue, moysklad)
    link_accounts = providers.Factory(
        LinkAccounts, accounts, settings, plugins.provided.entity_types, proofs
    )
    differences = providers.Singleton(SqlDifferences, database)
    web_secrets = providers.Singleton(SqlWebSecrets, database)
    webhooks = providers.Singleton(
        KeepWebhooks,
        accounts,
        settings,
        webhook_states,
        web_secrets,
        moysklad,
        plugins.provided.entity_types,
    )
    install_webhooks = providers.Factory(InstallWebhooks, webhooks)
    check_webhooks = providers.Factory(
        CheckWebhooks, webhooks, listeners=plugins.provided.listeners
    )
    remove_webhooks = providers.Factory(RemoveWebhooks, webhooks)
    unlink_accounts = providers.Factory(
        UnlinkAccounts,
        accounts,
        settings,
        failed_images,
        proofs,
        differences,
        ended=providers.Factory(DropWebhooks, webhooks),
    )
    shelf = providers.Singleton(SqlAccountShelf, database)
    export_accounts = providers.Factory(ExportAccounts, accounts, settings, shelf, solutions)
    import_accounts = providers.Factory(ImportAccounts, accounts, settings, queue, solutions)
    test_accounts = providers.Factory(TestAccounts, accounts, moysklad)
    rename_account = providers.Factory(RenameAccount, accounts, shelf)
    rotate_account = providers.Factory(RotateAccount, accounts, shelf, add_account)
    remove_account = providers.Factory(
        RemoveAccount, accounts, shelf, unlink_accounts, remove_webhooks
    )
    change_settings = providers.Factory(ChangeSettings, accounts, settings, proofs)
    find_links = providers.Factory(FindLinks, accounts, settings)
    surveys = providers.Singleton(SqlSurveyRepository, database)
    survey_memory = providers.Factory(SurveyMemory, surveys, known_abilities, shared_clock)
    survey = providers.Factory(
        Survey,
        accounts,
        records,
        moysklad,
        plugins.provided.entity_types,
        known_abilities,
        survey_memory,
        providers.Callable(_others, plugins),
    )
    turns = providers.Singleton(Turns, providers.Singleton(SqlSurveyTurns, database))
    enqueue = providers.Factory(
        Enqueue, survey, queue, config.provided.match_by, config.provided.adopt, turns
    )
    prove = providers.Factory(
        Prove,
        records,
        moysklad,
        storage,
        pictures,
        plugins.provided.transform,
        known_abilities,
    )
    check = providers.Factory(Check, survey, config.provided.match_by, config.provided.adopt, prove)
    shown_pictures = providers.Singleton(SqlShownPictures, database)
    miniature_store = providers.Singleton(FolderMiniatures, config.provided.miniatures_dir)
    compare = providers.Factory(Compare, check, differences)
    miniatures = providers.Singleton(
        _miniatures,
        accounts,
        settings,
        moysklad,
        plugins.provided.entity_types,
        storage,
        pictures,
        miniature_store,
        clock,
        opened,
    )
    note_runs = providers.Factory(
        NoteRuns,
        run_history,
        proofs,
        queue,
        failed_images,
        shared_clock,
        providers.Callable(_new_runs, clock),
        settings,
    )
    enqueue_payloads = providers.Factory(
        EnqueuePayloads,
        accounts,
        settings,
        queue,
        plugins.provided.payload_formats,
        plugins.provided.entity_types,
    )
    # What tasks read again and again; whoever lists or changes them reads the store.
    recent_accounts = providers.Singleton(
        RecentAccounts, accounts, listeners=plugins.provided.listeners
    )
    recent_settings = providers.Singleton(RecentSettings, settings)
    bulk = providers.Singleton(Bulk, known_abilities)
    sync_entity = providers.Factory(
        SyncEntity,
        recent_accounts,
        recent_settings,
        records,
        moysklad,
        storage,
        plugins.provided.entity_types,
        strategy,
        pictures,
        transform=plugins.provided.transform,
        listeners=plugins.provided.listeners,
        bulk=bulk,
        abilities=known_abilities,
        changes=changes,
        failures=note_failures,
        meter=meter,
    )
    undo_entity = providers.Singleton(
        UndoEntity,
        recent_accounts,
        records,
        moysklad,
        storage,
        plugins.provided.entity_types,
        change_log,
        backups,
        changes,
        failed_images,
        proofs,
    )
    undo = providers.Factory(Undo, change_log, queue, undo_entity)
    services = providers.Singleton(
        Services,
        accounts=recent_accounts,
        settings=recent_settings,
        records=records,
        moysklad=moysklad,
        entity_types=plugins.provided.entity_types,
        payload_formats=plugins.provided.payload_formats,
        copy_images=sync_entity,
        clock=shared_clock,
        undo=undo_entity,
        failed_images=failed_images,
    )
    handlers = providers.Factory(_handlers, plugins, services)
    run_task = providers.Factory(
        RunTask,
        queue,
        handlers,
        lease,
        listeners=plugins.provided.listeners,
        run=run,
        name_of=providers.Callable(_name_of, recent_accounts),
        meter=meter,
    )
    worker = providers.Factory(
        Worker,
        queue=queue,
        run_task=run_task,
        lease=lease,
        concurrency=config.provided.concurrency,
        poll_seconds=config.provided.poll_seconds,
        listeners=plugins.provided.listeners,
        has_spare=providers.Callable(_spare, config, moysklad),
    )
    cleanup = providers.Factory(CleanupTemp, storage, clock)
    keep = providers.Singleton(timedelta, days=config.provided.keep_days)
    prune_queue = providers.Factory(PruneQueue, queue, keep)
    keep_changes = providers.Singleton(timedelta, days=config.provided.changes_days)
    prune_changes = providers.Factory(PruneChanges, change_log, keep_changes)

    prune_runs = providers.Factory(PruneRuns, run_history, usage, keep)
    schedule = providers.Singleton(SqlSchedule, database)
    zone = providers.Singleton(SystemZone)
    # Instances of `ClockJob`: what else is done by the clock, once for all hosts.
    clock_jobs = providers.List(
        providers.Factory(
            ClockJob,
            "webhooks",
            timedelta(hours=1),
            providers.Callable(_job, check_webhooks.provider),
        ),
    )
    scheduler = providers.Factory(
        Scheduler,
        schedule,
        settings,
        find_links,
        enqueue.provider,
        check.provider,
        note_runs,
        shared_clock,
        zone,
        listeners=plugins.provided.listeners,
        jobs=clock_jobs,
    )

    event_store = providers.Singleton(SqlEventStore, database)
    ended_entities = providers.Singleton(SqlEndedEntities, database)
    react = providers.Factory(
        React,
        event_store,
        recent_accounts,
        recent_settings,
        find_links,
        enqueue.provider,
        note_runs,
        run_history,
        proofs,
        ended_entities,
        shared_clock,
        lease=providers.Callable(min, lease, timedelta(seconds=60)),
    )

    pulses = providers.Singleton(Pulses)
    login_attempts = providers.Singleton(SqlLoginAttempts, database)
    overview = providers.Singleton(SqlOverview, database)
    syncing = providers.Singleton(
        Syncing, find_links, enqueue.provider, note_runs.provider, clock, compare.provider
    )
    probe = providers.Factory(Probe, accounts, settings, known_abilities, moysklad, clock)
    try_again = providers.Factory(TryAgain, accounts, queue, shared_clock)
    pause = providers.Factory(Pause, accounts)
    resume = providers.Factory(Resume, accounts, try_again)
    audit_log = providers.Singleton(SqlAudit, database)
    add_solution = providers.Factory(AddSolution, solutions)
    take_call = providers.Factory(TakeCall, solutions, queue, plugins.provided.listeners)


async def close(container: Container) -> None:
    """Closes the queue, the connections to MoySklad and the databases that the container opened.
    It opens them anew where it is asked for one again."""
    opened: _Opened = container.opened()
    try:
        await opened.close()
    finally:
        container.reset_singletons()
