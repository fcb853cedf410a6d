"""What people read, in their language: English in the code, others in the catalogues of
`imgsync/locale`, which the pages and the commands share.

Only the standard library: a command that speaks English reads no catalogue at all, and one that
speaks another needs nothing that is installed for the pages alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from gettext import c2py
from typing import Any

LANGUAGES: Mapping[str, str] = {"en": "English", "ru": "Русский"}
"""Names by code, each in its own language."""

_OF_BELOW = ("errors.po", "click.po")
"""Catalogues of texts that are made where nothing is known of languages: their messages are
patterns of whole lines. See `translated`."""
_NESTED = ("why", "size", "counted")
"""How the names of placeholders begin whose values are texts of the program; other values are
names and numbers, which stay as they are."""
_LABEL = "label"
"""As these, but the value may be a name too: it is no text of its own, only what a pattern fits."""
_MOST_NESTED = 6
_LONGEST = 4000
"""Characters of a line that is compared with patterns."""
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_ESCAPES = {"\\n": "\n", "\\t": "\t", '\\"': '"', "\\\\": "\\"}
_ESCAPE = re.compile(r'\\[nt"\\]')
_NUMBER = "[0-9][0-9,.]*"
_VALUES = {
    "num": _NUMBER,
    "number": _NUMBER,
    "counted": f"{_NUMBER} [a-z ]+",
    "id": r"[^\s:]+",
}
"""What stands for a placeholder, by the beginning of its name; anything for others."""
_COUNTED = re.compile(r"%\(num\)s [a-z ]+")
"""Such as ``%(num)s images``, which is a pattern in whatever catalogue it stands."""


class Catalogue:
    """The texts of one language."""

    def __init__(self, code: str) -> None:
        self._texts: dict[str, str] = {}
        self._plurals: dict[str, tuple[str, ...]] = {}
        self._patterns: list[_Pattern] = []
        self._form: Callable[[int], int] = lambda number: int(number != 1)
        # Here, as English needs it not, and it takes its time to import.
        from importlib.resources import files

        folder = files("imgsync") / "locale" / code
        if not folder.is_dir():
            return
        for file in sorted(folder.iterdir(), key=lambda one: one.name):
            if file.name.endswith(".po"):
                self._take(read_po(file.read_text("utf-8")), below=file.name in _OF_BELOW)
        # The longest first: the more of a line a pattern says itself, the surer it is the one.
        self._patterns.sort(key=lambda one: -one.letters)

    def gettext(self, message: str) -> str:
        """The text, or the message itself where there is none."""
        return self._texts.get(message, message)

    def ngettext(self, one: str, many: str, number: int) -> str:
        """As `gettext`, in the form for so many; the number itself is not yet put in."""
        forms = self._plurals.get(one)
        if forms is None:
            return one if number == 1 else many
        return forms[min(self._form(abs(number)), len(forms) - 1)]

    def translated(self, line: str, depth: int = 0) -> str:
        """A whole text that was made in English; itself where no pattern fits."""
        return self._texts.get(line) or self._by_pattern(line, depth)

    def _by_pattern(self, line: str, depth: int) -> str:
        if depth < _MOST_NESTED and len(line) <= _LONGEST:
            for pattern in self._patterns:
                found = pattern.match(line)
                if found is not None:
                    return self._filled(pattern, found, depth)
        return line

    def _filled(self, pattern: "_Pattern", found: dict[str, str], depth: int) -> str:
        values = dict(found)
        for name, value in found.items():
            if name.startswith(_NESTED):
                values[name] = self.translated(value, depth + 1)
            elif name.startswith(_LABEL):
                values[name] = self._by_pattern(value, depth + 1)
        if pattern.many is None:
            return self._texts[pattern.message] % values
        number = int(re.sub("[,.]", "", found["num"]))
        return self.ngettext(pattern.message, pattern.many, number) % values

    def _take(self, entries: "Iterable[Entry]", *, below: bool) -> None:
        for message, many, texts in entries:
            if not message:
                self._read_head(texts[0])
                continue
            if many is None:
                self._texts[message] = texts[0]
            else:
                self._plurals[message] = texts
            if many is not None and (below or _COUNTED.fullmatch(message)):
                self._patterns += (_Pattern(message, many, form) for form in (message, many))
            elif below and "%(" in message:
                self._patterns.append(_Pattern(message, None, message))

    def _read_head(self, head: str) -> None:
        found = re.search(r"plural=([^;]+);", head)
        if found:
            self._form = c2py(found[1])


class _Pattern:
    """A message with placeholders, as what matches lines that were made of it."""

    def __init__(self, message: str, many: str | None, template: str) -> None:
        self.message, self.many = message, many
        literals = _PLACEHOLDER.split(template)[::2]
        self.letters = sum(map(len, literals))
        self._longest = max(literals, key=len).replace("%%", "%")
        self._template = template
        self._compiled: re.Pattern[str] | None = None

    def match(self, line: str) -> dict[str, str] | None:
        if self._longest not in line:
            return None
        if self._compiled is None:
            self._compiled = self._compile()
        found = self._compiled.fullmatch(line)
        return found and found.groupdict()

    def _compile(self) -> re.Pattern[str]:
        parts, seen = [], set[str]()
        for at, part in enumerate(_PLACEHOLDER.split(self._template)):
            if at % 2 == 0:
                parts.append(re.escape(part.replace("%%", "%")))
            elif part in seen:
                parts.append(f"(?P={part})")
            else:
                seen.add(part)
                value = _VALUES.get(part.partition("_")[0], ".+?")
                parts.append(f"(?P<{part}>{value})")
        return re.compile("".join(parts), re.DOTALL)


Entry = tuple[str, str | None, tuple[str, ...]]
"""A message, its plural, its texts; the head of a catalogue has the message ''."""


def read_po(text: str) -> Iterator[Entry]:
    """The entries of a catalogue, without those that have no text or are only a guess (fuzzy).

    ValueError for a line that is none of a catalogue; contexts are not known.
    """
    fields: dict[str, list[str]] = {}
    here: list[str] | None = None
    fuzzy = False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        line = line.strip()
        if not line or line.startswith("#"):
            if fields.get("msgstr") or fields.get("msgstr[0]"):
                yield from _entry(fields, fuzzy=fuzzy)
                fields, fuzzy = {}, False
            fuzzy = fuzzy or (line.startswith("#,") and "fuzzy" in line)
            continue
        keyword, _, quoted = line.partition(" ")
        if not line.startswith('"'):
            if keyword == "msgid" and fields:
                yield from _entry(fields, fuzzy=fuzzy)
                fields, fuzzy = {}, False
            if not keyword.startswith("msg") or keyword == "msgctxt":
                raise ValueError(f"line {number} of the catalogue is none: {line}")
            here = fields.setdefault(keyword, [])
            line = quoted.strip()
        if here is None or len(line) < 2 or line[0] != '"' or line[-1] != '"':
            raise ValueError(f"line {number} of the catalogue is none: {line}")
        here.append(_unescaped(line[1:-1]))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda one: _ESCAPES[one[0]], text) if "\\" in text else text


def _entry(fields: Mapping[str, list[str]], *, fuzzy: bool) -> Iterator[Entry]:
    said = {name: "".join(parts) for name, parts in fields.items()}
    texts = tuple(text for name, text in said.items() if name.startswith("msgstr"))
    message = said.get("msgid", "")
    if all(texts) and not (fuzzy and message):
        yield message, said.get("msgid_plural"), texts


@cache
def catalogue(code: str) -> Catalogue:
    """That of a language, read once; an empty one for English."""
    return Catalogue(code)


class _Speech:
    """What the commands of this process speak. Not a context variable: threads and tasks of a
    command speak as it does, while each request of the pages has a language of its own."""

    language = "en"
    is_for_programs = False


def language_of(environment: Mapping[str, str]) -> str:
    """What is asked for by IMGSYNC_LANGUAGE, else by the first of LC_ALL, LC_MESSAGES and LANG that
    says something, as in POSIX; English for what is not known."""
    asked = environment.get("IMGSYNC_LANGUAGE", "").strip().lower()
    if asked:
        return asked if asked in LANGUAGES else "en"
    given = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    locale = next(filter(None, given), "")
    code = re.split("[_.@-]", locale, maxsplit=1)[0].lower()
    return code if code in LANGUAGES else "en"


@contextmanager
def speaking(language: str, *, is_for_programs: bool) -> Iterator[None]:
    """Meanwhile commands speak that language; English, whatever is asked for, where a program
    reads what they say."""
    before = _Speech.language, _Speech.is_for_programs
    _Speech.is_for_programs = is_for_programs
    speak(language)
    try:
        yield
    finally:
        _Speech.language, _Speech.is_for_programs = before


def speak(language: str) -> None:
    """From now on commands speak that language, one of `LANGUAGES`."""
    _Speech.language = "en" if _Speech.is_for_programs else language


def spoken() -> str:
    """The language that commands speak."""
    return _Speech.language


def gettext(message: str, /, **values: Any) -> str:
    """The text in the language that commands speak, with the values in it. Those whose names begin
    with `why` or `size` are texts of the program themselves, and `translated`."""
    if _Speech.language == "en":
        return message % values if values else message
    text = catalogue(_Speech.language).gettext(message)
    return text % _said(values) if values else text


def ngettext(one: str, many: str, num: int, /, **values: Any) -> str:
    """As `gettext`, in the form for so many, which the text names as ``%(num)s``."""
    if _Speech.language == "en":
        text = one if num == 1 else many
    else:
        text = catalogue(_Speech.language).ngettext(one, many, num)
    return text % {"num": num, **_said(values)}


def marked(message: str) -> str:
    """The message itself, which `gettext` translates where it is shown."""
    return message


def translated(line: object) -> str:
    """A text that was made in English where nothing is known of languages, such as that of an
    error, in the language that commands speak; as it is where the catalogues do not know it."""
    text = str(line)
    return text if _Speech.language == "en" else catalogue(_Speech.language).translated(text)


def _said(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: translated(value) if name.startswith(_NESTED) else value
        for name, value in values.items()
    }
