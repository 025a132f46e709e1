"""Photos of every odd kind come out as one kind of picture, or are refused with a reason."""

from __future__ import annotations

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from streamer.errors import PhotoRefused
from streamer.vision import photos

WIDTH, HEIGHT = 96, 64
RED, GREEN, BLUE, WHITE = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)  # BGR


def quadrants() -> Image.Image:
    """Red, green / blue, white: every rotation and every swap of channels shows."""
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[: HEIGHT // 2, : WIDTH // 2] = (255, 0, 0)
    rgb[: HEIGHT // 2, WIDTH // 2 :] = (0, 255, 0)
    rgb[HEIGHT // 2 :, : WIDTH // 2] = (0, 0, 255)
    rgb[HEIGHT // 2 :, WIDTH // 2 :] = (255, 255, 255)
    return Image.fromarray(rgb)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(bgr: np.ndarray) -> list[tuple[int, ...]]:
    """Colours in the middle of the four quadrants, rounded to full channels: lossy formats are a little off."""
    height, width = bgr.shape[:2]
    points = [(height // 4, width // 4), (height // 4, 3 * width // 4), (3 * height // 4, width // 4)]
    points.append((3 * height // 4, 3 * width // 4))
    return [tuple(int(round(int(v) / 255) * 255) for v in bgr[y, x]) for y, x in points]


def refusal(data: bytes) -> str:
    with pytest.raises(PhotoRefused) as caught:
        photos.decode(data, "x.jpg")
    message = str(caught.value)
    assert message.startswith("x.jpg: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "data",
    [
        encoded(quadrants()),
        encoded(quadrants(), "JPEG", quality=95),
        encoded(quadrants(), "JPEG", quality=95, progressive=True),
        encoded(quadrants(), "WEBP", lossless=True),
        encoded(quadrants(), "GIF"),
        encoded(quadrants(), "BMP"),
        encoded(quadrants(), "TIFF"),
        encoded(quadrants().convert("CMYK"), "JPEG", quality=95),
        encoded(quadrants().convert("CMYK"), "TIFF"),
        encoded(quadrants().convert("P", palette=Image.Palette.ADAPTIVE)),
        encoded(quadrants().convert("RGBA")),
    ],
    ids=["png", "jpeg", "progressive", "webp", "gif", "bmp", "tiff", "cmyk-jpeg", "cmyk-tiff", "palette", "rgba"],
)
def test_formats_and_modes_give_the_same_picture(data: bytes) -> None:
    photo = photos.decode(data)
    assert photo.bgr.shape == (HEIGHT, WIDTH, 3)
    assert photo.bgr.dtype == np.uint8
    assert photo.bgr.flags.c_contiguous
    assert corners(photo.bgr) == [RED, GREEN, BLUE, WHITE]
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
def test_avif_is_read() -> None:
    assert corners(photos.decode(encoded(quadrants(), "AVIF")).bgr) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quadrants().transpose(undo[orientation]) if orientation in undo else quadrants()
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = photos.decode(encoded(stored, kind, exif=exif))
    assert photo.bgr.shape[:2] == (HEIGHT, WIDTH)
    assert (photo.width, photo.height) == (WIDTH, HEIGHT)
    assert corners(photo.bgr) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # remarks on odd tags
def test_broken_exif_does_not_cost_the_photo() -> None:
    data = encoded(quadrants(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    assert corners(photos.decode(data).bgr) == [RED, GREEN, BLUE, WHITE]


def test_sixteen_bits_keep_their_levels() -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (64, 1))
    for kind in ("PNG", "TIFF"):
        bgr = photos.decode(encoded(Image.fromarray(ramp), kind)).bgr
        assert abs(int(bgr[10, 128, 0]) - 128) <= 1, kind
        assert (int(bgr[0, 0, 0]), int(bgr[0, 255, 0])) == (0, 255)


@pytest.mark.parametrize("top", [1.0, 255.0, 65535.0])
def test_float_and_wide_greyscale_keep_their_levels(top: float) -> None:
    ramp = np.tile(np.linspace(0, top, 256, dtype=np.float32), (64, 1))
    bgr = photos.decode(encoded(Image.fromarray(ramp), "TIFF")).bgr
    assert abs(int(bgr[10, 128, 0]) - 128) <= 1


def test_one_bit_and_grey_alpha() -> None:
    grey = Image.new("L", (40, 40), 0)
    assert photos.decode(encoded(grey.convert("1"))).bgr.max() == 0
    grey.putalpha(0)
    assert photos.decode(encoded(grey)).bgr.min() == 255


def test_transparent_pixels_are_white_and_leave_no_rim() -> None:
    image = Image.new("RGBA", (3000, 100), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 1500, 100))
    bgr = photos.decode(encoded(image)).bgr
    assert tuple(bgr[30, 100]) == RED
    assert tuple(bgr[30, 1900]) == WHITE
    # Between red and white there is pink, nothing darker.
    assert bgr[30, :, 2].min() == 255


def test_palette_with_transparency() -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (0, 0, 20, 40))
    bgr = photos.decode(encoded(image, transparency=0)).bgr
    assert tuple(bgr[10, 5]) == RED
    assert tuple(bgr[10, 35]) == WHITE


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=100)
        assert corners(photos.decode(data).bgr)[0] == RED, kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_large_photos_are_scaled_down(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = photos.decode(encoded(quadrants().resize((3000, 600)), kind, exif=exif))
    assert photo.bgr.shape == (2000, 400, 3)
    assert (photo.width, photo.height) == (600, 3000)
    assert corners(photo.bgr) == [BLUE, RED, WHITE, GREEN]


def test_same_bytes_same_pixels_and_bmp_is_exact() -> None:
    data = encoded(quadrants().resize((2500, 300)), "JPEG")
    first, second = photos.decode(data).bgr, photos.decode(data).bgr
    assert np.array_equal(first, second)
    assert np.array_equal(photos.decode(photos.encode_bmp(first)).bgr, first)


def test_what_is_no_photo_is_refused() -> None:
    assert "empty" in refusal(b"")
    assert "not an image" in refusal(b"hello, I am a text")
    assert "not an image" in refusal(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert "not an image" in refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "25 MB" in refusal(bytes(photos.MAX_PHOTO_BYTES + 1))
    assert "8x90" in refusal(encoded(Image.new("RGB", (8, 90))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_photos_are_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (128, 128, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    message = refusal(data[: len(data) // 2])
    assert "damaged" in message or "not an image" in message


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # remarks on odd tags
def test_damaged_photos_never_raise_anything_else() -> None:
    rng = random.Random(7)
    noise = Image.fromarray(np.random.default_rng(2).integers(0, 255, (48, 48, 3), dtype=np.uint8))
    samples = [encoded(noise, kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    samples.append(encoded(noise.convert("P"), "TIFF", compression="tiff_lzw"))
    for data in samples:
        for _ in range(60):
            broken = bytearray(data)
            for _ in range(rng.randint(1, 12)):
                broken[rng.randrange(min(len(broken), 400))] = rng.randrange(256)
            try:
                photos.decode(bytes(broken))
            except PhotoRefused:
                continue


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_size_is_judged_by_the_header() -> None:
    assert "40.0 megapixels" in refusal(png_header(8000, 5000))
    assert "megapixels" in refusal(png_header(11000, 10000))
    assert "megapixels" in refusal(png_header(60000, 60000))
    # One line below the limit the pixels are looked at, and there are none.
    assert "damaged" in refusal(png_header(8000, 4999))


def test_heic_without_a_decoder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "_heic_decoder", lambda: False)
    message = refusal(struct.pack(">I", 24) + b"ftypheic" + bytes(4) + b"mif1heic" + bytes(100))
    assert "HEIC" in message
    assert "JPEG" in message


def test_thumbnail_is_a_square_around_the_face() -> None:
    image = np.zeros((400, 600, 3), np.uint8)
    image[100:200, 400:480] = 255
    for box in [(400.0, 100.0, 480.0, 200.0), (560.0, 350.0, 640.0, 450.0), (-30.0, -30.0, 700.0, 500.0)]:
        with Image.open(io.BytesIO(photos.thumbnail(image, box))) as small:
            assert small.size == (photos.THUMBNAIL_SIDE, photos.THUMBNAIL_SIDE)
            assert small.format == "JPEG"
    with Image.open(io.BytesIO(photos.thumbnail(image, (400.0, 100.0, 480.0, 200.0)))) as small:
        grey = np.asarray(small.convert("L"))
    assert grey[80, 80] > 250
    assert grey[5, 5] < 5
    assert abs(float(np.mean(grey > 128)) - 100 * 80 / 200**2) < 0.02
