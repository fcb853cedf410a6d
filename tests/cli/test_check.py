"""Several linked children: sync, check and what they cost."""

from imgsync.entrypoints.exit_status import ExitStatus
from tests.cli.conftest import Cli, store
from tests.shop import Shop, pictures

CHILDREN = 3


def test_linked_children_are_synced_checked_and_cost_a_page_each(ready: Cli, shop: Shop) -> None:
    for n in range(120):
        shop.pair(f"P{n}", pictures(1, 200 + n))
    others = [shop.emulator.add_account(f"Child {n}") for n in (10, 2)]
    for n, other in enumerate(others):
        other.add_user(token=f"token-{n}", kind="solution")
        store(ready, other.id, other.name, f"token-{n}")
        for m in range(120):
            other.add_entity("product", name=f"P{m}", external_code=f"x-P{m}", archived=m == 5)
    names = [shop.child.name, *(other.name for other in others)]
    ready.ok("link", "Main", *names, "--sync-images-all", "--type", "product")
    told = ready.failed_json("check", status=ExitStatus.ERROR)
    assert [c["missing"] for c in told["children"]] == [120] * CHILDREN
    assert ready.json("sync")["enqueue"]["entities"] == 120 * CHILDREN
    for other in others:
        for main, child in zip(
            shop.main.entities("product"), other.entities("product"), strict=True
        ):
            assert shop.images(child) == shop.images(main)
    shop.emulator.reset_stats()
    again = ready.json("sync")["enqueue"]
    assert (again["unchanged"], again["task_ids"]) == (120 * CHILDREN, [])
    assert shop.emulator.stats.api_calls == 2 + 2 * CHILDREN  # two pages of each account
    assert [c["equal"] for c in ready.json("check")["children"]] == [120] * CHILDREN
    assert ready.ok("check").splitlines()[-1] == "3 children: 3 right, 0 not."
    assert "children" not in ready.ok("check", "--child", names[1])
    shop.main.set_images(shop.main.entities("product")[0], [])
    (found,) = ready.failed_json("check", "--child", names[1], status=1)["differences"]
    assert (found["name"], found["difference"], found["main_images"]) == ("P0", "extra", [])
    assert "Child: product 'P0': extra: main none; child 0.png" in ready.run("check").stdout
    lines = ready.run("check").stdout.splitlines()
    of = [line.partition(":")[0] for line in lines if ": extra:" in line]
    in_order = ["Child", "Child 2", "Child 10"]
    assert of == in_order
    assert [c["child_name"] for c in ready.failed_json("check", status=1)["children"]] == in_order
    shop.unjudged = "main has changed since"


def test_of_several_children_the_last_line_counts_those_that_are_right(
    ready: Cli, shop: Shop
) -> None:
    """One has a product without a counterpart, and one cannot be read: both are not right."""
    shop.unjudged = "nothing is copied"
    for name in ("Perm", "Tver"):
        other = shop.emulator.add_account(name)
        other.add_user(token=f"token-{name}", kind="solution")
        store(ready, other.id, name, "wrong-token" if name == "Tver" else f"token-{name}")
    shop.pair("Lamp", pictures(1), pictures(1))
    ready.ok("link", "Main", "Child", "Perm", "Tver", "--sync-images-all")
    result = ready.run("check")
    assert result.exit_code == ExitStatus.ERROR
    assert result.stdout.splitlines()[-1] == "3 children: 1 right, 2 not."
    ru = ready.run("check", IMGSYNC_LANGUAGE="ru").stdout.splitlines()[-1]
    assert ru == "Дочерние аккаунты (3): всё верно: 1, не всё: 2."
    # What seems equal and could not be proved is not called right either.
    shop.emulator.faults.add(path_regex="download", status=404, times=100)
    assert ready.run("check", "--hash").stdout.splitlines()[-1] == "3 children: 0 right, 3 not."
