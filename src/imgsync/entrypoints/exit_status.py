"""Exit statuses that scripts can rely on."""

from enum import IntEnum


class ExitStatus(IntEnum):
    """How a command ended; `text` is the field "status" of its JSON."""

    text: str
    meaning: str

    def __new__(cls, value: int, text: str = "", meaning: str = "") -> "ExitStatus":
        status = int.__new__(cls, value)
        status._value_ = value
        status.text = text
        status.meaning = meaning
        return status

    DONE = 0, "done", "all done"
    ERROR = (
        1,
        "error",
        "an error; of check, that something differs; of doctor, that something is wrong",
    )
    USAGE = 2, "usage", "wrong usage"
    PART = (
        3,
        "part",
        "done in part: a failed, parked or postponed task, Ctrl-C or the API gone half-way, more "
        "to clear than allowed, image sync off for some, a damaged account or link beside "
        "others",
    )
    OFF = 4, "off", "nothing done because image sync is off for the child"
