"""The documented rate and parallel limits, over HTTP."""

from moysklad_emulator import Dialect, Emulator, EmulatorLimits, EmulatorServer
from tests.e2e.conftest import StartHost
from tests.shop import CHILD_TOKEN, MAIN_TOKEN, Shop, pictures

BOTH = ("--main", "main", "--child", "child")
SHORT = EmulatorLimits(rate_interval=1.0)
NO_LINKS = Dialect(permanent_links=False)
"""So that each image costs the main account a request."""


def test_one_host_never_meets_429(start_host: StartHost, sqlite_url: str) -> None:
    with EmulatorServer(Emulator(SHORT, dialect=NO_LINKS)) as server:
        shop = Shop.on(server, kind="user")
        lamps = [shop.pair(f"L{n}", pictures(10)) for n in range(4)]
        server.emulator.faults.add(path_regex="/download/", delay=0.3, times=1000)
        host = start_host(shop, sqlite_url)
        for account, token in ((shop.main, MAIN_TOKEN), (shop.child, CHILD_TOKEN)):
            host.run("account", "add", account.id, "--kind", "user", IMGSYNC_TOKEN=token)
        run = host.json("sync", *BOTH)["run"]
        assert run["uploaded"] == 40
        stats = shop.emulator.stats
        assert stats.throttled == 0
        assert max(stats.max_parallel.values()) == 5
        assert all(shop.images(lamp) == pictures(10) for lamp in lamps)


def test_hosts_that_share_a_token_never_meet_429(
    start_host: StartHost, postgresql_url: str
) -> None:
    with EmulatorServer(Emulator(SHORT, dialect=NO_LINKS)) as server:
        shop = Shop.on(server, kind="user")
        lamps = [shop.pair(f"L{n}", pictures(5)) for n in range(6)]
        host = start_host(shop, postgresql_url)
        host.run("enqueue", *BOTH)
        workers = [host.start("worker", "--drain") for _ in range(2)]
        users = [server.emulator.credentials.find("bearer", t) for t in (MAIN_TOKEN, CHILD_TOKEN)]
        for worker in workers:
            _, stderr = worker.communicate(timeout=60)
            assert worker.returncode == 0, stderr
        assert all(shop.images(lamp) == pictures(5) for lamp in lamps)
        # The accounts are stored as solutions', so the hosts learn the real price by the headers.
        assert shop.emulator.stats.throttled == 0
        assert all(user is not None and user.api_access for user in users)
