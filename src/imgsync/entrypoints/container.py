"""Wiring: which adapter stands behind which port."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from dependency_injector import containers, providers
from sqlalchemy import Engine

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.factory import HttpMoySkladFactory
from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.clock import DatabaseClock
from imgsync.adapters.sql.engine import create_engine_for
from imgsync.adapters.sql.records import SqlSyncRecordRepository
from imgsync.adapters.sql.schema import create_schema
from imgsync.adapters.sql.settings import SqlSettingsRepository
from imgsync.application.accounts import AddAccount, LinkAccounts
from imgsync.application.clean import CleanupTemp
from imgsync.application.copy import SyncEntity
from imgsync.application.enqueue import Enqueue, EnqueuePayloads
from imgsync.application.survey import PlanSync
from imgsync.application.work import RunTask, Worker
from imgsync.domain.ports.queue import TaskQueue
from imgsync.domain.ports.runner import TaskHandler
from imgsync.domain.ports.storage import FileStorage
from imgsync.domain.replace import STRATEGIES, ReplaceStrategy
from imgsync.entrypoints.config import Config, ConfigError
from imgsync.plugins import builtin
from imgsync.plugins.manager import PluginRegistry, load_plugins
from imgsync.plugins.parts import QueueSetup, Services, UnknownPartError, scheme_of

_OWN_STORES = tuple(builtin.imgsync_content_stores())
_OWN_QUEUES = tuple(builtin.imgsync_task_queues())


class _Databases:
    """One engine per URL, its tables made, for whoever asks: a queue may be in the database that
    holds everything else, or in another."""

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}

    def __call__(self, url: str) -> Engine:
        if url not in self._engines:
            engine = create_engine_for(url)
            try:
                create_schema(engine)
            except BaseException:
                engine.dispose()
                raise
            self._engines[url] = engine
        return self._engines[url]

    def close(self) -> None:
        while self._engines:
            self._engines.popitem()[1].dispose()


def _open_databases() -> Iterator[_Databases]:
    databases = _Databases()
    try:
        yield databases
    finally:
        databases.close()


def _engine(databases: _Databases, url: str) -> Engine:
    return databases(url)


def _load_plugins() -> PluginRegistry:
    from imgsync.entrypoints.cli import commands  # which come with a container of their own

    return load_plugins(commands)


def _queue(config: Config, plugins: PluginRegistry, databases: _Databases) -> TaskQueue:
    def open_queue(url: str) -> TaskQueue:
        opener = plugins.task_queues.get(scheme_of(url))
        return opener(QueueSetup(url, plugins.kinds, open_queue, databases))

    url = config.task_queue_url
    if config.queue_url is None and scheme_of(url) not in plugins.task_queues:
        databases(url)  # which says what is wrong with a database_url
    with _configured(config, "queue_url"):
        return open_queue(url)


def _storage(config: Config, plugins: PluginRegistry) -> FileStorage:
    url = config.content_store_url
    with _configured(config, "content_url"):
        return plugins.content_stores.get(scheme_of(url))(url)


def _strategy(config: Config, plugins: PluginRegistry) -> ReplaceStrategy:
    with _configured(config, "replace_strategy"):
        return plugins.replace_strategies.get(config.replace_strategy)


@contextmanager
def _configured(config: Config, name: str) -> Iterator[None]:
    """Says of a name that no plugin brings where it was configured."""
    try:
        yield
    except UnknownPartError as error:
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


def _handlers(plugins: PluginRegistry, services: Services) -> dict[str, TaskHandler]:
    return {kind: make(services) for kind, make in plugins.task_handlers.items()}


class Container(containers.DeclarativeContainer):
    """The application's objects; override a provider to change an adapter."""

    config = providers.Dependency(instance_of=Config)

    clock = providers.Singleton(SystemClock)
    plugins = providers.Singleton(_load_plugins)
    databases = providers.Resource(_open_databases)
    engine = providers.Callable(_engine, databases, config.provided.database_url)
    shared_clock = providers.Singleton(DatabaseClock, engine)
    queue = providers.Singleton(_queue, config, plugins, databases)
    accounts = providers.Singleton(SqlAccountRepository, engine)
    settings = providers.Singleton(SqlSettingsRepository, engine)
    records = providers.Singleton(SqlSyncRecordRepository, engine)
    storage = providers.Singleton(_storage, config, plugins)
    moysklad = providers.Singleton(
        HttpMoySkladFactory, config.provided.api_url, config.provided.download_hosts, clock
    )
    strategy = providers.Singleton(_strategy, config, plugins)
    pictures = providers.Singleton(PillowCheck)
    lease = providers.Singleton(timedelta, seconds=config.provided.lease_seconds)

    add_account = providers.Factory(AddAccount, accounts, settings, queue, moysklad)
    link_accounts = providers.Factory(LinkAccounts, accounts, settings)
    plan_sync = providers.Factory(
        PlanSync, accounts, records, moysklad, plugins.provided.entity_types
    )
    enqueue = providers.Factory(Enqueue, plan_sync, queue, config.provided.match_by)
    enqueue_payloads = providers.Factory(
        EnqueuePayloads,
        accounts,
        settings,
        queue,
        plugins.provided.payload_formats,
        plugins.provided.entity_types,
    )
    sync_entity = providers.Factory(
        SyncEntity,
        accounts,
        settings,
        records,
        moysklad,
        storage,
        plugins.provided.entity_types,
        strategy,
        pictures,
        transform=plugins.provided.transform,
        listeners=plugins.provided.listeners,
    )
    services = providers.Singleton(
        Services,
        accounts=accounts,
        settings=settings,
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
    )
    cleanup = providers.Factory(CleanupTemp, storage, clock)
