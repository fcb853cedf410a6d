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

    whole_pictures: bool = _choice(False, True)
    """Whether a JPEG or PNG whose parts do not follow one another to its end is no image (51002):
    one that is cut, or garbage behind the first bytes. No source says how closely it looks."""

    recodes: bool = _choice(False, True)
    """Whether the storage encodes an uploaded JPEG or PNG anew: the list tells the size of the new
    file, and downloads give that. Its picture is the same. No source says that a file comes back
    as it was sent."""

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

    image_events: Literal["named", "unnamed", "none"] = _choice("named", "unnamed", "none")
    """What a change of images alone does to webhooks on UPDATE: fires them with "images" among
    the updatedFields, fires them with none, or does not fire them. No source says."""

    webhook_events: Literal["of_webhook", "of_url", "single"] = _choice(
        "of_webhook", "of_url", "single"
    )
    """Which events of one request to the API come in one notification: those of a webhook, of
    all webhooks with one url, or every event in one of its own. No source says."""

    webhook_order: Literal["happened", "reversed"] = _choice("happened", "reversed")
    """The order of the events in a notification. No source says."""

    webhook_timeout_resends: bool = _choice(True, False)
    """Whether a notification that is not answered in time is sent again, or lost at once: the
    documentation can be read either way."""

    webhook_twice: bool = _choice(False, True)
    """Whether a notification comes once more after it has been taken. No source rules it out."""

    webhook_delay: Literal[0, 2] = _choice(0, 2)
    """Seconds between a change and its notification. No source says."""

    solution_sees: Literal["own", "all"] = _choice("own", "all")
    """Which webhooks a solution with the right useOwnWebhooks sees: the vendor's documentation
    says both."""

    vendor_retries: Literal["same_token", "signed_anew"] = _choice("same_token", "signed_anew")
    """Whether a call to a solution's server that is sent again, with its request id, has the token
    that it had, or a new one. No source says."""

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
