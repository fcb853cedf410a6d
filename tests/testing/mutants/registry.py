"""Which test of a suite must not let a mutant pass."""

from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T", bound=type)
MUTANTS: dict[type, str] = {}


def mutant(test: str) -> Callable[[_T], _T]:
    def note(adapter: _T) -> _T:
        MUTANTS[adapter] = test
        return adapter

    return note
