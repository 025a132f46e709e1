"""Shot cuts, from a thumbnail and without a model. numpy and OpenCV.

Structure decides, not brightness: two thumbnails are compared by normalised cross-correlation, over small shifts, so
that camera motion, exposure and a flash do not look like a cut. A dissolve has no frame that differs from the one
before it; it is found by its law (a frame between is a mix of the two ends), as in Lienhart, "Reliable Transition
Detection in Videos" (2001).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from streamer.frames import planes

WIDTH, HEIGHT = 64, 36
"""Pixels of the luma thumbnail."""
SHIFT = 6
"""Pixels of the thumbnail that a camera may move between two frames: a tenth of the picture."""
SAME_SHOT = 0.72
"""Correlation (best shift) from which two frames are of one shot, whatever the colours do."""
OTHER_SHOT = 0.40
"""Correlation below which they are not, whatever the colours do."""
COLOUR_CUT = 0.12
"""Between the two the histograms decide: share of the pixels that changed bin."""
FEATURELESS = 5.0
"""Standard deviation of luma below which a picture is black, white or fog: nobody is in it."""
FLASH_LUMA = 35.0
"""A rise of mean luma that may be a flash, if the picture is burnt out: what comes after it decides."""
BURNT_LUMA, BURNT_SHARE = 230.0, 0.5
"""Luma of a burnt-out pixel, and the share of them in a flash. A merely brighter picture is another shot."""
FLASH_FRAMES = 2
DISSOLVE_FRAMES = 12
"""Frames between the two ends that are held against each other."""
DISSOLVE_RESIDUAL = 0.16
"""Largest share of the ends' difference that a mix of them may leave unexplained."""
DISSOLVE_APART = 0.5
"""Correlation of the ends above which nothing dissolved."""


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


class CutDetector:
    """Told every frame of a stream in order; bounded memory."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._before_flash: Thumbnail | None = None
        self._flash_frames = 0
        self._past: deque[Thumbnail] = deque(maxlen=DISSOLVE_FRAMES + 1)

    def step(self, i420: np.ndarray) -> bool:
        """Whether a new shot begins with this frame, or has begun to show through (dissolve).

        False for the very first frame. A flash is not a cut; the frame after a flash is, if it shows another shot.
        """
        now = thumbnail(i420)
        last, self._last = self._last, now
        if last is None:
            self._past.append(now)
            return False
        cut = self._hard(last, now)
        if cut:
            self._past.clear()
        self._past.append(now)
        if not cut and self._dissolved():
            self._past.clear()
            self._past.append(now)
            cut = True
        return cut

    def reset(self) -> None:
        """Forget every frame (the source changed)."""
        self._last = self._before_flash = None
        self._flash_frames = 0
        self._past.clear()

    def _hard(self, last: Thumbnail, now: Thumbnail) -> bool:
        if self._before_flash is not None:
            return self._after_flash(now)
        appeared = (last.deviation < FEATURELESS) != (now.deviation < FEATURELESS)
        if not appeared and not other_shot(last, now):
            return False
        if now.mean - last.mean > FLASH_LUMA and now.burnt >= BURNT_SHARE:
            self._before_flash, self._flash_frames = last, 0
            return False
        return True

    def _after_flash(self, now: Thumbnail) -> bool:
        """Whether the shot after a flash, or after a cut to something burnt out, is another one than before it."""
        before = self._before_flash
        assert before is not None
        self._flash_frames += 1
        if not other_shot(before, now):
            self._before_flash = None
            return False
        if self._flash_frames < FLASH_FRAMES and now.burnt >= BURNT_SHARE:
            return False
        self._before_flash = None
        return True

    def _dissolved(self) -> bool:
        """Whether the frames between the oldest one kept and the newest are a mix of these two."""
        if len(self._past) <= DISSOLVE_FRAMES:
            return False
        first, last = self._past[0], self._past[-1]
        if min(first.deviation, last.deviation) < FEATURELESS or correlation(first, last) > DISSOLVE_APART:
            return False
        change = (last.luma - first.luma).ravel()
        energy = float(change @ change)
        shares = []
        for step in (DISSOLVE_FRAMES // 3, DISSOLVE_FRAMES // 2, 2 * DISSOLVE_FRAMES // 3):
            part = (self._past[step].luma - first.luma).ravel()
            share = float(part @ change) / energy
            rest = part - share * change
            if float(rest @ rest) > DISSOLVE_RESIDUAL**2 * energy:
                return False
            shares.append(share)
        return 0.1 < shares[0] < shares[1] < shares[2] < 0.9


def other_shot(a: Thumbnail, b: Thumbnail) -> bool:
    """Whether two frames show different shots."""
    if max(a.deviation, b.deviation) < FEATURELESS:
        return False
    structure = correlation(a, b)
    if structure >= SAME_SHOT:
        return False
    if structure < OTHER_SHOT:
        return True
    return float(np.abs(a.colours - b.colours).sum()) / 2 > COLOUR_CUT
