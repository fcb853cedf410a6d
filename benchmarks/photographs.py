"""Photographs as large as a camera's, made of real ones: enlarged, laid side by side, and with the
noise of a sensor, without which a file would be a fifth of what a camera writes."""

import io
from importlib.resources import files

import numpy as np
from PIL import Image

_SOURCES = ("astronaut.png", "motorcycle_left.png", "coffee.png")
_MOST_ENLARGED = 3
_NOISE = 6.0
"""Standard deviation, of 255: at QUALITY a file has 0.4 to 0.5 bytes a pixel then."""

QUALITY = 93


def photograph(megapixels: float) -> Image.Image:
    """The same at every call: 4:3, of three photographs that scikit-image brings along."""
    width = round((megapixels * 1e6 * 4 / 3) ** 0.5)
    height = round(megapixels * 1e6 / width)
    sources = [_source(name) for name in _SOURCES]
    across = max(1, -(-width // (sources[0].width * _MOST_ENLARGED)))
    tile = (-(-width // across), -(-height // across))
    noise = np.random.default_rng(1)
    whole = Image.new("RGB", (width, height))
    for place in range(across * across):
        row, column = divmod(place, across)
        enlarged = sources[(row + column) % len(sources)].resize(tile, Image.Resampling.BICUBIC)
        pixels = np.asarray(enlarged, dtype=np.int16)
        pixels = pixels + noise.normal(0, _NOISE, pixels.shape).astype(np.int16)
        noisy = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        whole.paste(noisy, (column * tile[0], row * tile[1]))
    return whole


def jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def _source(name: str) -> Image.Image:
    data = files("skimage").joinpath("data", name).read_bytes()
    return Image.open(io.BytesIO(data)).convert("RGB")
