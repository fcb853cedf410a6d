"""Connections are used again only after one answer to one request.

An answer that comes twice would else be taken for that to the next request on its connection, which
is another entity's: a task would say "completed" over the old images.
"""

from typing import Any, cast

import httpcore
import httpx


def only_clean(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """The client, made to give up each connection on which more came than was asked for."""
    for transport in (client._transport, *client._mounts.values()):
        give_up_unclean(transport)
    return client


def give_up_unclean(transport: httpx.AsyncBaseTransport | None) -> None:
    """As `only_clean`, for one transport. Neither httpx nor httpcore has a parameter for it:
    httpcore gives up an idle connection for bytes that wait to be read, not for those it has read.
    """
    pool: Any = getattr(transport, "_pool", None)
    if pool is None:
        return
    make = pool.create_connection

    def create_connection(origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:
        connection: Any = make(origin)
        usual = connection.has_expired

        def has_expired() -> bool:
            return bool(usual()) or (connection.is_idle() and _holds_bytes(connection))

        connection.has_expired = has_expired
        return cast("httpcore.AsyncConnectionInterface", connection)

    pool.create_connection = create_connection


def _holds_bytes(connection: Any) -> bool:
    """Of the HTTP/1.1 connection within it, behind a proxy or not."""
    while (inner := getattr(connection, "_connection", None)) is not None:
        connection = inner
    state = getattr(connection, "_h11_state", None)
    return state is not None and bool(state.trailing_data[0])
