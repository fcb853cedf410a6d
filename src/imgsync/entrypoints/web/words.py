"""The language of whoever is answered by the pages: English in the code, others in the catalogues
of `imgsync/locale`."""

from contextvars import ContextVar

from imgsync.entrypoints.translation import LANGUAGES, catalogue

__all__ = ["LANGUAGES", "chosen", "gettext", "language", "ngettext", "use"]

_language: ContextVar[str] = ContextVar("language", default="en")


def language() -> str:
    """Of whoever is answered now."""
    return _language.get()


def use(code: str) -> None:
    """Whoever is answered now reads that language, one of `LANGUAGES`."""
    _language.set(code)


def gettext(message: str) -> str:
    """The text in the language of whoever is answered now."""
    return catalogue(language()).gettext(message)


def ngettext(one: str, many: str, number: int) -> str:
    """As `gettext`, in the form for so many; the number itself is not yet put in."""
    return catalogue(language()).ngettext(one, many, number)


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
