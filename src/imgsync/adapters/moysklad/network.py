"""Connections: downloads only to addresses that the policy permits; each used again only if clean.

A name is resolved once, every address it has is checked, and the connection goes to one of exactly
these, so that a name which leads to another address a moment later (DNS rebinding) gains nothing.
TLS and the Host header keep the name.

An answer that comes twice would be taken for that to the next request on its connection, which is
another entity's: a task would say "completed" over the old images.
"""

import asyncio
import select
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any, cast

import httpcore
import httpx

from imgsync.domain.errors import ForbiddenUrlError

STORAGE_CONNECTIONS = 20
"""To storages at once, for the downloads of an account; no more ask for one at once, as a crowd of
waiters costs more than the downloads, and each would wait in its own time."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""IP addresses of a host name, or the address itself; OSError where there are none."""

_NEXT_ADDRESS_SECONDS = 5.0


def only_clean(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The client, made to give up each connection on which more came than was asked for."""
    for transport in (client._transport, *client._mounts.values()):
        give_up_unclean(transport)
    return client


def give_up_unclean(transport: httpx.AsyncBaseTransport | None) -> None:
    """As `only_clean`, for one transport. Neither httpx nor httpcore has a parameter for it:
    httpcore gives up an idle connection for bytes that wait to be read, not for those it has read.

    It would ask the system of every idle connection at every request; here that one is asked about
    which is about to be used.
    """
    pool: Any = getattr(transport, "_pool", None)
    if pool is None:
        return
    pool._network_backend = _PollingBackend(pool._network_backend)
    make = pool.create_connection

    def create_connection(origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        connection: Any = make(origin)
        usual = connection.handle_async_request

        async def handle_async_request(request: httpcore.Request) -> httpcore.Response:
            if connection.is_idle() and _is_unclean(connection):
                await connection.aclose()
                raise httpcore.ConnectionNotAvailable  # the pool takes another
            response: httpcore.Response = await usual(request)
            return response

        connection.handle_async_request = handle_async_request
        return cast("httpcore.AsyncConnectionInterface", connection)

    pool.create_connection = create_connection


class _PollingBackend(httpcore.AsyncNetworkBackend):
    """Another backend, with `_PollingStream`s."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _PollingStream(await self._backend.connect_tcp(*args, **kwargs))

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _PollingStream(await self._backend.connect_unix_socket(*args, **kwargs))

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _PollingStream(httpcore.AsyncNetworkStream):
    """A stream that tells at little cost whether bytes wait or it was closed; anyio would ask for
    the peer's name each time. The pool is told of none (`give_up_unclean` asks)."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket: Any = stream.get_extra_info("socket")
        self._poll = select.poll()
        if self._is_open:
            self._poll.register(self._socket.fileno(), select.POLLIN)

    @property
    def _is_open(self) -> bool:
        return self._socket is not None and self._socket.fileno() >= 0

    async def read(self, *args: Any, **kwargs: Any) -> bytes:
        return await self._stream.read(*args, **kwargs)

    async def write(self, *args: Any, **kwargs: Any) -> None:
        await self._stream.write(*args, **kwargs)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _PollingStream(await self._stream.start_tls(*args, **kwargs))

    @property
    def is_readable(self) -> bool:
        """Bytes wait, or it is closed."""
        return not self._is_open or bool(self._poll.poll(0))

    def get_extra_info(self, info: str) -> Any:
        return False if info == "is_readable" else self._stream.get_extra_info(info)


def _is_unclean(connection: Any) -> bool:
    """Whether an idle connection, behind a proxy or not, is closed or has more than was asked."""
    while (inner := getattr(connection, "_connection", None)) is not None:
        connection = inner
    state = getattr(connection, "_h11_state", None)
    if state is not None and state.trailing_data[0]:
        return True
    stream = getattr(connection, "_network_stream", None)
    return bool(stream.is_readable) if isinstance(stream, _PollingStream) else False


async def resolve(host: str, port: int) -> list[str]:
    """As the system resolves, spellings such as 0x7f.1 included."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to permitted addresses only. ForbiddenUrlError before a byte is sent."""

    def __init__(self, permits: Callable[[str], bool], resolver: Resolve = resolve) -> None:
        self._permits = permits
        self._resolve = resolver
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (the signature of httpcore)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"the name {host} cannot be resolved") from error
        for address in addresses:
            if not self._permits(address):
                raise ForbiddenUrlError(
                    f"host '{host}' leads to {address}, which is not on the public internet"
                )
        failure: Exception = httpcore.ConnectError(f"the name {host} has no address")
        for position, address in enumerate(addresses):
            is_last = position == len(addresses) - 1
            try:
                return await self._backend.connect_tcp(
                    address,
                    port,
                    timeout if is_last else _NEXT_ADDRESS_SECONDS,
                    local_address,
                    socket_options,
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        raise ForbiddenUrlError("downloads use no socket files")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class CheckedTransport(httpx.AsyncHTTPTransport):
    """httpx over `CheckedBackend`. httpx has no parameter for it, so its pool is replaced."""

    def __init__(self, permits: Callable[[str], bool], resolver: Resolve = resolve) -> None:
        super().__init__(verify=ssl_context(), trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl_context(),
            max_connections=STORAGE_CONNECTIONS,
            network_backend=CheckedBackend(permits, resolver),
        )
        give_up_unclean(self)


class ProxiedTransport(httpx.AsyncBaseTransport):
    """Through the environment's proxies where they apply to a host, else directly and checked.

    A proxy resolves and connects by itself, so the check of the connected address cannot be made:
    what remains is that of the URL (https, no private IP address in it), and what the proxy, which
    is the administrator's own gate to the network, lets through.
    """

    def __init__(self, direct: httpx.AsyncBaseTransport, proxies: dict[str, str]) -> None:
        self._direct = direct
        self._proxies = {
            scheme: httpx.AsyncHTTPTransport(
                verify=ssl_context(), proxy=url if "://" in url else f"http://{url}"
            )
            for scheme, url in proxies.items()
            if scheme in ("http", "https", "all") and url
        }
        for transport in self._proxies.values():
            give_up_unclean(transport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        proxy = self._proxies.get(request.url.scheme) or self._proxies.get("all")
        if proxy is None or urllib.request.proxy_bypass(request.url.host):
            return await self._direct.handle_async_request(request)
        return await proxy.handle_async_request(request)

    async def aclose(self) -> None:
        for transport in (self._direct, *self._proxies.values()):
            await transport.aclose()


def storage_transport(
    permits: Callable[[str], bool], *, use_proxies: bool
) -> httpx.AsyncBaseTransport:
    """The transport of a client that downloads without credentials."""
    direct = CheckedTransport(permits)
    return ProxiedTransport(direct, urllib.request.getproxies()) if use_proxies else direct


@cache
def ssl_context() -> ssl.SSLContext:
    """Shared by all clients: to read the authorities' certificates takes 20 ms and a megabyte."""
    return httpx.create_ssl_context()
