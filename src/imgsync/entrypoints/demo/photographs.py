"""Real photographs, from the package scikit-image."""

from functools import cache
from importlib.resources import files
from io import BytesIO

from PIL import Image

from imgsync.domain.errors import ImgsyncError

_NAMES = (
    "astronaut.png",
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
_NOT_ACCEPTED = "no_time_for_that_tiny.gif"
_ENLARGED = "rocket.jpg"
_TIMES, _GRAIN, _SHARE = 9, 60, 0.2
"""How often a photograph is enlarged, and how much noise it gets, as of a camera in the dark."""

Photograph = tuple[str, bytes]
"""(file name, content)"""


class DemoUnavailableError(ImgsyncError):
    """The packages of the demonstration are not installed."""

    def __init__(self, module: str | None) -> None:
        super().__init__(f"the demo needs the package '{module}': pip install 'imgsync[demo]'")


def photographs() -> list[Photograph]:
    """JPEG and PNG photographs of 50 kB to 800 kB. DemoUnavailableError without the package."""
    return [_read(name) for name in _NAMES]


def gif() -> Photograph:
    """An image in a format that MoySklad does not accept."""
    return _read(_NOT_ACCEPTED)


@cache
def oversized() -> Photograph:
    """A photograph of 22 megapixels and about 12 MB, which MoySklad does not take: a small one
    enlarged, with noise."""
    name, content = _read(_ENLARGED)
    with Image.open(BytesIO(content)) as small:
        size = small.width * _TIMES, small.height * _TIMES
        large = small.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    grain = Image.effect_noise(size, _GRAIN)
    data = BytesIO()
    grainy = Image.blend(large, Image.merge("RGB", (grain, grain, grain)), _SHARE)
    grainy.save(data, "JPEG", quality=95)
    return f"large-{name}", data.getvalue()


def _read(name: str) -> Photograph:
    try:
        return name, files("skimage").joinpath("data", name).read_bytes()
    except ModuleNotFoundError as error:
        raise DemoUnavailableError(error.name) from error
