"""imgsync as a program of the benchmark: `python -m benchmarks.imgsync_copy API_URL CHILDREN`."""

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.catalogue import MAIN, account_id, child_name
from benchmarks.report import serve
from imgsync.application.work import Tally
from imgsync.domain.model import Account, Adopt, Link, LinkSettings, TokenKind
from imgsync.domain.tasks import TaskStatus
from imgsync.entrypoints.cli.runtime import run_async
from imgsync.entrypoints.config import FixedConfig
from imgsync.entrypoints.container import Container


class ImgsyncCopy:
    """Steps of imgsync with all that is its default, and a new SQLite database."""

    def __init__(self, container: Container, children: int) -> None:
        self._container = container
        self._main = _account(MAIN)
        settings = LinkSettings(sync_images_all=True)
        children_of_it = [_account(child_name(number)) for number in range(children)]
        self._links = [Link(self._main, child, settings) for child in children_of_it]

    async def run(self) -> None:
        for link in self._links:
            await self._container.accounts().add(link.child)
            await self._container.settings().put(link.child.id, link.settings)
        await self._container.accounts().add(self._main)
        await serve(
            {
                "enqueue": self.enqueue,
                "payloads": self.payloads,
                "work": self.work,
                "survey": self.survey,
            }
        )

    async def enqueue(self, mode: str) -> int:
        """Tasks that wait then. `mode`: how images that are there are adopted; none by
        default, as children begin with other pictures of main's names and sizes."""
        await self._container.enqueue()(self._links, adopt=Adopt(mode) if mode else Adopt.NONE)
        return await self._waiting()

    async def payloads(self, array: str) -> int:
        """Tasks that wait then."""
        enqueue = self._container.enqueue_payloads()
        choice = await enqueue.choose(json.loads(array))
        await enqueue.put(choice.wanted, [])
        return await self._waiting()

    async def _waiting(self) -> int:
        counts = await self._container.queue().counts()
        return int(counts[TaskStatus.PENDING])

    async def work(self, _: str) -> int:
        """Images uploaded."""
        tally = Tally()
        await self._container.worker().run(drain=True, report=tally.add)
        for text in [*tally.errors, *tally.warnings][:3]:
            print(text, file=sys.stderr)
        return tally.uploaded

    async def survey(self, _: str) -> int:
        """Entities compared, of which nothing is kept."""
        count = 0
        async for _found in self._container.survey()(self._links, extras=True):
            count += 1
        return count


def _account(name: str) -> Account:
    return Account(account_id(name), name, TokenKind.SOLUTION, name)


def main(api_url: str, children: int) -> None:
    with tempfile.TemporaryDirectory(prefix="imgsync-bench-") as folder:
        config = FixedConfig(
            api_url=api_url,
            database_url=f"sqlite:///{Path(folder) / 'q.db'}",
            temp_dir=Path(folder) / "temp",
            # Where the emulator's permanent links lead; those of MoySklad are on its own hosts.
        )
        container = Container(config=config)
        run_async(container, ImgsyncCopy(container, children).run)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
