"""Contract of the port MoySkladPort: over HTTP, on the emulator."""

from collections.abc import Iterator

import pytest

from imgsync.testing import MoySkladContract
from tests.contracts.moysklad_backends import HttpBackend, http_backend


@pytest.mark.slow
class TestHttpMoySklad(MoySkladContract):
    @pytest.fixture
    def backend(self) -> Iterator[HttpBackend]:
        with http_backend() as backend:
            yield backend
