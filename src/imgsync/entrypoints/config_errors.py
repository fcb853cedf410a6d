"""What is said of a wrong configuration: where it stands, which value, and what is wanted there.

The words come from the types and limits of the fields, so that none can be out of date.
"""

import os
import types
from collections.abc import Collection, Iterator, Mapping
from datetime import time
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from imgsync.entrypoints.translation import gettext

PREFIX = "IMGSYNC_"
_LONGEST_SHOWN = 24
"""Of a wrong value; what is longer may be a token that was pasted at the wrong place."""


class FieldError(ValueError):
    """A value that is wrong beside others; `name` is the field that is to be changed."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


def place_of(name: str, file: Path | None, *, heeds_environment: bool) -> tuple[str, str]:
    """Where a value stands, and its name there: ``("", "IMGSYNC_CONCURRENCY")`` of a variable,
    ``("./imgsync.toml: ", "concurrency")`` of a file, else ``("Bad configuration: ", …)``."""
    if heeds_environment and (variable := variable_of(name)):
        return "", variable
    where = gettext("Bad configuration: ") if file is None else f"{shown_path(file)}: "
    return where, name


def variable_of(name: str) -> str | None:
    """The variable of the environment that gives the field, as it is written there."""
    return next((given for given in os.environ if given.upper() == f"{PREFIX}{name.upper()}"), None)


def shown_path(file: Path) -> str:
    """As it was given; one beside the reader begins with ``./``."""
    return str(file) if file.is_absolute() or file.parts[:1] == ("..",) else os.path.join(".", file)


def nearest(name: str, names: Collection[str]) -> str | None:
    """The name that was probably meant."""
    plain = name.lower().replace("-", "_").removeprefix(PREFIX.lower())
    by_lower = {one.lower(): one for one in names}
    found = get_close_matches(plain, by_lower, n=1, cutoff=0.7)
    return by_lower[found[0]] if found else None


def meant(name: str | None) -> str:
    """A question that ends the line, where there is a nearest name."""
    return gettext("; did you mean '%(name)s'?", name=name) if name else ""


def problems(
    error: ValidationError,
    fields: Mapping[str, FieldInfo],
    file: Path | None,
    *,
    heeds_environment: bool,
) -> Iterator[str]:
    """A text for each wrong value; none holds a secret, or words of the library that checks."""
    for found in error.errors(include_url=False):
        own = found.get("ctx", {}).get("error")
        name = own.name if isinstance(own, FieldError) else str(found["loc"][0])
        if name not in fields:
            where, _ = place_of(name, file, heeds_environment=False)
            near = meant(nearest(name, fields))
            yield where + gettext("'%(name)s' is no key%(near)s", name=name, near=near)
            continue
        where, called = place_of(name, file, heeds_environment=heeds_environment)
        if isinstance(own, ValueError):
            yield f"{where}{called}: {own}"
            continue
        kind = fields[name].annotation
        value = "" if not _is_shown(kind) else _shown(found["input"])
        yield where + gettext(
            "%(called)s is %(wanted)s%(value)s",
            called=called,
            wanted=wanted(fields[name]),
            value=value,
        )


def wanted(field: FieldInfo) -> str:
    """What stands in a field, such as ``a whole number from 1 to 64``."""
    kind = _plain(field.annotation)
    if get_origin(kind) is tuple:
        one = get_args(kind)[0]
        if choices := _choices(one):
            return gettext("a list of %(choices)s", choices=choices)
        return gettext("a list of texts")
    if choices := _choices(kind):
        return gettext("one of %(choices)s", choices=choices)
    if kind is bool:
        return gettext("true or false")
    if kind in (int, float):
        number = gettext("a whole number") if kind is int else gettext("a number")
        return number + _limits(field.metadata)
    if kind is time:
        return gettext("a time of the day such as 03:00")
    return gettext("a path in quotes") if kind is Path else gettext("a text in quotes")


def _limits(metadata: Collection[Any]) -> str:
    def limit(name: str) -> str:
        return next((_number(getattr(one, name)) for one in metadata if hasattr(one, name)), "")

    least, above, most = limit("ge"), limit("gt"), limit("le")
    if least and most:
        return gettext(" from %(least)s to %(most)s", least=least, most=most)
    low = ""
    if above:
        low = gettext(" above %(above)s", above=above)
    elif least:
        low = gettext(" of %(least)s or more", least=least)
    return low + (gettext(" and at most %(most)s", most=most) if most else "")


def _number(limit: Any) -> str:
    return str(int(limit)) if limit == int(limit) else str(limit)


def _plain(kind: Any) -> Any:
    """The type without None."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(one for one in get_args(kind) if one is not type(None))
    return kind


def _choices(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"'{one}'" for one in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"'{one.value}'" for one in kind)
    return ""


def _is_shown(kind: Any) -> bool:
    """Whether a wrong value of this type may be told: numbers, times and choices are no secrets;
    a text may be an address with a password in it."""
    plain = _plain(kind)
    if get_origin(plain) is tuple:
        plain = get_args(plain)[0]
    return plain in (int, float, bool, time) or bool(_choices(plain))


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr | dict | list | tuple):
        return ""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return gettext(", not '%(text)s'", text=text) if len(text) <= _LONGEST_SHOWN else ""
