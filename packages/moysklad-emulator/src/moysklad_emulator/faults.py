"""Fault injection: what the next matching requests meet."""

import re
import threading
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal, TypedDict, Unpack

from moysklad_emulator.hostile import Body

Where = Literal["api", "storage"]
Framing = Literal["length", "chunked", "close"]
ANY_METHOD = "ANY"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", ANY_METHOD)
WITHOUT_BODY = (204, 304)
"""Statuses whose answers have none."""


@dataclass(slots=True, kw_only=True)
class Fault:
    """Conditions and effect of a fault; `remaining` counts down from `times`.

    It meets requests of `method` ("ANY": of every one) in whose URL path `path` is found.

    Effects in this order: sleep `delay` seconds; read `hold_after` bytes of the request's body and
    no more until `release` (0: nothing is done before it); `drop_connection` before anything is
    done, or `never` answer, or send the bytes `raw` verbatim and close. Else `status` is answered
    without doing the work (with an API error body where `code` is given, with plain text
    otherwise), or the work is done. Then the answer is changed:

    - `headers` are added to it, or replace those it has;
    - `answer_status` is its status;
    - `body` replaces its body, by bytes or by a kind of `hostile_body`;
    - `cut_to`: only that many bytes of the body are sent, as if they were all;
    - `framing`: the body's end is told by Content-Length, by chunks, or by closing the connection;
      `content_length` is the number that is told, whatever is sent;
    - `endless`: the body is repeated until the client leaves;
    - `bytes_per_second`: the pace of the body;
    - `twice`: the whole answer is sent two times;
    - `drop_after_bytes`: the connection is cut after that many bytes of the body (0: nothing of
      the answer is sent), however its length is told.

    ValueError for what would never be met or done, so that no test passes for want of a fault.
    """

    method: str = "GET"
    path: re.Pattern[str] = field(default_factory=lambda: re.compile(""))
    where: Where = "api"
    remaining: int = 1
    delay: float = 0.0
    hold_after: int | None = None
    drop_connection: bool = False
    never: bool = False
    raw: bytes | None = None
    status: int | None = None
    code: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_status: int | None = None
    body: Body | bytes | None = None
    cut_to: int | None = None
    framing: Framing | None = None
    content_length: int | str | None = None
    endless: bool = False
    bytes_per_second: float | None = None
    twice: bool = False
    drop_after_bytes: int | None = None
    holding: threading.Event = field(default_factory=threading.Event, init=False, compare=False)
    """Set once a request is held."""
    _released: threading.Event = field(default_factory=threading.Event, init=False, compare=False)

    def release(self) -> None:
        """Lets the requests that `hold_after` holds go on, and holds no further one."""
        self._released.set()

    def holds(self, body_bytes: int) -> bool:
        """Whether a request of which so much has come is held now."""
        held = self.hold_after is not None and body_bytes >= self.hold_after
        if not held or self._released.is_set():
            return False
        self.holding.set()
        return True

    def __post_init__(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(f"fault: method is one of {', '.join(_METHODS)}, not '{self.method}'")
        given = self._given()
        for name in _WHOLE_ANSWERS:
            if name in given and (others := given - {name, "delay", "hold_after"}):
                raise ValueError(f"fault: with '{name}' nothing is left for '{min(others)}'")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"fault: status is from 200 to 599, not {self.status}")
        if self.code is not None and self.status in (None, *WITHOUT_BODY):
            raise ValueError("fault: a code needs a status whose answer has a body")

    def _given(self) -> set[str]:
        """Names of the effects that are not as by default."""
        effects = [one for one in fields(self) if one.init and one.name not in _CONDITIONS]
        return {one.name for one in effects if getattr(self, one.name) != _default(one)}

    def matches(self, where: Where, method: str, path: str) -> bool:
        return (
            self.remaining > 0
            and self.where == where
            and self.method in (method, ANY_METHOD)
            and self.path.search(path) is not None
        )

    @property
    def shapes_answer(self) -> bool:
        """Whether the answer is sent otherwise than a server would."""
        return bool(self._given() & _SHAPES)


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


_CONDITIONS = ("method", "path", "where", "remaining")
_WHOLE_ANSWERS = ("drop_connection", "never", "raw")
_SHAPES = frozenset(
    {
        "answer_status",
        "body",
        "cut_to",
        "framing",
        "content_length",
        "endless",
        "bytes_per_second",
        "twice",
    }
)


class Effects(TypedDict, total=False):
    """Effects of a `Fault`, as it documents them."""

    delay: float
    hold_after: int | None
    drop_connection: bool
    never: bool
    raw: bytes | None
    status: int | None
    code: int | None
    answer_status: int | None
    body: Body | bytes | None
    cut_to: int | None
    framing: Framing | None
    content_length: int | str | None
    endless: bool
    bytes_per_second: float | None
    twice: bool
    drop_after_bytes: int | None


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
        times: int = 1,
        where: Where = "api",
        headers: Mapping[str, str] | None = None,
        **effects: Unpack[Effects],
    ) -> Fault:
        """Adds a fault for the next `times` requests whose URL path `path_regex` is found in."""
        fault = Fault(
            method=method.upper(),
            path=re.compile(path_regex),
            where=where,
            remaining=times,
            headers=dict(headers or {}),
            **effects,
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Forgets all faults and lets go what they hold."""
        with self._lock:
            for fault in self._faults:
                fault.release()
            self._faults.clear()

    def waiting(self) -> int:
        """Requests that will still meet a fault."""
        with self._lock:
            return sum(fault.remaining for fault in self._faults)

    def take(self, where: Where, method: str, path: str) -> Fault | None:
        """The fault of this request, counted down; None for most requests."""
        with self._lock:
            for fault in self._faults:
                if fault.matches(where, method, path):
                    fault.remaining -= 1
                    return fault
        return None
