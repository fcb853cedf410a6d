"""Stored accounts, their abilities, settings and sync records."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Label,
    LargeBinary,
    Row,
    Select,
    Text,
    case,
    cast,
    delete,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from imgsync.adapters.sql.database import Database, now_of
from imgsync.adapters.sql.secrets import SqlSecrets
from imgsync.adapters.sql.tables import (
    account_abilities,
    accounts,
    encryption,
    storable,
    surveys,
    sync_records,
    sync_settings,
)
from imgsync.domain.diff import EntityKey, SyncRecord
from imgsync.domain.errors import (
    AlreadyLinkedError,
    DamagedLinkError,
    DamagedRowError,
    MissingKeyError,
    UnknownAccountError,
)
from imgsync.domain.model import (
    Abilities,
    Account,
    AccountRole,
    LinkSettings,
    MatchField,
    Parking,
    StoredLink,
    TokenKind,
)
from imgsync.domain.pictures import PictureSettings
from imgsync.domain.ports.clock import Clock
from imgsync.domain.schedule import LinkSchedule
from imgsync.domain.surveys import PastSurvey, SurveyKey
from imgsync.domain.text import natural_key, shown

_log = logging.getLogger(__name__)

_FREE = {"parked_until": None, "parked_reason": None}
_STORED = ("id", "name", "token_kind", "secret", "login", "role")
_IS_NO_ROLE = accounts.c.role.not_in([role.value for role in AccountRole])
_RECORD = TypeAdapter(SyncRecord)
_ABILITIES = TypeAdapter(Abilities)
_Settings = TypeVar("_Settings", PictureSettings, LinkSchedule)


class SqlAccountRepository:
    """Implements the port `AccountRepository`. Without `secrets` tokens are stored as they are.

    `clock` is for tests; without it the time is the database's.
    """

    def __init__(
        self, database: Database, clock: Clock | None = None, secrets: SqlSecrets | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._secrets = secrets or SqlSecrets(database)

    async def add(self, account: Account, parking: Parking | None = None) -> None:
        def work(connection: Connection) -> None:
            values = values_of(account, self._secrets.seal(connection, account.secret), parking)
            connection.execute(self._database.upsert(accounts, values))
            if account.role is None:
                # One that is none would leave the row as damaged as it was.
                this = update(accounts).where(accounts.c.id == account.id, _IS_NO_ROLE)
                connection.execute(this.values(role=None))

        await self._database.run(work)

    async def get(self, account_id: str) -> Account:
        if storable(account_id) != account_id:  # strangers name accounts, too
            raise UnknownAccountError(account_id)
        row = await self._database.run(
            lambda connection: connection.execute(
                account_rows(connection).where(accounts.c.id == account_id)
            ).first(),
            reads=True,
        )
        if row is None:
            raise UnknownAccountError(account_id)
        return account_of(row, self._secrets)

    async def all(self) -> list[Account]:
        rows = await self._database.run(
            lambda connection: connection.execute(account_rows(connection)).all(), reads=True
        )
        found = []
        for row in rows:
            try:
                found.append(account_of(row, self._secrets))
            except DamagedRowError as error:
                _log.error("%s", error)
        return sorted(found, key=lambda account: (natural_key(account.name), account.id))

    async def set_role(self, account_id: str, role: AccountRole) -> None:
        this = update(accounts).where(accounts.c.id == account_id).values(role=role.value)
        await self._database.run(lambda connection: connection.execute(this))

    async def park(self, account_id: str, parking: Parking, used: Account | None = None) -> bool:
        values = {"parked_until": parking.until, "parked_reason": storable(parking.reason)}
        this = update(accounts).where(accounts.c.id == account_id).values(values)

        def work(connection: Connection) -> bool:
            if used is not None:
                # In the same transaction: this process may have been stopped since it read them.
                query = account_rows(connection).where(accounts.c.id == account_id)
                if connection.dialect.name == "postgresql":
                    query = query.with_for_update()
                row = connection.execute(query).first()
                if row is None or not _goes_by(row, used, self._secrets):
                    return False
            return connection.execute(this).rowcount == 1

        return await self._database.run(work)

    async def parking(self, account_id: str) -> Parking | None:
        query = select(accounts.c.parked_reason, accounts.c.parked_until).where(
            accounts.c.id == account_id, accounts.c.parked_until.is_not(None)
        )

        def read(connection: Connection) -> Parking | None:
            row = connection.execute(query).first()
            if row is None or row.parked_until <= now_of(connection, self._clock):
                return None
            return Parking(row.parked_reason or "", row.parked_until)

        return await self._database.run(read, reads=True)


def _goes_by(row: Row[Any], used: Account, secrets: SqlSecrets) -> bool:
    try:
        stored = account_of(row, secrets)
    except DamagedRowError:
        return False
    return all(
        getattr(stored, name) == getattr(used, name) for name in ("token_kind", "secret", "login")
    )


def values_of(account: Account, sealed: str, parking: Parking | None = None) -> dict[str, Any]:
    """Its row, with its secret as it is stored; the role is left as it is where it is None."""
    values: dict[str, Any] = {
        "id": account.id,
        "name": account.name,
        "token_kind": account.token_kind.value,
        "secret": sealed,
        "login": account.login,
        **_FREE,
    }
    if account.role is not None:
        values["role"] = account.role.value
    if parking is not None:
        values |= {"parked_until": parking.until, "parked_reason": storable(parking.reason)}
    return values


class SqlAbilityRepository:
    """Implements the port `AbilityRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, account_id: str) -> Abilities:
        return await self._database.run(
            lambda connection: _abilities(connection, account_id) or Abilities(), reads=True
        )

    async def learn(self, account_id: str, shown: Abilities) -> None:
        def values(abilities: Abilities) -> dict[str, Any]:
            found = _ABILITIES.dump_python(abilities, mode="json")
            return {"account_id": account_id, "abilities": found}

        def work(connection: Connection) -> None:
            if connection.dialect.name == "postgresql":
                # A row that is not there yet cannot be locked, and two hosts would both begin
                # from nothing.
                new = postgresql.insert(account_abilities).values(values(Abilities()))
                connection.execute(new.on_conflict_do_nothing())
            known = _abilities(connection, account_id, to_change=True) or Abilities()
            learnt = values(known.with_shown(shown))
            connection.execute(self._database.upsert(account_abilities, learnt))

        await self._database.run(work)

    async def forget(self, account_id: str) -> None:
        this = delete(account_abilities).where(account_abilities.c.account_id == account_id)
        await self._database.run(lambda connection: connection.execute(this))


class SqlSurveyRepository:
    """Implements the port `SurveyRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: SurveyKey) -> PastSurvey | None:
        query = select(surveys.c.began, surveys.c.settings, surveys.c.seen, surveys.c.moved).where(
            surveys.c.main_account_id == key.main_account_id,
            surveys.c.child_account_id == key.child_account_id,
            surveys.c.entity_type == key.entity_type,
        )
        row = await self._database.run(
            lambda connection: connection.execute(query).first(), reads=True
        )
        return PastSurvey(row.began, row.settings, row.seen, row.moved) if row else None

    async def put(self, key: SurveyKey, survey: PastSurvey) -> None:
        row = asdict(key) | asdict(survey)
        await self._database.run(
            lambda connection: connection.execute(self._database.upsert(surveys, row))
        )


