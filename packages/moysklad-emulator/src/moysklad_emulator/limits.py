"""Limits that the emulator enforces (documentation sections Restrictions, Images, General)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_MAX_IMAGES = MappingProxyType({"product": 10, "bundle": 10, "variant": 10, "contentcard": 15})


@dataclass(frozen=True, slots=True)
class EmulatorLimits:
    """The documented limits by default. Times are seconds, sizes bytes.

    `max_images` also lists the entity types that exist. The documentation does not define its
    "MB": a body is measured in decimal megabytes. The largest image is a matter of the `Dialect`.
    `max_depth`: objects and arrays within one another in a body; `max_text`: characters of a name.
    `webhook_seconds`: within which a notification is to be answered. `max_waiting_notifications`:
    what is to be sent beyond it is lost; no document says how many. `vendor_seconds`: within which
    a call to a solution is to be answered; such a call is sent again each `vendor_retry_interval`,
    in all for `vendor_retry_seconds`, and for `vendor_long_seconds` where what is paid for changes.
    """

    rate_units: int = 45
    rate_interval: float = 3.0
    max_parallel_per_user: int = 5
    max_parallel_per_account: int = 20
    max_rejections_per_minute: int = 200
    max_identical_failures_per_minute: int = 200
    max_puts_per_minute: int = 100
    abuse_interval: float = 60.0
    max_header_bytes: int = 8 * 1024
    max_body_bytes: int = 20_000_000
    max_array_elements: int = 1000
    max_depth: int = 10
    max_text: int = 255
    max_images: Mapping[str, int] = field(default_factory=lambda: dict(_MAX_IMAGES))
    max_page: int = 1000
    max_expanded_page: int = 100
    webhook_seconds: float = 1.5
    webhook_resends: int = 3
    max_waiting_notifications: int = 10_000
    vendor_seconds: float = 10.0
    vendor_retry_interval: float = 10.0
    vendor_retry_seconds: float = 180.0
    vendor_long_seconds: float = 86_400.0
    download_seconds: float = 60.0
    max_download_seconds: float = 86_400.0
