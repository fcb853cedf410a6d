"""What the demonstration does beside the dashboard."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imgsync.application.syncing import Look, OtherRunError
from imgsync.domain.model import Link
from imgsync.domain.runs import RunCause, RunKind

if TYPE_CHECKING:
    from imgsync.entrypoints.container import Container

_READ_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FirstLook:
    """Installs the webhooks that lead to `url`, surveys the new franchises once, and compares those
    that are not copied to, so that there is something to be seen."""

    container: "Container"
    links: Sequence[Link]
    url: str

    async def run(self, stop: asyncio.Event) -> None:
        await self.container.install_webhooks()(self.url)
        copied = [link for link in self.links if link.settings.schedule.copies]
        noting = self.container.note_runs().noting(RunKind.ENQUEUE, RunCause.SCHEDULE, copied)
        async with noting as noted:
            noted.surveyed(await self.container.enqueue()(copied, progress=noted.see))
        if left := [link.child.id for link in self.links if link not in copied]:
            with contextlib.suppress(OtherRunError):  # whoever looks has been first
                await self.container.syncing().start(left, Look.CHECK, cause=RunCause.PAGE)
        await stop.wait()


@dataclass(frozen=True, slots=True)
class EnterKey:
    """Calls `pressed` for each line on stdin, where that is a terminal or a pipe."""

    pressed: Callable[[], None]

    async def run(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()

        def read() -> None:
            # In the background, to read the terminal would stop the process.
            away = os.isatty(0) and os.tcgetpgrp(0) != os.getpgrp()
            got = b"" if away else os.read(0, _READ_BYTES)
            if not got:
                loop.remove_reader(0)
            for _ in range(got.count(b"\n")):
                self.pressed()
            sys.stdout.flush()

        try:
            loop.add_reader(0, read)
        except OSError:  # a file, or none
            await stop.wait()
            return
        try:
            await stop.wait()
        finally:
            loop.remove_reader(0)
