import contextlib
import itertools
from collections.abc import Iterator

import pytest

from moysklad_emulator import Dialect, Emulator, EmulatorLimits, EmulatorServer
from service import Service, StartService

_NUMBERS = itertools.count()


def _service(server: EmulatorServer) -> Service:
    number = next(_NUMBERS)
    account = server.emulator.add_account(f"Account {number}")
    return Service(server, account, f"token-{number}")


@pytest.fixture(scope="session")
def shared_server() -> Iterator[EmulatorServer]:
    """The documented limits, but for the rate."""
    with EmulatorServer(Emulator(EmulatorLimits(rate_units=100_000))) as server:
        yield server


@pytest.fixture
def service(shared_server: EmulatorServer) -> Iterator[Service]:
    """An account of its own on the shared server, with counters at zero and no faults."""
    shared_server.emulator.faults.clear()
    shared_server.emulator.dialect = Dialect()
    shared_server.emulator.reset_stats()
    service = _service(shared_server)
    with service.client:
        yield service


@pytest.fixture
def start_service() -> Iterator[StartService]:
    """Starts servers with other limits."""
    with contextlib.ExitStack() as stack:

        def start(limits: EmulatorLimits) -> Service:
            server = stack.enter_context(EmulatorServer(Emulator(limits)))
            service = _service(server)
            stack.enter_context(service.client)
            return service

        yield start
