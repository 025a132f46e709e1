"""Dissolves: shots that fade into each other, found by their law while they happen. numpy and OpenCV.

No frame of a dissolve differs much from the one before it, but all of them lie on the straight line from one picture to
the other: what the first half of some frames changed, the second half changes again (the law is Lienhart's, "Reliable
Transition Detection in Videos", 2001; tested here without waiting for the end). Motion is no such line: an edge that
moves on changes other pixels. A fade or a change of light is one, but along the picture itself; that part is taken out.
A camera that moves slowly changes nearly the same pixels again, but the pictures stay correlated.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from streamer.vision.thumbnails import FEATURELESS, Thumbnail, correlation

SPANS = (6, 8, 10, 12)
"""Frames between the ends that are compared. Short ones find quick dissolves, and bear more motion in the shots; over
longer ones than these the motion hides the law."""
NEWEST = 2
"""Frames whose change must still go the same way, at no less than `PACE` of the mean pace: else it is over."""
PACE = 0.3
STRAIGHT = 0.80
"""Cosine between the changes of the first and the second half from which they are one change that goes on."""
CHANGED = 0.35
"""Both changes together, in standard deviations of the first picture, from which there is something to judge."""
APART, STILL_APART = 0.85, 0.90
"""Correlation of the ends below which a dissolve begins, and goes on. Camera motion that changes as much: 0.91 and more
over all spans. Two pictures mixed half and half correlate with each end at 0.7."""
LONGEST = 30
"""Frames after which a dissolve is over, whatever the pictures say."""


class DissolveDetector:
    """Told every frame of a stream in order; bounded memory."""

    def __init__(self) -> None:
        self._past: deque[Thumbnail] = deque(maxlen=max(SPANS) + 1)
        self._frames = 0
        """Frames that the present dissolve has lasted; 0: none goes on."""

    def step(self, now: Thumbnail) -> bool:
        """Whether a dissolve goes on at this frame, from about its middle, where the new shot begins to prevail."""
        self._past.append(now)
        apart = STILL_APART if self._frames else APART
        if self._frames < LONGEST and any(self._dissolving(span, apart) for span in SPANS):
            self._frames += 1
            return True
        if self._frames:
            self.reset()
            self._past.append(now)
        return False

    def reset(self) -> None:
        """Forget every frame: what comes next is another shot."""
        self._past.clear()
        self._frames = 0

    def _dissolving(self, span: int, apart: float) -> bool:
        if len(self._past) <= span:
            return False
        first, middle, last = self._past[-1 - span], self._past[-1 - span // 2], self._past[-1]
        if min(first.deviation, last.deviation) < FEATURELESS:
            return False
        before = first.luma.ravel() - first.luma.mean()
        early = _beside(middle.luma - first.luma, before)
        late = _beside(last.luma - middle.luma, before)
        lengths = float(np.linalg.norm(early)), float(np.linalg.norm(late))
        if sum(lengths) < CHANGED * float(np.linalg.norm(before)):
            return False
        if float(early @ late) < STRAIGHT * lengths[0] * lengths[1]:
            return False
        whole = early + late
        newest = _beside(last.luma - self._past[-1 - NEWEST].luma, before)
        if float(newest @ whole) < PACE * NEWEST / span * float(whole @ whole):
            return False
        return correlation(first, last) < apart


def _beside(change: np.ndarray, picture: np.ndarray) -> np.ndarray:
    """The part of a change of luma that is neither brightness nor contrast of `picture` (flat, mean 0)."""
    flat = change.ravel() - change.mean()
    beside: np.ndarray = flat - float(flat @ picture) / max(float(picture @ picture), 1e-9) * picture
    return beside
