"""Real photographs, from the package scikit-image."""

from importlib.resources import files

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


def _read(name: str) -> Photograph:
    try:
        return name, files("skimage").joinpath("data", name).read_bytes()
    except ModuleNotFoundError as error:
        raise DemoUnavailableError(error.name) from error
