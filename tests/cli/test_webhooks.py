"""imgsync webhooks, against the emulator."""

from typing import Any

import pytest

from imgsync.adapters.sql.database import Database
from moysklad_emulator import EmulatedUser
from tests.cli.conftest import Cli
from tests.shop import Shop

BASE = "https://sync.example"
URL = f"{BASE}/webhooks/moysklad/..."
ADMIN = "admin-token"


@pytest.fixture
def linked(ready: Cli) -> Cli:
    ready.ok("link", "Main", "Child", "--sync-images-all")
    return ready


def hooks(shop: Shop) -> list[Any]:
    return shop.main.live_webhooks()


def test_they_are_installed_listed_checked_and_removed(linked: Cli, shop: Shop) -> None:
    said = linked.ok("webhooks", "install", "--url", BASE)
    count = len(hooks(shop))
    assert count % 3 == 0
    assert said == f"'Main': {count} of {count} work; {count} made.\n"
    (url,) = {hook.url for hook in hooks(shop)}
    secret = url.removeprefix(f"{BASE}/webhooks/moysklad/")
    assert len(secret) >= 40
    assert all((h.diff_type == "FIELDS") == (h.action == "UPDATE") for h in hooks(shop))
    assert shop.child.live_webhooks() == []
    again = linked.ok("webhooks", "install", "--url", BASE, "Main")
    assert again == f"'Main': {count} of {count} work.\n"
    listed = linked.ok("webhooks", "list")
    assert "Main" in listed
    assert URL in listed
    (row,) = linked.json("webhooks", "list")["webhooks"]
    assert (row["account_name"], row["url"], row["working"]) == ("Main", URL, count)
    checked = linked.ok("webhooks", "check")
    assert checked == again
    told = linked.json("webhooks", "check")
    assert told["exit_status"] == 0
    removed = linked.ok("webhooks", "remove")
    assert removed == f"'Main': {count} removed.\n"
    assert hooks(shop) == []
    assert linked.json("webhooks", "list")["webhooks"] == []
    assert "No webhooks are installed" in linked.ok("webhooks", "list")
    assert "No webhooks are installed" in linked.fail("webhooks", "check")
    assert linked.ok("webhooks", "remove") == "There are none.\n"
    for text in (said, again, listed, checked, removed, str(row), str(told)):
        assert secret not in text


def test_what_is_gone_or_off_is_mended(linked: Cli, shop: Shop) -> None:
    linked.ok("webhooks", "install", "--url", BASE)
    count = len(hooks(shop))
    admin = shop.main.add_user(token=ADMIN, kind="user")
    gone, off = hooks(shop)[:2]
    shop.main.delete_webhook(admin, gone.id)
    shop.main.update_webhook(admin, off.id, {"enabled": False})
    assert len(hooks(shop)) == count - 2
    said = linked.ok("webhooks", "check")
    assert said == f"'Main': {count} of {count} work; 1 made, 1 switched on again.\n"
    assert len(hooks(shop)) == count


def test_another_address(linked: Cli, shop: Shop) -> None:
    linked.ok("webhooks", "install", "--url", BASE)
    count = len(hooks(shop))
    said = linked.ok("webhooks", "install", "--url", "https://new.example/sync/")
    assert said == f"'Main': {count} of {count} work; {count} changed.\n"
    assert all(h.url.startswith("https://new.example/sync/webhooks/") for h in hooks(shop))


@pytest.mark.parametrize(
    "url", ["http://sync.example", "https://localhost", "sync.example", f"{BASE}/{'a' * 250}"]
)
def test_a_wrong_address_is_wrong_usage(linked: Cli, shop: Shop, url: str) -> None:
    assert "Error: Invalid value for '--url'" in linked.fail(
        "webhooks", "install", "--url", url, status=2
    )
    assert hooks(shop) == []


def test_accounts_that_need_none_are_named(linked: Cli, ready: Cli) -> None:
    said = linked.fail("webhooks", "install", "--url", BASE, "Child")
    assert "Account 'Child'" in said
    assert "needs no webhooks" in said
    assert "Mian" in linked.fail("webhooks", "install", "--url", BASE, "Mian")
    ready.ok("unlink", "Child")
    assert "No account needs webhooks" in ready.fail("webhooks", "install", "--url", BASE)


def _user(shop: Shop) -> EmulatedUser:
    """A user with a token of their own, which is stored in place of the solution's."""
    return shop.main.add_user(token=ADMIN, kind="user")


def _use(cli: Cli) -> None:
    cli.ok("account", "add", "--name", "Main", IMGSYNC_TOKEN=ADMIN)


def test_rights_and_tariffs_are_told_in_one_line(linked: Cli, shop: Shop) -> None:
    shop.main.set_webhooks(False)
    told = linked.failed_json("webhooks", "install", "--url", BASE)
    assert told["webhooks"][0]["problem"] == "account 'Main': its tariff has no webhooks"
    shop.main.set_webhooks(True)
    linked.ok("webhooks", "check")
    linked.ok("webhooks", "remove")
    user = _user(shop)
    _use(linked)
    linked.ok("webhooks", "install", "--url", BASE)
    user.webhooks = "none"
    said = linked.fail("webhooks", "check")
    assert "account 'Main': its credentials may not manage webhooks" in said
    (row,) = linked.json("webhooks", "list")["webhooks"]
    assert "administrator" in row["problem"]
    assert "may not manage" in linked.fail("webhooks", "remove")
    user.webhooks = "all"
    linked.ok("webhooks", "remove")
    assert hooks(shop) == []


def test_others_have_taken_the_only_place(linked: Cli, shop: Shop) -> None:
    """A user may have five for each type and action."""
    user = _user(shop)
    _use(linked)
    foreign = [f"https://{n}.example/hook" for n in range(5)]
    for url in foreign:
        hook = {"url": url, "action": "DELETE", "entityType": "product"}
        shop.main.create_webhook(user, hook)
    said = linked.fail("webhooks", "install", "--url", BASE, status=3)
    assert "account 'Main': other programs have as many webhooks as MoySklad allows" in said
    linked.ok("webhooks", "remove", "Main")
    assert [hook.url for hook in hooks(shop)] == foreign


def test_unlinked_main_accounts_keep_none(linked: Cli, shop: Shop) -> None:
    linked.ok("webhooks", "install", "--url", BASE)
    linked.ok("unlink", "Child")
    assert hooks(shop) == []
    assert linked.json("webhooks", "list")["webhooks"] == []


def test_the_secret_is_made_once(linked: Cli, shop: Shop, sqlite_url: str) -> None:
    linked.ok("webhooks", "install", "--url", BASE)
    before = {hook.url for hook in hooks(shop)}
    linked.ok("webhooks", "remove")
    linked.ok("webhooks", "install", "--url", BASE)
    assert {hook.url for hook in hooks(shop)} == before
    database = Database.open(sqlite_url)
    try:
        kept = database.engine.connect().exec_driver_sql("SELECT url FROM webhook_states")
        assert kept.scalar_one() == f"{BASE}/webhooks/moysklad/"
    finally:
        database.close()
