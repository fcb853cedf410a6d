"""Takes the README's pictures of the dashboard: ``python -m tests.browser.screenshot [FOLDER]``.

It runs the demonstration until all is copied, gives it a photograph, which a webhook tells of, and
photographs the first page, in both languages and as a telephone shows it, the page of a franchise,
what differs of another one, and the failed images.
"""

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.browser import chromium
from tests.browser.demo import page_text, start_demo
from tests.e2e.conftest import wait_until

_IMAGES = Path(__file__).parents[2] / "docs" / "images"
_FILES = {
    "overview.png": ("en-GB", chromium.WIDE, ""),
    "overview-ru.png": ("ru-RU", chromium.WIDE, ""),
    "overview-phone.png": ("ru-RU", chromium.NARROW, ""),
    "child.png": ("en-GB", chromium.WIDE, "Franchise Tomsk"),
    "differences.png": ("en-GB", chromium.WIDE, "12 differ"),
    "failed.png": ("ru-RU", chromium.WIDE, "Неудавшиеся изображения"),
}
"""Each with its language, its width, and the link on the first page that leads to it; '' for the
first page itself."""
_LONGEST = 1100
"""Points of a page that are shown, from the top."""


async def take(base: str, folder: Path) -> list[Path]:
    """The files."""
    async with chromium.launched() as browser:
        for name, (locale, width, link) in _FILES.items():
            context = await browser.new_context(
                viewport={"width": width, "height": 720}, device_scale_factor=1, locale=locale
            )
            page = await context.new_page()
            await page.goto(base)
            if link:
                await page.get_by_role("link", name=link, exact=True).first.click()
                await page.wait_for_load_state()
            height = await page.evaluate("() => document.documentElement.scrollHeight")
            await page.set_viewport_size({"width": width, "height": min(height, _LONGEST)})
            await page.wait_for_function(
                "() => [...document.images].every(image => image.complete"
                " || image.getBoundingClientRect().top > innerHeight)"
            )
            await page.screenshot(path=folder / name)
            await context.close()
    return [folder / name for name in _FILES]


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        temp = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        demo = start_demo(stack, temp / "stderr")
        demo.take_photograph()
        wait_until(lambda: "Webhooks arrive; the last" in page_text(demo.base))
        wait_until(demo.is_at_rest)
        for path in asyncio.run(take(demo.base, folder)):
            print(path)


if __name__ == "__main__":
    main()
