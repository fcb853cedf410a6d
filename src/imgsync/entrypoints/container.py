"""Wiring: which adapter stands behind which port; opening and closing them.

What most commands do without, the HTTP client and the pictures, is imported once it is made.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from dependency_injector import containers, providers

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.sql.database import Database, DatabaseClock
from imgsync.adapters.sql.pace import pace_store
from imgsync.adapters.sql.repositories import (
    SqlAbilityRepository,
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSurveyRepository,
    SqlSyncRecordRepository,
)
from imgsync.application.abilities import KnownAbilities
from imgsync.application.accounts import (
    AddAccount,
    ChangeSettings,
    FindLinks,
    LinkAccounts,
    UnlinkAccounts,
)
from imgsync.application.bulk import Bulk
from imgsync.application.check import Check
from imgsync.application.clean import CleanupTemp, PruneQueue
from imgsync.application.copy import SyncEntity
from imgsync.application.enqueue import Enqueue, EnqueuePayloads
from imgsync.application.parking import RecentAccounts, RecentSettings
from imgsync.application.survey import Survey, SurveyMemory
from imgsync.application.work import RunTask, Worker
from imgsync.domain.errors import ImgsyncError, StoreUrlError
from imgsync.domain.ports.clock import Clock
from imgsync.domain.ports.moysklad import MoySkladFactory
from imgsync.domain.ports.pace import PaceStore
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.ports.storage import ContentStore
from imgsync.domain.replace import STRATEGIES, ReplaceStrategy
from imgsync.entrypoints.config import Config, ConfigError
from imgsync.plugins import builtin
from imgsync.plugins.manager import PluginRegistry, load_plugins
from imgsync.plugins.parts import QueueSetup, Services, StoreSetup, UnknownPartError, scheme_of

_log = logging.getLogger(__name__)
_OWN_STORES = tuple(builtin.imgsync_content_stores())
_OWN_QUEUES = tuple(builtin.imgsync_task_queues())


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


def _paces(database: Database, opened: _Opened) -> PaceStore:
    store = pace_store(database)
    opened.add("the store of the pace", store.close)
    return store


def _moysklad(config: Config, clock: Clock, paces: PaceStore, opened: _Opened) -> MoySkladFactory:
    from imgsync.adapters.moysklad.client import HttpMoySkladFactory

    factory = HttpMoySkladFactory(
        config.api_url, config.download_hosts, clock, paces, config.webhook_prefixes
    )
    opened.add("the connections to MoySklad", factory.close)
    return factory


def _pictures() -> PictureCheck:
    from imgsync.adapters.pictures.pillow import PillowCheck

    return PillowCheck()


def _load_plugins() -> PluginRegistry:
    from imgsync.entrypoints.cli import commands  # which come with a container of their own

    return load_plugins(commands)


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
        origin = config.origin_of(name)
        raise ConfigError(f"Bad configuration: {name}: {error}; it is set by {origin}") from error


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


def _spare(config: Config, moysklad: MoySkladFactory) -> Callable[[], bool]:
    """Whether a worker may run more tasks than by default; never where a number was configured."""
    given = "concurrency" in config.model_fields_set
    return lambda: not given and moysklad.has_spare


def _handlers(plugins: PluginRegistry, services: Services) -> dict[str, TaskHandler]:
    return {kind: make(services) for kind, make in plugins.task_handlers.items()}


class Container(containers.DeclarativeContainer):
    """The application's objects; override a provider to change an adapter."""

    config = providers.Dependency(instance_of=Config)

    clock = providers.Singleton(SystemClock)
    plugins = providers.Singleton(_load_plugins)
    opened = providers.Singleton(_Opened)
    databases = providers.Singleton(_Databases, opened)
    database = providers.Callable(_database, databases, config)
    shared_clock = providers.Singleton(DatabaseClock, database)
    queue = providers.Singleton(_queue, config, plugins, databases, opened)
    accounts = providers.Singleton(SqlAccountRepository, database)
    settings = providers.Singleton(SqlSettingsRepository, database)
    abilities = providers.Singleton(SqlAbilityRepository, database)
    known_abilities = providers.Singleton(KnownAbilities, abilities)
    records = providers.Singleton(SqlSyncRecordRepository, database)
    storage = providers.Singleton(_storage, config, plugins)
    paces = providers.Singleton(_paces, database, opened)
    moysklad = providers.Singleton(_moysklad, config, clock, paces, opened)
    strategy = providers.Singleton(_strategy, config, plugins)
    pictures = providers.Singleton(_pictures)
    lease = providers.Singleton(timedelta, seconds=config.provided.lease_seconds)

    add_account = providers.Factory(AddAccount, accounts, settings, queue, moysklad)
    link_accounts = providers.Factory(
        LinkAccounts, accounts, settings, plugins.provided.entity_types
    )
    unlink_accounts = providers.Factory(UnlinkAccounts, accounts, settings)
    change_settings = providers.Factory(ChangeSettings, accounts, settings)
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
    )
    enqueue = providers.Factory(Enqueue, survey, queue, config.provided.match_by)
    check = providers.Factory(Check, survey, config.provided.match_by)
    enqueue_payloads = providers.Factory(
        EnqueuePayloads,
        accounts,
        settings,
        queue,
        plugins.provided.payload_formats,
        plugins.provided.entity_types,
    )
    # What tasks read again and again; whoever lists or changes them reads the store.
    recent_accounts = providers.Singleton(RecentAccounts, accounts)
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
    )
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
    )
    handlers = providers.Factory(_handlers, plugins, services)
    run_task = providers.Factory(
        RunTask, queue, handlers, lease, listeners=plugins.provided.listeners
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


async def close(container: Container) -> None:
    """Closes the queue, the connections to MoySklad and the databases that the container opened.
    It opens them anew where it is asked for one again."""
    opened: _Opened = container.opened()
    try:
        await opened.close()
    finally:
        container.reset_singletons()
