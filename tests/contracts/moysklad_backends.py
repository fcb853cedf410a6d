"""Accounts that the contract of MoySkladPort runs against."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from imgsync.adapters.clock import SystemClock
from imgsync.adapters.moysklad.factory import HttpMoySkladFactory
from imgsync.domain.model import Account, TokenKind
from imgsync.domain.ports.moysklad import MoySkladFactory
from moysklad_emulator import EmulatedEntity, Emulator, EmulatorLimits, EmulatorServer
from tests.fakes.moysklad import HOST, FakeFactory, FakeMoySklad

ACCOUNT = Account("0a3ee49e-7d12-4f0c-8b8e-64b7f4d4c9a1", "Shop", TokenKind.SOLUTION, "token")
Images = Sequence[tuple[str, bytes]]


class Backend(Protocol):
    """An account that can be seeded and looked into beside its port."""

    factory: MoySkladFactory

    def add(self, kind: str, name: str, images: Images = (), **codes: str) -> str: ...

    def images(self, kind: str, entity_id: str) -> list[tuple[str, bytes]]: ...

    def unknown_image_href(self, kind: str, entity_id: str) -> str: ...

    def unknown_download_href(self) -> str: ...


class FakeBackend:
    def __init__(self) -> None:
        self._account = FakeMoySklad()
        self.factory: MoySkladFactory = FakeFactory({ACCOUNT.id: self._account})

    def add(self, kind: str, name: str, images: Images = (), **codes: str) -> str:
        return self._account.add(
            kind,
            name,
            images,
            external_code=codes.get("external_code"),
            code=codes.get("code"),
            article=codes.get("article"),
        )

    def images(self, kind: str, entity_id: str) -> list[tuple[str, bytes]]:
        return self._account.images(kind, entity_id)

    def unknown_image_href(self, kind: str, entity_id: str) -> str:
        return f"{HOST}/entity/{kind}/{entity_id}/images/unknown"

    def unknown_download_href(self) -> str:
        return f"{HOST}/download/unknown"


class HttpBackend:
    """The HTTP adapter against the emulator."""

    def __init__(self, server: EmulatorServer) -> None:
        self._server = server
        self._account = server.emulator.add_account(ACCOUNT.name, id=ACCOUNT.id)
        self._account.add_user(token=ACCOUNT.secret)
        self.factory: MoySkladFactory = HttpMoySkladFactory(server.api_url, [], SystemClock())

    def add(self, kind: str, name: str, images: Images = (), **codes: str) -> str:
        return self._account.add_entity(
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

    def _entity(self, kind: str, entity_id: str) -> EmulatedEntity:
        entity = self._account.entity(kind, entity_id)
        assert entity is not None
        return entity


@contextmanager
def http_backend() -> Iterator[HttpBackend]:
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        yield HttpBackend(server)
