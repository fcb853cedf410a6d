"""Blocks of printed output in the documents, between two comments that a reader does not see."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"<!-- printed: ([\w-]+) -->\n(.*?)<!-- end of printed -->", re.DOTALL)
_VARYING = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\b\d{8}-\d{6}-[0-9a-f]{4}\b"), "RUN"),
    (re.compile(r"\d[\d,.]* (?:bytes|kB|MB|GB)\b"), "SIZE"),
    # Before what is measured, which an address looks like in part.
    (re.compile(r"(localhost|127\.0\.0\.1):\d+"), r"\1:PORT"),
    (re.compile(r"\b\d+\.\d+\b"), "MEASURED"),
    (re.compile(r"\b\d+ s\b"), "SECONDS"),
    # What grows with the program, and is not what the sample is about.
    (re.compile(r"schema \d{4}|\b\d+ values as by default|\b\d+ points\b"), "GROWS"),
)
"""What differs from one run to the next, or from one machine to another."""


@dataclass(frozen=True, slots=True)
class Block:
    """`text`: all between the comments."""

    document: Path
    name: str
    text: str


def documents() -> list[Path]:
    """Those that people read, but not what has been decided or is generated whole."""
    left_out = {"_build", "reference"}
    pages = [
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if not left_out & set(path.relative_to(ROOT).parts)
    ]
    return [ROOT / "README.md", ROOT / "README.ru.md", *pages]


def blocks() -> list[Block]:
    return [
        Block(path, name, text)
        for path in documents()
        for name, text in _BLOCK.findall(path.read_text(encoding="utf-8"))
    ]


def rewrite(made: Mapping[str, str], *, all_of_them: bool = False) -> list[Block]:
    """Puts what was made into each block of its name; the blocks that it changed.

    A block whose stable part is what was made stays as it is, unless `all_of_them` are wanted: the
    seconds of each run are no news.
    """
    changed = []
    for path in documents():
        before = path.read_text(encoding="utf-8")

        def put(found: re.Match[str], path: Path = path) -> str:
            name, text = found[1], found[2]
            if name not in made or (stable(text) == stable(made[name]) and not all_of_them):
                return found[0]
            changed.append(Block(path, name, made[name]))
            return f"<!-- printed: {name} -->\n{made[name]}<!-- end of printed -->"

        after = _BLOCK.sub(put, before)
        if after != before:
            path.write_text(after, encoding="utf-8")
    return changed


def stable(text: str) -> str:
    """What every run prints: without what was measured, and without the width of columns."""
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


def words(text: str) -> str:
    """`stable`, of a smaller run: without any number."""
    return re.sub(r"\d+", "N", stable(text))


def fenced(text: str) -> str:
    return f"```\n{text.strip()}\n```\n"


def elided(text: str, alike: Iterable[str], most: int = 3) -> str:
    """With "…" in place of all but the first `most` and the last of lines that stand together and
    match one of the patterns; of all of them where `most` is 0."""
    patterns = [re.compile(one) for one in alike]
    shown: list[str] = []
    group: list[str] = []
    current: re.Pattern[str] | None = None
    for line in [*text.splitlines(), None]:
        matched = next((one for one in patterns if line is not None and one.search(line)), None)
        if group and matched is not current:
            last = group[-1:] if most else []
            shown += group if len(group) <= most + 1 else [*group[:most], "…", *last]
            group = []
        current = matched
        if line is not None:
            (group if matched else shown).append(line)
    return "\n".join(shown)
