"""Pictures of every kind become I420 as they are meant to be seen."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamer.errors import SourceUnusable
from streamer.frames import planes
from streamer.ingest.convert import to_i420
from tests import media

HD = (1920, 1080)


def flat(size: tuple[int, int], pixel_format: str, levels: tuple[int, ...], depth: int = 8) -> av.VideoFrame:
    """A picture whose planes are even, at `levels` of 8 bits."""
    frame = av.VideoFrame(*size, pixel_format)
    for plane, level in zip(frame.planes, levels, strict=True):
        kind = np.uint16 if depth > 8 else np.uint8
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, level << depth - 8, kind).tobytes())
    return frame


def first(path: Path) -> av.VideoFrame:
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize("size", [(320, 180), (322, 182), (16, 16), (1280, 720)])
def test_a_plain_picture_is_copied_exactly(size: tuple[int, int]) -> None:
    picture = media.texture(*size)
    i420 = to_i420(av.VideoFrame.from_ndarray(picture, format="yuv420p"), HD)
    assert np.array_equal(i420, picture)
    assert i420.flags.c_contiguous
    assert i420.flags.owndata


def test_an_odd_picture_loses_its_last_row_and_column(tmp_path: Path) -> None:
    i420 = to_i420(first(media.video(tmp_path / "odd.mkv", (641, 359), codec="ffv1", options={})), HD)
    assert i420.shape == (358 * 3 // 2, 640)
    y, u, v = planes(i420)
    whole = media.numbered(642, 360, 0)
    assert np.array_equal(y, whole[:358, :640])
    assert (u == 128).all()
    assert (v == 128).all()


@pytest.mark.parametrize(
    ("size", "max_size", "expected"),
    [
        ((1920, 1080), (1280, 720), (1280, 720)),
        ((1080, 1920), (1280, 720), (404, 720)),
        ((3840, 1600), (1920, 1080), (1920, 800)),
        ((640, 360), (1920, 1080), (640, 360)),
        ((641, 359), (320, 320), (320, 178)),
    ],
)
def test_a_large_picture_is_scaled_into_the_limit(
    size: tuple[int, int], max_size: tuple[int, int], expected: tuple[int, int]
) -> None:
    i420 = to_i420(flat(size, "yuv420p", (100, 90, 160)), max_size)
    assert i420.shape == (expected[1] * 3 // 2, expected[0])
    assert [int(plane[3, 3]) for plane in planes(i420)] == [100, 90, 160]


@pytest.mark.parametrize(
    ("pixel_format", "depth", "color_range", "levels", "expected"),
    [
        ("yuv420p", 8, 1, (235, 128, 240), (235, 128, 240)),
        ("yuv420p", 8, 0, (235, 128, 240), (235, 128, 240)),
        ("yuv420p", 8, 2, (255, 128, 0), (235, 128, 16)),
        ("yuvj420p", 8, 0, (0, 255, 128), (16, 240, 128)),
        ("yuv444p", 8, 1, (50, 60, 70), (50, 60, 70)),
        ("yuvj444p", 8, 2, (255, 128, 128), (235, 128, 128)),
        ("yuv422p", 8, 1, (50, 60, 70), (50, 60, 70)),
        ("yuv420p10le", 10, 1, (50, 60, 70), (50, 60, 70)),
        ("yuv420p10le", 10, 2, (255, 128, 128), (235, 128, 128)),
        ("gbrp", 8, 2, (0, 0, 255), (81, 90, 240)),
        ("gray", 8, 2, (255,), (235, 128, 128)),
    ],
)
def test_every_pixel_format_becomes_eight_bit_limited_range(
    pixel_format: str, depth: int, color_range: int, levels: tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    frame = flat((64, 48), pixel_format, levels, depth)
    frame.color_range = color_range
    found = [int(plane[9, 9]) for plane in planes(to_i420(frame, HD))]
    assert found == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_phone_video_is_turned_upright(tmp_path: Path, degrees: int) -> None:
    frame = first(media.rotated(tmp_path / "phone.mp4", degrees))
    stored = frame.to_ndarray()
    expected = [np.rot90(plane, -degrees // 90) for plane in planes(stored)]
    for found, plane in zip(planes(to_i420(frame, HD)), expected, strict=True):
        assert np.array_equal(found, plane)


def test_the_limit_counts_for_the_picture_as_it_is_shown(tmp_path: Path) -> None:
    frame = first(media.rotated(tmp_path / "phone.mp4", 90, (640, 360)))
    assert to_i420(frame, (640, 360)).shape == (360 * 3 // 2, 202)


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [(Fraction(16, 11), (1024, 576)), (Fraction(1, 2), (704, 1152)), (Fraction(100), (704, 576)), (None, (704, 576))],
)
def test_pixels_become_square(aspect: Fraction | None, expected: tuple[int, int]) -> None:
    i420 = to_i420(flat((704, 576), "yuv420p", (90, 128, 128)), (4000, 4000), aspect)
    assert i420.shape == (expected[1] * 3 // 2, expected[0])


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15), (3000, 17)])
def test_a_tiny_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(SourceUnusable, match=rf"{size[0]}x{size[1]}.*16 pixels"):
        to_i420(flat(size, "yuv420p", (90, 128, 128)), HD)


def test_the_scaler_follows_a_change_of_size() -> None:
    for size in ((1920, 1080), (1600, 900), (1920, 1080)):
        i420 = to_i420(flat(size, "yuv420p", (90, 100, 110)), (640, 360))
        assert i420.shape == (540, 640)
        assert [int(plane[3, 3]) for plane in planes(i420)] == [90, 100, 110]


def test_frames_are_freed_at_once_and_not_by_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(8):
            to_i420(av.VideoFrame.from_ndarray(media.texture(320, 180), format="yuv420p"), HD)
        garbage = gc.collect()
    finally:
        gc.enable()
    assert garbage == 0
