"""Answers that no honest server gives: each ends soon, in bounds and with a clear error."""

import asyncio
import gzip
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from imgsync.adapters.moysklad.addresses import DownloadPolicy
from imgsync.adapters.moysklad.answers import AnswerTooLongError, TransientError, decode
from imgsync.adapters.moysklad.limits import MAX_ANSWER_BYTES
from imgsync.adapters.moysklad.pace import Pacer
from imgsync.adapters.moysklad.transport import DOWNLOAD_SECONDS, EXCHANGE_SECONDS, ApiTransport
from imgsync.domain.errors import ApiError, ImgsyncError, UnavailableError
from imgsync.domain.model import Account, TokenKind
from tests.moysklad.harness import ACCOUNT, PRODUCT, FakeTime, Harness, build, http_client
from tests.moysklad.raw import (
    Answer,
    RawServer,
    endless,
    gzipped,
    json_response,
    plain,
    response,
)

pytestmark = pytest.mark.anyio
IMAGES = "/entity/product/p1/images"
EMPTY = json_response({"meta": {"size": 0}, "rows": []})
OPEN = b"HTTP/1.1 200 x\r\n\r\n"


@pytest.mark.parametrize(
    "first",
    [
        response(b""),
        response(b"<html>"),
        response(b'{"meta": {"size": 0}, "rows": [', length=None),
        response(b'{"meta"', length=100),
        response(b"{}", Content_Encoding="gzip"),
        response(gzip.compress(b"{}" * 1000, mtime=0)[:-20], Content_Encoding="gzip"),
        response(b"{}", Content_Encoding="br"),
        response(
            gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), Content_Encoding="gzip, gzip"
        ),
        gzipped(gzip.compress(b"{}", mtime=0)),
        response(b"[" * 100_000 + b"]" * 100_000),
        response(b'{"meta":{"size":' + b"9" * 5000 + b'},"rows":[]}'),
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"garbage\r\n\r\n",
        b"",
    ],
)
async def test_an_answer_that_is_cut_or_no_json_is_asked_again(
    server: RawServer, local: Harness, first: bytes
) -> None:
    is_cut = b"Content-Length: 100\r\n" in first or b"chunked" in first
    server.on(IMAGES, _closing(first) if is_cut else first, EMPTY)
    async with asyncio.timeout(20):
        assert await local.client.list_images(PRODUCT, "p1") == []
    assert server.count(IMAGES) == 2


def _closing(data: bytes) -> Answer:
    """An answer that is cut: the connection closes although it names a length."""

    async def answer(_: object) -> AsyncIterator[bytes]:
        yield data
        raise ConnectionResetError

    return answer


async def test_compressed_answers_are_read(server: RawServer, local: Harness) -> None:
    text = b'{"meta":{"size":0},"rows":[]}'
    parts = gzip.compress(text[:9]) + gzip.compress(text[9:])
    server.on(IMAGES, gzipped(text), response(parts, Content_Encoding="gzip"))
    for _ in range(2):
        assert await local.client.list_images(PRODUCT, "p1") == []


@pytest.mark.parametrize(
    "answer",
    [
        gzipped(b'{"rows":[' + b"1" * 65_000_000),
        gzipped(b" " * 65_000_000),
        endless(OPEN, b"[" * 65536),
        endless(response(length=2**40), b"x" * 65536),
        response(b'"' + "😀".encode() * 12_000_000, length=None),
        response(b"[" + b"[]," * 5_000_000 + b"1]"),
        response(b"[" + b"1," * 5_000_000 + b"1]"),
        response(length=2**60),
        endless(
            b"HTTP/1.1 200 x\r\nContent-Encoding: gzip\r\n\r\n", gzip.compress(b"", mtime=0) * 1000
        ),
    ],
)
async def test_an_answer_over_the_limit_is_not_read(
    server: RawServer, local: Harness, answer: Answer | bytes
) -> None:
    server.on(IMAGES, answer)
    async with asyncio.timeout(30):
        with pytest.raises(AnswerTooLongError, match="longer than any that is read"):
            await local.client.list_images(PRODUCT, "p1")
    assert server.count(IMAGES) == 1


