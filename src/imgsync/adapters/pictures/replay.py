"""A file on disk that comes in chunks, as the seekable file that an imaging library needs."""

from collections.abc import Callable, Iterator
from io import SEEK_CUR, SEEK_SET, RawIOBase

_PADDING = b"\x00\xff\r\n\t "
_KEPT = 16


class Replay(RawIOBase):
    """Reads forward; going back begins anew. No more than a chunk is in memory.

    `failure` is the error of `read`, which a decoder may take for a damaged picture.
    """

    def __init__(self, read: Callable[[], Iterator[bytes]]) -> None:
        super().__init__()
        self.failure: Exception | None = None
        self._read = read
        self._chunks = read()
        self._rest = b""
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        rest = self._rest or self._next()
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        self._rest = rest[count:]
        self._position += count
        return count

    def seek(self, offset: int, whence: int = SEEK_SET) -> int:
        if whence not in (SEEK_SET, SEEK_CUR):
            raise OSError("the end is not known")
        target = offset + (self._position if whence == SEEK_CUR else 0)
        if target < self._position:
            self._chunks, self._rest, self._position = self._read(), b"", 0
        while self._position < target and (rest := self._rest or self._next()):
            step = min(len(rest), target - self._position)
            self._rest = rest[step:]
            self._position += step
        return self._position

    def end(self) -> bytes:
        """The last bytes of the file, padding after them aside."""
        last = b""
        for chunk in self._read():
            last += chunk
            core = last.rstrip(_PADDING)
            # Of the padding something stays, as it may begin the next chunk's end marker.
            last = core[-_KEPT:] + last[len(core) :][-_KEPT:]
        return last.rstrip(_PADDING)

    def _next(self) -> bytes:
        try:
            return next((chunk for chunk in self._chunks if chunk), b"")
        except Exception as error:
            self.failure = error
            raise
