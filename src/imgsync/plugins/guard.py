"""Calls into plugins: whatever goes wrong inside becomes a `PluginError` that names the plugin."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from imgsync.application.payloads import BATCH, PayloadFormat, RawPayload, batch_payload
from imgsync.domain.errors import ImgsyncError, PayloadError, PluginError
from imgsync.domain.model import Entity, EntityMatcher, EntityType, SyncRequest

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

CALL_SECONDS = 10.0
"""How long a plugin may take to answer one call."""

LOAD_SECONDS = 60.0
"""How long the import of a plugin may take."""


@dataclass(slots=True)
class PluginGuard:
    """Calls into one plugin.

    Each runs in a daemon thread of its own and within `seconds`. So one that never ends holds up
    neither its caller nor the end of the process; and as signals reach the main thread only, a
    KeyboardInterrupt there is the user's and one in here the plugin's own. A plugin that is late is
    asked no more until its thread ends, so that not every task leaves a thread behind; the errors
    of this kind are worth another attempt.
    """

    plugin: str
    seconds: float = CALL_SECONDS
    _late: threading.Thread | None = None
    _warned: bool = False

    def load(self, function: Callable[[], None]) -> None:
        """Runs what imports the plugin."""
        self._run("cannot be loaded", function, LOAD_SECONDS)

    def call(
        self,
        where: str,
        function: Callable[[], _T],
        passes: tuple[type[ImgsyncError], ...] = (PayloadError,),
    ) -> _T:
        """The result of `function`; errors of `passes` pass, others become a PluginError.

        `where` names the hook or method in errors.
        """
        return self._run(f"failed in {where}", function, self.seconds, passes)

    def part(self) -> "PluginGuard":
        """A guard for one part of the plugin: a part that hangs takes no other along."""
        return PluginGuard(self.plugin, self.seconds)

    def error(self, where: str, problem: str, *, retryable: bool = False) -> PluginError:
        error = self._error(f"failed in {where}", problem)
        error.retryable = retryable
        return error

    def _late_error(self, what: str, problem: str) -> PluginError:
        error = self._error(what, problem)
        error.retryable = True
        return error

    def _error(self, what: str, problem: str) -> PluginError:
        return PluginError(f"plugin '{self.plugin}' {what}: {problem}")

    def _run(
        self,
        what: str,
        function: Callable[[], _T],
        seconds: float,
        passes: tuple[type[ImgsyncError], ...] = (PayloadError,),
    ) -> _T:
        if self._late is not None and self._late.is_alive():
            raise self._late_error(what, "it is asked no more, as it does not end an earlier call")
        answer: Answer[_T] = Answer(passes)
        run = threading.Thread(target=answer.find, args=(function,), daemon=True)
        run.name = f"plugin {self.plugin}"
        run.start()
        if not answer.there.wait(seconds):
            self._late = run
            raise self._late_error(what, f"no answer within {seconds:g} seconds")
        if answer.passed is not None:
            raise answer.passed
        if answer.failure is not None:
            raise self._error(what, answer.failure)
        return answer.values[0]

    def warn(self, error: PluginError) -> None:
        """Logs that the plugin is passed over; once, however many tasks there are."""
        if not self._warned:
            self._warned = True
            _log.warning("%s; it is passed over wherever it fails", error)


@dataclass(slots=True)
class Answer(Generic[_T]):
    """What a call came to; complete once `there` is set."""

    passes: tuple[type[ImgsyncError], ...]
    there: threading.Event = field(default_factory=threading.Event)
    values: list[_T] = field(default_factory=list)
    passed: ImgsyncError | None = None
    failure: str | None = None

    def find(self, function: Callable[[], _T]) -> None:
        try:
            self.values.append(function())
        except BaseException as error:
            # SystemExit and KeyboardInterrupt too: here they can only be the plugin's.
            self._note(error)
        finally:
            self.there.set()

    def _note(self, error: BaseException) -> None:
        self.failure = told(error)
        if isinstance(error, self.passes):
            self.passed = error


def told(error: BaseException) -> str:
    """A plugin's error in words, whatever its own text does."""
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:
        return f"{name}, which cannot be shown"
    if isinstance(error, ImgsyncError):
        return text
    return f"{name}: {text}" if text else name


