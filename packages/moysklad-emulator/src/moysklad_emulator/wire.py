"""Answers as bytes, which may break every rule of HTTP."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus

from moysklad_emulator.faults import Fault
from moysklad_emulator.hostile import hostile_body

_CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer before it is sent. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def changed_by(self, fault: Fault) -> "Answer":
        """The answer with the status, headers and body that the fault gives it."""
        answer, headers = self, dict(self.headers)
        if isinstance(fault.body, bytes):
            answer = replace(answer, body=fault.body)
        elif fault.body is not None:
            body, encoding = hostile_body(
                fault.body, self.body, headers.pop("content-encoding", "")
            )
            answer = replace(answer, body=body)
            headers |= {"content-encoding": encoding} if encoding else {}
        if fault.cut_to is not None:
            answer = replace(answer, body=answer.body[: fault.cut_to])
        headers |= {name.lower(): value for name, value in fault.headers.items()}
        return replace(answer, headers=headers, status=fault.answer_status or self.status)

    def head(self, fault: Fault) -> bytes:
        """Status line and headers, with the end of the body as the fault tells it."""
        headers = {name: value for name, value in self.headers.items() if name not in _FRAMING}
        length = len(self.body) if fault.content_length is None else fault.content_length
        chunked = fault.framing == "chunked"
        if chunked:
            headers["transfer-encoding"] = "chunked"
        if fault.content_length is not None or (not chunked and fault.framing != "close"):
            headers["content-length"] = str(length)
        if not fault.twice:
            headers["connection"] = "close"
        return _head(self.status, headers)

    def parts(self, fault: Fault) -> Iterator[bytes]:
        """The body as it is sent: framed, repeated without end, in parts of a good size."""
        size = 1 if fault.bytes_per_second is not None else _CHUNK_BYTES
        for part in self._pieces(size, fault.endless):
            yield b"%x\r\n%b\r\n" % (len(part), part) if fault.framing == "chunked" else part
        if fault.framing == "chunked":
            yield b"0\r\n\r\n"

    def _pieces(self, size: int, endless: bool) -> Iterator[bytes]:
        # Few large parts, or an endless body of few bytes would be sent a byte at a time.
        body = self.body or b"x"
        if endless and size > 1:
            body *= 1 + _CHUNK_BYTES // len(body)
        while endless:
            yield from _split(body, size)
        yield from _split(self.body, size)


_FRAMING = ("content-length", "transfer-encoding", "connection")


def _split(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    known = {entry.value for entry in HTTPStatus}
    phrase = HTTPStatus(status).phrase if status in known else "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{n}: {v}" for n, v in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", "replace")
