import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from moysklad_emulator import Emulator, EmulatorServer, EmulatorServerError
from service import JPEG, Service, plain


def test_state_outlives_its_server() -> None:
    emulator = Emulator()
    product = emulator.add_account("Main").add_entity("product", name="P", images=[("a", JPEG)])
    urls = set()
    for _ in range(2):
        with EmulatorServer(emulator) as server:
            urls.add(server.storage_url)
            assert plain.get(f"{server.api_url}/entity/product").status_code == 401
    assert emulator.images_of(product)[0].content == JPEG
    assert emulator.stats.api_calls == 2


def test_stopping_is_fast_with_open_connections_and_a_running_request() -> None:
    threads = set(threading.enumerate())
    emulator = Emulator()
    account = emulator.add_account("Main")
    product = account.add_entity("product", name="P", images=[("a.jpg", JPEG)])
    server = EmulatorServer(emulator)
    server.start()
    with ThreadPoolExecutor(1) as pool:
        service = Service(server, account, "token")
        with service.client:
            assert plain.get(service.download_location(product)).content == JPEG
            emulator.faults.add(delay=30)
            waiting = pool.submit(service.client.get, "entity/product")
            while emulator.stats.max_parallel and not _in_flight(service):
                time.sleep(0.01)
            start = time.monotonic()
            server.stop()
            assert time.monotonic() - start < 10
            assert isinstance(waiting.exception(), httpx.TransportError)
            with pytest.raises(httpx.ConnectError):
                service.client.get("entity/product")
    server.stop()  # stopping again does nothing
    assert set(threading.enumerate()) <= threads


def _in_flight(service: Service) -> bool:
    return service.user.slots.used == 1


def test_a_server_does_not_start_twice() -> None:
    with EmulatorServer(Emulator()) as server, pytest.raises(EmulatorServerError, match="already"):
        server.start()


def test_an_occupied_port_is_a_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        with pytest.raises(EmulatorServerError, match=f"cannot listen on 127.0.0.1:{port}"):
            EmulatorServer(Emulator(), storage_port=port).start()


def test_the_storage_answers_whatever_localhost_means(service: Service) -> None:
    location = httpx.URL(service.download_location(service.product(("a.jpg", JPEG))))
    _, _, _, _, addresses = zip(*socket.getaddrinfo("localhost", 0), strict=True)
    hosts = {"127.0.0.1", *(str(address[0]) for address in addresses)}
    if _has_ipv6():
        hosts.add("::1")
    for host in hosts:
        assert plain.get(location.copy_with(host=host)).content == JPEG


def test_a_port_that_is_occupied_on_ipv6_alone_is_a_clear_error() -> None:
    if not _has_ipv6():
        pytest.skip("no IPv6")
    # The port is one that nobody has on IPv4: the system gives the two families numbers apart.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        socket.create_server(("::1", port), family=socket.AF_INET6),
        pytest.raises(EmulatorServerError, match=rf"cannot listen on \[::1\]:{port}"),
    ):
        EmulatorServer(Emulator(), storage_port=port).start()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_urls_are_unknown_before_the_start() -> None:
    with pytest.raises(EmulatorServerError, match="not been started"):
        print(EmulatorServer(Emulator()).api_url)


def test_a_temporary_directory_is_removed_with_the_emulator() -> None:
    emulator = Emulator()
    directory = emulator.content.path("x").parent
    assert directory.is_dir()
    del emulator
    assert not directory.exists()


def test_wrong_accounts_and_entities_are_refused() -> None:
    emulator = Emulator()
    account = emulator.add_account("Main")
    with pytest.raises(ValueError, match="exists already"):
        emulator.add_account("Again", id=account.id)
    with pytest.raises(ValueError, match="UUID"):
        emulator.add_account("Bad", id="bad")
    with pytest.raises(ValueError, match="unknown entity type"):
        account.add_entity("service", name="S")
    with pytest.raises(ValueError, match="weight"):
        account.add_user(token="t", weight=46)
