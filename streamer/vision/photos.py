"""Photos as people have them, made into one kind of picture: upright, 8-bit BGR, of a bounded size.

A photo comes from anywhere and is hostile until read: its size is taken from the header before a pixel is decoded,
only formats with a decoder in this process are tried, and whatever a decoder trips over becomes `PhotoRefused`.
"""

from __future__ import annotations

import functools
import importlib
import io
import logging
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from streamer.errors import PhotoRefused
from streamer.frames import MIN_SIDE
from streamer.tracks import Box

log = logging.getLogger(__name__)

REFUSED_FROM_PIXELS = 40_000_000
"""Pixels (width * height by the header). A photo of so many or more is refused before it is decoded."""
MAX_PHOTO_BYTES = 25_000_000
MAX_SEGMENTED_BYTES = 300_000_000
"""Of a photo to segment, not to enrol: 40 megapixels of 16 bits a channel, uncompressed."""
"""Bytes of one encoded photo."""
MAX_SIDE = 2000
"""Pixels. Longer sides are scaled down while decoding: faces that matter are far larger than the detector's least."""
THUMBNAIL_SIDE = 160
"""Pixels of the square thumbnail."""

_FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif"}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What Pillow's readers raise on bytes that are not what they claim to be.
_BROKEN = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    SyntaxError,
    RuntimeError,
    struct.error,
    zlib.error,
)

# Pillow remarks on every odd tag of a photo; whether the photo can be read is said by `decode`.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
# Process-wide on purpose: between one and two times Pillow's own limit it only warns, and a warning stops no bomb.
warnings.simplefilter("error", Image.DecompressionBombWarning)

# A large photo takes some 200 MB while it is decoded; many clients at once must not add up.
_decoding = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True)
class DecodedPhoto:
    """One photo, upright."""

    bgr: np.ndarray
    """(H, W, 3) uint8, C-contiguous; no side above the limit; transparent pixels on white."""
    width: int
    """Pixels of the upright photo before scaling."""
    height: int
    extension: str
    """File name extension of the encoded photo, without the dot."""


def decode(
    data: bytes, file: str = "the photo", *, max_side: int = MAX_SIDE, max_bytes: int = MAX_PHOTO_BYTES
) -> DecodedPhoto:
    """Read an encoded photo: EXIF rotation applied, alpha on white, any mode to 8-bit BGR, first frame of several.

    The same bytes always give the same pixels, so a face box found on one machine fits on another. Blocks: up to half
    a second for the largest photo; at most two run at once.

    Args:
        data: The file's bytes.
        file: Its name, for the message.
        max_side: Pixels; longer sides are scaled down to it.
        max_bytes: Of `data`.

    Raises:
        PhotoRefused: empty, too many bytes or pixels, not an image, truncated, HEIC without a decoder, tiny.
    """
    _check_bytes(data, file, max_bytes)
    with _decoding, _refusing(file), _open(data, file) as image:
        _check_pixels(image.size, file)
        kind, full_size, orientation = image.format or "", image.size, _orientation(image)
        scale = min(1.0, max_side / max(image.size))
        # A large JPEG decodes straight to 1/2, 1/4 or 1/8 of its size: an eighth of the time and memory.
        image.draft(image.mode, (round(image.width * scale), round(image.height * scale)))
        image.load()
        _check_pixels(image.size, file)
        rgb = _rgb(_scaled(image, max_side))
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
        if orientation >= 5:
            full_size = full_size[::-1]
    if min(rgb.size) < MIN_SIDE:
        raise PhotoRefused(f"{file}: {rgb.width}x{rgb.height} pixels is too small to show a face; use a larger photo")
    bgr = np.ascontiguousarray(np.asarray(rgb)[:, :, ::-1])
    return DecodedPhoto(bgr, full_size[0], full_size[1], _EXTENSIONS.get(kind, kind.lower() or "img"))


