"""A listener of imgsync's own: tells people of what needs them, by whatever Apprise can write to.

An address of Apprise holds a token or a password. So nothing here tells one, neither in the log nor
in an error: a target is its number in ``notify_urls``, and the name of its service.
"""

import asyncio
import logging
import re
import threading
import warnings
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Final, Literal, get_args

from imgsync.domain.errors import ImgsyncError, PluginError
from imgsync.domain.model import AccountName
from imgsync.domain.text import shown
from imgsync.domain.troubles import trouble_of
from imgsync.plugins.guard import PluginGuard
from imgsync.plugins.hookspecs import hookimpl
from imgsync.uptime import uptime

_log = logging.getLogger(__name__)

NAME = "notify"
Language = Literal["en", "ru"]
NotifyEvent = Literal["parked", "sweep", "webhooks"]
EVENTS: tuple[NotifyEvent, ...] = get_args(NotifyEvent)

_VARIABLE = "IMGSYNC_NOTIFY_URLS"
_WHERE = f"{_VARIABLE} (notify_urls)"
"""Where addresses are configured: what is wrong with one is told without it."""

SEND_SECONDS = 30.0
"""How long a target may take for one message."""

_GATHER_SECONDS = 3.0
"""A night's sweeps end together: what is told within this time is one message."""

_CLOSE_SECONDS = 15.0
_PAUSES = (30.0, 120.0)
"""Between the attempts to send a message."""

_MOST_WAITING = 100
_MOST_CHARACTERS = 3000
_HOUR = 3600.0
_LONGEST_SPAN = 12 * _HOUR
_MOST_REMEMBERED = 1000

_TEXTS: Final[Mapping[Language, Mapping[str, str]]] = {
    "en": {
        "several": "imgsync: {count} notices",
        "parked.title": "imgsync: {name} waits",
        "parked": "{name} takes no requests: {reason}. Its tasks wait until {until}, or until its "
        "credentials are stored anew.",
        "refused": "MoySklad no longer accepts its token or password",
        "no api": "MoySklad does not let it be used by other programs; look at its tariff",
        "full": "its file storage in MoySklad is full",
        "suspended": "the solution is suspended in MoySklad until it is paid for",
        "removed": "the solution was removed from the account in MoySklad",
        "ended": "MoySklad has ended its token, as the solution was removed or suspended",
        "sweep.title": "imgsync: {name} differs",
        "sweep": "{name} was compared with the main account. {numbers}.",
        "sweep.unsettled": "{name} was compared with the main account. Nothing differs, but some "
        "of its tasks wait or have failed.",
        "sweep.failed.title": "imgsync: {name} could not be compared",
        "sweep.failed": "{name} could not be compared with the main account: {error}. {numbers}",
        "webhooks.title": "imgsync: webhooks of {name} are off",
        "webhooks": "MoySklad has switched off webhooks of {name}: {count}. Until they are on "
        "again, changes are found by the schedule only.",
        "missing": "Without images: {count}",
        "different": "with other images: {count}",
        "extra": "with images too many: {count}",
        "unsure": "not certain: {count}",
        "unmatched": "without a counterpart: {count}",
        "images": "images to copy: {count}",
        "clears_refused": "not emptied, as they are too many: {count}",
        "test.title": "imgsync: test",
        "test": "This is a test. Notifications of imgsync arrive here.",
    },
    "ru": {
        "several": "imgsync: сообщений — {count}",
        "parked.title": "imgsync: {name} ждёт",
        "parked": "{name} не принимает запросы: {reason}. Задачи этого аккаунта ждут до {until} "
        "или до нового сохранения его доступа.",
        "refused": "МойСклад больше не принимает токен или пароль этого аккаунта",
        "no api": "МойСклад не разрешает другим программам работать с ним, проверьте тариф",
        "full": "его хранилище файлов в МоёмСкладе заполнено",
        "suspended": "решение приостановлено в МоёмСкладе до оплаты",
        "removed": "решение удалено из аккаунта в МоёмСкладе",
        "ended": "МойСклад отозвал токен, так как решение удалено или приостановлено",
        "sweep.title": "imgsync: {name} отличается",
        "sweep": "{name}: сверено с главным аккаунтом. {numbers}.",
        "sweep.unsettled": "{name}: сверено с главным аккаунтом. Отличий нет, но часть задач ждёт "
        "или не выполнена.",
        "sweep.failed.title": "imgsync: {name} — сверка не удалась",
        "sweep.failed": "{name}: сверка с главным аккаунтом не удалась: {error}. {numbers}",
        "webhooks.title": "imgsync: вебхуки {name} отключены",
        "webhooks": "МойСклад отключил вебхуки аккаунта {name}: {count}. Пока они не включены, "
        "изменения находит только расписание.",
        "missing": "Без изображений: {count}",
        "different": "с другими изображениями: {count}",
        "extra": "с лишними изображениями: {count}",
        "unsure": "не удалось сравнить: {count}",
        "unmatched": "без соответствия: {count}",
        "images": "изображений к копированию: {count}",
        "clears_refused": "не очищено, так как их слишком много: {count}",
        "test.title": "imgsync: проверка",
        "test": "Это проверка. Уведомления imgsync приходят сюда.",
    },
}
_DIFFER = ("missing", "different", "extra", "unsure", "clears_refused")
_TOLD = ("missing", "different", "extra", "unsure", "unmatched", "images", "clears_refused")


