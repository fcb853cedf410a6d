"""Fault injection: what the next matching requests meet."""

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Where = Literal["api", "storage"]


@dataclass(slots=True)
class Fault:
    """Conditions and effect of a fault; `remaining` counts down from `times`.

    Effects in this order: sleep `delay` seconds; `drop_connection` before anything is done; or
    answer `status` (with an API error body where `code` is given, with plain text otherwise);
    or, with `drop_after_bytes`, do the work and cut the connection after that many bytes of the
    answer's body (0: nothing of the answer is sent).
    """

    method: str
    path: re.Pattern[str]
    where: Where
    remaining: int
    status: int | None = None
    code: int | None = None
    delay: float = 0.0
    drop_connection: bool = False
    drop_after_bytes: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def matches(self, where: Where, method: str, path: str) -> bool:
        return (
            self.remaining > 0
            and self.where == where
            and self.method == method
            and self.path.search(path) is not None
        )


class Faults:
    """Faults in the order in which they were added; the first that matches is used. Thread-safe."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        *,
        method: str = "GET",
        path_regex: str = "",
        status: int | None = None,
        code: int | None = None,
        times: int = 1,
        where: Where = "api",
        delay: float = 0.0,
        drop_connection: bool = False,
        drop_after_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Fault:
        """Adds a fault for the next `times` requests whose URL path `path_regex` is found in."""
        fault = Fault(
            method.upper(),
            re.compile(path_regex),
            where,
            times,
            status,
            code,
            delay,
            drop_connection,
            drop_after_bytes,
            dict(headers or {}),
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, where: Where, method: str, path: str) -> Fault | None:
        """The fault of this request, counted down; None for most requests."""
        with self._lock:
            for fault in self._faults:
                if fault.matches(where, method, path):
                    fault.remaining -= 1
                    return fault
        return None
