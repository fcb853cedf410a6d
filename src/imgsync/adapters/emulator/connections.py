"""Access to the transports of a uvicorn server, so that faults can cut connections."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connections:
    """Open connections of one listening port, by the client's (host, port)."""

    def __init__(self) -> None:
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}

    def add(self, client: tuple[str, int], transport: asyncio.Transport) -> None:
        self._transports[client] = transport

    def remove(self, client: tuple[str, int]) -> None:
        self._transports.pop(client, None)

    def abort(self, client: tuple[str, int]) -> None:
        """Closes at once; what has not been sent is lost."""
        if client in self._transports:
            self._transports[client].abort()

    def close(self, client: tuple[str, int]) -> None:
        """Closes after everything written has been sent."""
        if client in self._transports:
            self._transports[client].close()

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

            def connection_lost(self, exc: Exception | None) -> None:
                if self.client is not None:
                    connections.remove(self.client)
                super().connection_lost(exc)

        return RegisteredProtocol