async def test_of_an_endless_error_the_start_is_read(server: RawServer, local: Harness) -> None:
    server.on(IMAGES, endless(b"HTTP/1.1 400 x\r\n\r\n", b"x" * 65536))
    async with asyncio.timeout(10):
        with pytest.raises(ApiError, match="400"):
            await local.client.list_images(PRODUCT, "p1")


async def test_an_error_that_is_nested_deeply_is_still_an_error(
    server: RawServer, local: Harness
) -> None:
    server.on(IMAGES, response(b"[" * 60_000, 400))
    with pytest.raises(ApiError, match="400"):
        await local.client.list_images(PRODUCT, "p1")


def test_half_an_emoji_costs_no_page() -> None:
    for text, read in (
        (rb'["\ud83d"]', ["\ufffd"]),
        (rb'["a\ude00\ud83d\ude00"]', ["a\ufffd😀"]),
    ):
        assert decode(text) == read
    with pytest.raises(TransientError):
        decode(rb'["\ud83d"')


@pytest.mark.slow
async def test_a_byte_a_second_ends_with_the_time_of_the_exchange(server: RawServer) -> None:
    server.on(IMAGES, endless(OPEN, b" ", 0.05))
    async with http_client() as api:
        client = ApiTransport(
            ACCOUNT,
            DownloadPolicy.create(server.url, []),
            api,
            Pacer(lambda: 1),
            sleep=FakeTime().sleep,
            seconds=0.3,
        )
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="timed out"):
            await client.json("GET", IMAGES[1:])
    assert time.monotonic() - started < 300


@pytest.mark.slow
async def test_a_file_at_a_byte_a_second_ends_with_the_time_of_the_download(
    server: RawServer,
) -> None:
    server.on("/download/i1", response(status=302, Location="/storage"))
    server.on("/storage", endless(OPEN, b"x", 0.05))
    async with http_client() as api, http_client() as storage:
        local = build(ACCOUNT, api, storage, url=server.url, download_seconds=0.5)
        started = time.monotonic()
        with pytest.raises(UnavailableError, match="timed out"):
            await local.download(f"{server.url}/download/i1")
    assert time.monotonic() - started < 30
    assert server.count("/storage") == 1


def test_the_documented_times_and_bounds() -> None:
    assert (EXCHANGE_SECONDS, DOWNLOAD_SECONDS) == (300, 60)
    assert MAX_ANSWER_BYTES <= 64_000_000


