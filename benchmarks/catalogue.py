"""What is copied: a main account's products, their counterparts in its children, and the judge."""

import base64
import hashlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from moysklad_emulator.pictures import padded_png
from moysklad_emulator.process import EmulatorProcess, emulator_process

MAIN = "main"
"""Name of the main account, and the token of its user."""
NO_LIMIT = 0.02
"""Seconds of the rate interval where nobody is to wait for it."""
PAGE = 100
_JUDGE = "-judge"
"""Who reads the accounts afterwards has a token, and so a rate bucket, of its own."""
_COMPARED = 20
"""Images of a child whose bytes are compared; names and sizes are compared of all."""
_OLD_IMAGE_BYTES = 1000
_EVERY = 10**9
"""More requests than any benchmark makes."""


class WrongCopyError(RuntimeError):
    """A child has not what its main account has: what was measured is no copy."""


def account_id(name: str) -> str:
    """Id of the account in the emulator; imgsync writes to no account whose id is another."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, name))


def child_name(number: int) -> str:
    """Name of a child, from 0, and the token of its user."""
    return f"child{number}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`entities` products with `images` images of `image_bytes` bytes each, and their counterparts
    in `children` accounts: with one old image each, or `copied` ones, which have main's images."""

    entities: int
    images: int
    image_bytes: int
    children: int = 1
    copied: bool = False

    @property
    def total_images(self) -> int:
        """Distinct ones."""
        return self.entities * self.images

    def __str__(self) -> str:
        children = "1 child" if self.children == 1 else f"{self.children} children"
        return f"{self.entities:,} × {self.images} of {_size(self.image_bytes)}, {children}"

    @property
    def names(self) -> list[str]:
        """Accounts, main first."""
        return [MAIN, *map(child_name, range(self.children))]

    def account(self, name: str) -> dict[str, Any]:
        """One account as the emulator is seeded with it."""
        has_old = name != MAIN and not self.copied
        images = 1 if has_old else self.images
        size = min(_OLD_IMAGE_BYTES, self.image_bytes) if has_old else self.image_bytes
        return {
            "name": name,
            "id": account_id(name),
            "users": [{"token": name}, {"token": name + _JUDGE}],
            "entities": [
                {
                    "name": f"Product {number}",
                    "external_code": f"x{number}",
                    "images": [
                        {"filename": f"{number}-{image}.png", "size": size}
                        for image in range(images)
                    ],
                }
                for number in range(self.entities)
            ],
        }


