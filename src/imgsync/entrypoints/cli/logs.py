"""The log: what is told there can neither steer the terminal nor forge a line."""

import logging

from imgsync.domain.text import shown

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_INDENT = "    "


class OneLineFormatter(logging.Formatter):
    """A record is one line; of a traceback each further line is indented, so that none of them
    can pass for a record, whatever the text of its exception."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        record.message = record.getMessage()
        record.asctime = self.formatTime(record, self.datefmt)
        lines = [shown(self.formatMessage(record))]
        # Not record.exc_text: another handler may have filled it with text that is not escaped.
        if record.exc_info:
            lines += _indented(self.formatException(record.exc_info))
        if record.stack_info:
            lines += _indented(self.formatStack(record.stack_info))
        return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return [_INDENT + shown(line) for line in text.split("\n")]


def start_logging() -> None:
    """Logs to stderr. The level is WARNING until the configuration has been read."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter())
    logging.basicConfig(handlers=[handler])
    logging.captureWarnings(True)
    # Request lines would show the signed addresses of downloads; a schema's steps tell no user
    # anything.
    for name in ("httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
