"""Shot cuts, from a thumbnail and without a model. numpy and OpenCV.

Structure decides, not brightness: two thumbnails are compared by normalised cross-correlation, over small shifts, so
that camera motion, exposure and a flash do not look like a cut.
"""

from __future__ import annotations

import numpy as np

from streamer.vision.dissolves import DissolveDetector
from streamer.vision.thumbnails import FEATURELESS, Thumbnail, correlation, thumbnail

SAME_SHOT = 0.72
"""Correlation (best shift) from which two frames are of one shot, whatever the colours do."""
OTHER_SHOT = 0.40
"""Correlation below which they are not, whatever the colours do."""
COLOUR_CUT = 0.12
"""Between the two the histograms decide: share of the pixels that changed bin."""
FLASH_LUMA = 35.0
"""A rise of mean luma that may be a flash, if the picture is burnt out: what comes after it decides."""
BURNT_SHARE = 0.5
"""Share of burnt-out pixels in a flash. A merely brighter picture is another shot."""
FLASH_FRAMES = 2


class CutDetector:
    """Told every frame of a stream in order; bounded memory."""

    def __init__(self) -> None:
        self._last: Thumbnail | None = None
        self._before_flash: Thumbnail | None = None
        self._flash_frames = 0
        self._dissolves = DissolveDetector()
        self.dissolving = False
        """The newest frame is a mix of two shots: whoever is seen in it may be of either."""

    def step(self, i420: np.ndarray) -> bool:
        """Whether what was known of the frames before is void: a new shot begins, or the old one dissolves.

        A dissolve is told twice, where the new shot begins to prevail and where it is alone; `dissolving` in between.
        False for the very first frame. A flash is not a cut; the frame after a flash is, if it shows another shot.
        """
        now = thumbnail(i420)
        last, self._last = self._last, now
        cut = last is not None and self._hard(last, now)
        if cut:
            self._dissolves.reset()
        was, self.dissolving = self.dissolving, self._dissolves.step(now)
        return cut or self.dissolving != was

    @property
    def newest(self) -> Thumbnail | None:
        """Of the newest frame."""
        return self._last

    def reset(self) -> None:
        """Forget every frame (the source changed)."""
        self._last = self._before_flash = None
        self._flash_frames = 0
        self._dissolves.reset()
        self.dissolving = False

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
