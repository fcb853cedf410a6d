"""The checks of `imgsync doctor`: what the application's need, and those of this machine."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dependency_injector import providers
from pydantic import SecretStr

from imgsync.adapters.sql.looking import database_file, look_at_database
from imgsync.adapters.sql.migrations import HEAD
from imgsync.application.accounts import find_account
from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.application.doctor import (
    Check,
    ExamineAccounts,
    Finding,
    Health,
    check_database_clock,
    check_webhooks,
    check_workers,
    examine,
)
from imgsync.domain.errors import ImgsyncError, StoreError
from imgsync.domain.model import Account
from imgsync.domain.text import counted, file_size
from imgsync.entrypoints.config import Config, meant_variable, unknown_variables
from imgsync.entrypoints.container import place_of_keys, secrets_as_they_are

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_LEAST_FREE_BYTES = 500_000_000
_DATABASE_SECONDS = 15.0
_KEY = "see that the database, and the key that its tokens are encrypted with, can be read"
_PLAIN = "some of their tokens are not encrypted yet"
_ENCRYPT = "the next command, such as 'imgsync account list', does that; keep a copy of the key"
_TAKE_UP = "'imgsync account rekey' keeps its keys in the key file, and removes it"
_NEEDED = "needs the database, which cannot be used now"


async def diagnose(container: "Container", child: str | None = None) -> list[Finding]:
    """What is found of all parts, or of a child and its main account alone.

    UnknownAccountError and its like for a `child` that is none, where the database can be asked.
    """
    config: Config = container.config()
    stored = await examine(
        [
            Check(
                "database", lambda: _database(config), _DATABASE_SECONDS, todo=_of_server(config)
            ),
            Check("disk", lambda: _disks(config), _DATABASE_SECONDS),
            Check("plugins", lambda: _plugins(container), _DATABASE_SECONDS),
        ]
    )
    if all(one.health is Health.WELL for one in stored if one.check == "database"):
        opened = await examine([Check("database", lambda: _opened(container), _DATABASE_SECONDS)])
        if opened:  # it can be looked at, and yet not be used: that alone is told of it
            stored = [*opened, *(one for one in stored if one.check != "database")]
    found = [*configuration(config), *stored]
    if any(one.check == "database" and one.health is not Health.WELL for one in stored):
        names = "clock", "accounts", "webhooks", "workers", "queue"
        return found + [Finding(name, "", Health.UNKNOWN, _NEEDED) for name in names]
    found += _left_keys(config)
    # Not as other commands have them, which encrypt what is plain, and make a key for that.
    as_they_are = providers.Singleton(secrets_as_they_are, container.database, container.config)
    with container.stored_secrets.override(as_they_are):
        return found + await _of_stored(container, child)


def _left_keys(config: Config) -> list[Finding]:
    said = "a rekeying that was cut off has left this file with keys"
    left = place_of_keys(config).left()
    return [Finding("key", str(file), Health.UNKNOWN, said, _TAKE_UP) for file in left]


async def _of_stored(container: "Container", child: str | None) -> list[Finding]:
    try:
        async with asyncio.timeout(_DATABASE_SECONDS):
            accounts = await _accounts(container, child)
            is_plain = await container.stored_secrets().has_plain()
    except (StoreError, TimeoutError) as error:  # such as that the key of the tokens is not there
        said = str(error) or f"no answer within {_DATABASE_SECONDS:g} s"
        unread = Finding("accounts", "", Health.WRONG, said, _KEY)
        return [unread, *await examine(_checks(container, [], child, are_read=False))]
    found = [Finding("accounts", "", Health.UNKNOWN, _PLAIN, _ENCRYPT)] if is_plain else []
    return found + await examine(_checks(container, accounts, child))


def _checks(
    container: "Container", accounts: Sequence[Account], child: str | None, *, are_read: bool = True
) -> list[Check]:
    names = {account.id: account.name for account in accounts}
    clock = container.clock()

    async def workers() -> Sequence[Finding]:
        queue = await in_daemon_thread(container.queue)
        now = await container.shared_clock().now()
        return await check_workers(queue, now, await _oldest(container))

    async def webhooks() -> Sequence[Finding]:
        return await check_webhooks(container.webhook_states(), names, clock.now())

    listed = Check("accounts", lambda: _listed(container, accounts, named=child is not None))
    return [
        Check("clock", lambda: check_database_clock(container.shared_clock(), clock)),
        *([listed] if are_read else []),
        *_of_accounts(container, accounts),
        Check("webhooks", webhooks),
        Check("workers", workers),
    ]


def _of_accounts(container: "Container", accounts: Sequence[Account]) -> list[Check]:
    if not accounts:
        return []
    examining = ExamineAccounts(
        container.accounts(),
        container.abilities(),
        container.moysklad(),
        container.clock(),
    )
    return examining.checks(accounts)


async def _accounts(container: "Container", child: str | None) -> list[Account]:
    """Those to be asked; mains first, as what is wrong there is wrong for all."""
    stored = container.accounts()
    links = {link.child_id: link.main_id for link in await container.settings().links()}
    mains = set(links.values())
    if child is None:
        accounts = await stored.all()
        return sorted(accounts, key=lambda account: account.id not in mains)
    found = await find_account(stored, child)
    main = links.get(found.id)
    return [*([await stored.get(main)] if main else []), found]


async def _listed(
    container: "Container", accounts: Collection[Account], *, named: bool
) -> Sequence[Finding]:
    stored, ids = container.accounts(), {account.id for account in accounts}
    links = await container.settings().links()
    if named:
        links = [link for link in links if link.child_id in ids]
    if not accounts and not links:
        todo = "store them with 'imgsync account add', and link them with 'imgsync link'"
        return [Finding("accounts", "", Health.UNKNOWN, "none are stored yet", todo)]
    found = []
    for link in links:
        if link.damage is not None:
            said = f"its link is damaged: {link.damage}"
            todo = "set it anew with 'imgsync settings set', or 'imgsync unlink' and 'imgsync link'"
            found.append(Finding("accounts", link.child_id, Health.WRONG, said, todo))
    linked = {one for link in links for one in (link.main_id, link.child_id)}
    for account_id in sorted(linked - ids):
        try:
            await stored.get(account_id)
        except ImgsyncError as error:
            todo = "add it again with 'imgsync account add'"
            found.append(Finding("accounts", account_id, Health.WRONG, str(error), todo))
    told = f"{counted(len(accounts), 'account')}, {counted(len(links), 'link')}"
    health = Health.WELL if links else Health.UNKNOWN
    todo = "" if links else "link children to a main account with 'imgsync link MAIN CHILD'"
    return [Finding("accounts", "", health, told, todo), *found]


async def _oldest(container: "Container") -> float | None:
    if container.config().queue_url is not None:
        return None
    return (await container.figures()()).oldest_due


def configuration(config: Config, *, defaults: bool = True) -> list[Finding]:
    """Where each value comes from; no secret, and no password of an address."""
    found, as_default = [], 0
    for name in type(config).model_fields:
        origin = config.origin_of(name)
        if origin == "the default":
            as_default += 1
            continue
        said = f"{_shown(name, getattr(config, name))}, set by {origin}"
        found.append(Finding("configuration", name, Health.WELL, said))
    for name in unknown_variables():
        said = f"it configures nothing in imgsync{meant_variable(name)}"
        todo = "see the names in README, or take it away"
        found.append(Finding("configuration", name, Health.UNKNOWN, said, todo))
    if as_default and defaults:
        said = f"{counted(as_default, 'value')} as by default"
        found.append(Finding("configuration", "", Health.WELL, said))
    return found


_SECRET_NAMES = ("token", "secret", "password", "key")


def _shown(name: str, value: Any) -> str:
    values = value if isinstance(value, tuple) else (value,)
    names_one = any(part in _SECRET_NAMES for part in name.split("_"))
    is_secret = names_one and isinstance(value, str)
    if is_secret or any(isinstance(one, SecretStr) for one in values):
        return "set, not shown"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return _without_password(value) if name.endswith("_url") else str(value)


def _without_password(url: str) -> str:
    """An address as far as it can be shown: its query may hold a password too."""
    try:
        parts = urlsplit(url)
        host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "set, not shown"
    if "@" in parts.path:  # the rest of a password with a '/' in it
        return "set, not shown"
    user = f"{parts.username}@" if parts.username else ""
    return f"{parts.scheme}://{user}{host}{parts.path}"


def _of_server(config: Config) -> str:
    """What to do where a database on a server cannot be used; nothing is known of a file."""
    if database_file(config.database_url) is not None:
        return ""
    if find_spec("psycopg") is None:
        return "pip install 'imgsync[postgresql]'"
    return (
        "see whether that server runs and this machine reaches it, and whether database_url has "
        "the right user, password and name of the database"
    )


async def _database(config: Config) -> Sequence[Finding]:
    state = await in_daemon_thread(lambda: look_at_database(config.database_url))
    if state.revision == HEAD:
        said = f"{state.kind}, schema {HEAD}, that of this imgsync"
        return [Finding("database", "", Health.WELL, said)]
    if state.revision is None:
        where = f"there is none at {state.path}" if state.path else "it has no tables"
        said, todo = f"{state.kind}: {where} yet", "the first 'imgsync account add' makes it"
        return [Finding("database", "", Health.UNKNOWN, said, todo)]
    if state.revision < HEAD:
        said = f"{state.kind}, schema {state.revision}; this imgsync has {HEAD}"
        todo = "the next command, such as 'imgsync account list', updates it; back it up before"
        return [Finding("database", "", Health.UNKNOWN, said, todo)]
    said = f"{state.kind}, schema {state.revision}, which this imgsync ({HEAD}) does not know"
    return [Finding("database", "", Health.WRONG, said, "update imgsync on this machine")]


async def _opened(container: "Container") -> Sequence[Finding]:
    await in_daemon_thread(container.database)
    return []


async def _disks(config: Config) -> Sequence[Finding]:
    folders = {"temp_dir": config.temp_dir}
    file = database_file(config.database_url)
    if file is not None:
        folders["database_url"] = file.parent
    content = urlsplit(config.content_store_url)
    if content.scheme == "file":
        folders["content_url"] = Path(url2pathname(content.path))
    if config.backup_dir is not None:
        folders["backup_dir"] = config.backup_dir
    if folders.get("content_url") == config.temp_dir.absolute():
        del folders["content_url"]

    async def one(name: str, folder: Path) -> Sequence[Finding]:
        return [await in_daemon_thread(lambda: disk_finding(name, folder))]

    def look(name: str, folder: Path) -> Callable[[], Awaitable[Sequence[Finding]]]:
        return lambda: one(name, folder)

    checks = [Check("disk", look(name, folder), 5.0, name) for name, folder in folders.items()]
    return await examine(checks)


def disk_finding(name: str, folder: Path) -> Finding:
    """Room, and the right to write, in a folder or in that in which it will be made."""
    there = next((one for one in (folder, *folder.absolute().parents) if one.exists()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        said = f"{folder} cannot be looked at: {error.strerror}"
        return Finding("disk", name, Health.WRONG, said, "see its owner and its rights")
    if not there.is_dir():
        said = f"{folder} cannot be made: {there} is no folder"
        return Finding("disk", name, Health.WRONG, said, f"name another by {name}")
    if not os.access(there, os.W_OK | os.X_OK):
        said = f"{folder} cannot be written by this user"
        return Finding("disk", name, Health.WRONG, said, "see its owner and its rights")
    said = f"{file_size(free)} free in {folder}"
    if free < _LEAST_FREE_BYTES:
        return Finding("disk", name, Health.WRONG, said, "make room, or name another folder")
    return Finding("disk", name, Health.WELL, said)


async def _plugins(container: "Container") -> Sequence[Finding]:
    by_package: dict[tuple[str, str], list[str]] = {}
    for one in container.plugins().plugins:
        by_package.setdefault((one.distribution, one.version), []).append(one.name)
    return [
        Finding("plugins", package, Health.WELL, f"{version}: {', '.join(names)}")
        for (package, version), names in by_package.items()
    ]