class NotifyError(ImgsyncError):
    """Notifications cannot be sent as they are configured; the text never has an address."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is told. Messages of one `key` repeat one another."""

    title: str
    body: str
    key: tuple[object, ...] = ()


class Notify:
    """The plugin. A hook puts a message where the threads of the targets find it, and returns.

    `urls` are Apprise's addresses. A message that has come before is left out for an hour, and for
    twice as long each time that it comes again within a day.
    """

    def __init__(
        self,
        urls: Sequence[str],
        language: Language = "en",
        events: Collection[str] = EVENTS,
        *,
        elapsed: Callable[[], float] = uptime,
        gather_seconds: float = _GATHER_SECONDS,
        send_seconds: float = SEND_SECONDS,
        pauses: Sequence[float] = _PAUSES,
    ) -> None:
        """NotifyError where Apprise is not installed."""
        if find_spec("apprise") is None:
            raise NotifyError(
                f"Bad configuration: {_WHERE}: notifications need more packages: "
                "pip install 'imgsync[notify]'"
            )
        self._texts = _TEXTS[language]
        self._events = frozenset(events)
        self._repeats = _Repeats(elapsed)
        self._lanes = [
            _Lane(_Target(number, url, send_seconds), gather_seconds, tuple(pauses), self._joined)
            for number, url in enumerate(urls, start=1)
        ]

    @hookimpl
    def imgsync_account_parked(self, account: AccountName, reason: str, until: datetime) -> None:
        if "parked" in self._events:
            local = until.astimezone()
            told = {"reason": self._reason(reason), "until": f"{local:%Y-%m-%d %H:%M %Z}"}
            self._tell("parked", account, ("parked", account.id, reason), **told)

    @hookimpl
    def imgsync_sweep_ended(
        self, child: AccountName, numbers: Mapping[str, int], equal: bool, error: str | None
    ) -> None:
        if "sweep" not in self._events or (equal and error is None):
            return
        found = {name: numbers[name] for name in _TOLD if numbers.get(name)}
        kind = "sweep"
        if error is not None:
            kind = "sweep.failed"
        elif not any(found.get(name) for name in _DIFFER):
            kind = "sweep.unsettled"
        counted = ", ".join(self._texts[name].format(count=n) for name, n in found.items())
        told = {"numbers": counted[:1].upper() + counted[1:], "error": self._reason(error or "")}
        self._tell(kind, child, (kind, child.id, error, *sorted(found.items())), **told)

    # Optional, as the hook may be younger than this.
    @hookimpl(optionalhook=True)
    def imgsync_webhooks_off(self, account: AccountName, count: int) -> None:
        if "webhooks" in self._events:
            self._tell("webhooks", account, ("webhooks", account.id, count), count=count)

    def check(self) -> None:
        """NotifyError, which names it by its number, for an address that Apprise does not know."""
        for lane in self._lanes:
            lane.target.open()

    def test(self) -> list[tuple[str, str]]:
        """Sends a test message to all targets at once. For each its name, and why it did not go,
        '' where it went; NotifyError as `check`."""
        self.check()
        message = Message(self._texts["test.title"], self._texts["test"])
        problems = [""] * len(self._lanes)

        def send(at: int) -> None:
            problems[at] = self._lanes[at].target.send(message)

        sending = [threading.Thread(target=send, args=(at,)) for at in range(len(problems))]
        for one in sending:
            one.start()
        for one in sending:
            one.join()
        labels = [lane.target.label for lane in self._lanes]
        return list(zip(labels, problems, strict=True))

    async def close(self) -> None:
        """Waits a little for what is under way; what then is left is lost, and logged."""
        waiting = [lane for lane in self._lanes if lane.hurry()]
        if waiting:
            await asyncio.to_thread(_wait_for, waiting, _CLOSE_SECONDS)

    def _tell(self, kind: str, account: AccountName, key: tuple[object, ...], **told: Any) -> None:
        if not self._repeats.is_new(key):
            return
        told["name"] = _plain(account.name or account.id)
        title = self._texts.get(f"{kind}.title") or self._texts["sweep.title"]
        body = self._texts[kind].format(**told).strip()
        message = Message(title.format(**told), body, key)
        for lane in self._lanes:
            lane.put(message)

    def _reason(self, text: str) -> str:
        """In plain words where there are some, else in the program's own."""
        trouble = trouble_of(text)
        return self._texts[trouble] if trouble else _plain(text)

    def _joined(self, messages: Sequence[Message]) -> Message:
        if len(messages) == 1:
            return messages[0]
        title = self._texts["several"].format(count=len(messages))
        return Message(title, "\n\n".join(message.body for message in messages))


