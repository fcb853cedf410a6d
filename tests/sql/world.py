"""The accounts in memory of `World`, with all that is stored in a database."""

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.queue import SqlTaskQueue
from imgsync.adapters.sql.repositories import (
    SqlAbilityRepository,
    SqlAccountRepository,
    SqlSettingsRepository,
    SqlSyncRecordRepository,
)
from imgsync.application.copy import SyncEntity
from imgsync.application.survey import Survey
from imgsync.domain.replace import STRATEGIES
from tests.application.world import TYPES, World


class SqlWorld(World):
    """Made by `open`."""

    database: Database

    @classmethod
    async def open(cls, database: Database) -> "SqlWorld":
        world = cls()
        world.database = database
        accounts = SqlAccountRepository(database, world.clock)
        settings = SqlSettingsRepository(database)
        records = SqlSyncRecordRepository(database)
        abilities = SqlAbilityRepository(database)
        for account in world.store.accounts.values():
            await accounts.add(account)
        for account_id, switches in world.store.settings.items():
            await settings.put(account_id, switches)
        world.queue = SqlTaskQueue(database, world.clock)  # type: ignore[assignment]
        world.accounts = accounts
        world.settings = settings  # type: ignore[assignment]
        world.records = records  # type: ignore[assignment]
        world.abilities = abilities  # type: ignore[assignment]
        world.sync_entity = SyncEntity(
            accounts,
            settings,
            records,
            world.factory,
            world.storage,
            TYPES,
            STRATEGIES[world.strategy],
            PillowCheck(),
            abilities=abilities,
        )
        world.survey = Survey(accounts, records, world.factory, TYPES, abilities)
        return world