class SqlSettingsRepository:
    """Implements the port `SettingsRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, child_account_id: str) -> LinkSettings:
        return await self._database.run(
            lambda connection: self._read(connection, child_account_id), reads=True
        )

    def _read(self, connection: Connection, child_account_id: str) -> LinkSettings:
        query = _links(self._database.dialect).where(sync_settings.c.account_id == child_account_id)
        row = connection.execute(query).first()
        if row is None:
            return LinkSettings()
        try:
            return _settings(row)
        except ValueError as error:
            raise DamagedLinkError(child_account_id, str(error)) from None

    async def put(self, child_account_id: str, settings: LinkSettings) -> None:
        values = {"account_id": child_account_id, **_columns(settings)}
        await self._database.put(sync_settings, values)

    async def change(
        self, child_account_id: str, change: Callable[[LinkSettings], LinkSettings]
    ) -> LinkSettings:
        def work(connection: Connection) -> LinkSettings:
            _lock(connection)
            changed = change(self._read(connection, child_account_id))
            values = {"account_id": child_account_id, **_columns(changed)}
            connection.execute(self._database.upsert(sync_settings, values))
            return changed

        return await self._database.run(work, alone=True)

    async def link(self, main_id: str, child_id: str, settings: LinkSettings) -> None:
        table = sync_settings.c
        values = {"account_id": child_id, "main_account_id": main_id, **_columns(settings)}
        mains = select(*_texts(self._database.dialect, "account_id", "main_account_id")).where(
            table.main_account_id.is_not(None),
            or_(table.account_id.in_((main_id, child_id)), table.main_account_id == child_id),
        )

        def work(connection: Connection) -> None:
            _lock(connection)
            for row in connection.execute(mains).all():
                account_id, linked_to = map(_readable, row)
                if linked_to == child_id:
                    raise AlreadyLinkedError(child_id, None)
                if account_id == main_id or linked_to != main_id:
                    raise AlreadyLinkedError(account_id, linked_to)
            connection.execute(self._database.upsert(sync_settings, values))

        await self._database.run(work)

    async def unlink(self, child_id: str) -> bool:
        none = {"main_account_id": None, **_columns(LinkSettings())}
        this = update(sync_settings).where(
            sync_settings.c.account_id == child_id, sync_settings.c.main_account_id.is_not(None)
        )
        return await self._database.run(
            lambda connection: connection.execute(this.values(none)).rowcount == 1
        )

    async def links(self, main_id: str | None = None) -> list[StoredLink]:
        main = sync_settings.c.main_account_id
        # Without an index: a job asks once, and passing a row by is little beside making a link.
        is_wanted = main.is_not(None) if main_id is None else main == storable(main_id)
        query = _links(self._database.dialect).where(is_wanted)
        rows = await self._database.run(
            lambda connection: connection.execute(query).all(), reads=True
        )
        links = []
        for row in rows:
            settings, damage = LinkSettings(), None
            try:
                for name in ("account_id", "main_account_id"):
                    _checked(name, row._mapping[name])
                settings = _settings(row)
            except ValueError as error:
                damage = str(error)
            main_id, child_id = map(_readable, (row.main_account_id, row.account_id))
            links.append(StoredLink(main_id, child_id, settings, damage))
        return sorted(links, key=lambda link: (link.main_id, link.child_id))


def _lock(connection: Connection) -> None:
    """Until the commit nobody else writes settings: on PostgreSQL two hosts that link A to B and B
    to A, or store the first ones of a child, would not see each other's row."""
    if connection.dialect.name == "postgresql":
        lock = f"LOCK TABLE {sync_settings.name} IN SHARE ROW EXCLUSIVE MODE"
        connection.exec_driver_sql(lock)


