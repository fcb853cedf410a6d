"""imgsync api-key, as a person uses it."""

from tests.cli.conftest import Cli


def test_a_key_is_shown_once_listed_by_name_and_removed(cli: Cli) -> None:
    assert "No keys yet" in cli.ok("api-key", "list")
    key = cli.ok("api-key", "add", "warehouse", "--write").strip()
    assert key.startswith("imgsync_")
    assert cli.json("api-key", "add", "reader")["key"] != key
    listed = cli.ok("api-key", "list")
    assert "read and write" in listed
    assert key not in listed
    names = [one["name"] for one in cli.json("api-key", "list")]
    assert names == ["reader", "warehouse"]
    assert "already" in cli.fail("api-key", "add", "reader")
    cli.ok("api-key", "remove", "reader")
    assert "no key 'reader'" in cli.fail("api-key", "remove", "reader")
