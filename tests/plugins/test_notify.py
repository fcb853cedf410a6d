"""Notifications: what is told to whom, once, without a secret, and without holding anybody up."""

import asyncio
import importlib.util
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from imgsync.domain.model import AccountName
from imgsync.plugins import hookspecs, notify
from imgsync.plugins.manager import load_plugins
from imgsync.plugins.notify import _TEXTS, Language, Notify, NotifyError
from tests.support.receiver import PATIENCE_SECONDS, Receiver

OMSK = AccountName("o-1", "Омск")
UNTIL = datetime(2026, 11, 28, 3, 30, tzinfo=UTC)
NOBODY = "json://user:hush-hush@127.0.0.1:1/hush-path"


class Log(logging.Handler):
    """All that reaches the handlers of the program, of every level. (pytest's own hears loggers,
    too, that pass nothing on.)"""

    def __init__(self) -> None:
        super().__init__(1)
        self.lines: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


@pytest.fixture
def log() -> Iterator[Log]:
    root, handler = logging.getLogger(), Log()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


_made: list[Notify] = []


@pytest.fixture(autouse=True)
def receivers() -> Iterator[Callable[..., Receiver]]:
    made: list[Receiver] = []

    def make(*answers: int, hangs: bool = False) -> Receiver:
        made.append(Receiver(answers, hangs=hangs))
        return made[-1]

    yield make
    for one in made:
        one.let_go.set()
    lanes = [lane for one in _made for lane in one._lanes]
    for lane in lanes:  # nothing is under way in the next test
        lane.hurry()
        assert lane.idle.wait(PATIENCE_SECONDS)
    _made.clear()
    for one in made:
        one.close()


@pytest.fixture
def receiver(receivers: Callable[..., Receiver]) -> Receiver:
    return receivers()


def plugin(*urls: str, **changes: Any) -> Notify:
    _made.append(Notify(urls, **{"gather_seconds": 0.0, "pauses": (), **changes}))
    return _made[-1]


def told_of_parking(told: Notify, name: AccountName = OMSK, reason: str = "refused") -> None:
    told.imgsync_account_parked(name, reason, UNTIL)


def test_a_refused_token_is_told_without_codes(receiver: Receiver) -> None:
    made = plugin(receiver.url, language="ru")
    answer = "MoySklad account 'Омск': 401 Authentication failed (code 1056) [GET /x]"
    told_of_parking(made, reason=answer)
    (told,) = receiver.wait()
    assert "МойСклад больше не принимает токен" in told
    assert "1056" not in told


def test_it_hears_of_accounts_and_sweeps_through_the_hooks(receiver: Receiver) -> None:
    made = plugin(receiver.url)
    registry = load_plugins(notify=made)
    (info,) = [one for one in registry.plugins if one.name == "notify"]
    assert {"sweep_ended", "account_parked"} <= set(info.listeners)

    async def tell() -> None:
        await registry.listeners.account_parked(OMSK, "credentials are refused", UNTIL)
        await registry.listeners.sweep_ended(OMSK, {"missing": 2}, False, None)
        await made.close()

    asyncio.run(tell())
    said = "\n".join(receiver.texts)
    assert "Омск takes no requests: credentials are refused. Its tasks wait until 2026-11-2" in said
    assert "Омск was compared with the main account. Without images: 2." in said


@pytest.mark.parametrize(
    ("language", "numbers", "error", "said"),
    [
        (
            "en",
            {"equal": 9, "missing": 2, "different": 1, "images": 5, "clears": 1},
            None,
            "Омск was compared with the main account. Without images: 2, with other images: 1, "
            "images to copy: 5.",
        ),
        (
            "ru",
            {"extra": 1, "unmatched": 3, "clears_refused": 40},
            None,
            "Омск: сверено с главным аккаунтом. С лишними изображениями: 1, без соответствия: 3, "
            "не очищено, так как их слишком много: 40.",
        ),
        (
            "en",
            {"equal": 9, "unmatched": 1},
            None,
            "Омск was compared with the main account. Nothing differs, but some of its tasks wait "
            "or have failed.",
        ),
        (
            "ru",
            {"missing": 1},
            "no answer\nforged: line",
            "Омск: сверка с главным аккаунтом не удалась: no answer\\nforged: line. "
            "Без изображений: 1",
        ),
    ],
)
def test_a_sweep_is_told_by_child_and_number(
    receiver: Receiver, language: Language, numbers: dict[str, int], error: str | None, said: str
) -> None:
    plugin(receiver.url, language=language).imgsync_sweep_ended(OMSK, numbers, False, error)
    assert receiver.wait() == [said]
    assert "Омск" in receiver.received[0]["title"]


