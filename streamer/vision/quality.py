"""How far a look at a face can be trusted. numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

SMALLEST = 16.0
"""Pixels of face height below which a look says nothing: 20 px still name right in 92 % of closed-set trials."""
LARGE_ENOUGH = 48.0
"""Pixels from which size no longer limits."""
BLURRED, SHARP = 8.0, 64.0
"""Variance of the Laplacian between which the weight rises with its logarithm."""
FRONTAL_YAW = 0.45


@dataclass(frozen=True, slots=True)
class FaceQuality:
    """What decides how far a comparison of this face can be trusted."""

    size: float
    """Pixels: height of the face's box."""
    sharpness: float
    """Variance of the Laplacian on the aligned grey crop; below about 30 a face is badly blurred, above 100 sharp."""
    yaw: float
    """Rough, from the five points: 0 frontal, +-1 a full profile."""
    pitch: float
    """Rough: 0 frontal, -1 looking up, +1 looking down."""

    @property
    def clarity(self) -> float:
        """0..1: pixels and focus, whatever the pose."""
        size = (self.size - SMALLEST) / (LARGE_ENOUGH - SMALLEST)
        focus = math.log(max(self.sharpness, 1e-3) / BLURRED) / math.log(SHARP / BLURRED)
        return min(max(size, 0.0), 1.0) * min(max(focus, 0.0), 1.0)

    @property
    def weight(self) -> float:
        """0.01..1: of one look, against a clear and frontal one."""
        pose = min(max((0.95 - abs(self.yaw)) / 0.45, 0.1), 1.0)
        return max(self.clarity * pose, 0.01)

    @property
    def is_frontal(self) -> bool:
        """Recognisers compare such faces at their best; only such a face can speak against a name."""
        return abs(self.yaw) <= FRONTAL_YAW
