"""A small editor of pictures in the test's own process, which counts what it is asked for."""

from collections import Counter
from io import BytesIO
from typing import Any

from PIL import Image

from imgsync.domain.errors import EditError, NotAnImageError


def picture(kind: str, side: int = 40, **options: Any) -> bytes:
    """A whole picture of that kind, as Pillow names it."""
    out = BytesIO()
    made = Image.effect_noise((side, side // 2), 60).convert("RGB")
    if kind == "GIF":
        made = made.quantize()
    made.save(out, kind, **options)
    return out.getvalue()


def opened(content: bytes) -> Image.Image:
    """The picture, decoded to its end."""
    made = Image.open(BytesIO(content))
    made.load()
    return made


class SmallEditor:
    """Implements `PictureEditor`."""

    def __init__(self, version: str = "1") -> None:
        self.calls: Counter[str] = Counter()
        self.version = version

    def convert(self, content: bytes, *, drop_metadata: bool) -> bytes:
        self.calls["convert"] += 1
        try:
            made = opened(content)
        except Exception as error:
            raise NotAnImageError(f"it does not decode: {error}") from error
        clear = "transparency" in made.info or made.mode == "RGBA"
        return _encoded(made.convert("RGBA" if clear else "RGB"), "PNG" if clear else "JPEG")

    def optimise(
        self, content: bytes, *, max_side: int | None, quality: int | None, drop_metadata: bool
    ) -> bytes | None:
        self.calls["optimise"] += 1
        made = opened(content)
        is_scaled = max_side is not None and max(made.size) > max_side
        if max_side is not None and is_scaled:
            made.thumbnail((max_side, max_side))
        options = {} if quality is None else {"quality": quality}
        encoded = _encoded(made, made_format(content), **options)
        return encoded if is_scaled or len(encoded) < len(content) else None

    def fit(self, content: bytes, *, max_bytes: int, drop_metadata: bool) -> bytes:
        self.calls["fit"] += 1
        made = opened(content).convert("RGB")
        for share in (1.0, 0.7, 0.5, 0.3, 0.1):
            size = (max(1, int(made.width * share)), max(1, int(made.height * share)))
            encoded = _encoded(made.resize(size), "JPEG", quality=70)
            if len(encoded) <= max_bytes:
                return encoded
        raise EditError("it cannot be made so small")


def made_format(content: bytes) -> str:
    return Image.open(BytesIO(content)).format or ""


def _encoded(made: Image.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    made.save(out, kind, **options)
    return out.getvalue()
