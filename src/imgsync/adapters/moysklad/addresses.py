"""Which addresses images may be downloaded from, and which may see credentials.

Three rules. An address that a payload names needs an allow list, as payloads come from other
programs. An address that the authenticated API itself gave in a redirect needs none: the API knows
its storage hosts, and no list of ours does. A host that the API itself named in permanent links is
as good as one on the list, for the links of that account. None of them may lead into the network
that imgsync runs in.
"""

import ipaddress
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from imgsync.domain.errors import ForbiddenUrlError
from imgsync.domain.model import MAX_ADDRESS_LENGTH

_DEFAULT_PORTS = {"https": 443, "http": 80}


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # the host of a machine at Azure
        "192.0.0.0/24",  # IETF protocols; metadata at Oracle's cloud is 192.0.0.192
        "192.88.99.0/24",  # relays of 6to4, no more in use
        "64:ff9b:1::/48",  # translation within a network
        "3fff::/20",  # documentation
        "5f00::/16",  # segment routing
    )
)
"""What Python, in some of its versions at least, takes for the public internet."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_loopback(host: str) -> bool:
    """True for localhost and loopback IP addresses."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(url: str) -> tuple[str, str, int]:
    """(scheme, host, port) of an absolute http(s) URL; ForbiddenUrlError otherwise."""
    parts = _split(url)
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]


def authority(url: str) -> str:
    """``cdn.example`` of an absolute http(s) URL, with the port where it is not the scheme's own;
    ForbiddenUrlError for another."""
    scheme, host, port = origin(url)
    shown = f"[{host}]" if ":" in host else host
    return shown if port == _DEFAULT_PORTS[scheme] else f"{shown}:{port}"


def is_public(address: str) -> bool:
    """True for an IP address of the public internet; one that holds an IPv4 address counts as that.

    False for private, loopback, link-local (cloud metadata is there), multicast, reserved,
    unspecified and shared addresses, and for what is no IP address.
    """
    found = _address(address)
    if found is None or any(found in network for network in _NOT_PUBLIC):
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.is_site_local:
        return False
    return found.is_global and not (found.is_multicast or found.is_reserved)


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """https only; http and loopback hosts where the API itself is on loopback.

    `hosts` holds host names, or ``*.example.com`` for every host below example.com.
    The API's own host is always allowed; credentials go to the API's origin and no other.
    """

    api_url: str
    hosts: frozenset[str]

    @classmethod
    def create(cls, api_url: str, hosts: Iterable[str]) -> "DownloadPolicy":
        return cls(api_url, frozenset(h.strip().lower() for h in hosts if h.strip()))

    def check(self, url: str, trusted: Collection[str] = ()) -> None:
        """Raises ForbiddenUrlError unless a payload may name this URL.

        `trusted`: authorities that the API itself has named.
        """
        host = self._check_form(url)
        if not self._listed(host) and authority(url) not in trusted:
            raise ForbiddenUrlError(
                f"host '{host}' is not on the allow list (download_hosts of the configuration)"
            )

    def check_given(self, url: str) -> None:
        """Raises ForbiddenUrlError unless the API may redirect to this URL."""
        self._check_form(url)

    def permits(self, address: str) -> bool:
        """True where a download may connect to this IP address, whatever name led to it."""
        if is_public(address):
            return True
        found = _address(address)
        return found is not None and found.is_loopback and self._is_local

    def may_authorise(self, url: str) -> bool:
        """True where the Authorization header may be sent."""
        return origin(url) == origin(self.api_url)

    @property
    def _is_local(self) -> bool:
        return is_loopback(_split(self.api_url).hostname or "")

    def _check_form(self, url: str) -> str:
        """The host of a URL whose scheme and spelling are allowed."""
        parts = _split(url)
        host = parts.hostname or ""
        if parts.username is not None or parts.password is not None:
            raise ForbiddenUrlError(f"address with credentials in it, host '{host}'")
        if parts.scheme == "http" and not (is_loopback(host) and self._is_local):
            raise ForbiddenUrlError(f"plain http from host '{host}'; only https is allowed")
        if _address(host) is not None and not self.permits(host):
            raise ForbiddenUrlError(f"host '{host}' is not on the public internet")
        return host

    def _listed(self, host: str) -> bool:
        if host == _split(self.api_url).hostname or host in self.hosts:
            return True
        labels = host.split(".")
        return any("*." + ".".join(labels[i:]) in self.hosts for i in range(1, len(labels)))


@lru_cache(maxsize=256)
def _address(text: str) -> _Address | None:
    """The IP address, or the IPv4 address that an IPv6 address stands for; None for a name."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv4Address):
        return found
    if found in _NAT64:
        return ipaddress.IPv4Address(found.packed[-4:])
    return found.ipv4_mapped or found.sixtofour or found


def _split(url: str) -> SplitResult:
    if not url.isprintable() or len(url) > MAX_ADDRESS_LENGTH:
        raise ForbiddenUrlError("not a valid address: it is too long or has control characters")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises on a bad port)
    except ValueError as error:
        raise ForbiddenUrlError(f"not a valid address: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ForbiddenUrlError("not an absolute http or https address")
    return parts
