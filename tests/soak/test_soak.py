"""The short form of the campaign of faults; `make soak` is the long one."""

from pathlib import Path

import pytest

from moysklad_emulator import Dialect
from moysklad_emulator.images import NewImage
from tests.application.world import png
from tests.soak.campaign import Leg, Plan, leg

pytestmark = [pytest.mark.process, pytest.mark.database, pytest.mark.slow]

SEED = 20261128
HARD = Dialect(
    permanent_links=False, keep_in_entities=False, refused_array="drops", recodes=True, head=False
)


@pytest.mark.parametrize("postgresql", [False, True], ids=["sqlite", "postgresql"])
@pytest.mark.parametrize("dialect", [Dialect(), HARD], ids=["documented", "hard"])
def test_whatever_breaks_every_child_is_equal_in_the_end_and_never_empty_in_between(
    postgresql: bool, dialect: Dialect, tmp_path: Path
) -> None:
    plan = Plan(SEED, postgresql, dialect, children=2, entities=8, fault_seconds=4.0)
    with leg(plan, tmp_path, "short") as one:
        one.run_round(quiet=False)
        one.run_round(quiet=True)
        found = one.end()
    assert found.violations == []
    assert found.faults.total() > 3
    assert found.images > 20


def test_what_must_not_be_is_found(tmp_path: Path) -> None:
    """The judge of the campaign sees what a worse program would do."""
    plan = Plan(SEED, postgresql=False, workers=1, children=1, entities=2)
    with leg(plan, tmp_path, "bad") as one:
        one.run_round(quiet=True)
        assert one.found.violations == []
        spoil(one)
        told = one.end().violations
    assert {line.partition(": ")[2].partition(":")[0] for line in told} == {
        "not equal",
        "emptied in between",
        "given a picture that main never had",
        "2 images were sent twice, and nothing was wrong",
        "a token is in worker-0.log",
    }


def spoil(one: Leg) -> None:
    """What the judge has to see: lists emptied, a stranger's picture, one sent again, a token."""
    estate = one.estate
    child, (first, second) = estate.children[0], estate.children[0].entities
    estate.settled()
    stranger = NewImage.create("stranger.png", png(999_999))
    child.account.set_images(first, [stranger])
    child.account.set_images(first, [])
    child.account.set_images(second, [stranger])
    child.account.set_images(second, [stranger, stranger])
    with (one._folder / "worker-0.log").open("a", encoding="utf-8") as log:
        log.write(estate.main_token)
    one._judge(quiet=True)
