"""Accounts that install our solution: MoySklad calls, and their pictures are copied."""

import signal
from collections.abc import Iterator

import pytest

from imgsync.adapters.sql.database import Database
from imgsync.domain.tasks import TaskStatus
from moysklad_emulator import EmulatedAccount, Emulator, EmulatorLimits, EmulatorServer
from moysklad_emulator.vendor import Cause, Spoilt
from tests.e2e.conftest import Host, StartHost, Tasks, terminate, wait_until
from tests.e2e.test_serve import url_of
from tests.shop import Shop, pictures
from tests.support.balanced import balanced_over

SECRET = "the-secret-key-of-the-solution"


@pytest.fixture
def shop() -> Iterator[Shop]:
    limits = EmulatorLimits(
        rate_units=100_000, vendor_seconds=4, vendor_retry_interval=0.1, vendor_retry_seconds=60
    )
    with EmulatorServer(Emulator(limits)) as server:
        yield Shop.on(server)


class Solution:
    """Our solution in MoySklad's catalogue, and the server that it calls."""

    def __init__(self, shop: Shop, host: Host, url: str) -> None:
        self.vendor = shop.server.vendor
        self.app_id = self.vendor.add(url, SECRET, kind="solution").app_id
        add = host.start("solution", "add", self.app_id, "--secret-stdin")
        _, stderr = add.communicate(f"{SECRET}\n", timeout=60)
        assert add.returncode == 0, stderr

    def happens(
        self, account: EmulatedAccount, cause: Cause, spoilt: Spoilt | None = None
    ) -> tuple[int | None, str]:
        called = self.vendor.call(self.app_id, account.id, cause, spoilt=spoilt)
        return called.status, called.state


@pytest.mark.slow
def test_franchises_install_suspend_and_resume_and_nothing_is_lost(
    shop: Shop, start_host: StartHost, database_url: str, database: Database
) -> None:
    tasks = Tasks(database)
    for name in ("Lamp", "Chair"):
        shop.pair(name, pictures(3))
    host = start_host(shop, database_url)  # with their tokens of before
    server = host.start("serve", "--port", "0", "--no-worker", "--no-schedule")
    solution = Solution(shop, host, url_of(server))
    for account in (shop.main, shop.child):
        assert solution.happens(account, "Install") == (200, "Activated")
    franchise = shop.emulator.add_account("Perm")
    assert solution.happens(franchise, "Install") == (200, "Activated")
    listed = {account["id"]: account for account in host.json("account", "list")}
    assert {(a["name"], a["kind"]) for a in listed.values()} == {
        ("Main", "solution"),
        ("Child", "solution"),
        ("perm", "solution"),
    }
    host.run("link", "Main", "Child", "perm")
    host.run("sync", "--main", "Main", "--child", "Child")
    shop.judge()
    assert [len(shop.images(pair.child)) for pair in shop.pairs] == [3, 3]

    shop.pair("Table", pictures(2))
    host.run("enqueue", "--main", "Main", "--child", "Child")
    requests = shop.emulator.stats.api_calls
    assert solution.happens(shop.child, "Suspend") == (200, "Suspended")
    (parked,) = [a for a in host.json("account", "list") if a["parked"]]
    assert parked["id"] == shop.child.id
    assert "suspended in MoySklad" in parked["parked"]["reason"]
    host.end(3, "worker", "--drain")
    assert shop.emulator.stats.api_calls == requests  # nothing is sent for it
    assert tasks.counts()[TaskStatus.PENDING] == 1
    assert shop.images(shop.pairs[2].child) == []

    assert solution.happens(shop.child, "Resume") == (200, "Activated")
    host.run("worker", "--drain")
    assert tasks.counts()[TaskStatus.PENDING] == 0
    assert len(shop.images(shop.pairs[2].child)) == 2
    shop.judge()

    wrong: tuple[Spoilt, ...] = ("signature", "algorithm", "expired", "early", "replayed")
    for spoilt in wrong:
        assert solution.happens(shop.child, "TariffChanged", spoilt)[0] == 401
    assert solution.happens(shop.child, "TariffChanged") == (200, "Activated")
    assert solution.happens(shop.child, "Uninstall")[0] == 200
    assert solution.vendor.status(solution.app_id, shop.child.id).status == 404
    assert [a["name"] for a in host.json("account", "list") if a["parked"]] == ["Child"]
    linked = {link["child"] for link in host.json("links")["links"]}
    assert linked == {shop.child.id, franchise.id}
    errors = terminate(server)
    assert "Traceback" not in errors
    assert SECRET not in errors


@pytest.mark.slow
@pytest.mark.parametrize("retries", ["same_token", "signed_anew"])
def test_a_host_that_is_stopped_in_the_midst_of_a_call_takes_nothing_back(
    shop: Shop, start_host: StartHost, postgresql_url: str, retries: str
) -> None:
    """MoySklad does not wait for it, calls again and reaches the second host behind one address;
    the user has removed the solution by the time the first one goes on."""
    shop.emulator.dialect = shop.emulator.dialect.changed({"vendor_retries": retries})
    host = start_host(shop, postgresql_url)
    first, second = (
        host.start("serve", "--port", "0", "--no-worker", "--no-schedule") for _ in range(2)
    )
    with balanced_over(url_of(first), url_of(second)) as balanced:
        solution = Solution(shop, host, balanced.url)
        first.send_signal(signal.SIGSTOP)
        assert solution.happens(shop.child, "Install") == (200, "Activated")
        assert host.json("solution", "list")[0]["accounts"][0]["state"] == "installed"
        assert solution.happens(shop.child, "Uninstall")[0] == 200
        assert balanced.answered < balanced.begun
        first.send_signal(signal.SIGCONT)
        wait_until(lambda: balanced.answered == balanced.begun)
    (child,) = [a for a in host.json("account", "list") if a["id"] == shop.child.id]
    assert "removed from the account in MoySklad" in child["parked"]["reason"]
    assert host.json("solution", "list")[0]["accounts"][0]["state"] == "removed"
    for server in (first, second):
        assert "Traceback" not in terminate(server)
