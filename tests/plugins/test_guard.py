"""Objects that plugins register: whatever they do, the error names the plugin and the method."""

import _thread
import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from imgsync.application.payloads import BATCH, PayloadFormat, PayloadFormats
from imgsync.domain.errors import PayloadError, PluginError
from imgsync.domain.model import Entity, EntityType, SourceImage, SyncRequest
from imgsync.plugins.guard import PluginGuard, guarded_formats, guarded_types

REQUEST = SyncRequest("m", "c", "product", "p1", "c1", (SourceImage("https://x/1", "a.png"),))
BATCH_PAYLOAD = {
    "main_account_id": "m",
    "child_account_id": "c",
    "parent_entity_type": "product",
    "parent_entity_id": "p1",
    "child_entity_id": "c1",
    "images": [{"meta": {"downloadHref": "https://x/1"}, "filename": "a.png"}],
}


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


FAILURES = [
    ValueError("oops"),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    UnspeakableError(),
    GeneratorExit(),
    MemoryError(),
]
names = [type(error).__name__ for error in FAILURES]


class Acme:
    name: Any = "acme"

    def __init__(
        self,
        matches: Callable[[Any], Any] = lambda _: True,
        parse: Callable[[Any], Any] = lambda _: REQUEST,
    ) -> None:
        self._matches, self._parse = matches, parse

    def matches(self, payload: Any) -> Any:
        return self._matches(payload)

    def parse(self, payload: Any) -> Any:
        return self._parse(payload)


def raises(error: BaseException) -> Callable[[Any], Any]:
    def fail(_: Any) -> Any:
        raise error

    return fail


def guarded(acme: Any, seconds: float = 5.0) -> PayloadFormat:
    (found,) = guarded_formats(PluginGuard("shop", seconds), lambda: [[acme]])
    return found


def test_a_sound_format_reads_its_payloads() -> None:
    found = guarded(Acme())
    assert (found.name, found.matches({})) == ("acme", True)
    assert found.parse({}) == REQUEST


@pytest.mark.parametrize("error", FAILURES, ids=names)
def test_whatever_matches_raises_names_the_plugin(error: BaseException) -> None:
    text = "plugin 'shop' failed in matches of payload format 'acme': " + type(error).__name__
    with pytest.raises(PluginError, match=text):
        guarded(Acme(matches=raises(error))).matches({})


@pytest.mark.parametrize("error", FAILURES, ids=names)
def test_whatever_parse_raises_names_the_plugin(error: BaseException) -> None:
    text = "plugin 'shop' failed in parse of payload format 'acme': " + type(error).__name__
    with pytest.raises(PluginError, match=text):
        guarded(Acme(parse=raises(error))).parse({})


def test_an_error_of_the_payload_passes_as_it_is() -> None:
    error = PayloadError("acme", "must be five words")
    with pytest.raises(PayloadError) as caught:
        guarded(Acme(parse=raises(error))).parse({})
    assert caught.value is error


@pytest.mark.parametrize("value", [None, "yes", 1, []])
def test_matches_answers_true_or_false(value: object) -> None:
    with pytest.raises(PluginError, match=r"'shop' .*matches.* in place of True or False"):
        guarded(Acme(matches=lambda _: value)).matches({})


def forged(**changes: Any) -> SyncRequest:
    """What only a plugin can make that goes around the rules of a `SyncRequest`."""
    request = replace(REQUEST)
    for name, value in changes.items():
        object.__setattr__(request, name, value)
    return request


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        "request",
        forged(images=None),
        forged(images=("x",)),
        forged(main_account_id=5),
        forged(child_entity_id="../account"),
        forged(child_account_id="c\x1b[31m"),
        forged(images=(SourceImage("file:///etc/passwd", "a"),)),
    ],
)
def test_parse_gives_a_request_that_is_fit_for_the_api(value: Any) -> None:
    with pytest.raises(PluginError, match=r"'shop' failed in parse of .*'acme'.* gave") as caught:
        guarded(Acme(parse=lambda _: value)).parse({})
    assert "SyncRequest" in str(caught.value)


def test_a_broken_format_stops_no_task_of_the_built_in_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    formats = PayloadFormats([guarded(Acme(matches=raises(SystemExit()))), BATCH])
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert formats.parse(BATCH_PAYLOAD) == REQUEST
    (record,) = caplog.records
    assert "plugin 'shop' failed in matches of payload format 'acme'" in record.getMessage()


