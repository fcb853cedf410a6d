"""Which addresses images may be downloaded from, and which may see credentials."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from imgsync.domain.errors import ForbiddenUrlError

MAX_URL_LENGTH = 8192
"""Characters; the API refuses longer headers, and so longer addresses."""

_DEFAULT_PORTS = {"https": 443, "http": 80}


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


@dataclass(frozen=True, slots=True)
class DownloadPolicy:
    """https on hosts of an allow list; http for loopback hosts of that list only.

    `hosts` holds host names, or ``*.example.com`` for every host below example.com.
    The API's own host is always allowed; credentials go to the API's origin and no other.
    """

    api_url: str
    hosts: frozenset[str]

    @classmethod
    def create(cls, api_url: str, hosts: Iterable[str]) -> "DownloadPolicy":
        return cls(api_url, frozenset(h.strip().lower() for h in hosts if h.strip()))

    def check(self, url: str) -> None:
        """Raises ForbiddenUrlError unless the URL may be downloaded from."""
        parts = _split(url)
        host = parts.hostname or ""
        if parts.username is not None or parts.password is not None:
            raise ForbiddenUrlError(f"address with credentials in it, host '{host}'")
        if not self._listed(host):
            raise ForbiddenUrlError(
                f"host '{host}' is not on the allow list (setting download_hosts)"
            )
        if parts.scheme == "http" and not is_loopback(host):
            raise ForbiddenUrlError(f"plain http from host '{host}'; only https is allowed")

    def may_authorise(self, url: str) -> bool:
        """True where the Authorization header may be sent."""
        return origin(url) == origin(self.api_url)

    def _listed(self, host: str) -> bool:
        if host == _split(self.api_url).hostname or host in self.hosts:
            return True
        labels = host.split(".")
        return any("*." + ".".join(labels[i:]) in self.hosts for i in range(1, len(labels)))


def _split(url: str) -> SplitResult:
    if not url.isprintable() or len(url) > MAX_URL_LENGTH:
        raise ForbiddenUrlError("not a valid address: it is too long or has control characters")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises on a bad port)
    except ValueError as error:
        raise ForbiddenUrlError(f"not a valid address: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise ForbiddenUrlError("not an absolute http or https address")
    return parts
