"""Documented limits of the MoySklad JSON API remap 1.2 (sections Restrictions and Images).

The documentation says "20 MB" and "10 MB" without a definition. Each is read the way that loses
nothing: requests are packed to the smaller, decimal megabyte; an image is skipped only above the
larger, binary one (a stricter server answers 51004, which becomes a warning).
"""

MAX_REQUEST_BYTES = 20_000_000
"""Bytes of one request body, base64 and JSON included."""

MAX_IMAGE_BYTES = 10 * 1024 * 1024
"""Bytes of one image file before encoding."""

MAX_IMAGES = 10
"""Images of one product, bundle or variant."""

RATE_LIMIT_UNITS = 45
"""Units in the rate bucket of one user or solution."""

RATE_INTERVAL_SECONDS = 3.0
"""Seconds in which the rate bucket is refilled."""

MAX_PARALLEL_REQUESTS = 5
"""Requests one user may have under way at once."""

MAX_RATE_REJECTIONS_PER_MINUTE = 200
"""Answers 429 in a minute after which MoySklad switches the user's API access off."""

EXPANDED_PAGE_SIZE = 100
"""Largest page for which `expand` works."""

PLAIN_PAGE_SIZE = 1000
"""Largest page without `expand`."""
