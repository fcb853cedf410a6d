"""The form of a link's settings: what it shows, and what is read from what somebody sent.

Fields bear the names of the options of ``imgsync link``. What was sent is shown again as it came
where something in it cannot be, with a word beside each such field.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import FormData

from imgsync.domain.model import LinkSettings, MatchField
from imgsync.domain.pictures import MAX_QUALITY, MIN_QUALITY, SMALLEST_SIDE, PictureSettings
from imgsync.domain.schedule import MOST_MINUTES, LinkSchedule
from imgsync.entrypoints.web.rendering import number
from imgsync.entrypoints.web.words import gettext as _

_MOST_PIXELS = 100_000
_MOST_FOLDERS = 1000


@dataclass(frozen=True, slots=True)
class LinkChanges:
    """Fields of `LinkSettings`, `PictureSettings` and `LinkSchedule` that are other ones now."""

    link: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, Any] = field(default_factory=dict)
    schedule: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For the list of changes."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in {**self.link, **self.pictures, **self.schedule}.items()
        }


@dataclass(slots=True)
class LinkForm:
    """`values`: of the fields, as they are shown; `errors`: what is wrong with one, by its name;
    `seen`: which settings whoever filled it in had before them."""

    values: dict[str, Any]
    seen: str
    errors: dict[str, str] = field(default_factory=dict)

    def error(self, name: str) -> str:
        """What is wrong with a field, '' where nothing is; of '' what concerns all."""
        return self.errors.get(name, "")


def type_label(name: str) -> str:
    """Of an entity type, as people call it; its name where it is a plugin's."""
    known = {"product": _("Products"), "bundle": _("Bundles"), "variant": _("Variants")}
    return known.get(name, name)


def field_label(match_by: MatchField) -> str:
    """Of a field of MoySklad's, as its pages call it."""
    return {
        MatchField.EXTERNAL_CODE: _("External code"),
        MatchField.CODE: _("Code"),
        MatchField.ARTICLE: _("Article"),
        MatchField.NAME: _("Name"),
    }[match_by]


def seen_of(settings: LinkSettings) -> str:
    """Of two settings that the form shows alike the same."""
    which = (settings.types, settings.folders, settings.match_by)
    shown = (*which, settings.pictures, settings.schedule, settings.guard)
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:16]


def filled(settings: LinkSettings, types: Sequence[str]) -> LinkForm:
    """The form with what is stored; `types`: the names of the entity types there are."""
    pictures, schedule = settings.pictures, settings.schedule
    values = {
        "types": list(settings.types or types),
        "folders": "\n".join(settings.folders),
        "match_by": settings.match_by.value if settings.match_by else "",
        "fit": pictures.fit,
        "convert": pictures.convert,
        "max_side": _text(pictures.max_side),
        "quality": _text(pictures.quality),
        "keep_metadata": not pictures.drop_metadata,
        "sweep": schedule.sweep or "",
        "survey_every": _text(schedule.survey_minutes),
        "check_only": not schedule.copies,
        "guard": settings.guard,
    }
    return LinkForm(values, seen_of(settings))


def read(
    sent: FormData, before: LinkSettings, types: Sequence[str]
) -> tuple[LinkForm, LinkChanges]:
    """What was sent, and what it changes; nothing counts where the form has `errors`."""
    form = LinkForm(
        {
            "types": [str(one) for one in sent.getlist("types")],
            "folders": str(sent.get("folders", "")),
            "match_by": str(sent.get("match_by", "")),
            "fit": "fit" in sent,
            "convert": "convert" in sent,
            "max_side": str(sent.get("max_side", "")),
            "quality": str(sent.get("quality", "")),
            "keep_metadata": "keep_metadata" in sent,
            "sweep": str(sent.get("sweep", "")),
            "survey_every": str(sent.get("survey_every", "")),
            "check_only": "check_only" in sent,
            "guard": "guard" in sent,
        },
        str(sent.get("seen", "")),
    )

    def taken(name: str, reader: Callable[[Any], Any]) -> Any:
        try:
            return reader(form.values[name])
        except ValueError as error:
            form.errors[name] = str(error)
            return None

    link = {
        "types": taken("types", lambda given: _types(given, before.types, types)),
        "folders": taken("folders", _folders),
        "match_by": taken("match_by", _match_by),
        "guard": form.values["guard"],
    }
    pictures = {
        "fit": form.values["fit"],
        "convert": form.values["convert"],
        "max_side": taken("max_side", lambda given: _whole(given, SMALLEST_SIDE, _MOST_PIXELS)),
        "quality": taken("quality", lambda given: _whole(given, MIN_QUALITY, MAX_QUALITY)),
        "drop_metadata": not form.values["keep_metadata"],
    }
    schedule = {
        "sweep": taken("sweep", _sweep),
        "survey_minutes": taken("survey_every", lambda given: _whole(given, 1, MOST_MINUTES)),
        "copies": not form.values["check_only"],
    }
    if form.errors:
        return form, LinkChanges()
    return form, LinkChanges(
        _others(before, link),
        _others(before.pictures, pictures),
        _others(before.schedule, schedule),
    )


def _others(
    before: LinkSettings | PictureSettings | LinkSchedule, now: Mapping[str, Any]
) -> dict[str, Any]:
    return {name: value for name, value in now.items() if value != getattr(before, name)}


def _text(number: int | None) -> str:
    return "" if number is None else str(number)


def _types(given: Sequence[str], before: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """() for all that there are, so that one that a plugin brings later is among them."""
    there = list(dict.fromkeys((*known, *before)))
    chosen = tuple(name for name in there if name in given)
    if not chosen or set(given) - set(there):
        raise ValueError(_("Choose at least one of these."))
    return () if set(chosen) == set(known) else chosen


def _folders(given: str) -> tuple[str, ...]:
    folders = tuple(dict.fromkeys(filter(None, (line.strip() for line in given.splitlines()))))
    if len(folders) > _MOST_FOLDERS:
        raise ValueError(_("%(most)s folders at most.") % {"most": number(_MOST_FOLDERS)})
    for folder in folders:
        try:
            LinkSettings(folders=(folder,))
        except ValueError:
            said = _("“%(folder)s” is no name of a folder.") % {"folder": folder}
            raise ValueError(said) from None
    return folders


def _match_by(given: str) -> MatchField | None:
    try:
        return MatchField(given) if given else None
    except ValueError:
        raise ValueError(_("Choose one of these.")) from None


def _whole(given: str, least: int, most: int) -> int | None:
    text = given.strip()
    if not text:
        return None
    # int() would take '1_000' and digits of other scripts, too.
    if text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    bounds = {"least": number(least), "most": number(most)}
    raise ValueError(_("A whole number from %(least)s to %(most)s, or nothing.") % bounds)


def _sweep(given: str) -> str | None:
    text = given.strip()
    try:
        return LinkSchedule(sweep=text).sweep if text else None
    except ValueError:
        raise ValueError(_("A time such as 03:30, or nothing.")) from None