@dataclass(frozen=True, slots=True)
class GuardedFormat:
    """A plugin's payload format; implements `PayloadFormat`."""

    name: str
    guard: PluginGuard
    inner: PayloadFormat

    def matches(self, payload: RawPayload) -> bool:
        try:
            answer = self._call("matches", lambda: self.inner.matches(payload))
            if not isinstance(answer, bool):
                problem = f"gave {kind_of(answer)} in place of True or False"
                raise self.guard.error(self._what("matches"), problem)
        except PluginError as error:
            self.guard.warn(error)
            raise
        return answer

    def parse(self, payload: RawPayload) -> SyncRequest:
        request = self._call("parse", lambda: self.inner.parse(payload))
        what = self._what("parse")
        if not isinstance(request, SyncRequest):
            raise self.guard.error(what, f"gave {kind_of(request)} in place of a SyncRequest")
        try:
            # By the rules of the built-in format, as every part of it goes on to the API.
            return BATCH.parse(batch_payload(request))
        except PayloadError as error:
            raise self.guard.error(what, f"gave a wrong SyncRequest: {error}") from None
        except (AttributeError, TypeError) as error:
            raise self.guard.error(what, f"gave a wrong SyncRequest: {error}") from None

    def _call(self, method: str, function: Callable[[], Any]) -> Any:
        return self.guard.call(self._what(method), function)

    def _what(self, method: str) -> str:
        return f"{method} of payload format '{self.name}'"


@dataclass(frozen=True, slots=True)
class GuardedMatcher:
    """A plugin's matcher of an entity type; implements `EntityMatcher`."""

    name: str
    guard: PluginGuard
    inner: EntityMatcher

    def key(self, entity: Entity) -> str | None:
        what = f"key of matcher '{self.name}'"
        key: Any = self.guard.call(what, lambda: self.inner.key(entity))
        if key is not None and not isinstance(key, str):
            raise self.guard.error(what, f"gave {kind_of(key)} in place of a text or None")
        return key if key and key.strip() else None


def guarded_types(guard: PluginGuard, hook: Callable[[], Any]) -> tuple[EntityType, ...]:
    """What a plugin's hook `imgsync_entity_types` gives, its matchers guarded."""

    def read() -> list[EntityType]:
        return [_guarded_type(guard, value) for value in values_of(hook)]

    return tuple(guard.call("imgsync_entity_types", read))


def guarded_formats(guard: PluginGuard, hook: Callable[[], Any]) -> tuple[GuardedFormat, ...]:
    """What a plugin's hook `imgsync_payload_formats` gives, guarded."""

    def read() -> list[GuardedFormat]:
        return [_guarded_format(guard, value) for value in values_of(hook)]

    return tuple(guard.call("imgsync_payload_formats", read))


def values_of(hook: Callable[[], Any]) -> list[Any]:
    """The values of a hook, of which a plugin may implement several."""
    return [value for values in hook() for value in values]


def _guarded_type(guard: PluginGuard, value: Any) -> EntityType:
    if not isinstance(value, EntityType):
        raise PluginError(f"{kind_of(value)} is not an EntityType")
    # Anew, so that a subclass brings no code of its own along.
    plain = EntityType(value.name, value.max_images)
    if value.matcher is None:
        return plain
    check_parts(value.matcher, "EntityMatcher", "key")
    return replace(plain, matcher=GuardedMatcher(value.matcher.name, guard, value.matcher))


def _guarded_format(guard: PluginGuard, value: Any) -> GuardedFormat:
    check_parts(value, "PayloadFormat", "matches", "parse")
    return GuardedFormat(value.name, guard, value)


def check_parts(value: Any, kind: str, *methods: str) -> None:
    named = isinstance(getattr(value, "name", None), str) and value.name.isprintable()
    if not named or not all(callable(getattr(value, method, None)) for method in methods):
        parts = ", ".join(methods)
        raise PluginError(f"{kind_of(value)} is not a {kind}: it needs a name and {parts}")


def kind_of(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def check_name(name: Any, most: int = 64) -> None:
    """PluginError for what is no name that people can type and read."""
    sound = isinstance(name, str) and name.isprintable() and name == name.strip()
    if not sound or not 0 < len(name) <= most:
        raise PluginError(
            f"{kind_of(name) if not isinstance(name, str) else repr(name)} is no name"
        )
