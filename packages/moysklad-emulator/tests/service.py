"""A running emulator with one account, one user and a client, for tests."""

import base64
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import httpx

from moysklad_emulator import (
    EmulatedAccount,
    EmulatedEntity,
    EmulatedUser,
    Emulator,
    EmulatorLimits,
    EmulatorServer,
)

JPEG = b"\xff\xd8\xff\xe0"
PNG = b"\x89PNG\r\n\x1a\n"

# One context for all: httpx would read the certificates anew for every client.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


# Requests that are not an account's: to the storage, to the control address. No connection is kept,
# as the next test's emulator may get the same port.
plain = httpx.Client(verify=_NO_TLS, timeout=10, limits=httpx.Limits(max_keepalive_connections=0))


class Service:
    """Paths are relative to the API's base URL."""

    def __init__(self, server: EmulatorServer, account: EmulatedAccount, token: str) -> None:
        self.server = server
        self.emulator: Emulator = server.emulator
        self.account = account
        self.token = token
        self.user: EmulatedUser = account.add_user(token=token)
        self.client = self.client_for(token)

    def client_for(self, token: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.server.api_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
            verify=_NO_TLS,
        )

    def product(self, *images: tuple[str, bytes], **fields: Any) -> EmulatedEntity:
        return self.account.add_entity("product", **{"name": "Product", **fields}, images=images)

    def names(self, entity: EmulatedEntity) -> list[str]:
        return [image.filename for image in self.emulator.images_of(entity)]

    def meta(self, entity: EmulatedEntity, position: int) -> dict[str, Any]:
        href = f"{self.server.api_url}/{images_path(entity)}/{entity.images[position].id}"
        return {"meta": {"href": href, "type": "image", "mediaType": "application/json"}}

    def entity_meta(self, entity: EmulatedEntity) -> dict[str, Any]:
        href = f"{self.server.api_url}/entity/{entity.type}/{entity.id}"
        return {"href": href, "type": entity.type, "mediaType": "application/json"}

    def download_location(self, entity: EmulatedEntity, **headers: str) -> str:
        response = self.client.get(f"download/{entity.images[0].id}", headers=headers)
        assert response.status_code == 302
        return response.headers["location"]


StartService = Callable[[EmulatorLimits], Service]
"""Starts a server with other limits, until the test ends."""


def upload(filename: str = "a.jpg", content: bytes = JPEG + b"a") -> dict[str, str]:
    """An image to send."""
    return {"filename": filename, "content": base64.b64encode(content).decode()}


def uploads(count: int) -> list[dict[str, str]]:
    return [upload(f"{number}.jpg", JPEG + bytes([number])) for number in range(count)]


def files(count: int) -> list[tuple[str, bytes]]:
    """Images to seed."""
    return [(f"{number}.jpg", JPEG + bytes([number])) for number in range(count)]


def entity_path(entity: EmulatedEntity) -> str:
    return f"entity/{entity.type}/{entity.id}"


def images_path(entity: EmulatedEntity) -> str:
    return f"{entity_path(entity)}/images"


def codes(response: httpx.Response) -> list[int]:
    """Error codes of an answer."""
    return [error["code"] for error in response.json()["errors"]]


def filenames(rows: Iterable[dict[str, Any]]) -> list[str]:
    return [row["filename"] for row in rows]
