"""Serves an `Emulator` by uvicorn on two loopback ports, in a background thread."""

import asyncio
import contextlib
import errno
import socket
import threading
import time
from collections.abc import Sequence
from itertools import chain
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from moysklad_emulator.api import Api
from moysklad_emulator.connections import Connections
from moysklad_emulator.control import Control
from moysklad_emulator.deliveries import Deliveries
from moysklad_emulator.gate import CONTROL_PREFIX, ApiGate
from moysklad_emulator.links import API_PREFIX, Links
from moysklad_emulator.state import Emulator
from moysklad_emulator.storage import Storage
from moysklad_emulator.vendor import Vendor

_HOST = "127.0.0.1"
_HOST_IPV6 = "::1"
"""What "localhost", the storage's name, means first on many machines."""
_START_SECONDS = 5.0
_STOP_SECONDS = 5.0


class EmulatorServerError(Exception):
    """The server cannot start or stop."""


class EmulatorServer:
    """Context manager around a running server. Port 0 takes a free one.

    `api_url` and `storage_url` are known from `start` on. `vendor` calls the servers of solutions.
    """

    def __init__(self, emulator: Emulator, *, port: int = 0, storage_port: int = 0) -> None:
        self.emulator = emulator
        self.vendor = Vendor(emulator)
        self._ports = (port, storage_port)
        self._connections = (Connections(), Connections())
        self._servers: list[uvicorn.Server] = []
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._links: Links | None = None
        self._deliveries: Deliveries | None = None

    @property
    def api_url(self) -> str:
        """``http://127.0.0.1:PORT/api/remap/1.2``"""
        return self._running_links().api_url

    @property
    def storage_url(self) -> str:
        """``http://localhost:PORT``, or as the dialect has it."""
        return self._running_links().storage_url

    @property
    def control_url(self) -> str:
        """Base of stats, stats/reset, seed, dialect and faults."""
        return self.api_url.removesuffix(API_PREFIX) + CONTROL_PREFIX

    def start(self) -> None:
        """Returns when both ports answer. EmulatorServerError where they cannot."""
        if self._thread is not None:
            raise EmulatorServerError("the emulator runs already")
        sockets = self._listen()
        port, storage_port = (group[0].getsockname()[1] for group in sockets)
        api_url = f"http://{_HOST}:{port}{API_PREFIX}"
        self._links = Links(api_url, storage_port, self.emulator.switch)
        self._deliveries = Deliveries(self.emulator, self._links)
        self._failure = None
        self._servers = [
            _uvicorn_server(app, connections)
            for app, connections in zip(self._apps(self._links), self._connections, strict=True)
        ]
        self._thread = threading.Thread(
            target=self._run, args=(sockets,), name="moysklad-emulator", daemon=True
        )
        self._thread.start()
        self._await_start()

    def stop(self) -> None:
        """Cuts every connection and waits for the thread's end. Does nothing when not running."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._request_stop)
        thread.join(_STOP_SECONDS)
        if thread.is_alive():
            raise EmulatorServerError(f"the emulator did not stop within {_STOP_SECONDS:g} s")

    def await_webhooks(self, seconds: float = 10.0) -> bool:
        """Blocks until every notification is delivered or lost; False where one still is not."""
        return self._deliveries is None or self._deliveries.wait(seconds)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _apps(self, links: Links) -> tuple[ASGIApp, ASGIApp]:
        of_api, of_storage = self._connections
        api = Api(self.emulator, links)
        gate = ApiGate(self.emulator, api.routes())
        return (
            Starlette(
                routes=[
                    Mount(CONTROL_PREFIX, Control(self.emulator, self.vendor).application()),
                    Mount("", api.application(gate.inner()), middleware=gate.outer(of_api)),
                ]
            ),
            Storage(self.emulator, links).application(of_storage),
        )

    def _listen(self) -> tuple[list[socket.socket], list[socket.socket]]:
        api = _listen(self._ports[0])
        try:
            return api, _listen(self._ports[1], also_ipv6=True)
        except EmulatorServerError:
            for sock in api:
                sock.close()
            raise

    def _run(self, sockets: Sequence[list[socket.socket]]) -> None:
        try:
            asyncio.run(self._serve(sockets))
        except BaseException as error:
            self._failure = error
        finally:
            for sock in chain.from_iterable(sockets):
                sock.close()

    async def _serve(self, sockets: Sequence[list[socket.socket]]) -> None:
        self._loop = asyncio.get_running_loop()
        deliveries = self._deliveries
        if deliveries is not None:
            deliveries.open()
        try:
            await asyncio.gather(
                *(
                    server.serve(sockets=group)
                    for server, group in zip(self._servers, sockets, strict=True)
                )
            )
        finally:
            self._loop = None
            if deliveries is not None:
                await deliveries.close()
            self._abort_connections()
            await asyncio.sleep(0)  # lets the transports close their sockets

    def _request_stop(self) -> None:
        for server in self._servers:
            server.should_exit = server.force_exit = True
        self._abort_connections()

    def _abort_connections(self) -> None:
        for connections in self._connections:
            connections.abort_all()

    def _await_start(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not all(server.started for server in self._servers):
            alive = self._thread is not None and self._thread.is_alive()
            if not alive or time.monotonic() > deadline:
                self.stop()
                raise EmulatorServerError("the emulator did not start") from self._failure
            time.sleep(0.002)

    def _running_links(self) -> Links:
        if self._links is None:
            raise EmulatorServerError("the emulator has not been started")
        return self._links


def _listen(port: int, *, also_ipv6: bool = False) -> list[socket.socket]:
    """A socket on 127.0.0.1 and, where there is IPv6, one on the same port of ::1.

    Port 0 takes a free one. EmulatorServerError where the port is not free.
    """
    try:
        sockets = [_bound(socket.AF_INET, _HOST, port)]
    except OSError as error:
        raise EmulatorServerError(f"cannot listen on {_HOST}:{port}: {error}") from error
    if not also_ipv6:
        return sockets
    try:
        sockets.append(_bound(socket.AF_INET6, _HOST_IPV6, sockets[0].getsockname()[1]))
    except OSError as error:
        # Someone else's port there would be taken for ours by a client that tries ::1 first.
        if error.errno == errno.EADDRINUSE:
            sockets[0].close()
            if port == 0:
                return _listen(0, also_ipv6=True)
            raise EmulatorServerError(f"cannot listen on [::1]:{port}: {error}") from error
    return sockets


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    # asyncio turns Nagle's delay off only where the protocol is named.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def _uvicorn_server(app: ASGIApp, connections: Connections) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http=connections.protocol(),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,
        backlog=128,
    )
    return uvicorn.Server(config)