@pytest.mark.parametrize("value", ["1e9", "1e12", "1e15", "1e300", "inf", "nan", "-1", "9" * 400])
@pytest.mark.parametrize(
    "name",
    [
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-Lognex-Retry-TimeInterval",
        "X-Lognex-Retry-After",
        "X-Lognex-Reset",
        "Retry-After",
    ],
)
async def test_no_header_stops_an_account(
    name: str, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a header says, requests go on within minutes, and never without a pace."""
    clock = FakeTime()
    pacer = Pacer(lambda: 1, monotonic=clock.monotonic, sleep=clock.sleep, name="Shop")
    usual = {
        "X-RateLimit-Limit": "45",
        "X-RateLimit-Remaining": "40",
        "X-Lognex-Retry-TimeInterval": "3000",
    }
    with caplog.at_level(logging.WARNING):
        for status in (200, 429, 429, 429):
            headers = usual | {name: value}
            pacer.observe(httpx.Response(status, headers=headers))
            for _ in range(50):
                async with pacer.slot() as slot:
                    slot.sending()
    assert max(clock.sleeps, default=0.0) <= 300
    assert sum(clock.sleeps) <= 3000
    told = [record for record in caplog.records if "asks to wait" in record.message]
    assert len(told) <= 1 + sum(clock.sleeps) / 300
    assert told or not any(wait > 30 for wait in clock.sleeps)


async def test_a_long_wait_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeTime()
    pacer = Pacer(lambda: 1, monotonic=clock.monotonic, sleep=clock.sleep, name="Shop")
    for _ in range(3):
        pacer.observe(httpx.Response(429, headers={"Retry-After": "1e9"}))
    (record,) = caplog.records
    assert "account 'Shop': the API asks to wait; nothing is sent for 300 s" in record.message
    assert "1e+09" in record.message


_PROBE = """
import asyncio, re, sys
from pathlib import Path
from tests.moysklad.harness import ACCOUNT, PRODUCT, build, http_client
from imgsync.domain.errors import ImgsyncError

async def main(url, paths):
    async with http_client() as api, http_client() as storage:
        client = build(ACCOUNT, api, storage, url=url)
        for path in paths:
            try:
                if path.startswith("download"):
                    await client.download(f"{url}/{path}", 10_000_000)
                else:
                    await client.client.list_images(PRODUCT, path)
            except ImgsyncError as error:
                print(type(error).__name__)

asyncio.run(main(sys.argv[1], sys.argv[2:]))
# Not ru_maxrss, which begins with that of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
async def test_bombs_leave_the_memory_below_250_mb(server: RawServer) -> None:
    big = gzip.compress(b"[" + b"0," * 150_000_000, 1)
    server.on("/entity/product/plain/images", endless(OPEN, b"[" * 65536))
    server.on("/entity/product/bomb/images", response(big, Content_Encoding="gzip"))
    server.on("/entity/product/twice/images", gzipped(big))
    server.on("/entity/product/emoji/images", response(b'"' + "😀".encode() * 7_900_000 + b'"'))
    server.on("/entity/product/lists/images", response(b"[" + b"[]," * 700_000 + b"1]"))
    server.on("/entity/product/deep/images", response(b"[" * 100_000))
    server.on("/entity/product/error/images", endless(b"HTTP/1.1 400 x\r\n\r\n", b"x" * 65536))
    server.on("/download", response(big, Content_Encoding="gzip"))
    names = ["plain", "bomb", "twice", "emoji", "lists", "deep", "error", "download"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _PROBE,
        server.url,
        *names,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    *errors, megabytes = output.decode().split()
    assert process.returncode == 0
    assert len(errors) == len(names)
    assert int(megabytes) < 250


_MANY = """
import asyncio, re, sys
from pathlib import Path
from tests.moysklad.harness import ACCOUNT, PRODUCT, build, http_client
from imgsync.domain.errors import ImgsyncError

async def main(url, paths):
    async with http_client() as api, http_client() as storage:
        clients = [build(ACCOUNT, api, storage, url=url).client for _ in range(2)]
        asked = [c.list_images(PRODUCT, path) for path in paths for c in clients for _ in range(5)]
        for result in await asyncio.gather(*asked, return_exceptions=True):
            print(type(result).__name__)

asyncio.run(main(sys.argv[1], sys.argv[2:]))
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
async def test_ten_bombs_at_once_leave_the_memory_below_250_mb(server: RawServer) -> None:
    """Each fits the bounds of a page; the tasks of two accounts read five of each kind at once."""
    strings = b",".join(b'"%018d"' % number for number in range(1_400_000))
    # One emoji makes every character of a text take four bytes.
    text = b'{"meta":{"size":0},"rows":[],"x":"%s"}' % ("😀".encode() + b"a" * 31_000_000)
    server.on("/entity/product/text/images", gzipped(text))
    server.on("/entity/product/strings/images", gzipped(b'{"rows":[],"x":[%s]}' % strings))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        _MANY,
        server.url,
        "text",
        "strings",
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    *results, megabytes = output.decode().split()
    assert results == ["AnswerTooLongError"] * 20
    assert int(megabytes) < 250


async def test_a_password_account_meets_no_other_bounds(server: RawServer) -> None:
    """A 429 with 1048 is a wrong password: one request, not a minute of them."""
    body = json.dumps({"errors": [{"error": "x", "code": 1048}]}).encode()
    server.on(IMAGES, plain(response(body, 429)))
    account = Account("a", "Shop", TokenKind.PASSWORD, "password", "admin@shop")
    async with http_client() as api:
        client = build(account, api, api, url=server.url).client
        for _ in range(3):
            with pytest.raises(ImgsyncError):
                await client.list_images(PRODUCT, "p1")
    assert server.count(IMAGES) == 1
