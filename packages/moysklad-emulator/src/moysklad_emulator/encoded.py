"""Image files as their formats lay them out: whether one is whole, and the same anew encoded."""

import struct
import zlib
from collections.abc import Iterator

_PNG = b"\x89PNG\r\n\x1a\n"
_HEADER_END = len(_PNG) + 12 + 13
"""Where the first chunk of a PNG, IHDR, ends."""
_JPEG = b"\xff\xd8"
_MARKERS_ALONE = frozenset(range(0xD0, 0xD8)) | {0x01}
_SCAN, _END = 0xDA, 0xD9
_NOTE = b"stored by the emulator"


def is_whole(content: bytes) -> bool:
    """Whether the parts of a JPEG or PNG follow one another to its end; nothing is decoded.

    Files of other formats are not looked into: they are whole.
    """
    if content.startswith(_PNG):
        kinds = list(_chunks(content))
        return kinds[:1] == [b"IHDR"] and b"IDAT" in kinds and kinds[-1] == b"IEND"
    if content.startswith(_JPEG):
        return _jpeg_ends(content)
    return True


def recoded(content: bytes) -> bytes:
    """The same picture as another file, of another size; as it is where it is no JPEG or PNG."""
    if content.startswith(_PNG) and content[len(_PNG) + 4 :].startswith(b"IHDR"):
        data = b"tEXt" + b"Comment\x00" + _NOTE
        chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
        return content[:_HEADER_END] + chunk + content[_HEADER_END:]
    if content.startswith(_JPEG):
        comment = b"\xff\xfe" + struct.pack(">H", len(_NOTE) + 2) + _NOTE
        return content[: len(_JPEG)] + comment + content[len(_JPEG) :]
    return content


def _chunks(content: bytes) -> Iterator[bytes]:
    """The kind of each chunk of a PNG up to IEND; b"" for one that is cut or has a wrong sum,
    after which there are no more.
    """
    at = len(_PNG)
    while True:
        head = content[at : at + 8]
        end = at + 8 + (struct.unpack(">I", head[:4])[0] if len(head) == 8 else 0)
        total = content[end : end + 4]
        if len(total) < 4 or zlib.crc32(content[at + 4 : end]) != struct.unpack(">I", total)[0]:
            yield b""
            return
        yield head[4:]
        if head[4:] == b"IEND":
            return
        at = end + 4


def _jpeg_ends(content: bytes) -> bool:
    """Whether segment follows segment up to a scan, and an end of image comes after that."""
    at = len(_JPEG)
    while content[at : at + 1] == b"\xff":
        marker = content[at + 1] if at + 1 < len(content) else 0
        if marker == 0xFF or marker in _MARKERS_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _END or at + 4 > len(content):
            return False
        at += 2 + int(struct.unpack(">H", content[at + 2 : at + 4])[0])
        if marker == _SCAN:
            return content.rfind(b"\xff\xd9", at) >= 0
    return False
