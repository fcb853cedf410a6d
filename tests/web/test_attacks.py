"""What strangers may send, and what it must not do."""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.adapters.sql.repositories import SqlAccountRepository
from imgsync.domain.errors import StoreError, UnknownAccountError
from imgsync.entrypoints.config import fixed_config
from imgsync.entrypoints.container import Container, close
from imgsync.entrypoints.web import server
from imgsync.entrypoints.web.plain import without_addresses, without_urls
from imgsync.entrypoints.web.veiling import Veil
from tests.web.conftest import Visited

_PATIENCE_SECONDS = 60.0
_HALF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
_HALF_A_FORM = (
    b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\npassword="
)
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[bytes], Awaitable[Connection]]

_AT_ONCE_SECONDS = 5.0
"""Far more than a text takes that is read once, far less than one that is read from each place."""


@pytest.mark.parametrize("piece", ["a", "a.", "/", "-a", "host '", "a:/", "leads to a", "_://"])
def test_a_long_text_is_read_once(piece: str) -> None:
    began = time.monotonic()
    for read in (without_addresses, without_urls, Veil()):
        read(piece * 60_000)
    assert time.monotonic() - began < _AT_ONCE_SECONDS


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a.example/b, now", "see … now"),
        ("see_https://a.example/b", "see_…"),
        ("Смотриhttps://a.example/b", "Смотри…"),
        ("a=(http://a.example)", "a=(…"),
        ("at api.moysklad.ru/x?y", "at …"),
        ("'api.moysklad.ru/x'", "'…'"),
        ("one /api/remap/1.2/entity two", "one … two"),
        ("a:// b", "a:// b"),
        ("3 MB: photo.jpg", "3 MB: photo.jpg"),
    ],
)
def test_addresses_in_a_text(text: str, shown: str) -> None:
    assert without_urls(text) == shown
    assert without_addresses(text) == shown


def test_an_origin_that_is_none_is_refused(visited: Visited) -> None:
    visited.link()
    answer = visited.browser.post("/login", data={"password": "x"}, headers={"Origin": "http://[x"})
    assert answer.status_code == 403


@pytest.mark.parametrize("path", ["/metrics/", "/login/", "/audit/", "/api/v1/tasks/"])
def test_nobody_is_led_to_the_host_that_a_request_names(visited: Visited, path: str) -> None:
    visited.link()
    answer = visited.browser.get(path, headers={"Host": "127.0.0.1:1"})
    assert answer.status_code == 404
    assert "location" not in answer.headers


@pytest.mark.anyio
@pytest.mark.parametrize("account_id", ["a\x00b", "\ud800", ""])
async def test_an_account_that_no_database_can_hold_is_none(
    database: Database, account_id: str
) -> None:
    with pytest.raises(UnknownAccountError):
        await SqlAccountRepository(database).get(account_id)


def test_a_database_that_is_away_is_told_without_a_traceback(
    visited: Visited, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited.link()

    async def fail(*_: object, **__: object) -> None:
        raise StoreError("Cannot use the database: gone")

    monkeypatch.setattr(type(visited.container.web_secrets()), "get_many", fail)
    answer = visited.browser.get("/")
    assert answer.status_code == 503
    assert "gone" not in answer.text
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info is None


def test_a_body_that_is_cut_is_no_error(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def go(connect: Connect) -> None:
        _, writer = await connect(_HALF_A_FORM)
        writer.close()
        await writer.wait_closed()
        assert await _is_alive(connect)

    with caplog.at_level(logging.WARNING):
        _serve(sqlite_url, tmp_path, go)
    assert not caplog.records


@pytest.mark.parametrize("sent", [b"", _HALF_A_HEAD, _HALF_A_FORM])
def test_who_sends_slowly_is_left(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server, "_ARRIVING_SECONDS", 0.2)

    async def go(connect: Connect) -> None:
        assert await _ends(await connect(sent))

    _serve(sqlite_url, tmp_path, go)


def test_connections_that_ask_for_nothing_make_room(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_CROWDED", 5)
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 8)

    async def go(connect: Connect) -> None:
        held = [await connect(_HALF_A_HEAD) for _ in range(20)]
        assert await _is_alive(connect)
        assert await _ends(held[0])

    _serve(sqlite_url, tmp_path, go)


async def _is_alive(connect: Connect) -> bool:
    reader, writer = await connect(_HALF_A_HEAD + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(_PATIENCE_SECONDS):
        answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200")


async def _ends(connection: Connection) -> bool:
    """Whether the server ends it without an answer."""
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await connection[0].read() == b""
    except ConnectionResetError:
        return True


def _serve(url: str, folder: Path, go: Callable[[Connect], Awaitable[None]]) -> None:
    async def run() -> None:
        container = Container(config=fixed_config(database_url=url, temp_dir=folder / "temp"))
        await container.web_secrets().put("password", "$argon2id$none")
        stop, opened = asyncio.Event(), list[Connection]()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            address = listening.getsockname()

            async def connect(sent: bytes) -> Connection:
                made = await asyncio.open_connection(*address)
                opened.append(made)
                made[1].write(sent)
                await made[1].drain()
                return made

            serving = asyncio.create_task(server.WebPart(container, listening).run(stop))
            try:
                await go(connect)
            finally:
                for _, writer in opened:
                    writer.close()
                stop.set()
                await serving
                await close(container)

    asyncio.run(run())
