"""Frames small enough to compare in microseconds, and how alike two of them are. numpy and OpenCV."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from streamer.frames import planes

WIDTH, HEIGHT = 64, 36
"""Pixels of the luma thumbnail."""
SHIFT = 6
"""Pixels of the thumbnail that a camera may move between two frames: a tenth of the picture."""
FEATURELESS = 5.0
"""Standard deviation of luma below which a picture is black, white or fog: nobody is in it."""
BURNT_LUMA = 230.0
"""Luma of a burnt-out pixel."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A frame, small enough to compare in microseconds."""

    luma: np.ndarray
    """(HEIGHT, WIDTH) float32, 0..255."""
    colours: np.ndarray
    """(n,) float32 histogram over luma, U and V that sums to 1."""
    mean: float
    deviation: float
    burnt: float
    """0..1: share of burnt-out pixels."""


def thumbnail(i420: np.ndarray) -> Thumbnail:
    """Of an (H * 3 // 2, W) uint8 picture."""
    # Every n-th pixel is enough to shrink by forty: averaging all of them would cost more than all the rest.
    y, u, v = (plane[:: _stride(plane), :: _stride(plane)] for plane in planes(i420))
    luma = cv2.resize(y, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    small = [cv2.resize(plane, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for plane in (u, v)]
    half = cv2.resize(luma, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    bins = (half >> 5).astype(np.int64) * 64 + (small[0] >> 5).astype(np.int64) * 8 + (small[1] >> 5)
    colours = np.bincount(bins.ravel(), minlength=512).astype(np.float32) / bins.size
    # Film grain and coding noise are no structure.
    smooth = cv2.GaussianBlur(luma.astype(np.float32), (3, 3), 0)
    return Thumbnail(smooth, colours, float(smooth.mean()), float(smooth.std()), float((smooth > BURNT_LUMA).mean()))


def _stride(plane: np.ndarray) -> int:
    return max(1, int(min(plane.shape)) // (4 * HEIGHT))


def correlation(a: Thumbnail, b: Thumbnail) -> float:
    """-1..1: the best normalised cross-correlation over shifts up to `SHIFT`, the worse of both directions.

    A part of one picture may happen to resemble another picture; that both do is no accident.
    """
    return min(_search(a, b), _search(b, a))


def _search(a: Thumbnail, b: Thumbnail) -> float:
    middle = b.luma[SHIFT : HEIGHT - SHIFT, SHIFT : WIDTH - SHIFT]
    if middle.std() < 1.0 or a.deviation < 1.0:
        return 0.0
    return float(np.nanmax(cv2.matchTemplate(a.luma, middle, cv2.TM_CCOEFF_NORMED)))