def encode_bmp(bgr: np.ndarray) -> bytes:
    """An uncompressed BMP file of an (H, W, 3) uint8 picture: what crosses to the worker, exact and quick to read."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1])).save(buffer, "BMP")
    return buffer.getvalue()


def thumbnail(bgr: np.ndarray, face_xyxy: Box) -> bytes:
    """A JPEG of THUMBNAIL_SIDE squared around a face, with about half a face's size of surroundings on each side.

    Args:
        bgr: (H, W, 3) uint8.
        face_xyxy: Pixels of `bgr`; the crop is shifted and shrunk to lie inside the picture.
    """
    height, width = bgr.shape[:2]
    x0, y0, x1, y1 = face_xyxy
    side = max(1.0, min(2.0 * max(x1 - x0, y1 - y0), width, height))
    left = min(max((x0 + x1 - side) / 2, 0.0), width - side)
    top = min(max((y0 + y1 - side) / 2, 0.0), height - side)
    image = Image.fromarray(np.ascontiguousarray(bgr[:, :, ::-1]))
    small = image.resize(
        (THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS, box=(left, top, left + side, top + side)
    )
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def _check_bytes(data: bytes, file: str, limit: int) -> None:
    if not data:
        raise PhotoRefused(f"{file}: the file is empty; choose another photo")
    if len(data) > limit:
        raise too_many_bytes(len(data), file, limit)


def too_many_bytes(size: int, file: str, max_bytes: int = MAX_PHOTO_BYTES) -> PhotoRefused:
    """The refusal of a file of `size` bytes, for callers who know the size before they read it."""
    limit = max_bytes / 1e6
    return PhotoRefused(f"{file}: {size / 1e6:.1f} MB is above the limit of {limit:.0f} MB; save it smaller")


def _check_pixels(size: tuple[int, int], file: str) -> None:
    width, height = size
    if width * height >= REFUSED_FROM_PIXELS:
        raise PhotoRefused(
            f"{file}: {width}x{height} is {width * height / 1e6:.1f} megapixels, not below the limit of "
            f"{REFUSED_FROM_PIXELS / 1e6:.0f}; scale it down ({MAX_SIDE} pixels a side are plenty)"
        )


@contextmanager
def _refusing(file: str) -> Iterator[None]:
    """Translate what Pillow raises."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        limit = REFUSED_FROM_PIXELS / 1e6
        raise PhotoRefused(f"{file}: far above the limit of {limit:.0f} megapixels; scale the photo down") from exc
    except UnidentifiedImageError as exc:
        raise PhotoRefused(f"{file}: not an image that can be read; use JPEG, PNG or WebP") from exc
    except MemoryError as exc:
        raise PhotoRefused(f"{file}: not enough memory to decode it; scale the photo down") from exc
    except _BROKEN as exc:
        raise PhotoRefused(f"{file}: damaged or cut short ({exc}); copy or save it again") from exc


def _open(data: bytes, file: str) -> Image.Image:
    formats = _FORMATS
    if _is_heic(data):
        if not _heic_decoder():
            raise PhotoRefused(
                f"{file}: HEIC, and no decoder for it is installed; export it as JPEG, or pip install pillow-heif"
            )
        formats = ("HEIF",)
    return Image.open(io.BytesIO(data), formats=formats)


def _is_heic(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS and b"avif" not in data[8:32]


@functools.cache
def _heic_decoder() -> bool:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def _orientation(image: Image.Image) -> int:
    if image.format == "HEIF":
        return 1  # its decoder turns the picture itself
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN as exc:
        # A photo with broken EXIF is still a photo.
        log.debug("EXIF cannot be read: %s", exc)
        return 1


def _scaled(image: Image.Image, max_side: int) -> Image.Image:
    """At most `max_side` pixels a side, in a mode that can be averaged (a palette cannot)."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _eight_bits(image)
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greyscale of 16 bits and more to 8; Pillow's own conversion clips at 255 and turns such photos white."""
    grey = np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    top = float(grey.max(initial=0.0))
    if image.mode.startswith("I;16") or 255 < top <= 65535:
        full = 65535.0
    elif image.mode == "F" and top <= 1.0:
        full = 1.0
    else:
        full = max(255.0, top)
    return Image.fromarray(np.clip(grey * (255.0 / full) + 0.5, 0, 255).astype(np.uint8))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("LA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")
