"""Plain scripts beside imgsync: parallel requests at the API's pace, no queue and no record.

`python -m benchmarks.scripts plain API_URL CHILDREN RATE_INTERVAL` copies entity by entity: it
downloads the images by the API and sets each list in one request. With `bulk` it downloads by
permanent links, and sets the lists of many entities in one request. Neither survives anything.
"""

import asyncio
import base64
import json
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

import httpx

from benchmarks.catalogue import MAIN, NO_LIMIT, PAGE, child_name
from benchmarks.report import serve

UNITS = 45
AT_ONCE = 5
ENTITIES_AT_ONCE = 8
DOWNLOADS_AT_ONCE = 8
MAX_BODY_BYTES = 20_000_000
MARGIN_SECONDS = 0.1
"""By which requests may be longer or shorter on their way than others."""

_R = TypeVar("_R")
Json = dict[str, Any]
Product = tuple[Json, Json]
"""A product of main with its images, and its counterpart."""


class Account:
    """The API of one account: 45 requests in `interval` seconds, 5 at once."""

    def __init__(self, http: httpx.AsyncClient, api_url: str, token: str, interval: float) -> None:
        self._http = http
        self._api_url = api_url
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
        self._interval = 0.0 if interval <= NO_LIMIT else interval
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._sent: deque[float] = deque(maxlen=UNITS)

    async def ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        """The answer; RuntimeError where it is an error. Waits as told after a 429."""
        url = url if url.startswith("http") else f"{self._api_url}/{url}"
        headers = self._headers | options.pop("headers", {})
        while True:
            async with self._slots:
                await self._pace()
                answer = await self._http.request(method, url, headers=headers, **options)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            await asyncio.sleep(float(answer.headers["X-Lognex-Retry-After"]) / 1000)
        if answer.is_error:
            raise RuntimeError(f"{method} {url}: {answer.status_code} {answer.text}")
        return answer

    async def products(self, **params: Any) -> list[Json]:
        """Those of the account, page by page; further pages at once."""

        async def page(offset: int) -> Json:
            named = {name: value for name, value in params.items() if value is not None}
            shown = named | {"limit": PAGE, "offset": offset}
            found: Json = (await self.ask("GET", "entity/product", params=shown)).json()
            return found

        first = await page(0)
        others = range(PAGE, first["meta"]["size"], PAGE)
        return [
            row for one in (first, *await asyncio.gather(*map(page, others))) for row in one["rows"]
        ]

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        while self._interval and len(self._sent) == UNITS:
            free_at = self._sent[0] + self._interval + MARGIN_SECONDS
            if free_at <= loop.time():
                break
            await asyncio.sleep(free_at - loop.time())
        self._sent.append(loop.time())


class PlainCopy:
    """Copies to the first child."""

    fields: str | None = None
    """What main's list shows beside the images."""

    def __init__(self, http: httpx.AsyncClient, api_url: str, interval: float) -> None:
        self.http = http
        self.main = Account(http, api_url, MAIN, interval)
        self.child = Account(http, api_url, child_name(0), interval)
        self.products: list[Product] = []

    async def enqueue(self, _: str) -> int:
        """Products that have a counterpart."""
        sources, targets = await asyncio.gather(
            self.main.products(expand="images", fields=self.fields), self.child.products()
        )
        there = {row["externalCode"]: row for row in targets}
        self.products = [
            (source, there[source["externalCode"]])
            for source in sources
            if source["externalCode"] in there
        ]
        return len(self.products)

    async def work(self, _: str) -> int:
        """Images uploaded."""
        return sum(await _at_once(ENTITIES_AT_ONCE, self._copy, self.products))

    async def _copy(self, product: Product) -> int:
        source, target = product
        images = source["images"]["rows"]
        contents = await asyncio.gather(*map(self.content, images))
        await self.child.ask("POST", f"entity/product/{target['id']}/images", json=contents)
        return len(contents)

    async def content(self, image: Json) -> Json:
        """An image as it is uploaded."""
        answer = await self.main.ask("GET", image["meta"]["downloadHref"])
        file = await self.http.get(answer.headers["Location"])
        return _upload(image, file.raise_for_status().content)


class BulkCopy(PlainCopy):
    """As few requests as there can be."""

    fields = "downloadPermanentHref"

    async def work(self, _: str) -> int:
        entities = await _at_once(DOWNLOADS_AT_ONCE, self._entity, self.products)
        for body in _packed(entities):
            await self.child.ask(
                "POST",
                "entity/product",
                params={"expand": "images", "limit": PAGE},
                content=body,
                headers={"Content-Type": "application/json"},
            )
        return sum(len(source["images"]["rows"]) for source, _ in self.products)

    async def _entity(self, product: Product) -> bytes:
        source, target = product
        images = [await self.content(image) for image in source["images"]["rows"]]
        return json.dumps({"meta": target["meta"], "images": images}).encode()

    async def content(self, image: Json) -> Json:
        file = await self.http.get(image["meta"]["downloadPermanentHref"])
        return _upload(image, file.raise_for_status().content)


def _packed(entities: Iterable[bytes]) -> Iterator[bytes]:
    """Bodies of at most 100 entities and 20 MB."""
    chosen: list[bytes] = []
    for entity in entities:
        size = sum(len(one) + 1 for one in chosen) + len(entity) + 2
        if chosen and (len(chosen) == PAGE or size > MAX_BODY_BYTES):
            yield b"[" + b",".join(chosen) + b"]"
            chosen = []
        chosen.append(entity)
    if chosen:
        yield b"[" + b",".join(chosen) + b"]"


def _upload(image: Json, content: bytes) -> Json:
    return {"filename": image["filename"], "content": base64.b64encode(content).decode()}


async def _at_once(
    most: int, work: Callable[[Product], Awaitable[_R]], products: Iterable[Product]
) -> list[_R]:
    """The results of `work`, in order; at most so many run at once."""
    places = asyncio.Semaphore(most)

    async def one(product: Product) -> _R:
        async with places:
            return await work(product)

    return await asyncio.gather(*map(one, products))


async def main(kind: str, api_url: str, interval: float) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits) as http:
        copy = {"plain": PlainCopy, "bulk": BulkCopy}[kind](http, api_url, interval)
        await serve({"enqueue": copy.enqueue, "work": copy.work})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[4])))
