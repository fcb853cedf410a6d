"""Query parameters of lists: limit, offset, filter, expand, fields (section General)."""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import QueryParams

from imgsync.adapters.emulator.accounts import EmulatedEntity
from imgsync.adapters.emulator.errors import api_error
from imgsync.adapters.emulator.limits import EmulatorLimits

FILTER_FIELDS = ("externalCode", "code", "article", "name", "id", "updated")

_COMPARISONS = {
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"([A-Za-z]+)(!=|>=|<=|=|>|<)(.*)", re.DOTALL)
_SEPARATOR = re.compile(r"(?<!\\);")


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
    """Allowed values by field, and comparisons; equal fields are joined by OR, the rest by AND."""

    equal: Mapping[str, frozenset[str]]
    comparisons: Sequence[tuple[str, str, str]]

    def accepts(self, entity: EmulatedEntity) -> bool:
        return all(
            entity.value_of(name) in allowed for name, allowed in self.equal.items()
        ) and all(
            _COMPARISONS[sign](entity.value_of(name), value)
            for name, sign, value in self.comparisons
        )


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


def parse_filter(params: QueryParams) -> Filter:
    r"""``field=value;field>value`` with ``\;`` for a semicolon in a value. ApiError 1034."""
    equal: dict[str, frozenset[str]] = {}
    comparisons = []
    for condition in _SEPARATOR.split(";".join(params.getlist("filter"))):
        if not condition:
            continue
        match = _CONDITION.fullmatch(condition)
        if match is None or match[1] not in FILTER_FIELDS:
            raise api_error(1034, parameter="filter", detail=condition)
        name, sign, value = match[1], match[2], match[3].replace("\\;", ";")
        if sign == "=":
            equal[name] = equal.get(name, frozenset()) | {value}
        else:
            comparisons.append((name, sign, value))
    return Filter(equal, comparisons)


def _integer(params: QueryParams, name: str, default: int) -> int:
    text = params.get(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        raise api_error(1040, parameter=name, detail=f"{name}={text}") from None
