"""Access to the transports of a uvicorn server, so that faults can cut connections."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connections:
    """Open connections of one listening port, by the client's (host, port)."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}
        self._answered: set[tuple[str, int]] = set()

    def add(self, client: tuple[str, int], transport: asyncio.Transport) -> None:
        self._transports[client] = transport

    def remove(self, client: tuple[str, int]) -> None:
        self._transports.pop(client, None)
        self._answered.discard(client)

    def is_answered(self, client: tuple[str, int]) -> bool:
        return client in self._answered

    def abort(self, client: tuple[str, int]) -> None:
        """Closes at once; what has not been sent is lost."""
        if client in self._transports:
            self._transports[client].abort()

    def close(self, client: tuple[str, int]) -> None:
        """Closes after everything written has been sent."""
        if client in self._transports:
            self._transports[client].close()

    def write(self, client: tuple[str, int], data: bytes) -> bool:
        """Sends bytes past the HTTP protocol; False where the client has left."""
        transport = self._transports.get(client)
        if transport is None or transport.is_closing():
            return False
        transport.write(data)
        return True

    def unsent(self, client: tuple[str, int]) -> int:
        """Bytes that wait for the client to read; 0 where it has left."""
        transport = self._transports.get(client)
        return transport.get_write_buffer_size() if transport is not None else 0

    def close_when_spoken_to(self, client: tuple[str, int]) -> None:
        """Closes at the client's next bytes."""
        self._answered.add(client)

    def abort_all(self) -> None:
        for transport in list(self._transports.values()):
            transport.abort()

    def protocol(self) -> type[H11Protocol]:
        """uvicorn's HTTP/1.1 protocol, made to register its connections here."""
        connections = self

        class RegisteredProtocol(H11Protocol):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
                super().connection_made(transport)
                if self.client is not None:
                    connections.add(self.client, transport)

            def data_received(self, data: bytes) -> None:
                if self.client is not None and connections.is_answered(self.client):
                    connections.close(self.client)
                    return
                super().data_received(data)

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    connections.remove(self.client)
                super().connection_lost(exc)

        return RegisteredProtocol