class Shop:
    """The accounts of a catalogue at a running emulator."""

    def __init__(self, emulator: EmulatorProcess, catalogue: Catalogue) -> None:
        self.emulator = emulator
        self.catalogue = catalogue
        self._http = httpx.Client(timeout=60, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def delay(self, seconds: float) -> None:
        """Every answer of the API and of the storage waits so long from now on."""
        self.emulator.clear_faults()
        if seconds:
            for where in ("api", "storage"):
                self.emulator.add_fault(
                    where=where, path_regex="", method="ANY", times=_EVERY, delay=seconds
                )

    def change(self, entities: int) -> None:
        """Puts another last image on that many of main's products."""
        for row in self._rows(MAIN)[:entities]:
            *kept, last = row["images"]["rows"]
            name = f"new-{last['filename']}"
            number = int.from_bytes(hashlib.sha256(f"{row['id']}/{name}".encode()).digest()[:5])
            content = base64.b64encode(padded_png(number, self.catalogue.image_bytes)).decode()
            body = [{"meta": image["meta"]} for image in kept]
            upload = {"filename": name, "content": content}
            self._ask("POST", f"{row['meta']['href']}/images", MAIN, json=[*body, upload])

    def main_ids(self) -> list[str]:
        """Ids of main's products."""
        return [row["id"] for row in self._rows(MAIN)]

    def payloads(self) -> list[dict[str, Any]]:
        """A payload for main's first product, for each child."""
        source = self._rows(MAIN)[0]
        found = []
        for name in self.catalogue.names[1:]:
            rows = self._rows(name)
            (target,) = (r for r in rows if r["externalCode"] == source["externalCode"])
            found.append(
                {
                    "main_account_id": account_id(MAIN),
                    "child_account_id": account_id(name),
                    "parent_entity_type": "product",
                    "parent_entity_id": source["id"],
                    "child_entity_id": target["id"],
                    "images": source["images"]["rows"],
                }
            )
        return found

    def judge(self, *, uploaded: int | None = None) -> None:
        """WrongCopyError unless every child's images are main's: names and sizes of all, in order,
        and the bytes of some. `uploaded`: how many the program says that it copied, of all."""
        expected = self.catalogue.total_images * self.catalogue.children
        if uploaded is not None and uploaded != expected:
            raise WrongCopyError(f"{uploaded} of {expected} images were copied")
        self.delay(0)
        dialect = self._http.get(self._control("dialect")).json()
        self.emulator.change_dialect(permanent_links=True)
        try:
            wanted = _images(self._rows(MAIN))
            for name in self.catalogue.names[1:]:
                self._compare(wanted, _images(self._rows(name)), name)
        finally:
            self.emulator.change_dialect(permanent_links=dialect["permanent_links"])

    def _compare(
        self, wanted: dict[str, list["_Image"]], found: dict[str, list["_Image"]], name: str
    ) -> None:
        if len(wanted) != self.catalogue.entities or wanted.keys() != found.keys():
            raise WrongCopyError(f"{name} has {len(found)} of {len(wanted)} products")
        pairs: list[tuple[_Image, _Image]] = []
        for code, images in wanted.items():
            there = found[code]
            if [i.shown for i in images] != [i.shown for i in there]:
                shown = [[i.shown for i in one] for one in (there, images)]
                raise WrongCopyError(f"{name}: {code} has {shown[0]}, not {shown[1]}")
            pairs += zip(images, there, strict=True)
        for one, other in pairs[:: max(1, len(pairs) // _COMPARED)]:
            if self._digest(one) != self._digest(other):
                raise WrongCopyError(f"{name}: the bytes of {one.filename} are not main's")

    def _digest(self, image: "_Image") -> str:
        return hashlib.sha256(self._http.get(image.url).raise_for_status().content).hexdigest()

    def _rows(self, name: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        params = {"expand": "images", "fields": "downloadPermanentHref", "limit": PAGE}
        while True:
            url = f"{self.emulator.api_url}/entity/product"
            page = self._ask("GET", url, name, params=params | {"offset": len(rows)})
            rows += page["rows"]
            if len(rows) >= page["meta"]["size"]:
                return rows

    def _ask(self, method: str, url: str, name: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {name}{_JUDGE}", "Accept-Encoding": "gzip"}
        while True:
            answer = self._http.request(method, url, headers=headers, **options)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return answer.raise_for_status().json()
            time.sleep(float(answer.headers["X-Lognex-Retry-After"]) / 1000)

    def _control(self, path: str) -> str:
        return str(httpx.URL(self.emulator.api_url).join(f"/_emulator/{path}"))


@dataclass(frozen=True, slots=True)
class _Image:
    filename: str
    size: int
    url: str

    @property
    def shown(self) -> tuple[str, int]:
        return self.filename, self.size


def _images(rows: list[dict[str, Any]]) -> dict[str, list[_Image]]:
    """The images of every product of an account, by external code."""
    return {
        row["externalCode"]: [
            _Image(i["filename"], i["size"], i["meta"]["downloadPermanentHref"])
            for i in row["images"]["rows"]
        ]
        for row in rows
    }


@contextmanager
def opened(
    catalogue: Catalogue, *, rate_interval: float, permanent_links: bool = True
) -> Iterator[Shop]:
    """A new emulator with the accounts of a catalogue, whose rate limit is 45 requests in
    `rate_interval` seconds."""
    seed = {"accounts": [], "dialect": {"permanent_links": permanent_links}}
    with emulator_process(seed, rate_interval=rate_interval) as emulator:
        for name in catalogue.names:  # one by one, so that only one is held twice
            emulator.seed({"accounts": [catalogue.account(name)]})
        shop = Shop(emulator, catalogue)
        try:
            yield shop
        finally:
            shop.close()


def _size(count: int) -> str:
    for unit, bytes_of_it in (("MB", 1_000_000), ("kB", 1000)):
        if count >= bytes_of_it:
            return f"{count / bytes_of_it:g} {unit}"
    return f"{count} B"