class _Repeats:
    """Which messages have been told."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._told: dict[tuple[object, ...], tuple[float, float]] = {}
        self._changing = threading.Lock()

    def is_new(self, key: tuple[object, ...]) -> bool:
        now = self._elapsed()
        with self._changing:
            at, span = self._told.get(key, (float("-inf"), _HOUR / 2))
            if now - at < span:
                return False
            self._told.pop(key, None)  # so that the oldest stand first
            grown = min(2 * span, _LONGEST_SPAN) if now - at < 2 * _LONGEST_SPAN else _HOUR
            self._told[key] = now, grown
            if len(self._told) > _MOST_REMEMBERED:
                del self._told[next(iter(self._told))]
        return True


@dataclass(slots=True)
class _Target:
    """One address, opened once it is needed."""

    number: int
    url: str = field(repr=False)
    seconds: float
    _opened: Any = None
    _guard: PluginGuard | None = None

    @property
    def label(self) -> str:
        service = self._opened and shown(str(self._opened.service_name))
        return f"address {self.number} ({service})" if service else f"address {self.number}"

    def open(self) -> None:
        """NotifyError for an address that is none."""
        if self._opened is None:
            self._opened = _opened(self.url)
        if self._opened is None:
            raise NotifyError(
                f"Bad configuration: {_WHERE}: address {self.number} is none that Apprise knows"
            )

    def send(self, message: Message) -> str:
        """Why it did not go; '' where it went."""
        try:
            self.open()
        except NotifyError as error:
            return str(error)
        if self._guard is None:
            self._guard = PluginGuard(NAME, self.seconds)
        try:
            return self._guard.call("sending", lambda: _sent(self._opened, message), ())
        except PluginError:  # it raises nothing itself, so it is late
            return f"no answer within {self.seconds:g} s"


class _Lane:
    """The messages that wait for one target, and the thread that sends them, which is there while
    there are any: a target that hangs holds up no other, and never who tells."""

    def __init__(
        self,
        target: _Target,
        gather_seconds: float,
        pauses: Sequence[float],
        joined: Callable[[Sequence[Message]], Message],
    ) -> None:
        self.target = target
        self.idle = threading.Event()
        self.idle.set()
        self._gather_seconds = gather_seconds
        self._pauses = pauses
        self._joined = joined
        self._waiting: deque[Message] = deque()
        self._changing = threading.Lock()
        self._hurries = threading.Event()

    def put(self, message: Message) -> None:
        with self._changing:
            if len(self._waiting) >= _MOST_WAITING:
                _log.warning(
                    "%s: %s takes no notifications; one is dropped", _VARIABLE, self.target.label
                )
                return
            self._waiting.append(message)
            if self.idle.is_set():
                self.idle.clear()
                self._hurries.clear()
                threading.Thread(target=self._run, name="notify", daemon=True).start()

    def hurry(self) -> bool:
        """Waits for nothing more than the target; whether anything is under way."""
        with self._changing:
            self._hurries.set()
            return not self.idle.is_set()

    def _run(self) -> None:
        self._hurries.wait(self._gather_seconds)
        while taken := self._taken():
            message = self._joined(taken)
            problem = self.target.send(message)
            for pause in self._pauses:
                if not problem or self._hurries.wait(pause):
                    break
                problem = self.target.send(message)
            if problem:
                _log.warning(
                    "%s: a notification did not go to %s: %s",
                    _VARIABLE,
                    self.target.label,
                    problem,
                )

    def _taken(self) -> list[Message]:
        """As many as fit in one; the thread ends where there are none."""
        taken: list[Message] = []
        with self._changing:
            left = _MOST_CHARACTERS
            while self._waiting and (not taken or len(self._waiting[0].body) < left):
                taken.append(self._waiting.popleft())
                left -= len(taken[-1].body) + 2
            if not taken:
                self.idle.set()
        return taken


def _wait_for(lanes: Sequence[_Lane], seconds: float) -> None:
    until = uptime() + seconds
    for lane in lanes:
        if not lane.idle.wait(max(0.0, until - uptime())):
            _log.warning(
                "%s: notifications to %s are lost, as the process ends",
                _VARIABLE,
                lane.target.label,
            )


_loading = threading.Lock()


def _opened(url: str) -> Any:
    """Apprise's object of an address; None where it knows no such."""
    with _loading, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the hundred modules that it imports
        import apprise

        _hush()
        asset = apprise.AppriseAsset(
            app_id="imgsync", app_desc="imgsync", app_url="", async_mode=False
        )
        try:
            return apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        except Exception:
            return None


