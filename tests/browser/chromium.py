"""Debian's Chromium, driven by Playwright, and what it is watched for."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
NARROW, WIDE = 360, 1280
Scheme = Literal["light", "dark"]


def found() -> str | None:
    """Path of the browser, None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """The browser, without a window. It has no sandbox, which root may not have; it sees the pages
    of this project alone."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=found(), args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visitor:
    """One who looks at a dashboard: a profile of its own, with its cookies, and what it saw.

    `troubles`: errors on the console, among them each breach of the Content-Security-Policy, and
    exceptions of scripts. `strangers`: requests to another host than the dashboard's.
    """

    base: str
    context: BrowserContext
    troubles: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    async def page(self, path: str | None = None) -> Page:
        """A new tab, on that page of the dashboard."""
        page = await self.context.new_page()
        if path is not None:
            await page.goto(self.base + path)
        return page

    def watch(self) -> None:
        self.context.on(
            "console",
            lambda said: self.troubles.append(said.text) if said.type == "error" else None,
        )
        self.context.on("weberror", lambda error: self.troubles.append(str(error.error)))
        self.context.on("request", lambda request: self._note(request.url))

    def _note(self, url: str) -> None:
        there = urlsplit(url)
        if there.scheme not in ("data", "blob") and f"{there.scheme}://{there.netloc}" != self.base:
            self.strangers.append(url)

    async def log_in(self, password: str) -> Page:
        """The tab that stands on the first page after the login."""
        page = await self.page("/login")
        await page.locator("input[type=password]").fill(password)
        await page.locator("form button[type=submit], form button:not([type])").last.click()
        await page.wait_for_url(self.base + "/")
        return page
