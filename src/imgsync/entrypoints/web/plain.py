"""What the program says in its own words, in plain ones and in the reader's language."""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from urllib.parse import quote

from imgsync.application.miniatures import version_tag
from imgsync.domain.diff import FailureCause
from imgsync.domain.troubles import Trouble, trouble_of
from imgsync.entrypoints.advice import HAPPENED
from imgsync.entrypoints.translation import catalogue
from imgsync.entrypoints.web.words import gettext as _
from imgsync.entrypoints.web.words import language

# Each begins only where nothing of it can stand before, and gives nothing back: a text of strangers
# is read once, however long.
SCHEME = r"(?<![a-z0-9+.-])[a-z0-9+.-]++://"
"""The beginning of an address, for a pattern that ignores case."""

_OURS = r"moysklad\.(?:ru|kz|uz)|/api/remap/|servers\.ru"
_URL = re.compile(
    rf"{SCHEME}[^\s\"'<>]+|(?<![^\s\"'<>])(?=[^\s\"'<>]*?(?:{_OURS}))[^\s\"'<>]++", re.IGNORECASE
)
_NAMED = re.compile(
    r"(?<=\bhost )'[^']*'"
    r"|(?<=\bthe name )\S+"
    r"|(?<=\bleads to )[^\s,;]+"
    r"|(?<=\bcredentials to )\S+",
    re.IGNORECASE,
)


def without_addresses(text: str | None) -> str:
    """The text without the addresses that an error names: they are nothing for a browser."""
    return _URL.sub("…", _NAMED.sub("…", text or ""))


