"""What an edited picture looks like, judged by its pixels and its bytes."""

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms

from imgsync.adapters.pictures import worker
from imgsync.adapters.pictures.editing import PillowEditor
from imgsync.domain.errors import (
    EditError,
    ImpossibleEditError,
    NotAnImageError,
    TooManyPixelsError,
)
from imgsync.domain.formats import image_format

pytestmark = pytest.mark.process
HERE = Path(__file__).parent
RED, BLUE, GREEN, WHITE = (230, 40, 40), (40, 60, 220), (30, 200, 60), (240, 240, 240)
ORIENTATION, MAKER, PLACE = 0x0112, 0x010F, 0x8825
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def editor() -> Iterator[PillowEditor]:
    editor = PillowEditor()
    yield editor
    editor.close()


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, blue; green, white: as a reader reads them."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    image.paste(GREEN, (0, height // 2, width // 2, height))
    image.paste(WHITE, (width // 2, height // 2, width, height))
    return image


def noisy(width: int = 600, height: int = 450) -> Image.Image:
    """Content that compresses as a photograph does."""
    gradient = Image.linear_gradient("L").resize((width, height))
    noise = Image.effect_noise((width, height), 40)
    return Image.merge("RGB", (gradient, noise, gradient.transpose(Image.Transpose.ROTATE_180)))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int | None = None, *, place: bool = False) -> bytes:
    notes = Image.Exif()
    notes[MAKER] = "A maker"
    if orientation is not None:
        notes[ORIENTATION] = orientation
    if place:
        notes.get_ifd(PLACE)[1] = "N"
        notes.get_ifd(PLACE)[2] = (55.0, 45.0, 0.0)
    return notes.tobytes()


def seen(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """Of an RGB picture of quarters, each the nearest of the four colours."""
    width, height = image.size
    places = [(x, y) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]
    shown = image.convert("RGB")

    def nearest(place: tuple[int, int]) -> tuple[int, ...]:
        pixel = shown.getpixel(place)
        assert isinstance(pixel, tuple)
        colours = (RED, BLUE, GREEN, WHITE)
        return min(colours, key=lambda c: sum(abs(a - b) for a, b in zip(c, pixel, strict=True)))

    return [nearest(place) for place in places]


UPRIGHT = [RED, BLUE, GREEN, WHITE]
TURNED = {  # how each orientation is to be seen, where the file's pixels lie as UPRIGHT
    1: UPRIGHT,
    2: [BLUE, RED, WHITE, GREEN],
    3: [WHITE, GREEN, BLUE, RED],
    4: [GREEN, WHITE, RED, BLUE],
    5: [RED, GREEN, BLUE, WHITE],
    6: [GREEN, RED, WHITE, BLUE],
    7: [WHITE, BLUE, GREEN, RED],
    8: [BLUE, WHITE, RED, GREEN],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_as_its_file_says(
    editor: PillowEditor, kind: str, orientation: int
) -> None:
    content = saved(quarters(), kind, exif=exif(orientation))
    for drop in (True, False):
        made = seen(editor.convert(content, drop_metadata=drop))
        assert corners(made) == TURNED[orientation]
        assert made.size == ((64, 48) if orientation < 5 else (48, 64))
        assert made.getexif().get(ORIENTATION, 1) == 1


def test_fitting_and_optimising_turn_a_picture_too(editor: PillowEditor) -> None:
    content = saved(quarters(640, 480), "JPEG", quality=100, exif=exif(6))
    optimised = editor.optimise(content, max_side=320, quality=None, drop_metadata=False)
    assert optimised is not None
    assert seen(optimised).size == (240, 320)
    assert corners(seen(optimised)) == TURNED[6]
    fitted = editor.fit(content, max_bytes=len(content) - 1, drop_metadata=False)
    assert corners(seen(fitted)) == TURNED[6]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_place_is_dropped_or_kept(editor: PillowEditor, kind: str) -> None:
    content = saved(quarters(), kind, exif=exif(8, place=True))
    kept = seen(editor.convert(content, drop_metadata=False)).getexif()
    assert kept[MAKER] == "A maker"
    assert kept.get_ifd(PLACE)[1] == "N"
    dropped = editor.convert(content, drop_metadata=True)
    assert dict(seen(dropped).getexif()) == {}
    assert b"A maker" not in dropped


def test_comments_and_xmp_are_dropped_unless_they_are_to_stay(editor: PillowEditor) -> None:
    xmp = b"<x:xmpmeta><photographer/></x:xmpmeta>"
    content = saved(noisy(), "JPEG", quality=95, comment=b"by hand", xmp=xmp)
    dropped = editor.optimise(content, max_side=100, quality=None, drop_metadata=True)
    kept = editor.optimise(content, max_side=100, quality=None, drop_metadata=False)
    assert dropped is not None
    assert kept is not None
    assert b"photographer" not in dropped
    assert b"by hand" not in dropped
    assert b"photographer" in kept


def test_a_colour_profile_is_kept(editor: PillowEditor) -> None:
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        content = saved(noisy(), kind, icc_profile=SRGB)
        assert seen(editor.convert(content, drop_metadata=True)).info["icc_profile"] == SRGB
    content = saved(noisy(), "JPEG", quality=95, icc_profile=SRGB)
    made = editor.fit(content, max_bytes=len(content) // 2, drop_metadata=True)
    assert seen(made).info["icc_profile"] == SRGB


def test_a_giant_profile_is_applied_in_place_of_being_kept(editor: PillowEditor) -> None:
    padded = bytearray(SRGB.ljust(1_200_000, b"\0"))
    padded[0:4] = struct.pack(">I", len(padded))
    content = saved(quarters(), "JPEG", icc_profile=bytes(padded))
    made = editor.convert(content, drop_metadata=True)
    assert len(made) < 10_000
    assert corners(seen(made)) == UPRIGHT
    # one that is no profile is left out
    made = editor.convert(
        saved(quarters(), "JPEG", icc_profile=bytes(1_200_000)), drop_metadata=True
    )
    assert len(made) < 10_000
    assert corners(seen(made)) == UPRIGHT


def test_garbage_in_the_place_of_notes_is_no_harm(editor: PillowEditor) -> None:
    for notes in (b"Exif\0\0" + b"x" * 500, b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0"):
        content = saved(quarters(), "JPEG", exif=notes)
        for drop in (True, False):
            assert corners(seen(editor.convert(content, drop_metadata=drop))) == UPRIGHT


# --- formats


def test_what_shows_through_becomes_png_and_the_rest_jpeg(editor: PillowEditor) -> None:
    clear = quarters().convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    opaque = quarters().convert("RGBA")
    for kind in ("WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        made = editor.convert(saved(clear, kind, **options), drop_metadata=True)
        assert image_format(made) == "png"
        assert seen(made).convert("RGBA").getpixel((9, 0)) == clear.getpixel((9, 0))
        assert seen(made).getchannel("A").tobytes() == clear.getchannel("A").tobytes()
        made = editor.convert(saved(opaque, kind, **options), drop_metadata=True)
        assert image_format(made) == "jpg"
        assert corners(seen(made)) == UPRIGHT


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P"])
def test_bitmaps_of_any_depth(editor: PillowEditor, mode: str) -> None:
    made = editor.convert(saved(quarters().convert(mode), "BMP"), drop_metadata=True)
    assert image_format(made) == "jpg"
    assert seen(made).mode == ("L" if mode in ("L", "1") else "RGB")
    if mode in ("RGB", "P"):
        assert corners(seen(made)) == UPRIGHT


def test_the_first_frame_of_a_moving_picture(editor: PillowEditor) -> None:
    other = Image.new("RGB", (64, 48), (0, 0, 0))
    for kind in ("GIF", "WEBP", "TIFF"):
        options: dict[str, Any] = {"save_all": True, "append_images": [other, other]}
        made = editor.convert(saved(quarters(), kind, **options), drop_metadata=True)
        assert corners(seen(made)) == UPRIGHT
        assert image_format(made) == "jpg"
        assert getattr(seen(made), "n_frames", 1) == 1


def test_a_palette_with_a_clear_colour(editor: PillowEditor) -> None:
    palette = quarters().quantize(8)
    clear = palette.getpixel((5, 5))
    for kind in ("GIF", "PNG"):
        made = editor.convert(saved(palette, kind, transparency=clear), drop_metadata=True)
        assert image_format(made) == "png"
        alpha = seen(made).convert("RGBA").getchannel("A")
        assert alpha.getpixel((5, 5)) == 0
        assert alpha.getpixel((60, 40)) == 255


def test_grey_with_alpha(editor: PillowEditor) -> None:
    image = Image.linear_gradient("L").resize((64, 48)).convert("LA")
    image.putalpha(Image.linear_gradient("L").resize((64, 48)))
    made = seen(editor.convert(saved(image, "PNG"), drop_metadata=True))
    assert made.mode == "LA"
    assert made.tobytes() == image.tobytes()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(editor: PillowEditor, kind: str) -> None:
    image = Image.new("I;16", (64, 48), 0x8000)
    image.paste(0xFFFF, (0, 0, 32, 48))
    made = seen(editor.convert(saved(image, kind), drop_metadata=True))
    assert made.mode == "L"
    assert abs(int(made.getpixel((8, 8)) or 0) - 255) <= 2  # type: ignore[arg-type]
    assert abs(int(made.getpixel((56, 8)) or 0) - 128) <= 2  # type: ignore[arg-type]


def test_cmyk_becomes_rgb(editor: PillowEditor) -> None:
    content = saved(quarters().convert("CMYK"), "JPEG", quality=95)
    made = seen(editor.convert(content, drop_metadata=True))
    assert made.mode == "RGB"
    assert corners(made) == UPRIGHT


def test_heic(editor: PillowEditor) -> None:
    upright = editor.convert((HERE / "upright.heic").read_bytes(), drop_metadata=False)
    assert image_format(upright) == "jpg"
    assert corners(seen(upright)) == UPRIGHT
    turned = seen(editor.convert((HERE / "turned.heic").read_bytes(), drop_metadata=False))
    assert corners(turned) == TURNED[6]
    assert turned.getexif()[MAKER] == "Maker"
    assert turned.getexif().get(ORIENTATION, 1) == 1
    alpha = editor.convert((HERE / "alpha.heic").read_bytes(), drop_metadata=True)
    assert image_format(alpha) == "png"


def test_numbers_of_32_bits_are_not_guessed_at(editor: PillowEditor) -> None:
    with pytest.raises(ImpossibleEditError, match="32 bits"):
        editor.convert(saved(Image.new("F", (8, 8), 0.5), "TIFF"), drop_metadata=True)


# --- sizes


@pytest.mark.parametrize("share", [0.95, 0.8, 0.5, 0.2, 0.05])
def test_a_photograph_fits(editor: PillowEditor, share: float) -> None:
    content = saved(noisy(), "JPEG", quality=95)
    limit = int(share * len(content))
    made = editor.fit(content, max_bytes=limit, drop_metadata=True)
    assert 0.35 * limit < len(made) <= limit
    assert image_format(made) == "jpg"
    width, height = seen(made).size
    assert abs(width / height - 4 / 3) < 0.02


def test_quality_goes_before_sides(editor: PillowEditor) -> None:
    content = saved(noisy(), "JPEG", quality=95)
    least = len(saved(seen(content), "JPEG", quality=worker.LEAST_QUALITY, optimize=True))
    by_quality = editor.fit(content, max_bytes=least + 500, drop_metadata=True)
    assert seen(by_quality).size == (600, 450)
    by_sides = editor.fit(content, max_bytes=int(least * 0.8), drop_metadata=True)
    assert seen(by_sides).size[0] < 600


def test_what_fits_is_left_as_it_is(editor: PillowEditor) -> None:
    content = saved(noisy(), "JPEG", exif=exif(6))
    assert editor.fit(content, max_bytes=len(content), drop_metadata=True) == content


def test_a_png_fits_as_jpeg_unless_it_shows_through(editor: PillowEditor) -> None:
    content = saved(noisy(), "PNG")
    made = editor.fit(content, max_bytes=len(content) // 4, drop_metadata=True)
    assert len(made) <= len(content) // 4
    assert image_format(made) == "jpg"
    clear = noisy(240, 180).convert("RGBA")
    clear.putalpha(Image.effect_noise(clear.size, 40))
    content = saved(clear, "PNG")
    made = editor.fit(content, max_bytes=len(content) // 4, drop_metadata=True)
    assert len(made) <= len(content) // 4
    assert seen(made).mode == "RGBA"
    assert seen(made).getchannel("A").getextrema() != (255, 255)


def test_what_cannot_fit_is_told(editor: PillowEditor) -> None:
    content = saved(noisy(), "JPEG")
    with pytest.raises(ImpossibleEditError, match="fits into 300 bytes"):
        editor.fit(content, max_bytes=300, drop_metadata=True)


@pytest.mark.parametrize("share", [0.97, 0.9, 0.7, 0.6, 0.3, 0.1, 0.03])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_few_encodings_are_enough(monkeypatch: pytest.MonkeyPatch, share: float, kind: str) -> None:
    encodings = 0
    original = Image.Image.save

    def counted(*arguments: Any, **options: Any) -> None:
        nonlocal encodings
        encodings += 1
        original(*arguments, **options)

    image = noisy(240, 180)
    if kind == "PNG":
        image.putalpha(Image.effect_noise(image.size, 40))
    content = saved(image, kind)
    monkeypatch.setattr(Image.Image, "save", counted)
    name = image_format(content) or ""
    made = worker.fit(content, name, 10**8, True, int(share * len(content)))
    assert len(made) <= share * len(content)
    assert 1 <= encodings <= worker.MOST_ENCODINGS


def test_an_optimised_picture_is_as_large_as_was_asked(editor: PillowEditor) -> None:
    for kind in ("JPEG", "PNG"):
        content = saved(noisy(), kind)
        made = editor.optimise(content, max_side=100, quality=None, drop_metadata=True)
        assert made is not None
        assert seen(made).size == (100, 75)
        assert image_format(made) == image_format(content)


def test_nothing_is_gained(editor: PillowEditor) -> None:
    content = saved(noisy(), "JPEG", quality=60)
    assert editor.optimise(content, max_side=600, quality=None, drop_metadata=True) is None
    assert editor.optimise(content, max_side=None, quality=90, drop_metadata=True) is None
    made = editor.optimise(content, max_side=None, quality=30, drop_metadata=True)
    assert made is not None
    assert len(made) < len(content)
    assert seen(made).size == (600, 450)


def test_a_line_is_a_picture(editor: PillowEditor) -> None:
    content = saved(Image.new("RGB", (30_000, 1), "red"), "JPEG")
    made = editor.optimise(content, max_side=300, quality=None, drop_metadata=True)
    assert made is not None
    assert seen(made).size == (300, 1)


def test_what_is_longer_than_a_jpeg_can_be_becomes_png(editor: PillowEditor) -> None:
    made = editor.convert(saved(Image.new("RGB", (66_000, 4), "red"), "BMP"), drop_metadata=True)
    assert image_format(made) == "png"
    assert seen(made).size == (66_000, 4)
    small = editor.fit(made + bytes(10), max_bytes=len(made), drop_metadata=True)
    assert seen(small).size == (66_000, 4)


def test_only_what_is_sent_is_made_smaller(editor: PillowEditor) -> None:
    content = saved(noisy(), "BMP")
    with pytest.raises(EditError, match="converted first"):
        editor.fit(content, max_bytes=100, drop_metadata=True)
    with pytest.raises(EditError, match="converted first"):
        editor.optimise(content, max_side=100, quality=None, drop_metadata=True)


def test_the_same_comes_out_each_time() -> None:
    content = saved(noisy(), "JPEG", quality=95, exif=exif(6, place=True), icc_profile=SRGB)
    made = []
    for _ in range(2):
        editor = PillowEditor()
        try:
            made.append(
                (
                    editor.fit(content, max_bytes=len(content) // 3, drop_metadata=False),
                    editor.convert(content, drop_metadata=False),
                    editor.optimise(content, max_side=200, quality=80, drop_metadata=False),
                )
            )
        finally:
            editor.close()
    assert made[0] == made[1]
    assert editor.version == "1"


# --- files that were made to harm


def png_of(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def tiff_of(width: int, height: int) -> bytes:
    content = bytearray(saved(Image.new("RGB", (300, 300)), "TIFF"))
    at = int.from_bytes(content[4:8], "little")
    for entry in range(int.from_bytes(content[at : at + 2], "little")):
        place = at + 2 + 12 * entry
        tag = int.from_bytes(content[place : place + 2], "little")
        if tag in (256, 257):
            content[place + 2 : place + 4] = struct.pack("<H", 4)
            value = width if tag == 256 else height
            content[place + 8 : place + 12] = struct.pack("<I", value)
    return bytes(content)


def gif_of(width: int, height: int) -> bytes:
    content = bytearray(saved(quarters(), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def bmp_of(width: int, height: int) -> bytes:
    content = bytearray(saved(quarters(), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


BOMBS = {
    "png": png_of(100_000, 100_000),
    "tiff": tiff_of(100_000, 100_000),
    "gif": gif_of(65_535, 65_535),
    "bmp": bmp_of(100_000, 100_000),
    "webp": b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f\xff\xff\xff\x0f\0\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_told_and_not_decoded(editor: PillowEditor, kind: str) -> None:
    assert image_format(BOMBS[kind]) == kind
    with pytest.raises((TooManyPixelsError, NotAnImageError)) as caught:
        editor.convert(BOMBS[kind], drop_metadata=True)
    if kind != "webp":  # whose library looks at the data first
        assert caught.type is TooManyPixelsError
        assert "over the limit" in str(caught.value)


def test_many_frames_take_no_more_than_one(editor: PillowEditor) -> None:
    frames = [Image.new("P", (300, 300), n % 7) for n in range(300)]
    content = saved(quarters(300, 300).quantize(8), "GIF", save_all=True, append_images=frames)
    assert corners(seen(editor.convert(content, drop_metadata=True))) == UPRIGHT


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_cut_file_is_no_picture(editor: PillowEditor, kind: str) -> None:
    content = saved(noisy(), kind)
    with pytest.raises(NotAnImageError, match="does not decode"):
        editor.convert(content[: len(content) // 2], drop_metadata=True)


def test_a_text_is_no_picture(editor: PillowEditor) -> None:
    with pytest.raises(NotAnImageError):
        editor.convert(b"<html>", drop_metadata=True)
