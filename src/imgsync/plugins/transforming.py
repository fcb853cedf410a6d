"""The chain of transformations, each behind a guard: whatever one does concerns its image alone."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from imgsync.application.daemon_thread import in_daemon_thread
from imgsync.domain.errors import ImageError, ImgsyncError, PluginError
from imgsync.domain.formats import PictureState, image_format, is_sendable, renamed
from imgsync.domain.model import SyncRequest
from imgsync.domain.pictures import PictureFacts, PictureSettings, Transformed
from imgsync.domain.ports.pictures import PictureCheck
from imgsync.domain.text import file_size
from imgsync.plugins.guard import Answer, PluginGuard, kind_of

_log = logging.getLogger(__name__)

HOOK = "imgsync_transform_image"
VERSION_HOOK = "imgsync_transform_version"
TRANSFORM_SECONDS = 60.0
"""How long a plugin may take for one picture."""

OWN_SECONDS = 600.0
"""The editor that imgsync's own steps use has limits of its own, and a queue before them."""

MOST_LEFT = 3
"""Calls of a plugin that have not ended and were left behind; it is asked no more then."""

MAX_VERSION = 64

Tells = Callable[[PictureFacts, PictureFacts], str]
"""What is told of a change, by what the picture was and is; '' for nothing."""


def _untold(before: PictureFacts, after: PictureFacts) -> str:
    return ""


@dataclass(slots=True)
class TransformGuard:
    """Calls of one plugin's function, each in a daemon thread of its own: one that never ends is
    left behind, and after a few of them the plugin is asked no more in this process."""

    plugin: str
    seconds: float = TRANSFORM_SECONDS
    passes: tuple[type[ImgsyncError], ...] = ()
    _left: list[threading.Thread] = field(default_factory=list)
    _is_off: bool = False
    _changing: threading.Lock = field(default_factory=threading.Lock)

    def call(self, function: Callable[[], Any]) -> Any:
        """PluginError, but for the errors of `passes`."""
        if self._is_off:
            raise _passing(
                f"plugin '{self.plugin}' is switched off in this process, as {MOST_LEFT} of its "
                "transformations did not end"
            )
        answer: Answer[Any] = Answer(self.passes)
        run = threading.Thread(target=answer.find, args=(function,), daemon=True)
        run.name = f"plugin {self.plugin}"
        run.start()
        if not answer.there.wait(self.seconds):
            self._leave(run)
            raise _passing(
                f"its transformation by plugin '{self.plugin}' did not end within "
                f"{self.seconds:g} s"
            )
        if answer.passed is not None:
            raise answer.passed
        if answer.failure is not None:
            raise self.error(answer.failure)
        return answer.values[0]

    def error(self, problem: str) -> PluginError:
        return PluginError(f"plugin '{self.plugin}' failed in {HOOK}: {problem}")

    def _leave(self, run: threading.Thread) -> None:
        with self._changing:
            self._left = [*(one for one in self._left if one.is_alive()), run]
            if len(self._left) < MOST_LEFT or self._is_off:
                return
            self._is_off = True
        _log.error(
            "plugin '%s' is switched off in this process, as %d of its transformations did not "
            "end; the images it is asked for are not copied",
            self.plugin,
            MOST_LEFT,
        )


def _passing(text: str) -> PluginError:
    error = PluginError(text)
    error.retryable = True
    return error


@dataclass(frozen=True, slots=True)
class TransformStep:
    """One plugin's transformation. `hook` takes the parameters by their names and gives a list of
    what was made. `is_own`: it is imgsync's; `fits`: it does so for the sake of the limit."""

    guard: TransformGuard
    hook: Callable[..., Any]
    version: Callable[[], str]
    tells: Tells = _untold
    is_own: bool = False
    fits: bool = False

    @property
    def name(self) -> str:
        return self.guard.plugin

    async def __call__(self, content: bytes, **told: Any) -> bytes | None:
        """The changed file; None where it stays as it is."""
        call = partial(self.hook, content=content, **told)
        made = await in_daemon_thread(partial(self.guard.call, call))
        found = [one for one in made if one is not None and one is not content]
        if not found:
            return None
        (changed,) = found
        if not isinstance(changed, bytes):
            raise self.guard.error(f"gave {kind_of(changed)} in place of bytes or None")
        if not is_sendable(changed):
            raise self.guard.error("gave a file that is neither JPEG nor PNG")
        return changed


