"""Mask flicker: how much of a mask changes from frame to frame beyond what the picture's own motion explains."""

from __future__ import annotations

import cv2
import numpy as np

FLOW_WIDTH = 320
"""Pixels: motion is estimated at this width; finer motion than that is no flicker."""


class Flicker:
    """Mean of 1 - IoU of each mask and the one before it, moved along by dense optical flow (Farneback, 2003)."""

    def __init__(self) -> None:
        self._grey: np.ndarray | None = None
        self._masks: dict[int, np.ndarray] = {}
        self._sum = 0.0
        self._count = 0

    def step(self, grey: np.ndarray, masks: dict[int, np.ndarray]) -> None:
        """The (H, W) uint8 luma of a frame and the (H, W) bool masks on it, by track id."""
        height, width = grey.shape
        size = (FLOW_WIDTH, max(16, round(height * FLOW_WIDTH / width)))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        now = {
            track: cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for track, mask in masks.items()
            if mask.any()
        }
        shared = [track for track in now if track in self._masks]
        if shared and self._grey is not None and self._grey.shape == small.shape:
            back = cv2.calcOpticalFlowFarneback(small, self._grey, np.empty(0), 0.5, 3, 15, 3, 5, 1.2, 0)
            ys, xs = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
            for track in shared:
                moved = cv2.remap(self._masks[track], xs + back[..., 0], ys + back[..., 1], cv2.INTER_LINEAR)
                union = np.maximum(moved, now[track]).sum()
                self._sum += 1.0 - float(np.minimum(moved, now[track]).sum() / max(float(union), 1e-9))
                self._count += 1
        self._grey, self._masks = small, now

    def cut(self) -> None:
        """The next frame has nothing to do with the last one."""
        self._grey = None
        self._masks = {}

    @property
    def mean(self) -> float | None:
        """0..1; None before any track was seen on two frames in a row."""
        return self._sum / self._count if self._count else None