def test_a_child_that_is_equal_is_no_news(receiver: Receiver) -> None:
    made = plugin(receiver.url)
    made.imgsync_sweep_ended(OMSK, {"equal": 9}, True, None)
    made.imgsync_webhooks_off(OMSK, 3)
    assert receiver.wait() == [
        "MoySklad has switched off webhooks of Омск: 3. Until they are on again, changes are found "
        "by the schedule only."
    ]


def test_webhooks_off_is_named_as_the_hook_will_be() -> None:
    """It is heard of once the hook is there, and no error before."""
    specified = getattr(hookspecs, "imgsync_webhooks_off", None)
    if specified is not None:
        code = specified.__code__
        assert code.co_varnames[: code.co_argcount] == ("account", "count")
    assert load_plugins(notify=plugin(NOBODY)).plugins


def test_only_the_events_that_are_wanted_are_told(receiver: Receiver) -> None:
    made = plugin(receiver.url, events=["parked"])
    made.imgsync_webhooks_off(OMSK, 1)
    made.imgsync_sweep_ended(OMSK, {"missing": 1}, False, None)
    told_of_parking(made)
    assert "refused" in receiver.wait()[0]
    asyncio.run(made.close())
    assert len(receiver.received) == 1


def test_both_languages_have_every_text_with_the_same_values() -> None:
    english, russian = _TEXTS["en"], _TEXTS["ru"]
    assert english.keys() == russian.keys()
    values = {"name": "N", "reason": "R", "until": "U", "count": 7, "numbers": "X", "error": "E"}
    for key, text in english.items():
        used = {name for name in values if f"{{{name}}}" in text}
        assert used == {name for name in values if f"{{{name}}}" in russian[key]}, key
        assert text.format(**values) != russian[key].format(**values), key