def _sent(target: Any, message: Message) -> str:
    reasons = _reasons.of_thread = []
    try:
        went = target.notify(title=message.title, body=message.body, body_format="text")
    except Exception as error:  # whose text may have the address
        return f"it failed with {type(error).__name__}"
    if went:
        return ""
    return reasons[0] if reasons else "it did not take the message"


class _Reasons(logging.Handler):
    """Of what Apprise logs, that which tells why a message did not go and can be no secret; the
    rest, which has addresses, is told to nobody."""

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()

    @property
    def of_thread(self) -> list[str]:
        found: list[str] | None = getattr(self._local, "reasons", None)
        return [] if found is None else found

    @of_thread.setter
    def of_thread(self, reasons: list[str]) -> None:
        self._local.reasons = reasons

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if status := re.search(r"\berror=(\d{3})\b", text):
            self.of_thread.append(f"it answered {status[1]}")
        elif "connection error" in text.lower():
            self.of_thread.append("it cannot be reached, or did not answer in time")


_reasons = _Reasons()


def _hush() -> None:
    own = logging.getLogger("apprise")
    own.propagate = False
    own.setLevel(logging.WARNING)
    if _reasons not in own.handlers:
        own.addHandler(_reasons)
    # What it sends with has the address in its lines, too.
    for name in ("urllib3", "requests", "requests_oauthlib", "oauthlib"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _plain(text: str) -> str:
    """Without what could break a line; a sentence is ended by whoever tells it."""
    return shown(text).rstrip(". ")
