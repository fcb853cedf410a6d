"""Why an account takes no requests, by kind, so that it can be told in plain words."""

import re
from enum import StrEnum

from imgsync.domain.model import TOKEN_ENDED
from imgsync.domain.solutions import REMOVED, SUSPENDED


class Trouble(StrEnum):
    """REFUSED: its token or password; NO_API: its tariff or its user's rights; FULL: its storage;
    SUSPENDED and REMOVED: the solution by whose token it goes; ENDED: one of the two."""

    REFUSED = "refused"
    NO_API = "no api"
    FULL = "full"
    SUSPENDED = "suspended"
    REMOVED = "removed"
    ENDED = "ended"


_ANSWERS = (
    (Trouble.NO_API, re.compile(r"\(code 1061\)")),
    (Trouble.REFUSED, re.compile(r"\(code (?:1048|1056)\)|\bMoySklad account '[^']*': 401\b")),
    (Trouble.FULL, re.compile(r"\(code 51003\)")),
)
TODO = {
    Trouble.REFUSED: "give it a new token or password with 'imgsync account rotate'",
    Trouble.NO_API: "let its tariff and its user's rights allow access by API; its tasks then go "
    "on by themselves",
    Trouble.FULL: "free room there or take a larger tariff; its tasks then go on by themselves",
}
"""What a person can do about what an account answers, by the kind of it."""

_ENDS = {SUSPENDED: Trouble.SUSPENDED, REMOVED: Trouble.REMOVED, TOKEN_ENDED: Trouble.ENDED}


def trouble_of(reason: str) -> Trouble | None:
    """The kind of the reason of a parking, or of a text that has one at its end; None where it is
    of none of these."""
    for text, trouble in _ENDS.items():
        if reason.endswith(text):
            return trouble
    return next((trouble for trouble, answer in _ANSWERS if answer.search(reason)), None)
