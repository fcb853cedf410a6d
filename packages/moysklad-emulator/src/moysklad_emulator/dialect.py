"""What no source says about the API, as switches: each is played one way or the other."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def _choice(*values: T) -> T:
    """A field with these values, the first by default."""
    found: T = field(default=values[0], metadata={"values": values})
    return found


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way in which the API may behave where its documentation is silent.

    The defaults are what is documented, or else what has been seen. ValueError for a value that
    is not one of a switch's.
    """

    storage_host: Literal["localhost", "127.0.0.1"] = _choice("localhost", "127.0.0.1")
    """Host that storage URLs name, beside the API's 127.0.0.1. Integrations name a storage on
    another host and port than the API's."""

    permanent_links: bool = _choice(True, False)
    """Whether `fields=downloadPermanentHref` gives a link: only on paid tariffs."""

    bulk_images: Literal["set", "ignored", "refused"] = _choice("set", "ignored", "refused")
    """What an array of entities does with their "images": it is documented in parts only."""

    bulk_error_status: Literal[400, 200] = _choice(400, 200)
    """Status of the answer to an array of entities that has errors beside entities. No source
    says."""

    keep_in_entities: bool = _choice(True, False)
    """Whether "images" inside an entity may keep an image by its meta, as `…/images` does; else
    such an element lacks a content (51001). No source says."""

    refused_array: Literal["keeps", "drops"] = _choice("keeps", "drops")
    """What a refused array of images leaves of the list: everything or nothing. No source says."""

    image_megabytes: Literal[10, 5, 3] = _choice(10, 5, 3)
    """Largest image, binary megabytes (51004): documented as 3 once, as a blank since; 10 is
    folklore."""

    more_formats: bool = _choice(False, True)
    """Whether GIF, BMP and WEBP are images, as GIF and BMP once were of content cards; else
    51002. Documented: jpg and png."""

    image_error_status: Literal["mixed", 400, 403, 412, 413] = _choice("mixed", 400, 403, 412, 413)
    """Status of every error 51001…51007; "mixed" is the emulator's guess for each. No source
    says."""

    rate_headers: Literal["units", "requests", "none"] = _choice("units", "requests", "none")
    """What X-RateLimit-Limit and -Remaining count, or that no rate header comes at all, on 429
    neither. The documentation speaks of requests, from before requests had a weight."""

    images_move_updated: bool = _choice(True, False)
    """Whether a change of images alone changes the entity's `updated`. No source says."""

    head: bool = _choice(True, False)
    """Whether HEAD works on downloadHref and on the storage; else 405. No source says."""

    keeping_moves_updated: bool = _choice(False, True)
    """Whether an image that a list keeps gets a new `updated`. No source says."""

    nulls: bool = _choice(False, True)
    """Whether null stands where the vendor's schema lets it: `images` and `images.rows` of an
    entity without images, `images.rows` where it is not expanded, `miniature.downloadHref`, and
    fields without a value; else these are empty or left out."""

    def __post_init__(self) -> None:
        for name, values in SWITCHES.items():
            value = getattr(self, name)
            if not any(value == known and type(value) is type(known) for known in values):
                told = ", ".join(map(json.dumps, values))
                given = json.dumps(value, default=repr)
                raise ValueError(f"dialect: {name} is one of {told}, not {given}")

    def changed(self, switches: Mapping[str, Any]) -> "Dialect":
        """This dialect with other values of some switches. ValueError on a bad name or value."""
        for name in switches:
            if name not in SWITCHES:
                raise ValueError(f"dialect: no switch is called '{name}'")
        return replace(self, **switches)

    def as_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SWITCHES}


SWITCHES: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {switch.name: switch.metadata["values"] for switch in fields(Dialect)}
)
"""The values of each switch, the default first."""


def parse_switch(text: str) -> dict[str, Any]:
    """``name=value`` of a command line; yes and no for a boolean. ValueError on a bad one."""
    name, sign, value = text.partition("=")
    if not sign or name not in SWITCHES:
        raise ValueError(f"dialect: '{text}' is not one of {', '.join(SWITCHES)}, '=' and a value")
    for known in SWITCHES[name]:
        if value == _text(known):
            return {name: known}
    known = ", ".join(map(_text, SWITCHES[name]))
    raise ValueError(f"dialect: {name} is one of {known}, not '{value}'")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


class DialectSwitch:
    """Holds the dialect of a running emulator, which may be changed at any time."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