@dataclass(slots=True)
class TransformChain:
    """Every transformation in turn; implements `ImageTransform`.

    `pictures` makes the check that what each step gives has to pass. `at_once` pictures are in
    work, of `most_bytes` together, or one that is larger alone.
    """

    steps: tuple[TransformStep, ...]
    pictures: Callable[[], PictureCheck]
    at_once: int = 2
    most_bytes: int = 128 * 1024 * 1024
    _rooms: "_Room | None" = None

    @property
    def versions(self) -> str:
        others = (step for step in self.steps if not step.is_own)
        return ", ".join(f"{step.name} {step.version()}".strip() for step in others)

    @property
    def own_version(self) -> str:
        return ", ".join(sorted({step.version() for step in self.steps if step.is_own}))

    @asynccontextmanager
    async def room(self, size: int) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        room = self._rooms
        if room is None or room.loop is not loop:  # one loop may follow another in a process
            room = self._rooms = _Room(loop, self.at_once, self.most_bytes)
        async with room.entered(size):
            yield

    async def __call__(
        self,
        content: bytes,
        filename: str,
        facts: PictureFacts,
        settings: PictureSettings,
        max_bytes: int,
        request: SyncRequest,
    ) -> Transformed:
        told: list[str] = []
        is_fitted, last = False, None
        for step in self.steps:
            changed = await step(
                content,
                filename=filename,
                facts=facts,
                settings=settings,
                max_bytes=max_bytes,
                request=request,
            )
            if changed is None:
                continue
            after = await self._looked_at(step, changed)
            told.append(step.tells(facts, after))
            is_fitted = is_fitted or step.fits
            content, facts, last = changed, after, step
            filename = renamed(filename, facts.format)
        if last is not None and not last.is_own and len(content) > max_bytes:
            size, most = len(content), max_bytes
            raise last.guard.error(
                f"gave {file_size(size, most)}, over the limit of {file_size(most, size)}"
            )
        return Transformed(content, tuple(text for text in told if text), is_fitted)

    async def _looked_at(self, step: TransformStep, content: bytes) -> PictureFacts:
        report = await self.pictures().check(lambda: _once(content))
        if report.state is not PictureState.WHOLE:
            raise step.guard.error(f"gave no whole picture: {report.detail}")
        name = image_format(content) or ""
        return report.facts or PictureFacts(name, 0, 0, len(content))


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


class _Room:
    """The pictures that may be in work at once on one event loop; who came first goes first."""

    def __init__(self, loop: asyncio.AbstractEventLoop, at_once: int, most_bytes: int) -> None:
        self.loop = loop
        self._at_once = at_once
        self._most_bytes = most_bytes
        self._pictures = self._bytes = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    @asynccontextmanager
    async def entered(self, size: int) -> AsyncIterator[None]:
        turn = self.loop.create_future()
        self._waiting.append((turn, size))
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():  # it is passed over once it is its turn
                self._admit()
            else:
                self._leave(size)
            raise
        try:
            yield
        finally:
            self._leave(size)

    def _admit(self) -> None:
        while self._waiting:
            turn, size = self._waiting[0]
            is_full = self._pictures >= self._at_once or self._bytes + size > self._most_bytes
            if self._pictures and is_full:
                return
            self._waiting.popleft()
            if not turn.done():
                self._pictures += 1
                self._bytes += size
                turn.set_result(None)

    def _leave(self, size: int) -> None:
        self._pictures -= 1
        self._bytes -= size
        self._admit()


def own_step(
    name: str, hook: Callable[..., Any], version: Callable[[], str], tells: Tells, *, fits: bool
) -> TransformStep:
    """One of imgsync's own, whose errors are those of the editor."""
    guard = TransformGuard(name, OWN_SECONDS, (ImageError,))
    return TransformStep(guard, hook, version, tells, is_own=True, fits=fits)


def step_of(guard: PluginGuard, hook: Callable[..., Any], versions: Any) -> TransformStep:
    """That of a plugin; its version is asked once, now."""
    version = guard.call(VERSION_HOOK, lambda: _version(versions()))
    return TransformStep(TransformGuard(guard.plugin), hook, lambda: version)


def _version(given: list[Any]) -> str:
    if not given:
        return ""
    (version,) = given
    if not isinstance(version, str) or not version.isprintable() or len(version) > MAX_VERSION:
        what = f"a text of over {MAX_VERSION} characters, or of several lines"
        raise PluginError(
            f"gave {what if isinstance(version, str) else kind_of(version)} in place of a version"
        )
    return version.strip()
