"""Whether one file is a copy of another as people see it. No code of imgsync has a say.

A JPEG or PNG that the account takes is to arrive byte for byte. What had to be converted or made
smaller is to be a JPEG or PNG, of a size that the account takes, no larger than main's picture, of
its proportions, and to look like it: both are shrunk to 32 × 32 points, with main's orientation
applied, first frame, on white.
"""

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO

from PIL import Image, ImageChops, ImageOps, ImageStat

with suppress(ImportError):
    import_module("pi_heif").register_heif_opener()

MOST_DIFFERENCE = 6.0
"""Mean difference of a colour, of 255: encoding leaves 1 or 2; another photograph has 20 to 100."""
_POINTS = (32, 32)
_SENDABLE = ("JPEG", "PNG")


@dataclass(frozen=True, slots=True)
class Taken:
    """What an account takes, and its link lets be done: `changes` where pictures are made smaller
    though the account would take them."""

    max_bytes: int
    changes: bool = False
    converts: bool = True
    fits: bool = True

    def is_sent_as_it_is(self, content: bytes) -> bool:
        """Whether it is to arrive byte for byte."""
        opened = _opened(content)
        small = len(content) <= self.max_bytes
        return opened is not None and opened.format in _SENDABLE and small and not self.changes

    def can_be_copied(self, content: bytes) -> bool:
        """Whether anything of it can arrive."""
        opened = _opened(content)
        if opened is None or _shown(opened) is None:
            return False
        if opened.format not in _SENDABLE and not self.converts:
            return False
        return self.fits or len(content) <= self.max_bytes


def unlike(main: bytes, child: bytes, taken: Taken) -> str | None:
    """Why `child` is no copy of `main`; None where it is one."""
    if child == main:
        return None
    if taken.is_sent_as_it_is(main):
        return "its bytes are not main's"
    if len(child) > taken.max_bytes:
        return f"it has {len(child)} bytes, more than the account takes"
    one, other = _opened(main), _opened(child)
    if one is None or other is None:
        return "one of the two is no picture"
    if other.format not in _SENDABLE:
        return f"it is a {other.format} file"
    there, wanted = _shown(other), _shown(one)
    if there is None or wanted is None:
        return "one of the two does not decode"
    if there.width > wanted.width or there.height > wanted.height:
        return f"{there.size} is larger than {wanted.size}"
    # A side is a whole number: by one point it may be off.
    if abs(there.width * wanted.height - there.height * wanted.width) > max(wanted.size):
        return f"{there.size} has not the proportions of {wanted.size}"
    if (found := difference(there, wanted)) > MOST_DIFFERENCE:
        return f"it looks otherwise, by {found:.1f} of 255"
    return None


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of a colour, of 255, of two pictures as `_shown` gives them."""
    small = [p.resize(_POINTS, Image.Resampling.BOX) for p in (one, other)]
    means = ImageStat.Stat(ImageChops.difference(*small)).mean
    return sum(means) / len(means)


def _opened(content: bytes) -> Image.Image | None:
    try:
        return Image.open(BytesIO(content))
    except Exception:  # whatever a damaged file leads a decoder to
        return None


def _shown(picture: Image.Image) -> Image.Image | None:
    """The first frame as a person sees it, in RGB; None where it does not decode."""
    try:
        picture.seek(0)
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):  # 16 bits of grey
            upright = upright.convert("I").point(lambda value: value / 256).convert("L")
        if not upright.has_transparency_data:
            return upright.convert("RGB")
        layer = upright.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    except Exception:
        return None
