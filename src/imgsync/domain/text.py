"""Text from outside (names, answers, payloads), made harmless for terminals and logs."""

import re
import unicodedata
from collections.abc import Callable


def counted(number: int, one: str, many: str = "") -> str:
    """Such as ``1 task`` and ``2 tasks``; `many` for what takes more than an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


_DIGITS = re.compile(r"([0-9]+)")


def natural_key(name: str) -> tuple[tuple[str | tuple[int, str], ...], str]:
    """Sorts names as people count: ``Child 2`` before ``Child 10``, whatever the case of letters.
    Names that differ at all have different keys."""
    parts = _DIGITS.split(unicodedata.normalize("NFKC", name).casefold())
    # Not int: thousands of digits are no number that Python reads.
    keys = ((len(n := part.lstrip("0")), n) if at % 2 else part for at, part in enumerate(parts))
    return tuple(keys), name


def file_size(size: int, beside: int | None = None) -> str:
    """As people write it, in decimal units: ``512 bytes``, ``12 kB``, ``1.2 MB``, ``3.4 GB``; with
    as many digits as tell it from another size that stands `beside` it."""
    more = 0
    while _is_alike(size, beside, more) and more < 6:
        more += 1
    return _sized(size, more)


def file_sizes(before: int, after: int) -> str:
    """Such as ``from 11.9 to 9.5 MB`` and ``from 1.2 MB to 640 kB``."""
    was, now = file_size(before, after), file_size(after, before)
    number, _, unit = was.partition(" ")
    return f"from {number if now.endswith(' ' + unit) else was} to {now}"


def _is_alike(size: int, beside: int | None, more: int) -> bool:
    return beside is not None and beside != size and _sized(size, more) == _sized(beside, more)


def _sized(size: int, more: int) -> str:
    if size < 1000:
        return counted(size, "byte")
    if size < 999_500:
        return f"{size / 1e3:.{more}f} kB"
    if size < 999_950_000:
        return f"{size / 1e6:.{more + 1}f} MB"
    return f"{size / 1e9:.{more + 1}f} GB"


_ZERO_WIDTH_JOINER = "\u200d"
_EMOJI_STYLE = "\ufe0e\ufe0f"
_SKIN_TONES = "".join(map(chr, range(0x1F3FB, 0x1F400)))

_ESCAPED_CATEGORIES = {"Cc", "Cf", "Cs", "Cn", "Zl", "Zp"}
"""Controls, format characters (bidi, zero width), surrogates, unassigned, line and paragraph
separators: what moves the cursor, reorders what is read, or cannot be seen."""

_INVISIBLE = frozenset(
    map(
        chr,
        (
            0x034F,
            *(0x115F, 0x1160, 0x3164, 0xFFA0),
            *(0x17B4, 0x17B5),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE10),
            *range(0xE0100, 0xE01F0),
        ),
    )
)
"""Letters and marks without a shape (what else is a Default_Ignorable_Code_Point of Unicode)."""


def shown(text: str) -> str:
    """One line for a terminal or log: what could steer it or hide is spelled, as in ``\\x1b``.

    Letters of every script, combining marks and emoji stay; so does a backslash, which steers
    nothing. Shown twice is as shown once.
    """
    return _escaped(text, _spelled, kept="")


def shown_lines(text: str) -> str:
    """As `shown`, for text whose line breaks are the program's own."""
    return _escaped(text, _spelled, kept="\n")


def shown_json(document: str) -> str:
    """JSON of the same value, in which no character steers a terminal."""
    return _escaped(document, _spelled_in_json, kept="\n")


def _escaped(text: str, spelled: Callable[[str], str], kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        spelled(character)
        if character not in kept and _is_escaped(text, at, character)
        else character
        for at, character in enumerate(text)
    )


def _is_escaped(text: str, at: int, character: str) -> bool:
    if character == _ZERO_WIDTH_JOINER:
        return not _joins_emoji(text, at)
    if character in _EMOJI_STYLE:
        return at == 0 or unicodedata.category(text[at - 1])[0] in "LMZC"
    return character in _INVISIBLE or unicodedata.category(character) in _ESCAPED_CATEGORIES


def _joins_emoji(text: str, at: int) -> bool:
    """Whether a joiner stands between two symbols, as in the emoji of a family."""
    before = text[max(at - 3, 0) : at].rstrip(_EMOJI_STYLE + _SKIN_TONES)
    after = text[at + 1 : at + 2]
    return all(part and unicodedata.category(part[-1]) == "So" for part in (before, after))


def _spelled(character: str) -> str:
    code = ord(character)
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    if short is not None:
        return short
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _spelled_in_json(character: str) -> str:
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