def test_a_format_that_never_answers_is_given_up_and_not_asked_again() -> None:
    asked, free = [], threading.Event()

    def wait(payload: Any) -> bool:
        asked.append(payload)
        return free.wait(30)

    formats = PayloadFormats([guarded(Acme(matches=wait), seconds=0.1), BATCH])
    began = time.monotonic()
    for _ in range(5):
        assert formats.parse(BATCH_PAYLOAD) == REQUEST
    assert time.monotonic() - began < 5
    assert len(asked) == 1
    with pytest.raises(PluginError, match="asked no more") as caught:
        formats.parse({"acme": 1})
    assert caught.value.retryable
    free.set()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(PluginError):
            formats.parse({"acme": 1})
            break
    assert len(asked) == 2  # it has ended, so it is asked again


def test_a_format_without_an_end_is_named() -> None:
    def forever(_: Any) -> Any:
        while not free.is_set():
            time.sleep(0.001)

    free = threading.Event()
    with pytest.raises(PluginError, match=r"'shop' failed in parse .* no answer within 0.1 sec"):
        guarded(Acme(parse=forever), seconds=0.1).parse({})
    free.set()


def test_the_users_ctrl_c_is_not_taken_for_the_plugins() -> None:
    """A signal interrupts the main thread, which waits for the plugin in another."""
    main_thread = threading.main_thread().ident
    assert threading.get_ident() == main_thread
    free = threading.Event()

    def interrupt(_: Any) -> bool:
        _thread.interrupt_main()
        return free.wait(30)

    began = time.monotonic()
    # Who starts the tests in the background has them ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            guarded(Acme(matches=interrupt), seconds=20).matches({})
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 10
    free.set()


class Matcher:
    name: Any = "card name"

    def __init__(self, key: Callable[[Entity], Any]) -> None:
        self._key = key

    def key(self, entity: Entity) -> Any:
        return self._key(entity)


def guarded_type(value: Any) -> EntityType:
    (found,) = guarded_types(PluginGuard("shop"), lambda: [[value]])
    return found


def test_a_sound_matcher_is_asked() -> None:
    found = guarded_type(EntityType("contentcard", 15, Matcher(lambda entity: entity.name)))
    assert (found.name, found.max_images) == ("contentcard", 15)
    assert found.matcher is not None
    assert (found.matcher.name, found.matcher.key(Entity("1", "x"))) == ("card name", "x")
    assert found.matcher.key(Entity("1", " ")) is None


@pytest.mark.parametrize("error", FAILURES, ids=names)
def test_whatever_a_matcher_raises_names_the_plugin(error: BaseException) -> None:
    found = guarded_type(EntityType("contentcard", 15, Matcher(raises(error))))
    assert found.matcher is not None
    with pytest.raises(PluginError, match="plugin 'shop' failed in key of matcher 'card name'"):
        found.matcher.key(Entity("1", "x"))


@pytest.mark.parametrize("value", [5, b"x", ["x"], True])
def test_a_matcher_gives_text(value: object) -> None:
    found = guarded_type(EntityType("contentcard", 15, Matcher(lambda _: value)))
    assert found.matcher is not None
    with pytest.raises(PluginError, match=r"'card name'.* in place of a text or None"):
        found.matcher.key(Entity("1", "x"))


class Nameless:
    @property
    def name(self) -> str:
        raise SystemExit("no name")

    def key(self, entity: Entity) -> str:
        return entity.name


@pytest.mark.parametrize(
    "value",
    ["x", None, EntityType("card", 15, object()), EntityType("card", 15, Nameless())],  # type: ignore[arg-type]
)
def test_what_is_no_entity_type_is_refused(value: Any) -> None:
    with pytest.raises(PluginError, match="plugin 'shop' failed in imgsync_entity_types"):
        guarded_type(value)


@pytest.mark.parametrize("name", [None, 5, "two\nlines", "\x1b[31m"])
def test_a_format_needs_a_printable_name(name: Any) -> None:
    acme = Acme()
    acme.name = name
    with pytest.raises(PluginError, match="it needs a name"):
        guarded(acme)


@pytest.mark.parametrize("error", FAILURES, ids=names)
@pytest.mark.parametrize("late", [False, True])
def test_whatever_a_hook_raises_names_the_plugin(error: BaseException, late: bool) -> None:
    """`late`: while its values are asked for, as a generator raises."""

    def hook() -> Any:
        if late:
            return [(raises(error)(n) for n in range(1))]
        raise error

    with pytest.raises(PluginError, match="plugin 'shop' failed in imgsync_payload_formats"):
        guarded_formats(PluginGuard("shop"), hook)