class SqlSyncRecordRepository:
    """Implements the port `SyncRecordRepository`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: EntityKey) -> SyncRecord | None:
        columns = sync_records.c
        query = select(columns.record).where(
            *(columns[name] == value for name, value in asdict(key).items())
        )
        try:
            row = await self._database.run(
                lambda connection: connection.execute(query).first(), reads=True
            )
            return None if row is None else _RECORD.validate_python(row.record)
        except (ValueError, RecursionError):
            return None  # damaged, or of another version: the entity is copied anew

    async def get_many(
        self, child_account_id: str, entity_type: str, child_entity_ids: Sequence[str]
    ) -> dict[str, SyncRecord]:
        columns = sync_records.c
        kind = LargeBinary if self._database.dialect == "sqlite" else Text
        query = select(columns.child_entity_id, cast(columns.record, kind)).where(
            columns.child_account_id == child_account_id,
            columns.entity_type == entity_type,
            columns.child_entity_id.in_(child_entity_ids),
        )

        def read(connection: Connection) -> dict[str, SyncRecord]:
            found = {}
            for child_entity_id, record in connection.execute(query):
                try:
                    found[child_entity_id] = _record(record)
                except (ValueError, RecursionError):
                    continue  # as `get`
            return found

        return await self._database.run(read, reads=True)

    async def copied(self, child_account_id: str, entity_type: str) -> set[str]:
        columns = sync_records.c
        # By the database, as there may be a record for each entity of a large catalogue.
        left = self._text(columns.record, "child_image_ids")
        begun = self._text(columns.record, "begun_on")
        query = select(columns.child_entity_id).where(
            columns.child_account_id == child_account_id,
            columns.entity_type == entity_type,
            or_(left != "[]", begun.is_not(None)),
        )
        return await self._database.run(
            lambda connection: set(connection.execute(query).scalars()), reads=True
        )

    def _text(self, record: Column[Any], name: str) -> ColumnElement[str | None]:
        found: ColumnElement[str | None] = record[name].as_string()
        if self._database.dialect == "sqlite":  # which stores anything, and fails on reading it
            return case((func.json_valid(record) == 1, found))
        # PostgreSQL stores such escapes, in a warning that names a file, and fails on reading any
        # part of it; whoever reads the record itself learns what is left there.
        spelled = cast(record, Text).regexp_match(r"\\u(0000|[dD][89a-fA-F])")
        return case((spelled, "?"), else_=found)

    async def put(self, key: EntityKey, record: SyncRecord) -> None:
        values = {**asdict(key), "record": _RECORD.dump_python(record, mode="json")}
        await self._database.put(sync_records, values)


def _abilities(
    connection: Connection, account_id: str, *, to_change: bool = False
) -> Abilities | None:
    """What is stored; None where nothing is, or what another program has left cannot be read."""
    kind = LargeBinary if connection.dialect.name == "sqlite" else Text
    query = select(cast(account_abilities.c.abilities, kind)).where(
        account_abilities.c.account_id == account_id
    )
    if to_change:
        query = query.with_for_update()
    found: str | bytes | None = connection.execute(query).scalar()  # type: ignore[assignment]
    try:
        return None if found is None else _ABILITIES.validate_json(found)
    except ValueError:
        return None


def _links(dialect: str) -> Select[Any]:
    """The columns of ``sync_settings``, texts as they are, which another program may have written:
    no driver fails to decode them."""
    texts = ("account_id", "main_account_id", "match_by", "types", "folders", "pictures")
    columns = sync_settings.c
    switches = (columns.sync_images, columns.sync_images_all, columns.guard)
    return select(*switches, *_texts(dialect, *texts, "schedule"))


def _texts(dialect: str, *names: str) -> list[Label[Any]]:
    kind = LargeBinary if dialect == "sqlite" else Text
    return [cast(sync_settings.c[name], kind).label(name) for name in names]


def _readable(text: str | bytes) -> str:
    return text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text


def _checked(column: str, text: str | bytes) -> None:
    """ValueError for an id that is none."""
    try:
        _text(text)
    except UnicodeDecodeError:
        raise ValueError(f"{column} is no UTF-8 text") from None


def _settings(row: Row[Any]) -> LinkSettings:
    """The settings in a row; ValueError where another program left some that cannot be read."""
    try:
        field = _text(row.match_by)
        match_by = None if field is None else MatchField(field)
    except ValueError:
        raise ValueError(f"match_by is {row.match_by!a}") from None
    # Both are on only where the table has lost its triggers.
    return LinkSettings(
        row.sync_images and not row.sync_images_all,
        row.sync_images_all,
        match_by,
        _names("types", row.types),
        _names("folders", row.folders),
        _made(PictureSettings, "pictures", row.pictures),
        _made(LinkSchedule, "schedule", row.schedule),
        bool(row.guard),
    )


def _names(column: str, text: str | bytes | None) -> tuple[str, ...]:
    try:
        found = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{column} is no JSON array of texts")
    return tuple(found)


def _made(kind: type[_Settings], column: str, text: str | bytes | None) -> _Settings:
    """The settings of one kind in a column, where what is as by default is left out."""
    try:
        found = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        found = text
    if found is None:
        return kind()
    names = [one.name for one in fields(kind)]
    if not isinstance(found, dict) or not found.keys() <= set(names):
        raise ValueError(f"{column} is no JSON object of {', '.join(names)}")
    return kind(**found)


def _columns(settings: LinkSettings) -> dict[str, Any]:
    return {
        "sync_images": settings.sync_images,
        "sync_images_all": settings.sync_images_all,
        "match_by": settings.match_by and settings.match_by.value,
        "types": list(settings.types) or None,
        "folders": list(settings.folders) or None,
        "pictures": _changed(settings.pictures) or None,
        "schedule": _changed(settings.schedule) or None,
        "guard": settings.guard,
    }


def _changed(settings: PictureSettings | LinkSchedule) -> dict[str, Any]:
    """What is not as it is by default."""
    default = asdict(type(settings)())
    return {name: value for name, value in asdict(settings).items() if value != default[name]}


def account_rows(connection: Connection) -> Any:
    """The columns of `_STORED`, as text that no driver fails to decode, and the key that the
    database names."""
    columns: list[Any] = [accounts.c[name] for name in _STORED]
    if connection.dialect.name == "sqlite":
        columns = [cast(column, LargeBinary).label(column.name) for column in columns]
    return select(*columns, select(encryption.c.fingerprint).scalar_subquery().label("key"))


def account_of(row: Row[Any], secrets: SqlSecrets) -> Account:
    """The account in a row, which another program may have written; MissingKeyError where its
    secret cannot be read for want of the database's key."""
    values = dict(row._mapping)
    key = values.pop("key")
    try:
        texts = {name: _text(value) for name, value in values.items()}
        role = texts["role"]
        return Account(
            texts["id"] or "",
            texts["name"] or "",
            TokenKind(texts["token_kind"] or ""),
            secrets.unseal(texts["secret"] or ""),
            texts["login"],
            None if role is None else AccountRole(role),
        )
    except MissingKeyError as error:
        if error.fingerprint == key:
            raise
        # With the database's key all others can be read.
        reason = f"its token is encrypted with key {error.fingerprint}, which is not here"
        raise _damaged(values, reason) from None
    except ValueError as error:
        no_text = isinstance(error, UnicodeDecodeError)
        raise _damaged(values, "it is no UTF-8 text" if no_text else str(error)) from None


def _damaged(values: Mapping[str, Any], reason: str) -> DamagedRowError:
    account_id, name = (shown(readable(values[column])) for column in ("id", "name"))
    told = f"'{account_id}'" if name == account_id else f"'{name}' ({account_id})"
    return DamagedRowError(
        f"The stored account {told} is damaged: {reason}; 'imgsync account rotate' gives it a "
        "new token, 'imgsync account remove' forgets it"
    )


def readable(value: str | bytes | None) -> str:
    """To be shown, or compared with what was shown."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return value or ""


def _text(value: str | bytes | None) -> str | None:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _record(text: str | bytes) -> SyncRecord:
    try:
        return _RECORD.validate_json(text)
    except ValueError:  # of a lone surrogate too, which the API may send
        return _RECORD.validate_python(json.loads(text))
