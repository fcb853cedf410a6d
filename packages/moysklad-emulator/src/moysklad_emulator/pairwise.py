"""Few dialects in which every two values of two switches meet."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

from moysklad_emulator.dialect import SWITCHES, Dialect

Pair = tuple[tuple[str, Any], tuple[str, Any]]
"""Two switches with a value each, in the order of the switches."""


def pairwise_dialects() -> list[Dialect]:
    """The documented dialect first, then others, so that every pair of values occurs in one."""
    return [Dialect(**combination) for combination in pairwise(SWITCHES)]


def pairwise(choices: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Combinations of all `choices` that cover every pair; the first has the first of each.

    Greedy, and the same every time: each combination begins with a pair not covered yet, and
    takes for every other switch the value that covers most.
    """
    left = _pairs(choices)
    found = [{name: values[0] for name, values in choices.items()}]
    left -= _covered(found[0])
    while left:
        found.append(_combination(choices, left))
        left -= _covered(found[-1])
    return found


def _combination(choices: Mapping[str, Sequence[Any]], left: set[Pair]) -> dict[str, Any]:
    chosen = dict(min(left, key=repr))
    for name, values in choices.items():
        if name not in chosen:
            # max() takes the first of equals, the more usual value.
            chosen[name] = max(values, key=lambda v: _gain(choices, {**chosen, name: v}, left))
    return {name: chosen[name] for name in choices}


def _gain(choices: Mapping[str, Sequence[Any]], chosen: dict[str, Any], left: set[Pair]) -> int:
    ordered = {name: chosen[name] for name in choices if name in chosen}
    return len(_covered(ordered) & left)


def _pairs(choices: Mapping[str, Sequence[Any]]) -> set[Pair]:
    return {
        ((one, a), (other, b))
        for one, other in combinations(choices, 2)
        for a, b in product(choices[one], choices[other])
    }


def _covered(combination: Mapping[str, Any]) -> set[Pair]:
    return set(combinations(combination.items(), 2))
