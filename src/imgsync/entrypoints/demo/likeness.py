"""Whether a child's pictures are those of the main account."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageChops, ImageOps, ImageStat

from imgsync.domain.formats import is_sendable
from imgsync.entrypoints.demo.photographs import Photograph

_POINTS = (16, 16)
_MOST_DIFFERENCE = 5.5
"""Of 255; a photograph upside down differs by 20 to 60, the next frame of a GIF by 7."""


def are_copies(there: Sequence[Photograph], main: Sequence[Photograph], max_bytes: int) -> bool:
    """Whether each picture is main's, in order.

    A JPEG or PNG that the account takes is to be there byte for byte, by its own name. Any other is
    to be a JPEG or PNG that the account takes, and to look like main's: shrunk to 16 × 16 points.
    """
    return len(there) == len(main) and all(
        _is_copy(one, other, max_bytes) for one, other in zip(there, main, strict=True)
    )


def _is_copy(there: Photograph, main: Photograph, max_bytes: int) -> bool:
    (name, content), (main_name, main_content) = there, main
    if is_sendable(main_content) and len(main_content) <= max_bytes:
        return there == main
    if not is_sendable(content) or len(content) > max_bytes:
        return False
    if name.rpartition(".")[0] != main_name.rpartition(".")[0]:
        return False
    one, other = _points(content), _points(main_content)
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means) <= _MOST_DIFFERENCE


def _points(content: bytes) -> Image.Image:
    with Image.open(BytesIO(content)) as picture:
        picture.draft("RGB", (512, 512))
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
    white = Image.new("RGBA", upright.size, "white")
    return (
        Image.alpha_composite(white, upright).convert("RGB").resize(_POINTS, Image.Resampling.BOX)
    )
