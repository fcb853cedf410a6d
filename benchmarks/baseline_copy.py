"""The baseline: delete each old image, then POST each new one, held whole in memory.

`python -m benchmarks.baseline_copy API_URL`. It waits as told after a 429, and knows no pace.
"""

import base64
import sys
import time
from typing import Any

import httpx

from benchmarks.report import finish
from benchmarks.workload import CHILD, MAIN
from moysklad_emulator.process import EmulatorProcess


class Account:
    """Plain requests to the API of one account."""

    def __init__(self, api_url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "gzip"}
        self._client = httpx.Client(base_url=api_url, headers=headers, timeout=60, trust_env=False)

    def call(self, method: str, url: str, **options: Any) -> httpx.Response:
        while True:
            response = self._client.request(method, url, **options)
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(float(response.headers["X-Lognex-Retry-After"]) / 1000)
        if not response.has_redirect_location:
            response.raise_for_status()
        return response

    def rows(self, url: str, **params: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.call("GET", url, params=params).json()["rows"]
        return rows


def copy(emulator: EmulatorProcess) -> tuple[int, float]:
    """Lists both accounts, then copies on counters set to zero; images copied and seconds."""
    main, child = Account(emulator.api_url, MAIN), Account(emulator.api_url, CHILD)
    products = main.rows("entity/product", limit=100, expand="images")
    targets = {row["externalCode"]: row for row in child.rows("entity/product")}
    emulator.reset_stats()
    started, copied = time.monotonic(), 0
    storage = httpx.Client(trust_env=False)
    for product in products:
        path = f"entity/product/{targets[product['externalCode']]['id']}/images"
        contents = [
            (image["filename"], _download(main, storage, image["meta"]["downloadHref"]))
            for image in product["images"]["rows"]
        ]
        for old in child.rows(path):
            child.call("DELETE", old["meta"]["href"])
        for filename, content in contents:
            child.call("POST", path, json={"filename": filename, "content": content})
            copied += 1
    return copied, time.monotonic() - started


def _download(account: Account, storage: httpx.Client, href: str) -> str:
    location = account.call("GET", href).headers["Location"]
    return base64.b64encode(storage.get(location).content).decode()


if __name__ == "__main__":
    finish(*copy(EmulatorProcess(sys.argv[1])))
