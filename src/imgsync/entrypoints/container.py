"""Wiring: which adapter stands behind which port."""

from collections.abc import Iterator
from datetime import timedelta

from dependency_injector import containers, providers
from sqlalchemy import Engine

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.files.local import LocalFileStorage
from imgsync.adapters.moysklad.factory import HttpMoySkladFactory
from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.adapters.plugins.registry import load_plugins
from imgsync.adapters.sql.accounts import SqlAccountRepository
from imgsync.adapters.sql.clock import DatabaseClock
from imgsync.adapters.sql.engine import create_engine_for
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.records import SqlSyncRecordRepository
from imgsync.adapters.sql.schema import create_schema
from imgsync.adapters.sql.settings import SqlSettingsRepository
from imgsync.application.accounts import AddAccount, LinkAccounts
from imgsync.application.cleanup import CleanupTemp
from imgsync.application.enqueue import Enqueue, EnqueuePayloads
from imgsync.application.plan_sync import PlanSync
from imgsync.application.run_task import RunTask
from imgsync.application.sync_entity import SyncEntity
from imgsync.application.worker import Worker
from imgsync.domain.replace import STRATEGIES, ReplaceStrategy
from imgsync.entrypoints.config import Config


def _ready_engine(url: str) -> Iterator[Engine]:
    engine = create_engine_for(url)
    try:
        create_schema(engine)
        yield engine
    finally:
        engine.dispose()


def _strategy(name: str) -> ReplaceStrategy:
    return STRATEGIES[name]


class Container(containers.DeclarativeContainer):
    """The application's objects; override a provider to change an adapter."""

    config = providers.Dependency(instance_of=Config)

    clock = providers.Singleton(SystemClock)
    plugins = providers.Singleton(load_plugins)
    engine = providers.Resource(_ready_engine, config.provided.database_url)
    shared_clock = providers.Singleton(DatabaseClock, engine)
    queue = providers.Singleton(SqlTaskQueue, engine)
    accounts = providers.Singleton(SqlAccountRepository, engine)
    settings = providers.Singleton(SqlSettingsRepository, engine)
    records = providers.Singleton(SqlSyncRecordRepository, engine)
    storage = providers.Singleton(LocalFileStorage, config.provided.temp_dir)
    moysklad = providers.Singleton(
        HttpMoySkladFactory, config.provided.api_url, config.provided.download_hosts, clock
    )
    strategy = providers.Singleton(_strategy, config.provided.replace_strategy)
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
    )
    run_task = providers.Factory(
        RunTask, queue, accounts, plugins.provided.payload_formats, sync_entity, shared_clock, lease
    )
    worker = providers.Factory(
        Worker,
        queue=queue,
        run_task=run_task,
        lease=lease,
        concurrency=config.provided.concurrency,
        poll_seconds=config.provided.poll_seconds,
    )
    cleanup = providers.Factory(CleanupTemp, storage, clock)
