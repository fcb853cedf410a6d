"""Requests of the emulator to a program that is tested: on this machine alone.

Plain asyncio: what a request may last is limited as a whole, however the program's answer drips.
"""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_MAX_ANSWER = 1_000_000


@dataclass(frozen=True, slots=True)
class Reply:
    """A program's answer. `body` is cut after a megabyte."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoReplyError(Exception):
    """There was no connection, no answer of HTTP, or none in time (`late`)."""

    def __init__(self, reason: str, *, late: bool = False) -> None:
        super().__init__(reason)
        self.late = late


def is_local(url: str) -> bool:
    """Whether a URL names this machine; to others nothing is ever sent."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


async def send(
    method: str,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    seconds: float,
    want_body: bool = True,
) -> Reply:
    """Sends one request on a connection of its own. NoReplyError where no answer comes."""
    if not is_local(url):
        raise NoReplyError(f"{urlsplit(url).hostname} is not this machine")
    try:
        async with asyncio.timeout(seconds):
            return await _exchange(method, url, body, headers, want_body=want_body)
    except TimeoutError:
        raise NoReplyError(f"no answer within {seconds:g} s", late=True) from None
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise NoReplyError(str(error)) from error


async def _exchange(
    method: str, url: str, body: bytes, headers: Mapping[str, str], *, want_body: bool
) -> Reply:
    parts = urlsplit(url)
    context = ssl.create_default_context() if parts.scheme == "https" else None
    port = parts.port or (443 if context else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        writer.write(_head(method, url, len(body), headers) + body)
        await writer.drain()
        status, answered = _read_head(await reader.readuntil(b"\r\n\r\n"))
        data = await reader.read(0)
        while want_body and status != 204 and len(data) < _wanted(answered):
            part = await reader.read(65_536)
            if not part:
                break
            data += part
        return Reply(status, answered, data)
    finally:
        writer.transport.abort()


def _wanted(headers: Mapping[str, str]) -> int:
    """Bytes of the body; without a length it lasts until the end of the connection."""
    return min(int(headers.get("content-length", _MAX_ANSWER)), _MAX_ANSWER)


def _head(method: str, url: str, size: int, headers: Mapping[str, str]) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    address = parts.netloc.rpartition("@")[2]
    sent = {"Host": address, "Connection": "close", "Content-Length": str(size), **headers}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _, rest = first.partition(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError("the answer is not HTTP/1")
    pairs = (line.partition(":") for line in lines if line)
    return int(rest[:3]), {name.strip().lower(): value.strip() for name, _, value in pairs}
