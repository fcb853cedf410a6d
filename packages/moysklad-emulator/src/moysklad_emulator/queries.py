"""Query parameters of lists: limit, offset, filter, expand, fields (section General)."""

import contextlib
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams

from moysklad_emulator.entity_rules import EntityRules
from moysklad_emulator.errors import api_error
from moysklad_emulator.limits import EmulatorLimits

LIST_PARAMETERS = frozenset({"limit", "offset", "filter", "expand", "fields"})
PAGE_PARAMETERS = frozenset({"limit", "offset"})
ENTITY_PARAMETERS = frozenset({"limit", "offset", "expand", "fields"})
"""Of one entity; the vendor's own examples send limit with expand here too."""

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
# A value that begins with a tilde is an operator of likeness, which is not played.
_CONDITION = re.compile(r"([A-Za-z]+)(!=|>=|<=|=|>|<)(?!~)(.*)", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_SEPARATOR = re.compile(r"(?<!\\);")
_MOMENTS = ("%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f")


Value = str | datetime


@dataclass(frozen=True, slots=True)
class View:
    """How entities and images are written: with `images.rows`, with downloadPermanentHref."""

    expanded: bool = False
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    limit: int
    offset: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions of a list: equal ones of one field are joined by OR, the rest by AND.

    `equal`: allowed values by field; `comparisons`: (field, operator, value).
    """

    equal: Mapping[str, frozenset[Value]]
    comparisons: Sequence[tuple[str, str, Value]]

    @property
    def names_archived(self) -> bool:
        """Without it archived entities are left out."""
        return "archived" in self.equal or any(
            name == "archived" for name, _, _ in self.comparisons
        )

    @property
    def takes_all(self) -> bool:
        """Whether every entity meets it, archived or not."""
        return not self.comparisons and dict(self.equal) == {"archived": {"true", "false"}}

    @property
    def is_empty(self) -> bool:
        return not self.equal and not self.comparisons

    def accepts(self, document: Mapping[str, Any]) -> bool:
        """Whether the document of an entity meets every condition."""
        if not self.names_archived and document.get("archived"):
            return False
        return all(
            _value(document, name) in allowed for name, allowed in self.equal.items()
        ) and all(
            _COMPARISONS[sign](_value(document, name), value)
            for name, sign, value in self.comparisons
        )


def check_parameters(params: QueryParams, allowed: Collection[str]) -> None:
    """ApiError 1096 for order, 1040 for any other parameter that is not played, or comes twice."""
    for name in params:
        if name == "order" and name not in allowed:
            raise api_error(1096, parameter=name)
        repeated = name != "fields" and len(params.getlist(name)) > 1
        if name not in allowed or repeated:
            detail = f"{name} twice" if repeated else f"the emulator does not play '{name}'"
            raise api_error(1040, parameter=name, detail=detail)


def parse_page(params: QueryParams, limits: EmulatorLimits) -> Page:
    """limit (1 to 1000, default 1000) and offset (default 0). ApiError 1040."""
    limit = _integer(params, "limit", limits.max_page)
    offset = _integer(params, "offset", 0)
    if not 1 <= limit <= limits.max_page:
        raise api_error(1040, parameter="limit", detail=f"limit={limit}")
    if offset < 0:
        raise api_error(1040, parameter="offset", detail=f"offset={offset}")
    return Page(limit, offset)


def parse_view(params: QueryParams, limits: EmulatorLimits, page_size: int) -> View:
    """expand and fields; both are ignored on pages above 100. ApiError 1089 or 3042."""
    fields = [name for text in params.getlist("fields") for name in text.split(",")]
    if len(fields) > 1 or any(name != "downloadPermanentHref" for name in fields):
        raise api_error(3042, parameter="fields")
    expands = [name for text in params.getlist("expand") for name in text.split(",")]
    if unknown := [name for name in expands if name != "images"]:
        raise api_error(1089, parameter="expand", detail=",".join(unknown))
    if page_size > limits.max_expanded_page:
        return View()
    return View(bool(expands), bool(fields))


def parse_images_view(params: QueryParams, limits: EmulatorLimits) -> View:
    """fields of an image list, where the page size does not matter. ApiError 3042."""
    return View(permanent=parse_view(params, limits, 1).permanent)


def parse_filter(params: QueryParams, rules: EntityRules) -> Filter:
    r"""``field=value;field>value`` with ``\;`` for a semicolon in a value.

    Of several comparisons of one field by the same operator the first counts (section Filter).
    ApiError 1034, 1035 or 1041.
    """
    equal: dict[str, frozenset[Value]] = {}
    comparisons: dict[tuple[str, str, Value], Value] = {}
    for condition in _SEPARATOR.split(params.get("filter", "")):
        if not condition:
            continue
        name, sign, value = _condition(condition, rules)
        if sign == "=":
            equal[name] = equal.get(name, frozenset()) | {value}
        else:
            comparisons.setdefault((name, sign, value if sign == "!=" else ""), value)
    for name, _, _ in comparisons:
        if name in equal:
            raise api_error(1034, parameter="filter", detail=f"{name} is equal and unequal")
    found = [(name, sign, value) for (name, sign, _), value in comparisons.items()]
    return Filter(equal, found)


def _condition(condition: str, rules: EntityRules) -> tuple[str, str, Value]:
    match = _CONDITION.fullmatch(condition)
    if match is None or match[2] not in rules.filters.get(match[1], ()):
        raise api_error(1034, parameter="filter", detail=condition)
    name, sign, text = match[1], match[2], match[3].replace("\\;", ";")
    if name == "archived" and text not in ("true", "false"):
        raise api_error(1041, parameter=name, detail=text)
    if name != "updated":
        return name, sign, text
    moment = _moment(text)
    if moment is None:
        raise api_error(1035, parameter=name, detail=text)
    return name, sign, moment


def _value(document: Mapping[str, Any], name: str) -> Value:
    """What a condition compares: a moment, or text, empty where there is no value."""
    value = document.get(name)
    if name == "updated":
        return datetime.strptime(str(value), _MOMENTS[-1])  # noqa: DTZ007 (Moscow time)
    if isinstance(value, dict):
        return str(value["meta"]["href"])
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value or "")


def _moment(text: str) -> datetime | None:
    for pattern in _MOMENTS:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, pattern)  # noqa: DTZ007 (both are Moscow time)
    return None


def _integer(params: QueryParams, name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    # int() alone would read 1_0, '+5' and the digits of other scripts.
    if not _INTEGER.fullmatch(text):
        raise api_error(1040, parameter=name, detail=f"{name}={text}")
    return int(text)
