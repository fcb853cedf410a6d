"""Programs that say they copied: `nothing` did not, `fewer` says how few it was, `ends` dies."""

import asyncio
import sys

from benchmarks.report import serve

SAID = 4


async def main(kind: str) -> None:
    async def enqueue(_: str) -> int:
        if kind == "ends":
            sys.exit(3)
        return SAID

    async def work(_: str) -> int:
        return SAID - 1 if kind == "fewer" else SAID

    await serve({"enqueue": enqueue, "work": work})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
