"""How many passwords may be tried, so that guessing stays slow and shuts nobody out."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network

_V6_PREFIX = 56
"""Bits of an IPv6 address that tell one customer of a provider from another."""
_KNOWN = "browser "
_NOWHERE = "?"


class Admission(StrEnum):
    """Whether a password is checked. OWN: too many were wrong from where it comes; CROWD: so many
    are tried from many places that it is not, unless it comes from a browser that is known."""

    CHECKED = "checked"
    OWN = "own"
    CROWD = "crowd"


@dataclass(frozen=True, slots=True)
class Tried:
    """Attempts that failed or are under way: `lately` and all `kept` ones of one origin, and those
    `of_all` strangers in the last hour."""

    lately: int
    kept: int
    of_all: int


@dataclass(frozen=True, slots=True)
class LoginLimits:
    """`own`: attempts of one origin within `lately`, at any time. While strangers have made fewer
    than `calm` in an hour, nothing else counts. From then on one has only `own_in_a_crowd` within
    `kept`, which shuts out whoever goes on guessing and nobody who has not begun; and strangers
    never have more than `in_an_hour`, however many they are.
    """

    own: int = 10
    lately: timedelta = timedelta(minutes=15)
    calm: int = 400
    own_in_a_crowd: int = 3
    kept: timedelta = timedelta(hours=6)
    in_an_hour: int = 4000

    def judge(self, origin: str, tried: Tried) -> Admission:
        if tried.lately >= self.own:
            return Admission.OWN
        if is_known(origin) or tried.of_all < self.calm:
            return Admission.CHECKED
        if tried.of_all >= self.in_an_hour or tried.kept >= self.own_in_a_crowd:
            return Admission.CROWD
        return Admission.CHECKED


def known_browser(name: str) -> str:
    """The origin of what comes from a browser that somebody has logged in with."""
    return f"{_KNOWN}{name}"


def is_known(origin: str) -> bool:
    return origin.startswith(_KNOWN)


def stranger_at(address: str) -> str:
    """The origin of what comes from an address: that of IPv4, the customer's network of IPv6, in
    which whoever has one address has all the others."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return _NOWHERE
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ip_network((found, _V6_PREFIX), strict=False))
    return str(found)
