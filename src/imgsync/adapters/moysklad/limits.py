"""Documented limits of the MoySklad JSON API remap 1.2 (sections Restrictions and Images).

What use cases must know of them, the port tells (`ApiLimits`); the rest is known here alone.

The documentation says "20 MB" and "10 MB" without a definition. Each is read the way that loses
nothing: requests are packed to the smaller, decimal megabyte; an image is skipped only above the
larger, binary one (a stricter server answers 51004, which becomes a warning).
"""

MAX_REQUEST_BYTES = 20_000_000
"""Bytes of one request body, base64 and JSON included."""

MAX_BULK_ENTITIES = 100
"""Entities whose lists one request sets. The API takes 1000, but `expand` works on 100."""

MAX_IMAGE_BYTES = 10 * 1024 * 1024
"""Bytes of one image file before encoding."""

RATE_LIMIT_UNITS = 45
"""Units in the rate bucket of one user or solution."""

RATE_INTERVAL_SECONDS = 3.0
"""Seconds in which the rate bucket is refilled."""

MAX_WEIGHT = 4
"""Most units that one request is documented to cost."""

MAX_PARALLEL_REQUESTS = 5
"""Requests one user may have under way at once."""

MAX_RATE_REJECTIONS_PER_MINUTE = 200
"""Answers 429 in a minute after which MoySklad switches the user's API access off."""

MAX_FAILURES_PER_MINUTE = 60
"""Failing requests of an account in a minute after which imgsync sends no more of them.

MoySklad switches the user's API access off after 200 identical ones; three hosts may share it.
"""

LONGEST_WAIT_SECONDS = 300.0
"""The longest that imgsync waits because an answer asks it to."""

MAX_ANSWER_BYTES = 32_000_000
"""Bytes of one answer of the API, decompressed. A page of 1000 large products has about 10 MB."""

MAX_ANSWER_MARKS = 1_500_000
"""Brackets, commas and colons of one answer: they bound the objects that reading it makes."""

MAX_SMALL_ANSWER_BYTES = 2_000_000
"""Bytes of one answer other than a page of entities. Many are read at once, so that the memory for
pages is not theirs; 1000 images have 1.3 MB."""

MAX_SMALL_ANSWER_MARKS = 100_000
"""As MAX_ANSWER_MARKS, of such an answer."""

MAX_ERROR_BYTES = 64 * 1024
"""Bytes that are read of an answer which tells an error."""

REQUEST_RETRY_DELAYS = (0.5, 1.0, 2.0)
"""Seconds to wait before each repetition of a request that timed out or answered 5xx."""

EXPANDED_PAGE_SIZE = 100
"""Largest page for which `expand` works."""

PLAIN_PAGE_SIZE = 1000
"""Largest page without `expand`."""
