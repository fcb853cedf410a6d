"""Pictures: whole, cut at every place, damaged, padded, and bombs."""

import asyncio
import io
import random
import struct
import threading
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from imgsync.adapters.pictures.pillow import PillowCheck
from imgsync.adapters.pictures.workers import Workers
from imgsync.domain.errors import EditError
from imgsync.domain.formats import PictureReport, PictureState
from imgsync.domain.pictures import PictureFacts

pytestmark = pytest.mark.anyio
WHOLE, UNENDED = PictureState.WHOLE, PictureState.UNENDED
BROKEN, HUGE = PictureState.BROKEN, PictureState.HUGE


def photograph(width: int = 160, height: int = 120) -> Image.Image:
    """Content that does not compress to nothing."""
    gradient = Image.linear_gradient("L").resize((width, height))
    noise = Image.effect_noise((width, height), 60)
    return Image.merge("RGB", (gradient, noise, gradient.rotate(90).resize((width, height))))


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    photograph().convert(mode).save(out, kind, **options)
    return out.getvalue()


PICTURES = {
    "jpeg": saved("JPEG"),
    "jpeg-progressive": saved("JPEG", progressive=True),
    "jpeg-grey": saved("JPEG", "L"),
    "jpeg-cmyk": saved("JPEG", "CMYK"),
    "jpeg-restarts": saved("JPEG", restart_marker_rows=1),
    "jpeg-exif": saved("JPEG", exif=b"Exif\0\0" + b"x" * 500),
    "png": saved("PNG"),
    "png-alpha": saved("PNG", "RGBA"),
    "png-palette": saved("PNG", "P"),
    "png-bits": saved("PNG", "1"),
}
JPEGS = [name for name in PICTURES if name.startswith("jpeg")]


