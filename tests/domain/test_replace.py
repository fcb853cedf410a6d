"""Replace strategies against a model of MoySklad's image list."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgsync.adapters.moysklad.requests import array_size
from imgsync.domain.errors import ChildChangedError
from imgsync.domain.model import Element, Keep, Upload
from imgsync.domain.packing import RequestRoom
from imgsync.domain.replace import (
    STRATEGIES,
    Action,
    DeleteImages,
    Done,
    Outcome,
    Rejected,
    Replacement,
    SetImages,
    Stopped,
)

LIMIT = 4_000
ROOM = RequestRoom(LIMIT, array_size)


@dataclass
class ModelChild:
    """A child's list: an array sets the list, delete removes.

    What no document tells is played both ways. `drops`: a refused array leaves an empty list
    instead of the one that was there. `too_large`: bytes of a request from which it is refused as
    too large, though the documented limit is higher. `shuffled`: the first array request ends in
    another order than was set.
    """

    hrefs: list[str]
    bad: frozenset[str] = frozenset()
    stop_at: int | None = None
    drops: bool = False
    too_large: int = LIMIT
    shuffled: bool = False
    actions: list[Action] = field(default_factory=list)
    lists: list[list[str]] = field(default_factory=list)
    refusals: int = 0

    def perform(self, action: Action) -> Outcome:
        self.actions.append(action)
        assert len(self.actions) < 200, "no end"
        if isinstance(action, DeleteImages):
            assert set(action.hrefs) <= set(self.hrefs)
            self.hrefs = [h for h in self.hrefs if h not in action.hrefs]
            self.lists.append(self.hrefs)
            return Done()
        assert array_size(action.elements) <= LIMIT
        uploads = [e for e in action.elements if isinstance(e, Upload)]
        if uploads and self.stop_at is not None and len(self.actions) > self.stop_at:
            return Stopped("down")
        if any(e.key in self.bad for e in uploads):
            return self.refuse("not an image")
        if uploads and array_size(action.elements) > self.too_large:
            return self.refuse("too large")
        kept = [e.href for e in action.elements if isinstance(e, Keep)]
        assert set(kept) <= set(self.hrefs), "a meta that is not on the entity"
        hrefs = [e.href if isinstance(e, Keep) else f"https://c/{e.key}" for e in action.elements]
        self.hrefs = hrefs[::-1] if self.shuffled else hrefs
        self.shuffled = False
        self.lists.append(self.hrefs)
        return Done(tuple(hrefs), tuple(self.hrefs))

    def refuse(self, reason: str) -> Rejected:
        self.refusals += 1
        if self.drops:
            self.hrefs = []
        return Rejected(reason, tuple(self.hrefs))


def run(strategy: str, wanted: list[Element], child: ModelChild) -> Replacement:
    steps = STRATEGIES[strategy](wanted, list(child.hrefs), ROOM)
    try:
        action = next(steps)
        while True:
            action = steps.send(child.perform(action))
    except StopIteration as stop:
        result: Replacement = stop.value
    return result


def run_again_where_needed(
    strategy: str, wanted: list[Element], child: ModelChild
) -> tuple[Replacement, list[Element]]:
    """As `run`, begun anew from what is there where the child lost an image to keep, whose file is
    then fetched; and the list that was wanted at last."""
    for _ in range(3):
        try:
            return run(strategy, wanted, child), wanted
        except ChildChangedError:
            wanted = [
                Upload(f"again-{e.href[-1]}", "again.png", 50)
                if isinstance(e, Keep) and e.href not in child.hrefs
                else e
                for e in wanted
            ]
            wanted = [
                replace(e, replaces=None)
                if isinstance(e, Upload) and e.replaces not in child.hrefs
                else e
                for e in wanted
            ]
    raise AssertionError("it never converges")


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Element], list[str], frozenset[str], int | None]:
    current = [f"https://c/old{i}" for i in range(draw(st.integers(0, 4)))]
    kept = draw(st.lists(st.sampled_from(current), unique=True)) if current else []
    earlier = st.one_of(st.none(), st.sampled_from(current)) if current else st.none()
    uploads = [
        Upload(f"u{i}", f"{i}.png", size, draw(earlier))
        for i, size in enumerate(draw(st.lists(st.integers(0, 2_000), max_size=6)))
    ]
    wanted: list[Element] = draw(st.permutations([*map(Keep, kept), *uploads]))
    bad = frozenset(draw(st.lists(st.sampled_from([u.key for u in uploads])))) if uploads else ()
    stop_at = draw(st.one_of(st.none(), st.integers(0, 3)))
    return wanted, current, frozenset(bad), stop_at


def final_list(wanted: list[Element], result: Replacement) -> list[str]:
    hrefs = [
        e.href if isinstance(e, Keep) else result.placed.get(e.key, e.replaces) for e in wanted
    ]
    return [href for href in hrefs if href is not None]


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(case=cases())
def test_every_image_is_placed_in_order_or_accounted_for(
    strategy: str, case: tuple[list[Element], list[str], frozenset[str], int | None]
) -> None:
    wanted, current, bad, stop_at = case
    child = ModelChild(list(current), bad, stop_at)
    result = run(strategy, wanted, child)
    keys = {e.key for e in wanted if isinstance(e, Upload)}
    assert result.placed.keys() | result.rejected.keys() | result.stopped.keys() == keys
    assert not result.placed.keys() & (result.rejected.keys() | result.stopped.keys())
    assert result.rejected.keys() <= bad
    if stop_at is None:
        assert result.rejected.keys() == bad
        assert not result.stopped
        deleted = any(isinstance(action, DeleteImages) for action in child.actions)
        if wanted and keys != bad and not (deleted and bad):
            assert child.hrefs == final_list(wanted, result)
    if child.lists:
        assert tuple(child.hrefs) == result.final_hrefs


@pytest.mark.parametrize("strategy", STRATEGIES)
@given(case=cases())
def test_no_strategy_ever_empties_the_list(
    strategy: str, case: tuple[list[Element], list[str], frozenset[str], int | None]
) -> None:
    wanted, current, bad, stop_at = case
    child = ModelChild(list(current), bad, stop_at)
    run(strategy, wanted, child)
    assert all(child.lists)
    if strategy == "atomic":
        assert not any(isinstance(action, DeleteImages) for action in child.actions)


@given(case=cases())
def test_atomic_keeps_the_earlier_copy_until_the_image_is_there(
    case: tuple[list[Element], list[str], frozenset[str], int | None],
) -> None:
    wanted, current, bad, stop_at = case
    child = ModelChild(list(current), bad, stop_at)
    result = run("atomic", wanted, child)
    for element in wanted:
        if isinstance(element, Upload) and element.replaces and element.key not in result.placed:
            assert element.replaces in child.hrefs


@given(case=cases())
def test_atomic_never_drops_what_an_earlier_request_placed(
    case: tuple[list[Element], list[str], frozenset[str], int | None],
) -> None:
    wanted, current, _, _ = case
    child = ModelChild(list(current))
    run("atomic", wanted, child)
    kept = {e.href for e in wanted if isinstance(e, Keep)}
    for before, after in zip(child.lists, child.lists[1:], strict=False):
        assert set(before) - (set(current) - kept) <= set(after)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("drops", [False, True])
@given(case=cases(), shuffled=st.booleans(), too_large=st.integers(0, LIMIT))
def test_the_list_becomes_the_wanted_one_whatever_a_refusal_leaves(
    strategy: str,
    drops: bool,
    shuffled: bool,
    too_large: int,
    case: tuple[list[Element], list[str], frozenset[str], int | None],
) -> None:
    wanted, current, bad, _ = case
    child = ModelChild(list(current), bad, drops=drops, shuffled=shuffled, too_large=too_large)
    result, wanted = run_again_where_needed(strategy, wanted, child)
    keys = {e.key for e in wanted if isinstance(e, Upload)}
    assert result.placed.keys() | result.rejected.keys() == keys
    assert not result.placed.keys() & result.rejected.keys()
    assert bad <= result.rejected.keys()
    assert set(result.placed.values()) <= set(child.hrefs)
    assert tuple(child.hrefs) == result.final_hrefs
    for reason in result.rejected.values():
        assert reason in ("not an image", "too large") or "does not fit" in reason
    if child.lists and result.placed:
        places = [
            e.href if isinstance(e, Keep) else result.placed.get(e.key, e.replaces) for e in wanted
        ]
        if not drops and strategy == "atomic":
            assert child.hrefs == [href for href in places if href is not None]
        else:  # an earlier copy may be lost, but nothing else, and the order stays
            left = iter(places)
            assert all(href in left for href in child.hrefs)
            kept = {e.href for e in wanted if isinstance(e, Keep)}
            assert kept | set(result.placed.values()) <= set(child.hrefs)


@pytest.mark.parametrize("drops", [False, True])
@pytest.mark.parametrize("bad", range(10))
def test_one_bad_image_of_ten_is_found_by_halves(bad: int, drops: bool) -> None:
    child = ModelChild(["https://c/old"], bad=frozenset({f"u{bad}"}), drops=drops)
    result = run("atomic", [Upload(f"u{i}", "p.png", 10) for i in range(10)], child)
    assert child.hrefs == [f"https://c/u{i}" for i in range(10) if i != bad]
    assert list(result.rejected) == [f"u{bad}"]
    assert child.refusals <= 4


def test_a_request_too_large_for_the_api_is_split() -> None:
    child = ModelChild([], too_large=2_000)
    result = run("atomic", [Upload(f"u{i}", "p.png", 600) for i in range(4)], child)
    assert child.hrefs == [f"https://c/u{i}" for i in range(4)]
    assert not result.rejected
    assert child.refusals == 1


def test_an_image_too_large_for_the_api_by_itself_is_rejected() -> None:
    child = ModelChild([], too_large=1_000)
    result = run("atomic", [Upload("big", "p.png", 900), Upload("u", "p.png", 10)], child)
    assert child.hrefs == ["https://c/u"]
    assert result.rejected == {"big": "too large"}


def test_images_that_a_refusal_dropped_are_placed_again() -> None:
    child = ModelChild([], bad=frozenset({"u2"}), drops=True)
    result = run("atomic", [Upload(f"u{i}", "p.png", 10) for i in range(3)], child)
    assert child.hrefs == ["https://c/u0", "https://c/u1"]
    assert result.placed == {"u0": "https://c/u0", "u1": "https://c/u1"}


def test_an_image_to_keep_that_a_refusal_dropped_is_told() -> None:
    child = ModelChild(["https://c/a"], bad=frozenset({"u"}), drops=True)
    with pytest.raises(ChildChangedError, match="removed an image to keep"):
        run("atomic", [Keep("https://c/a"), Upload("u", "p.png", 10)], child)


def test_another_order_than_was_set_is_set_once_more() -> None:
    child = ModelChild([], shuffled=True)
    result = run("atomic", [Upload("a", "p.png", 10), Upload("b", "p.png", 10)], child)
    assert child.hrefs == ["https://c/a", "https://c/b"] == list(result.final_hrefs)
    assert len(child.actions) == 2


def test_a_child_that_never_keeps_the_order_is_told() -> None:
    steps = STRATEGIES["atomic"]([Keep("https://c/a"), Keep("https://c/b")], [], ROOM)
    next(steps)
    with pytest.raises(ChildChangedError, match="the order that was set"):
        steps.send(Done(("https://c/a", "https://c/b"), ("https://c/b", "https://c/a")))


def test_ten_images_that_fit_cost_one_request() -> None:
    child = ModelChild(["https://c/old"])
    run("atomic", [Upload(f"u{i}", "p.png", 100) for i in range(10)], child)
    assert len(child.actions) == 1


def test_an_equal_list_costs_no_request() -> None:
    child = ModelChild(["https://c/a", "https://c/b"])
    run("atomic", [Keep("https://c/a"), Keep("https://c/b")], child)
    assert child.actions == []


def test_a_shorter_list_of_kept_images_is_one_request() -> None:
    child = ModelChild(["https://c/a", "https://c/b"])
    result = run("atomic", [Keep("https://c/a")], child)
    assert child.actions == [SetImages((Keep("https://c/a"),))]
    assert result.final_hrefs == ("https://c/a",)


def test_one_bad_image_costs_only_itself() -> None:
    child = ModelChild(["https://c/old"], bad=frozenset({"u1"}))
    result = run("atomic", [Upload(f"u{i}", "p.png", 10) for i in range(3)], child)
    assert child.hrefs == ["https://c/u0", "https://c/u2"]
    assert result.rejected == {"u1": "not an image"}


def test_delete_then_upload_deletes_in_one_request_first() -> None:
    child = ModelChild(["https://c/a", "https://c/b", "https://c/c"])
    run("delete-then-upload", [Keep("https://c/b"), Upload("u", "p.png", 10)], child)
    assert child.actions[0] == DeleteImages(("https://c/a", "https://c/c"))
    assert child.hrefs == ["https://c/b", "https://c/u"]
    assert len(child.actions) == 2


def test_an_image_larger_than_a_request_is_rejected_without_a_request() -> None:
    child = ModelChild([])
    result = run("atomic", [Upload("big", "b.png", LIMIT), Upload("u", "p.png", 1)], child)
    assert list(result.rejected) == ["big"]
    assert child.hrefs == ["https://c/u"]


def test_delete_then_upload_leaves_one_old_image_until_the_upload() -> None:
    child = ModelChild(["https://c/a", "https://c/b"], stop_at=1)
    result = run("delete-then-upload", [Upload("u", "p.png", 10)], child)
    assert child.actions[0] == DeleteImages(("https://c/b",))
    assert child.hrefs == ["https://c/a"]
    assert result.stopped == {"u": "down"}


def test_delete_then_upload_with_nothing_to_upload_is_one_array() -> None:
    child = ModelChild(["https://c/a", "https://c/b"])
    run("delete-then-upload", [Keep("https://c/b")], child)
    assert child.actions == [SetImages((Keep("https://c/b"),))]
