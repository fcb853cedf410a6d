"""Accounts that the contract of MoySkladPort runs against."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.client import HttpMoySkladFactory
from imgsync.domain.model import Account, TokenKind
from moysklad_emulator import Dialect, EmulatedEntity, Emulator, EmulatorLimits, EmulatorServer

ACCOUNT = Account("0a3ee49e-7d12-4f0c-8b8e-64b7f4d4c9a1", "Shop", TokenKind.SOLUTION, "token")


class HttpBackend:
    """The HTTP adapter against the emulator; implements `imgsync.testing.Backend`."""

    def __init__(self, server: EmulatorServer) -> None:
        self._server = server
        self._emulated = server.emulator.add_account(ACCOUNT.name, id=ACCOUNT.id)
        self._emulated.add_user(token=ACCOUNT.secret)
        self.account = ACCOUNT
        self.factory = HttpMoySkladFactory(server.api_url, [], SystemClock())

    def add(
        self, kind: str, name: str, images: Sequence[tuple[str, bytes]] = (), **codes: str
    ) -> str:
        return self._emulated.add_entity(
            kind,
            name=name,
            images=images,
            external_code=codes.get("external_code"),
            code=codes.get("code"),
            article=codes.get("article"),
        ).id

    def images(self, kind: str, entity_id: str) -> list[tuple[str, bytes]]:
        copies = self._server.emulator.images_of(self._entity(kind, entity_id))
        return [(copy.filename, copy.content) for copy in copies]

    def unknown_image_href(self, kind: str, entity_id: str) -> str:
        path = f"entity/{kind}/{entity_id}/images/f2728180-6afd-4d37-8a13-f3b48069bbb6"
        return f"{self._server.api_url}/{path}"

    def unknown_download_href(self) -> str:
        return f"{self._server.api_url}/download/f2728180-6afd-4d37-8a13-f3b48069bbb6"

    def requests(self) -> int:
        return self._server.emulator.stats.api_calls

    def _entity(self, kind: str, entity_id: str) -> EmulatedEntity:
        entity = self._emulated.entity(kind, entity_id)
        assert entity is not None
        return entity


@contextmanager
def http_backend(**switches: Any) -> Iterator[HttpBackend]:
    """`switches`: of the emulator's dialect."""
    emulator = Emulator(EmulatorLimits(rate_units=100_000), dialect=Dialect(**switches))
    with EmulatorServer(emulator) as server:
        yield HttpBackend(server)
