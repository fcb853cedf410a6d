"""The languages of the pages: English in the code, others in the catalogues of `imgsync/locale`."""

from collections.abc import Mapping
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from io import BytesIO

from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations

LANGUAGES: Mapping[str, str] = {"en": "English", "ru": "Русский"}
"""Names by code, each in its own language."""

_language: ContextVar[str] = ContextVar("language", default="en")


def language() -> str:
    """Of whoever is answered now."""
    return _language.get()


def use(code: str) -> None:
    """Whoever is answered now reads that language, one of `LANGUAGES`."""
    _language.set(code)


def gettext(message: str) -> str:
    """The text in the language of whoever is answered now."""
    return _translations(language()).ugettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """As `gettext`, in the form for so many; the number itself is not yet put in."""
    return _translations(language()).ungettext(one, many, number)


def chosen(asked: str | None, kept: str | None, accepted: str) -> str:
    """The language that is asked for or was chosen before, else the one that the browser's
    ``Accept-Language`` likes best, else English."""
    for code in (asked, kept):
        if code in LANGUAGES:
            return str(code)
    return next((code for code in _liked(accepted) if code in LANGUAGES), "en")


def _liked(accepted: str) -> list[str]:
    liked: list[tuple[float, str]] = []
    for part in accepted[:1000].split(","):
        tag, _, rest = part.strip().partition(";")
        name, _, value = rest.strip().partition("=")
        try:
            quality = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            continue
        if quality > 0:
            liked.append((quality, tag.strip().split("-")[0].casefold()))
    return [tag for _, tag in sorted(liked, key=lambda one: -one[0])]


@cache
def _translations(code: str) -> Translations:
    whole = Catalog(locale=code)
    folder = files("imgsync") / "locale" / code
    if folder.is_dir():
        for file in sorted(folder.iterdir(), key=lambda one: one.name):
            if not file.name.endswith(".po"):
                continue
            for message in read_po(BytesIO(file.read_bytes()), locale=code):
                if message.id:
                    whole[message.id] = message
    compiled = BytesIO()
    write_mo(compiled, whole)
    compiled.seek(0)
    return Translations(compiled)