def test_what_comes_again_is_told_after_an_hour_then_after_two(receiver: Receiver) -> None:
    now = 0.0
    made = plugin(receiver.url, elapsed=lambda: now)
    told_at = []
    for minute in range(0, 12 * 60, 10):
        now = minute * 60.0
        before = len(receiver.received)
        told_of_parking(made)
        asyncio.run(made.close())
        if len(receiver.received) > before:
            told_at.append(minute // 60)
    assert told_at == [0, 1, 3, 7]
    told_of_parking(made, reason="storage is full")
    told_of_parking(made, AccountName("t-1", "Tomsk"))
    asyncio.run(made.close())
    assert "storage is full" in "\n".join(receiver.texts)
    assert "Tomsk" in "\n".join(receiver.texts)
    for passed in (3 * 24 * 3600, 3601):  # anew
        now += passed
        before = len(receiver.received)
        told_of_parking(made)
        asyncio.run(made.close())
        assert len(receiver.received) == before + 1


def test_what_ends_together_is_one_message(receiver: Receiver) -> None:
    made = plugin(receiver.url, gather_seconds=PATIENCE_SECONDS)
    for number in range(30):
        child = AccountName(str(number), f"Child {number}")
        made.imgsync_sweep_ended(child, {"missing": 1}, False, None)
    asyncio.run(made.close())
    (message,) = receiver.received
    assert message["title"] == "imgsync: 30 notices"
    assert [f"Child {n} " in message["message"] for n in range(30)] == [True] * 30


def test_a_long_night_is_several_messages_and_nothing_is_cut(receiver: Receiver) -> None:
    made = plugin(receiver.url, gather_seconds=PATIENCE_SECONDS)
    for number in range(60):
        child = AccountName(str(number), f"Child {number} " + "x" * 200)
        made.imgsync_sweep_ended(child, {"missing": 1}, False, None)
    asyncio.run(made.close())
    assert 1 < len(receiver.received) < 10
    assert all(len(text) < 4000 for text in receiver.texts)
    assert sum(text.count("Child ") for text in receiver.texts) == 60


def test_a_target_that_hangs_holds_up_nobody_and_no_other_target(
    receivers: Callable[..., Receiver], log: Log
) -> None:
    hung, well = receivers(hangs=True), receivers()
    made = plugin(f"{hung.url}?rto=600", well.url, send_seconds=0.5)
    begun = time.monotonic()
    for number in range(300):
        told_of_parking(made, AccountName(str(number), "Omsk"))
    assert time.monotonic() - begun < 20  # seconds of a busy machine, not 300 answers
    well.wait_for(lambda: "\n".join(well.texts).count("Omsk") >= 100)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while "no answer within" not in log.text and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "a notification did not go to address 1 (JSON): no answer within 0.5 s" in log.text
    assert len(hung.received) == 1
    assert threading.active_count() < 20


def test_the_queue_is_bounded(receivers: Callable[..., Receiver], log: Log) -> None:
    hung = receivers(hangs=True)
    made = plugin(f"{hung.url}?rto=600", send_seconds=PATIENCE_SECONDS)
    told_of_parking(made)
    hung.wait()
    for number in range(150):
        told_of_parking(made, AccountName(str(number), "Omsk"))
    dropped = [line for line in log.lines if "takes no notifications" in line]
    assert len(dropped) == 50


def test_a_target_that_is_down_for_a_moment_is_tried_again(
    receivers: Callable[..., Receiver], log: Log
) -> None:
    receiver = receivers(503, 502)
    made = plugin(receiver.url, pauses=(0.01, 0.01))
    told_of_parking(made)
    assert len(set(receiver.wait(3))) == 1
    asyncio.run(made.close())
    assert "did not go" not in log.text


@pytest.mark.parametrize(
    ("url", "why"), [(NOBODY, "it cannot be reached"), ("status", "it answered 401")]
)
def test_why_a_message_did_not_go_is_logged_without_the_address(
    receivers: Callable[..., Receiver], log: Log, url: str, why: str
) -> None:
    loggers = [logging.getLogger(name) for name in ("apprise", "urllib3", "requests")]
    for one in loggers:
        one.setLevel(logging.NOTSET)  # as another library might
    receiver = receivers(*[401] * 9)
    made = plugin(receiver.url if url == "status" else url)
    told_of_parking(made)
    asyncio.run(made.close())
    assert f"a notification did not go to address 1 (JSON): {why}" in log.text
    assert "hush" not in log.text


@pytest.mark.parametrize(
    "wrong", ["hush-hush", "tgram://hush-hush", "nope://hush-hush/x", "json://"]
)
def test_an_address_that_is_none_is_told_by_its_number(wrong: str, log: Log) -> None:
    made = plugin(NOBODY, wrong)
    with pytest.raises(NotifyError) as raised:
        made.check()
    assert str(raised.value) == (
        "Bad configuration: IMGSYNC_NOTIFY_URLS (notify_urls): address 2 is none that Apprise knows"
    )
    assert "hush" not in log.text + repr(raised.value) + repr(raised.value.__context__)


def test_an_exception_of_a_service_tells_no_address(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    made = plugin(NOBODY)
    made.check()

    def fails(**_: Any) -> bool:
        raise ValueError(f"Cannot parse {NOBODY}")

    monkeypatch.setattr(
        made._lanes[0].target,
        "_opened",
        type("T", (), {"service_name": "JSON", "notify": staticmethod(fails)}),
    )
    told_of_parking(made)
    asyncio.run(made.close())
    assert "address 1 (JSON): it failed with ValueError" in log.text
    assert "hush" not in log.text


def test_the_end_of_a_process_waits_for_a_message_but_not_for_ever(
    receivers: Callable[..., Receiver],
    monkeypatch: pytest.MonkeyPatch,
    log: Log,
) -> None:
    well, hung = receivers(), receivers(hangs=True)
    monkeypatch.setattr(notify, "_CLOSE_SECONDS", 1.0)
    made = plugin(well.url, f"{hung.url}?rto=600", gather_seconds=3600.0, pauses=(3600.0,))
    made.check()
    told_of_parking(made)
    asyncio.run(made.close())
    well.wait()
    assert "notifications to address 2 (JSON) are lost, as the process ends" in log.text


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    assert importlib.util.find_spec("apprise") is None
    with pytest.raises(
        NotifyError, match=r"IMGSYNC_NOTIFY_URLS .*: .*pip install 'imgsync\[notify\]'"
    ):
        plugin(NOBODY)
