"""How much runs at once."""

from collections.abc import Iterator
from contextlib import contextmanager


class ParallelGauge:
    """`most`: the largest number of `under_way` blocks open at the same time."""

    def __init__(self) -> None:
        self.most = 0
        self._open = 0

    @contextmanager
    def under_way(self) -> Iterator[None]:
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            yield
        finally:
            self._open -= 1
