"""Photographs for tests: small ones in any format, and large ones that MoySklad does not take."""

from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Any

from PIL import Image


@cache
def photograph(name: str = "chelsea.png", width: int = 240) -> Image.Image:
    """One of the package scikit-image, in RGB."""
    content = files("skimage").joinpath("data", name).read_bytes()
    picture = Image.open(BytesIO(content)).convert("RGB")
    return picture.resize((width, width * picture.height // picture.width))


def saved(picture: Image.Image, kind: str = "JPEG", *frames: Image.Image, **options: Any) -> bytes:
    """The file of a picture; `frames`: more that follow it."""
    data = BytesIO()
    if frames:
        options |= {"save_all": True, "append_images": [frame.copy() for frame in frames]}
    # A picture remembers how it was encoded last, which may not do for the next format.
    picture.copy().save(data, kind, **options)
    return data.getvalue()


@cache
def large(megabytes: float) -> bytes:
    """A JPEG file of at least so many decimal megabytes, and about a tenth more: a photograph with
    noise, as of a camera in the dark."""
    width = 0
    content, found = b"", 0.54  # megabytes of a megapixel
    while len(content) < megabytes * 1e6:
        width = max(width + 200, int((megabytes * 1.05 / found * 1.5) ** 0.5 * 1000))
        picture = photograph("rocket.jpg", width)
        grain = Image.effect_noise(picture.size, 60)
        grainy = Image.blend(picture, Image.merge("RGB", (grain, grain, grain)), 0.2)
        content = saved(grainy, quality=95)
    return content