def without_urls(value: object) -> object:
    """What a template shows, without the addresses of other servers, whatever text they came with;
    of a text of the program's own, `without_addresses` leaves the names of hosts out too."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return _URL.sub("…", value)


_LONGEST_TRANSLATED = 1000
"""Characters of a text that is compared with patterns: it may be made of names of strangers."""
_BEFORE_ANSWER = re.compile(r"(?P<who>.*?: )?MoySklad account '", re.DOTALL)
_WAITS = re.compile(r"waits for account '(?P<name>.*?)': ", re.DOTALL)
_OF_IMAGE = (
    (
        FailureCause.NO_PICTURE,
        re.compile(
            r"(?P<file>.*?): (?:no picture: )?it (?:does not decode|is neither a JPEG nor a PNG).*",
            re.DOTALL,
        ),
    ),
    (
        FailureCause.TOO_LARGE,
        re.compile(r"(?P<file>.*?): .*is over the limit of \S+ (?:bytes?|kB|MB)", re.DOTALL),
    ),
)


def trouble_in_words(trouble: Trouble) -> str:
    """Why an account takes no requests, to be put behind a colon: without a full stop."""
    return {
        Trouble.REFUSED: _("MoySklad no longer accepts its token or password"),
        Trouble.NO_API: _("MoySklad does not let it be used by other programs: look at its tariff"),
        Trouble.FULL: _("its file storage in MoySklad is full"),
        Trouble.SUSPENDED: _("the solution is suspended in MoySklad until it is paid for"),
        Trouble.REMOVED: _("the solution was removed from the account in MoySklad"),
        Trouble.ENDED: _("MoySklad has ended its token: the solution was removed or suspended"),
    }[trouble]


def in_words(text: str | None) -> str:
    """What the program says of a task, a run or an account, in plain words where there are some;
    else its own in the language of the reader, as the commands have it, without addresses."""
    text = text or ""
    if trouble := trouble_of(text):
        told = trouble_in_words(trouble)
        if found := _WAITS.match(text):
            return f"{found['name']}: {told}"
        found = _BEFORE_ANSWER.match(text)
        return f"{found['who']}{told}" if found and found["who"] else told[:1].upper() + told[1:]
    for cause, pattern in _OF_IMAGE:
        if found := pattern.fullmatch(text):
            return f"{found['file']}: {_(HAPPENED[cause])}"
    return _translated(text, language())


@lru_cache(4096)
def _translated(text: str, code: str) -> str:
    """Without addresses, which are told by the English words around them."""
    if code == "en" or len(text) > _LONGEST_TRANSLATED:
        return without_addresses(text)
    told = catalogue(code).translated(text)
    for named in {found[0].strip("'") for found in _NAMED.finditer(text)} - {""}:
        told = told.replace(named, "…")
    return without_addresses(told)


def picture_path(
    account_id: str, entity_type: str, entity_id: str, image_id: str, updated: str
) -> str:
    """Where the pages get the miniature of an image; '' where nothing tells which it is."""
    parts = (account_id, entity_type, entity_id, image_id)
    if not all(parts):
        return ""
    named = "/".join(quote(part, safe="") for part in parts)
    return f"/pictures/{named}?v={version_tag(updated)}"


def type_name(entity_type: str) -> str:
    """Of one entity, as people call it."""
    named: Mapping[str, str] = {
        "product": _("Product"),
        "bundle": _("Bundle"),
        "variant": _("Variant"),
        "contentcard": _("Content card"),
    }
    return named.get(entity_type, entity_type)


def _field(name: str) -> str:
    named: Mapping[str, str] = {
        "externalCode": _("external code"),
        "code": _("code"),
        "article": _("article number"),
        "name": _("name"),
    }
    return named.get(name, name)


def _no_key(field: str) -> tuple[str, str]:
    return (
        _("It has no %(field)s in the main account, by which it could be found here.")
        % {"field": _field(field)},
        _("Give it one, the same in both accounts."),
    )


def _several(field: str, value: str) -> tuple[str, str]:
    return (
        _("Several here have the %(field)s “%(value)s”.")
        % {"field": _field(field), "value": value},
        _("Leave it to one of them only."),
    )


def _none(field: str, value: str) -> tuple[str, str]:
    return (
        _("Nothing here has the %(field)s “%(value)s”.") % {"field": _field(field), "value": value},
        _("If it is sold here too, give it here the same one as in the main account."),
    )


def _taken(_kind: str, _id: str) -> tuple[str, str]:
    return (
        _("Another one of the main account is matched with the same one here."),
        _("Make sure that no two in the main account have the same value."),
    )


def _of_no_use() -> tuple[str, str]:
    return (
        _("None of its pictures in the main account can be copied."),
        _("Put the pictures there anew."),
    )


def _untold() -> tuple[str, str]:
    return (
        _("The main account does not say which pictures it has."),
        _("Compare again later; if it stays so, open it in the main account and save it."),
    )


def _left_out(name: str, _why: str) -> tuple[str, str]:
    return (
        _("One picture of “%(name)s” in the main account cannot be read.") % {"name": name},
        _("Put this picture there anew."),
    )


def _shared(field: str) -> tuple[str, str]:
    return (
        _("Several in the main account have the same %(field)s.") % {"field": _field(field)},
        _("Make sure that no two in the main account have the same value."),
    )


def _off() -> tuple[str, str]:
    return (
        _("The settings of this franchise leave out pictures of this kind."),
        _("Nothing, unless it is to have them: change the settings then."),
    )


_REASONS: tuple[tuple[re.Pattern[str], Callable[..., tuple[str, str]]], ...] = tuple(
    (re.compile(pattern, re.DOTALL), say)
    for pattern, say in (
        (r"it has no (\S+)", _no_key),
        (r"several child entities have (\S+) '(.*)'", _several),
        (r"no child entity has (\S+) '(.*)'", _none),
        (r"its counterpart is already that of another (\S+) \((.*)\)", _taken),
        (r"none of its images can be copied", _of_no_use),
        (r"the main account does not tell its images", _untold),
        (r"'(.*)': an image is left out: (.*)", _left_out),
        (r"several main entities have its (\S+); only a whole survey .*", _shared),
        (r"image sync is off", _off),
    )
)


def skipped(reason: str) -> tuple[str, str, str]:
    """Why an entity is left alone, what to do about it, and the program's own words where there
    are no others for them."""
    if not reason:
        return (
            _("Its pictures here are not known yet."),
            _("Nothing: the next sync looks at them."),
            "",
        )
    for pattern, say in _REASONS:
        if found := pattern.fullmatch(reason):
            return (*say(*found.groups()), "")
    return (
        _("It could not be compared."),
        _("Look at it in both accounts, and compare again."),
        without_addresses(reason),
    )
