"""The log: what is told there can neither steer the terminal nor forge a line, and is no secret."""

import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from imgsync.application.log_lines import ABOUT, COPY_LOG, DETAIL, EVENT, about_now, label_of
from imgsync.domain.text import shown, shown_json

_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_INDENT = "    "
_SECRETS = re.compile(
    r"(?P<scheme>\b(?:bearer|basic)\s+)[\w.~+/=-]{6,}"
    r"|(?P<user>[a-z][\w+.-]*://)[^\s/@'\"]+@"
    r"|(?P<named>(?:token|password|passwd|secret|signature|api[_-]?key)[\"']?(?:=|[\"']:\s*)[\"']?)"
    r"[^\s&;,\"'}]+"
    r"|(?P<webhook>/webhooks/moysklad/)[^\s/?\"']+",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """The text without what follows the words that announce a secret: credentials of a request or
    a URL, a token by its name, the secret part of a webhook's address."""
    return _SECRETS.sub(lambda found: f"{found[found.lastgroup or 0]}…", text)


class OneLineFormatter(logging.Formatter):
    """A record is one line; of a traceback each further line is indented, so that none of them
    can pass for a record, whatever the text of its exception.

    A record that was made at work on a task begins with what that is about.
    """

    def __init__(self) -> None:
        super().__init__(_FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        record.message = without_secrets(_labelled(record))
        record.asctime = self.formatTime(record, self.datefmt)
        lines = [shown(self.formatMessage(record))]
        # Not record.exc_text: another handler may have filled it with text that is not escaped.
        if record.exc_info:
            lines += _indented(self.formatException(record.exc_info))
        if record.stack_info:
            lines += _indented(self.formatStack(record.stack_info))
        return "\n".join(lines)


def _labelled(record: logging.LogRecord) -> str:
    message = record.getMessage()
    values = about_now()
    label = label_of(values)
    if not label or hasattr(record, ABOUT):
        return message
    task = f"task {values.get('task')}: "
    if message.lower().startswith(task):
        message = message[len(task) :]
    return f"{label}: {message}"


def _indented(text: str) -> list[str]:
    return [_INDENT + shown(line) for line in without_secrets(text).split("\n")]


class JsonFormatter(logging.Formatter):
    """A record is a line of JSON: `time` (ISO, UTC), `level`, `logger`, `event`, what it is about
    and its values; `exception` is the traceback."""

    def __init__(self) -> None:
        super().__init__()
        # Here, as it is needed where this format was chosen.
        import structlog

        self._formatter = structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_told_of],
            processors=[
                structlog.processors.format_exc_info,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _hidden,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )

    def format(self, record: logging.LogRecord) -> str:
        return shown_json(self._formatter.format(record)).replace("\n", " ")


def _told_of(logger: object, method: str, event: Any) -> Any:
    """What a record tells, in the order in which it is read."""
    record: logging.LogRecord = event["_record"]
    message = str(event["event"])
    told: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": getattr(record, EVENT, message),
    }
    if told["event"] != message:
        told["message"] = message
    about = {**about_now(), **getattr(record, ABOUT, {})}
    detail = getattr(record, DETAIL, {})
    for key, value in {**detail, **about}.items():
        if key not in told and value not in (None, ""):
            told[key] = value
    return {**told, **{key: value for key, value in event.items() if key not in told}}


def _hidden(logger: object, method: str, event: Any) -> Any:
    return {k: without_secrets(v) if isinstance(v, str) else v for k, v in event.items()}


_FORMATTERS: Mapping[str, Callable[[], logging.Formatter]] = {
    "text": OneLineFormatter,
    "json": JsonFormatter,
}


def start_logging() -> None:
    """Logs to stderr. The level is WARNING until the configuration has been read."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter())
    logging.basicConfig(handlers=[handler])
    logging.getLogger().setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # Request lines would show the signed addresses of downloads; a schema's steps tell no user
    # anything.
    for name in ("httpx", "httpcore", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def configure_logging(level: str, form: str) -> None:
    """As configured; each step of a copy is told in JSON alone until `tell_of_copies`, as people
    have a progress bar."""
    root = logging.getLogger()
    root.setLevel(level)
    for handler in root.handlers:
        if isinstance(handler.formatter, OneLineFormatter | JsonFormatter):
            handler.setFormatter(_FORMATTERS[form]())
    quiet = logging.NOTSET if form == "json" or level == "DEBUG" else logging.WARNING
    logging.getLogger(COPY_LOG).setLevel(quiet)


def tell_of_copies() -> None:
    """A service tells of each step of a copy."""
    logging.getLogger(COPY_LOG).setLevel(logging.NOTSET)