async def pieces(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in chunks:
        yield part


def cut(data: bytes, size: int) -> Iterable[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


async def look(data: bytes, **bounds: Any) -> PictureReport:
    return await PillowCheck(**bounds).check(lambda: pieces(cut(data, 1000)))


@pytest.mark.parametrize("name", PICTURES)
async def test_a_whole_picture(name: str) -> None:
    kind = "png" if name.startswith("png") else "jpg"
    facts = PictureFacts(kind, 160, 120, len(PICTURES[name]))
    assert await look(PICTURES[name]) == PictureReport(WHOLE, facts=facts)


@pytest.mark.parametrize("name", PICTURES)
async def test_a_picture_that_is_cut_anywhere_is_not_whole(name: str) -> None:
    data = PICTURES[name]
    step = len(data) // 60
    for length in [*range(12, len(data), step), *range(len(data) - 14, len(data))]:
        report = await look(data[:length])
        assert report.state is not WHOLE, f"{length} of {len(data)}"
        assert report.detail


@pytest.mark.parametrize("name", JPEGS)
async def test_a_jpeg_with_something_after_its_end_decodes_but_may_be_cut(name: str) -> None:
    data = PICTURES[name] + b"MotionPhoto"
    report = await look(data)
    assert report.state is UNENDED
    assert report.facts == PictureFacts("jpg", 160, 120, len(data))


async def test_a_png_that_lacks_but_a_byte_of_its_end_decodes_but_is_cut() -> None:
    assert (await look(PICTURES["png"][:-1])).state is UNENDED


@pytest.mark.parametrize("padding", [b"\0" * 3000, b"\xff\xff", b"\r\n", b"\n", b"\0\n\0"])
async def test_padding_after_the_end_is_no_harm(padding: bytes) -> None:
    assert (await look(PICTURES["jpeg"] + padding)).state is WHOLE
    assert (await look(PICTURES["png"] + padding)).state is WHOLE


async def test_a_cut_that_is_padded_to_the_size_is_no_whole_picture() -> None:
    for name in PICTURES:
        half = PICTURES[name][: len(PICTURES[name]) // 2]
        assert (await look(half.ljust(len(PICTURES[name]), b"\0"))).state is not WHOLE


async def test_a_png_that_is_damaged_is_broken() -> None:
    data = bytearray(PICTURES["png"])
    data[len(data) // 2] ^= 0xFF
    assert (await look(bytes(data))).state is BROKEN


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xd9", b"\xff\xd8" * 40],
)
async def test_what_is_no_picture_is_broken(data: bytes) -> None:
    report = await look(data)
    assert report.state is BROKEN
    assert len(report.detail) <= 200


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("place", [33, -12])
@pytest.mark.parametrize("start", [b"zTXtxmp\0\0", b"iTXtxmp\0\1\0\0\0", b"iCCPprofile\0\0"])
async def test_long_notes_in_a_png_are_no_harm(start: bytes, place: int) -> None:
    notes = chunk(start[:4], start[4:] + zlib.compress(b"a step of its editor" * 150_000))
    png = PICTURES["png"]
    assert (await look(png[:place] + notes + png[place:])).state is WHOLE
    bomb = chunk(start[:4], start[4:] + zlib.compress(bytes(50_000_000)))
    assert (await look(png[:place] + bomb + png[place:])).state is BROKEN


def giant(width: int, height: int) -> bytes:
    """A PNG of any size that is small as a file."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    lines = zlib.compressobj(1)
    line = b"\0" * (3 * width + 1)
    body = b"".join(lines.compress(line) for _ in range(height)) + lines.flush()
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


async def test_a_bomb_is_not_decoded_and_says_why() -> None:
    report = await look(giant(20_000, 6_000))
    assert report.state is HUGE
    assert report.detail == "it has 20000 × 6000 pixels, over the limit of 100000000"


async def test_a_large_picture_is_checked_without_its_pixels() -> None:
    data = giant(6000, 5000)
    tracemalloc.start()
    try:
        assert (await look(data)).state is WHOLE
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert (await look(data[:-20])).state is BROKEN


async def test_a_progressive_jpeg_over_the_bound_is_checked_by_its_end() -> None:
    data = PICTURES["jpeg-progressive"]
    assert (await look(data, decoded_pixels=100)).state is WHOLE
    assert (await look(data[:-2], decoded_pixels=100)).state is UNENDED
    assert (await look(data[: len(data) // 2], decoded_pixels=100)).state is UNENDED


async def test_pictures_are_decoded_one_by_one_beside_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check, threads, under_way, most = PillowCheck(), set[threading.Thread](), 0, 0
    decode = PngImageFile.load

    def noted(picture: PngImageFile) -> object:
        threads.add(threading.current_thread())
        return decode(picture)

    async def read() -> AsyncIterator[bytes]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for part in cut(PICTURES["png"], 1000):
            await asyncio.sleep(0)
            yield part
        under_way -= 1

    monkeypatch.setattr(PngImageFile, "load", noted)
    reports = await asyncio.gather(*(check.check(read) for _ in range(10)))
    assert {report.state for report in reports} == {WHOLE}
    assert most == 1
    assert len(threads) == 1
    assert threading.main_thread() not in threads


async def test_an_error_of_the_file_is_raised() -> None:
    async def read() -> AsyncIterator[bytes]:
        raise OSError(28, "No space left on device")
        yield b""

    with pytest.raises(OSError, match="No space"):
        await PillowCheck().check(read)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("name", ["jpeg", "png"])
async def test_chunks_of_any_size_make_the_same_picture(name: str, size: int) -> None:
    padded = PICTURES[name] + b"\xff\0" * 40

    async def report(data: bytes) -> PictureReport:
        return await PillowCheck().check(lambda: pieces(cut(data, size)))

    assert (await report(padded)).state is WHOLE
    assert (await report(padded + b"x")).state is UNENDED


async def test_one_file_at_a_time_is_held() -> None:
    width, height = 2000, 1500
    lines = zlib.compressobj(0)
    noise = random.Random(1)  # noqa: S311 (no secret)
    pixels = b"".join(lines.compress(b"\0" + noise.randbytes(3 * width)) for _ in range(height))
    pixels += lines.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)

    async def read() -> AsyncIterator[bytes]:
        yield b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        for start in range(0, len(pixels), 8192):
            await asyncio.sleep(0)
            yield chunk(b"IDAT", pixels[start : start + 8192])
        yield chunk(b"IEND", b"")

    check = PillowCheck()
    tracemalloc.start()
    try:
        reports = await asyncio.gather(*(check.check(read) for _ in range(5)))
        assert {report.state for report in reports} == {WHOLE}
        assert tracemalloc.get_traced_memory()[1] < 1.6 * len(
            pixels
        )  # of two it would be 2 and more
    finally:
        tracemalloc.stop()


async def test_a_chunk_is_held_once_beside_its_file() -> None:
    """As most programs write a PNG: all pixels in one chunk."""
    width, height = 2000, 1000
    noise = random.Random(1)  # noqa: S311 (no secret)
    pixels = zlib.compress(
        b"".join(b"\0" + noise.randbytes(3 * width) for _ in range(height)), level=0
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", pixels)]
    data = b"".join([*parts, chunk(b"IEND", b"")])
    tracemalloc.start()
    try:
        assert (await look(data)).state is WHOLE
        assert tracemalloc.get_traced_memory()[1] < 2.7 * len(data)  # held twice, 3 and more
    finally:
        tracemalloc.stop()


async def test_a_chunk_that_says_to_be_longer_than_its_file_takes_no_memory() -> None:
    data = PICTURES["png"]
    liar = data[:33] + struct.pack(">I", 2**31 - 1) + b"prIv" + data[33:]
    tracemalloc.start()
    try:
        assert (await look(liar)).state is BROKEN
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def frames(count: int) -> dict[str, Any]:
    return {"save_all": True, "append_images": [photograph().rotate(n) for n in range(1, count)]}


OTHERS = {
    "gif": saved("GIF"),
    "gif-moving": saved("GIF", **frames(3)),
    "bmp": saved("BMP"),
    "bmp-palette": saved("BMP", "P"),
    "webp": saved("WEBP"),
    "webp-lossless": saved("WEBP", lossless=True),
    "webp-moving": saved("WEBP", **frames(3)),
    "tiff": saved("TIFF"),
    "tiff-lzw": saved("TIFF", compression="tiff_lzw"),
    "tiff-jpeg": saved("TIFF", compression="jpeg"),
    "tiff-pages": saved("TIFF", **frames(3)),
    "heic": (Path(__file__).parent / "upright.heic").read_bytes(),
}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    workers = Workers(processes=1)
    yield workers
    workers.close()


async def looked(workers: Workers, data: bytes) -> PictureReport:
    return await PillowCheck(workers=workers).check(lambda: pieces(cut(data, 1000)))


@pytest.mark.process
@pytest.mark.parametrize("name", OTHERS)
async def test_a_whole_picture_that_is_to_be_converted(workers: Workers, name: str) -> None:
    size = (64, 48) if name == "heic" else (160, 120)
    facts = PictureFacts(name.partition("-")[0], *size, len(OTHERS[name]))
    assert await looked(workers, OTHERS[name]) == PictureReport(WHOLE, facts=facts)


@pytest.mark.process
@pytest.mark.parametrize("name", OTHERS)
async def test_one_that_is_to_be_converted_and_is_cut_anywhere_is_not_whole(
    workers: Workers, name: str
) -> None:
    data = OTHERS[name]
    for length in [*range(30, len(data), len(data) // 40), *range(len(data) - 6, len(data))]:
        if name == "tiff-pages" and length > len(OTHERS["tiff"]):
            continue  # the first page, which is the one that is converted, is there
        report = await looked(workers, data[:length])
        assert report.state is not WHOLE, f"{length} of {len(data)}"
        assert (report.facts is None) is (report.state is BROKEN)
        assert report.detail


@pytest.mark.process
async def test_a_moving_gif_whose_first_frame_is_there_decodes_but_is_cut(
    workers: Workers,
) -> None:
    data = OTHERS["gif-moving"]
    report = await looked(workers, data[: len(data) * 2 // 3])
    assert report.state is UNENDED
    assert report.facts is not None
    assert (report.facts.width, report.facts.height) == Image.open(io.BytesIO(data)).size
    assert (await looked(workers, data[: len(data) // 5])).state is BROKEN
    assert (await looked(workers, data + b"\0\0\r\n")).state is WHOLE


@pytest.mark.process
async def test_a_bomb_that_is_to_be_converted(workers: Workers) -> None:
    data = bytearray(OTHERS["gif"])
    data[6:10] = struct.pack("<HH", 50_000, 50_000)
    report = await looked(workers, bytes(data))
    assert report.state is HUGE
    assert report.detail == "it has 50000 × 50000 pixels, over the limit of 100000000"


@pytest.mark.process
async def test_where_the_process_fails_nothing_is_known_of_the_picture(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("raise SystemExit")
    check = PillowCheck(workers=Workers(program=program))
    with pytest.raises(EditError, match="ended before"):
        await check.check(lambda: pieces([OTHERS["gif"]]))
    assert (await check.check(lambda: pieces([PICTURES["png"]]))).state is WHOLE


def test_pillow_stays_strict() -> None:
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
